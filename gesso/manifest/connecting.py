"""How to connect Krita: the one text that the page, the documentation and the template's README share. Pure."""

from __future__ import annotations

from dataclasses import dataclass

PLUGIN_VERSION = "1.53.0"
PLUGIN_URL = f"https://github.com/Acly/krita-ai-diffusion/releases/tag/v{PLUGIN_VERSION}"


@dataclass(frozen=True)
class Step:
    """One step: plain text, without markup."""

    title: str
    text: str


STEPS = (
    Step(
        "Install the plugin",
        f"Krita AI Diffusion {PLUGIN_VERSION}: download the ZIP file from {PLUGIN_URL}. In Krita, choose "
        "Tools → Scripts → Import Python Plugin from File…, select the file, and restart Krita.",
    ),
    Step(
        "Open a document first",
        "Open or create a document, and show the docker: Settings → Dockers → AI Image Generation. "
        "Without a document the docker is empty.",
    ),
    Step(
        "Connect",
        "In the docker, press Configure. The first time, choose Custom ComfyUI, then Connect via URL; later, this is "
        "Connection → Custom Server. Paste the address, and press Connect.",
    ),
    Step(
        "Choose a workflow",
        "In the docker, choose the workspace Graph, and a workflow of this image.",
    ),
    Step(
        "Only after the first connection: if the workflow has no parameters",
        "A document that was open before shows a workflow without its parameters, and Generate says “Internal "
        "assertion failed [a value is required]”. Choose another workflow and then yours again, or create a new "
        "document. This happens once; it is a known fault of the plugin (its issue 1805).",
    ),
)


def markdown() -> str:
    """Return the steps as a numbered Markdown list; the plugin's address becomes a link."""
    lines = (f"{number}. **{step.title}.** {_linked(step.text)}" for number, step in enumerate(STEPS, 1))
    return "\n".join(lines) + "\n"


def _linked(text: str) -> str:
    return text.replace(PLUGIN_URL, f"<{PLUGIN_URL}>")
