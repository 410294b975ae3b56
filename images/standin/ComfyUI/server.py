"""The module from which node packs import the server."""

from standin.prompt_server import BinaryEventTypes, PromptServer

__all__ = ["BinaryEventTypes", "PromptServer"]
