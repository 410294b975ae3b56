"""How to connect Krita: the steps as text and as Markdown."""

from __future__ import annotations

import re

from gesso.manifest import connecting


def test_the_steps_contain_what_the_plugin_shows() -> None:
    text = "\n".join(f"{step.title}: {step.text}" for step in connecting.STEPS)
    for words in ("Configure", "Custom ComfyUI", "Connect via URL", "Custom Server", "Graph", "document first", "1805"):
        assert words in text, words
    assert connecting.PLUGIN_VERSION in text
    assert connecting.PLUGIN_URL in text
    assert connecting.PLUGIN_URL.endswith(f"v{connecting.PLUGIN_VERSION}")


def test_the_steps_are_plain_text() -> None:
    for step in connecting.STEPS:
        assert not re.search(r"[*`<>#\n]", step.title + step.text)
        assert step.text.endswith(".")
        assert not step.title.endswith(".")


def test_markdown_numbers_the_steps_and_links_the_plugin() -> None:
    lines = connecting.markdown().splitlines()
    assert [line.partition(".")[0] for line in lines] == [str(n) for n in range(1, len(connecting.STEPS) + 1)]
    assert lines[0].startswith("1. **Install the plugin.** ")
    assert f"<{connecting.PLUGIN_URL}>." in lines[0]
