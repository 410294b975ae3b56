"""The name under which node packs look for the server."""

from standin.prompt_server import BinaryEventTypes, PromptServer

__all__ = ["BinaryEventTypes", "PromptServer"]
