"""Paths of the workflows, and changed copies of them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
SCRIPTS = sorted(GITHUB.glob("*.sh"))


def text_of(name: str) -> str:
    return (GITHUB / "workflows" / f"{name}.yml").read_text(encoding="utf-8")


def changed(name: str, old: str, new: str) -> str:
    """Return a workflow with every occurrence of a text replaced."""
    text = text_of(name)
    assert old in text, f"{name}.yml does not contain {old!r} any more: choose another text for this mutant"
    return text.replace(old, new)
