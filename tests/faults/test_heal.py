"""Any damage is healed; intact files are never touched; a heal may be killed at any moment."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gesso.runtime.heal import reports

from . import healing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mirror import Mirror

KILLS = 60
Files = dict[str, tuple[int, int, bytes]]


@pytest.fixture
def template(mirror: Mirror, tmp_path: Path) -> Path:
    """Return an instance without damage."""
    for name, data in healing.MODELS.items():
        mirror.files[f"/{name}"] = data
    root = tmp_path / "template"
    root.mkdir()
    healing.build(root, mirror.url(""))
    return root


def _rebuild(root: Path, mirror: Mirror) -> Path:
    """Build another instance."""
    fresh = Path(tempfile.mkdtemp(dir=root.parent))
    healing.build(fresh, mirror.url(""))
    return fresh


def _name(number: int = 0) -> str:
    return reports.new_id(1_000_000_000 + number)


def _touched(name: str, damages: set[str]) -> bool:
    prefixes = [healing.DAMAGES[damage][1] for damage in damages]
    return any(name == prefix or name.startswith(f"{prefix}/") for prefix in prefixes)


def _contents(files: Files, names: Files) -> dict[str, bytes]:
    """Return the contents of the files in `names`, except metadata of distributions."""
    return {name: found[2] for name, found in files.items() if name in names and "dist-info" not in name}


def test_an_instance_without_damage(template: Path) -> None:
    before = healing.good_files(template)
    report = healing.one_heal(template, _name())
    assert report["damages"] == []
    assert report["ok"]
    assert healing.good_files(template) == before


@pytest.mark.parametrize("damage", healing.DAMAGES)
def test_each_kind_of_damage_is_found_named_and_repaired(template: Path, damage: str) -> None:
    healing.DAMAGES[damage][0](template)
    report = healing.one_heal(template, _name())
    assert report["ok"], report
    assert report["damages"]
    assert {row["outcome"] for row in report["damages"]} == {"repaired"}
    assert all(row["found"] and row["remedy"] for row in report["damages"])
    assert healing.one_heal(template, _name(1))["damages"] == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.sampled_from(sorted(healing.DAMAGES)), min_size=1))
def test_any_subset_is_healed_and_the_rest_is_not_touched(template: Path, mirror: Mirror, damages: set[str]) -> None:
    root = _rebuild(template, mirror)
    try:
        intact = healing.good_files(root)
        for damage in sorted(damages, key=lambda name: name != "a node pack deleted"):
            if damage == "a file of a node pack edited" and "a node pack deleted" in damages:
                continue
            if damage == "a file of SQLAlchemy edited" and "an older SQLAlchemy" in damages:
                continue
            healing.DAMAGES[damage][0](root)
        bad = {healing.FETCHED[damage] for damage in damages & set(healing.FETCHED)}
        report = healing.one_heal(root, _name())
        assert report["ok"], report
        assert report["fetched"] == sum(len(healing.MODELS[name]) for name in bad)
        after = healing.good_files(root)
        assert _contents(after, intact) == _contents(intact, intact)
        for name, found in intact.items():
            if not _touched(name, damages):
                assert after[name] == found, name
        assert healing.one_heal(root, _name(1))["damages"] == []
        assert (healing.layout_at(root).run / "restarts").exists() == bool(
            damages - set(healing.FETCHED)
            - {"a workflow overwritten", "a workflow deleted", "a folder in the place of a workflow",
               "the image's own workflow damaged", "the gate opened", "a folder of the workspace deleted"}
        )  # fmt: skip
    finally:
        shutil.rmtree(root)


@pytest.fixture
def forks() -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, healing.__file__]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def test_killed_at_any_moment_it_is_never_worse_and_the_next_heal_completes(
    template: Path, forks: subprocess.Popen[str]
) -> None:
    assert forks.stdin is not None
    assert forks.stdout is not None
    generator, root, took, killed, finished = random.Random(6), template, 0.2, 0, True
    intact = healing.good_files(root)
    chosen = [d for d in healing.DAMAGES if d not in {"a file of a node pack edited", "a file of SQLAlchemy edited"}]
    for number in range(20 * KILLS):
        if killed >= KILLS and finished:
            break
        if finished:
            for damage in chosen:
                healing.DAMAGES[damage][0](root)
            damaged = healing.good_files(root)
        forks.stdin.write(f'["{root}", "{_name(number)}"]\n')
        forks.stdin.flush()
        pid = int(forks.stdout.readline())
        time.sleep(generator.uniform(0, took))
        os.kill(pid, signal.SIGKILL)
        forks.stdin.write("\n")
        forks.stdin.flush()
        ended = int(forks.stdout.readline())
        assert ended in {0, -signal.SIGKILL}, (root / "trace").read_text(encoding="utf-8")
        for name, (_, _, content) in healing.good_files(root).items():  # every file is as damaged, or intact
            own = name in {"run/restarts", "run/comfyui.owed"} or "dist-info" in name
            was = {found[name][2] for found in (intact, damaged) if name in found}
            assert own or Path(name).name.startswith(".") or content in was, name
        finished = ended == 0
        killed += not finished
        took *= 0.8 if finished else 1.1  # about as long as a heal takes here and now
        if finished:
            assert _contents(healing.good_files(root), intact) == _contents(intact, intact)
            assert not healing.layout_at(root).pending_restart.exists()
    assert killed >= KILLS
    assert healing.one_heal(root, _name(5000))["damages"] == []
