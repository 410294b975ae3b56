"""The tasks and their flags, as invoke parses them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from invoke.collection import Collection

import tasks
from gesso.builder.commands import check, lock
from gesso.errors import ManifestError
from gesso.settings import Project

CONTEXTS = Collection.from_module(tasks).to_contexts()


@pytest.mark.parametrize("context", CONTEXTS, ids=[str(context.name) for context in CONTEXTS])
def test_short_flags_are_letters_and_none_is_help(context: Any) -> None:
    """invoke assigns them automatically; for a name without a free letter it uses `-`, or `h` where that is free."""
    short = {name for argument in context.args.values() for name in argument.names if len(name) == 1}
    assert {name for name in short if not name.isalnum() or name == "h"} == set()


def test_archs(capsys: pytest.CaptureFixture[str]) -> None:
    known = Project(Path(tasks.__file__).parent).archs()
    check.archs(as_json=True)
    text = capsys.readouterr().out
    assert json.loads(text) == known
    assert text.count("\n") == 1  # one line, as GitHub's outputs need it
    check.archs(as_json=False)
    assert capsys.readouterr().out.split() == known


@pytest.mark.parametrize(("check_only", "summary"), [(True, "x.md"), (False, "nowhere/x.md")])
def test_a_summary_without_a_folder_is_refused_first(
    check_only: bool, summary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ManifestError, match="--summary needs a file in an existing folder"):
        lock.lock(None, (), trial=False, upgrade=False, check_only=check_only, summary=summary)
    assert list(tmp_path.iterdir()) == []
