"""How to connect Krita: one text for the instance's page, docs/krita.md and the template's README.

What it describes was seen with Krita 5.2.9 and the plugin in the version below. Texts are plain sentences without
markup, for any format.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

PLUGIN_VERSION = "1.53.0"
PLUGIN_URL = f"https://github.com/Acly/krita-ai-diffusion/releases/tag/v{PLUGIN_VERSION}"
BEGIN, END = "<!-- connect: begin -->", "<!-- connect: end -->"
_WIDTH = 118  # characters in a line of Markdown


@dataclass(frozen=True)
class Step:
    """A step, or a note: what it is about, and what to do."""

    title: str
    text: str


STEPS = (
    Step(
        "Install the plugin",
        f"Download the ZIP file of Krita AI Diffusion {PLUGIN_VERSION} ({PLUGIN_URL}). In Krita, open Tools → Scripts "
        "→ Import Python Plugin from File, choose the ZIP file, enable the plugin, and restart Krita.",
    ),
    Step(
        "Open a document",
        "Open or create a document first: without one, the plugin's docker is empty. Show the docker with Settings → "
        "Dockers → AI Image Generation.",
    ),
    Step(
        "Connect",
        'Click "Configure" in the docker. On a first run, the dialog offers "Custom ComfyUI": choose "Connect via '
        'URL". Later, choose "Custom Server" in it. Paste the whole URL, http://HOST:PORT/TOKEN, and click "Connect".',
    ),
    Step(
        "Choose a workflow",
        'In the docker, choose the workspace "Graph": it lists the server\'s workflows. If the workflow has no '
        'parameters, and "Generate" reports "Internal assertion failed [a value is required]", choose another workflow '
        "and then this one again, or create a new document. This happens once, if the document was open before the "
        "first connection.",
    ),
)

NOTES = (
    Step(
        "401, or a message about the token",
        "The token in the URL is missing or wrong. Copy the whole URL again; it ends with the token.",
    ),
    Step(
        "503, or missing models",
        "The server is starting or downloading its models; its page shows the progress. Wait until the page says that "
        'it is ready, then click "Connect" again: Krita does not always try again by itself.',
    ),
    Step("Access", "Anyone with this URL controls the server. Treat it like a password."),
    Step(
        "Encryption",
        "A connection by http:// is not encrypted. To encrypt it, use an SSH tunnel to port 8188, or provide a "
        "certificate (GESSO_TLS_CERT, GESSO_TLS_KEY).",
    ),
    Step(
        "Costs",
        "You pay for a rented server by the hour, also while you do not use it, until you destroy it. A stopped server "
        "still costs its disk.",
    ),
)


def markdown() -> str:
    """Return the steps as a numbered list and the notes as bullets, in Markdown."""
    steps = (_item(f"{number}. ", step) for number, step in enumerate(STEPS, 1))
    notes = (_item("* ", note) for note in NOTES)
    return "\n".join([*steps, "", *notes]) + "\n"


def _item(bullet: str, step: Step) -> str:
    text = f"**{step.title}**: {step.text}".replace(PLUGIN_URL, f"<{PLUGIN_URL}>")
    return textwrap.fill(
        text, _WIDTH, initial_indent=bullet, subsequent_indent=" " * len(bullet), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def fill_in(text: str) -> str:
    """Return a Markdown text with everything between its markers replaced by `markdown()`.

    Raises ValueError unless it has both markers, once and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or text.count(BEGIN) + text.count(END) != 2:
        raise ValueError(f"needs one {BEGIN} and, after it, one {END}")
    return f"{before}{BEGIN}\n{markdown()}{END}{after}"
