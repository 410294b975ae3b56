"""The tasks as invoke sees them: what people can type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from invoke.collection import Collection

import tasks
from gesso.builder import commands
from gesso.errors import ManifestError
from gesso.settings import Project

CONTEXTS = Collection.from_module(tasks).to_contexts()


@pytest.mark.parametrize("context", CONTEXTS, ids=[str(context.name) for context in CONTEXTS])
def test_short_flags_are_letters_and_none_takes_helps(context: Any) -> None:
    """invoke makes them up by itself; when a name has no free letter left, it takes `-`, and `h` where that is free."""
    short = {name for argument in context.args.values() for name in argument.names if len(name) == 1}
    assert {name for name in short if not name.isalnum() or name == "h"} == set()


def test_archs(capsys: pytest.CaptureFixture[str]) -> None:
    known = Project(Path(tasks.__file__).parent).archs()
    commands.archs(as_json=True)
    text = capsys.readouterr().out
    assert json.loads(text) == known
    assert text.count("\n") == 1  # a line, as GitHub's outputs want it
    commands.archs(as_json=False)
    assert capsys.readouterr().out.split() == known


@pytest.mark.parametrize(("check_only", "summary"), [(True, "x.md"), (False, "nowhere/x.md")])
def test_a_summary_without_a_place_is_refused_before_anything_is_asked(
    check_only: bool, summary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ManifestError, match="--summary has no place"):
        commands.lock(None, (), trial=False, upgrade=False, check_only=check_only, summary=summary)
    assert list(tmp_path.iterdir()) == []
