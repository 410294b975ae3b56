"""How to connect Krita: the same text everywhere, and readable as Markdown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gesso.builder.commands import check
from gesso.errors import CheckError, ManifestError
from gesso.manifest import connecting
from gesso.manifest.connecting import BEGIN, END, NOTES, STEPS, fill_in, markdown
from gesso.settings import Project

ROOT = Path(__file__).resolve().parents[3]
GUIDE = ROOT / "docs/krita.md"


def test_the_docs_have_this_text() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    assert f"{BEGIN}\n{markdown()}{END}\n" in text, "run `invoke generate`"
    assert fill_in(text) == text


def test_the_template_has_this_text() -> None:
    """As strangers read it; the README is built in tests/unit/builder/vast."""
    for path in (ROOT / "tests/unit/builder/vast/golden").glob("*.readme.md"):
        assert f"\n\n{markdown()}\n" in path.read_text(encoding="utf-8"), path.name


def test_every_step_and_note_is_in_it() -> None:
    lines = " ".join(markdown().split())
    for number, step in enumerate(STEPS, 1):
        text = step.text.replace(connecting.PLUGIN_URL, f"<{connecting.PLUGIN_URL}>")
        assert f"{number}. **{step.title}**: {text}" in lines
    for note in NOTES:
        assert f"* **{note.title}**: {note.text}" in lines
    assert len({step.title for step in (*STEPS, *NOTES)}) == len(STEPS) + len(NOTES)


@pytest.mark.parametrize(
    "words",
    [
        "Open or create a document first", '"Configure"', '"Custom ComfyUI": choose "Connect via URL"',
        '"Custom Server"', "http://HOST:PORT/TOKEN", "Internal assertion failed [a value is required]",
        "create a new document", "401", "503", "not encrypted", "by the hour", "like a password",
    ],
)  # fmt: skip
def test_what_people_need_to_know_is_in_it(words: str) -> None:
    assert words in " ".join(markdown().split())


def test_no_line_is_long_or_read_as_other_markdown() -> None:
    """A line that begins with > or with - would be a quotation or a list."""
    first = re.compile(r"(\d+\. |\* )\*\*\S")
    for line in filter(None, markdown().splitlines()):
        assert len(line) <= 120
        assert first.match(line) or re.match(r" {2,3}[\w<\"(→]", line), line
    assert not any(re.search(r"[*`\\#|]", step.text) for step in (*STEPS, *NOTES)), "no markup in the texts"


def test_the_version_is_the_one_that_the_manifest_is_made_for() -> None:
    text = (ROOT / "manifests/common.yaml").read_text(encoding="utf-8")
    assert f"the Krita plugin {connecting.PLUGIN_VERSION}" in text
    assert connecting.PLUGIN_URL.endswith(f"/v{connecting.PLUGIN_VERSION}")


def test_the_block_is_replaced_and_the_rest_is_kept() -> None:
    made = fill_in(f"# Title\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    assert made == f"# Title\n\n{BEGIN}\n{markdown()}{END}\n\nafter\n"
    assert fill_in(made) == made


@pytest.mark.parametrize(
    "text", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{END}{END}", f"{BEGIN}{BEGIN}{END}", f"{END}{BEGIN}{END}"]
)
def test_a_text_without_its_markers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="needs one <!-- connect: begin -->"):
        fill_in(text)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose docs can be changed, with everything else as it is."""
    for path in ROOT.iterdir():
        if path.name != "docs":
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/krita.md").write_text(GUIDE.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(check, "PROJECT", Project(tmp_path))
    return tmp_path / "docs/krita.md"


def test_check_reports_other_text_and_generate_restores_it(project: Path) -> None:
    as_it_was = project.read_text(encoding="utf-8")
    check.check({})
    project.write_text(as_it_was.replace("Configure", "Setup"), encoding="utf-8")
    with pytest.raises(CheckError, match=r"docs/krita\.md is out of date: run `invoke generate`"):
        check.check({})
    check.generate({})
    assert project.read_text(encoding="utf-8") == as_it_was


def test_check_reports_missing_markers(project: Path) -> None:
    project.write_text("# Connect Krita\n", encoding="utf-8")
    with pytest.raises(CheckError, match=r"docs/krita\.md: needs one"):
        check.check({})
    with pytest.raises(ManifestError, match=r"docs/krita\.md: needs one"):
        check.generate({})
