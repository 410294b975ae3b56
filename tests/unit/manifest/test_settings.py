"""Selecting an image: the available architectures, and the lock that belongs to a selection."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gesso.errors import ManifestError
from gesso.settings import Project, Selection, cache_root, select


@pytest.fixture
def here(tmp_path: Path) -> Project:
    """Return a project of three architectures and no content."""
    (tmp_path / "manifests").mkdir()
    for name in (
        "common.yaml",
        "trial.yaml",
        "sdxl.yaml",
        "flux.yaml",
        "mine.yaml",
        "notes.txt",
        "old.yaml.bak",
    ):
        (tmp_path / "manifests" / name).touch()
    return Project(tmp_path)


def test_archs_are_the_manifests_but_common_and_trial(here: Project) -> None:
    assert here.archs() == ["flux", "mine", "sdxl"]


@pytest.mark.parametrize("arch", ["sd15", "common", "trial", "", "SDXL", "../manifests/sdxl", "sdxl.yaml"])
def test_unknown_architecture_is_reported_with_the_available_ones(arch: str, here: Project) -> None:
    with pytest.raises(ManifestError) as caught:
        select(here, arch)

    assert caught.value.exit_code == 2
    assert caught.value.message.startswith("--arch ")
    assert caught.value.message.endswith(": no such architecture")
    assert caught.value.next_step == "choose one of: flux, mine, sdxl"


def test_odd_architecture_is_shown_safely(here: Project) -> None:
    with pytest.raises(ManifestError) as caught:
        select(here, "a\x1b[31m\n" + "b" * 500)

    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 120


def test_missing_overlay_is_reported(here: Project, tmp_path: Path) -> None:
    present, missing = tmp_path / "present.yaml", tmp_path / "missing.yaml"
    present.touch()

    with pytest.raises(ManifestError) as caught:
        select(here, "sdxl", [present, missing])

    assert caught.value.exit_code == 2
    assert caught.value.message == f"--overlay {missing}: no such file"
    assert caught.value.next_step

    with pytest.raises(ManifestError, match="no such file"):
        select(here, "sdxl", [tmp_path])


@pytest.mark.parametrize(
    ("overlays", "trial", "lock", "python_lock"),
    [
        ([], False, "manifests/locks/sdxl.lock.json", "manifests/locks/python.lock.txt"),
        ([], True, "manifests/locks/sdxl.trial.lock.json", "manifests/locks/python.trial.lock.txt"),
        (["own/a.yaml"], False, "own/a.sdxl.lock.json", "own/a.python.lock.txt"),
        (["own/a.yaml"], True, "own/a.sdxl.trial.lock.json", "own/a.python.trial.lock.txt"),
        (["own/a.yaml", "b.yaml"], False, "a.b.sdxl.lock.json", "a.b.python.lock.txt"),
        (["b.yaml", "own/a.yaml"], True, "own/b.a.sdxl.trial.lock.json", "own/b.a.python.trial.lock.txt"),
    ],
)
def test_locks_are_beside_the_last_overlay_or_in_the_project(
    overlays: list[str],
    trial: bool,
    lock: str,
    python_lock: str,
    here: Project,
) -> None:
    for name in overlays:
        (here.root / name).parent.mkdir(exist_ok=True)
        (here.root / name).touch()

    selection = select(here, "sdxl", [here.root / name for name in overlays], trial=trial)

    assert selection.lock == here.root / lock
    assert selection.python_lock == here.root / python_lock


def test_no_two_selections_share_a_lock(here: Project, tmp_path: Path) -> None:
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    selections = [
        Selection(here, arch, overlays, trial)
        for arch in ("sdxl", "flux")
        for overlays in ((), (a,), (b,), (a, b), (b, a))
        for trial in (False, True)
    ]

    assert len({selection.lock for selection in selections}) == len(selections)
    assert len({selection.python_lock for selection in selections}) == len(selections) / 2


def test_overlay_by_a_relative_path_has_its_lock_beside_it(here: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (here.root / "mine.yaml").touch()
    monkeypatch.chdir(here.root)

    assert select(here, "sdxl", ["mine.yaml"]).lock == here.root / "mine.sdxl.lock.json"


def test_trial_is_merged_first(here: Project, tmp_path: Path) -> None:
    overlay = tmp_path / "a.yaml"
    overlay.touch()
    both = select(here, "sdxl", [overlay], trial=True)

    assert both.manifest == here.manifests / "sdxl.yaml"
    assert both.layers[0] == here.manifests / "trial.yaml"
    assert both.layers[-1] == overlay
    assert all(path.is_relative_to(here.manifests) for path in both.layers[:-1])
    assert select(here, "sdxl", trial=True).layers == both.layers[:-1]
    assert select(here, "sdxl", [overlay]).layers == (overlay,)
    assert select(here, "sdxl").layers == ()
    assert both.without_overlays == Selection(here, "sdxl", (), trial=True)
    assert both.without_trial == Selection(here, "sdxl")
    assert both.flags == f"--arch sdxl --trial --overlay {overlay}"
    assert select(here, "flux").flags == "--arch flux"


def test_cache_root_follows_the_environment(tmp_path: Path) -> None:
    assert cache_root({"GESSO_CACHE": str(tmp_path), "XDG_CACHE_HOME": os.sep}) == tmp_path
    assert cache_root({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "gesso"
    assert cache_root({}) == Path("~/.cache/gesso").expanduser()
    assert cache_root({"GESSO_CACHE": "", "XDG_CACHE_HOME": ""}) == Path("~/.cache/gesso").expanduser()
