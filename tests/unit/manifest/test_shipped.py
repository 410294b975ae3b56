"""The manifests that gesso ships, and the schema that editors use for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gesso.manifest.folders import FOLDERS
from gesso.manifest.load import load
from gesso.manifest.lock import read_lock, stale_inputs
from gesso.manifest.messages import PATTERN_DESCRIPTIONS
from gesso.manifest.schema import Manifest, editor_schema
from gesso.settings import Project, select

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "manifests").glob("*.yaml"))
ARCHS = ["flux", "sdxl"]


def plain_keys(path: Path) -> dict[str, Any]:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    return data


def test_every_architecture_is_tested_here() -> None:
    assert Project(ROOT).archs() == ARCHS


def test_written_schema_is_up_to_date() -> None:
    written = json.loads((ROOT / "manifests/schema.json").read_text(encoding="utf-8"))

    assert written == json.loads(json.dumps(editor_schema())), "run `invoke generate`"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_manifest_names_its_schema_to_the_editor(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]

    assert first == "# yaml-language-server: $schema=schema.json"
    assert (path.parent / first.rpartition("=")[2]).is_file()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_manifest_uses_only_keys_of_the_schema(path: Path) -> None:
    schema = editor_schema()
    data = plain_keys(path)

    assert data.keys() <= schema["properties"].keys()
    for key, definition in (("models", "Model"), ("nodes", "Node")):
        for item in data.get(key, ()):
            assert item.keys() <= schema["$defs"][definition]["properties"].keys()
            assert set(schema["$defs"][definition]["required"]) <= item.keys()
    for key in ("base", "python", "comfyui", "hardware"):
        definition = schema["properties"][key]["$ref"].rpartition("/")[2]
        assert data.get(key, {}).keys() <= schema["$defs"][definition]["properties"].keys()


def test_schema_refuses_unknown_keys_and_requires_none_at_the_top() -> None:
    schema = editor_schema()

    assert "required" not in schema
    assert schema["additionalProperties"] is False
    assert all(d["additionalProperties"] is False for d in schema["$defs"].values())
    assert schema["properties"].keys() == Manifest.model_fields.keys() | {"extends"}
    assert [name for name, d in schema["$defs"].items() if d.get("required")] == ["Model", "Node", "Workflow"]


def test_every_pattern_has_a_description() -> None:
    def patterns(part: object) -> set[str]:
        if isinstance(part, dict):
            own = {part["pattern"]} if isinstance(part.get("pattern"), str) else set()
            return own.union(*map(patterns, part.values()))
        return set().union(*map(patterns, part)) if isinstance(part, list) else set()

    assert patterns(editor_schema()) == set(PATTERN_DESCRIPTIONS)


def test_editors_accept_a_workflow_by_its_name_or_with_a_title() -> None:
    name, mapping = editor_schema()["properties"]["workflows"]["items"]["anyOf"]
    assert name["type"] == "string"
    assert mapping == {"$ref": "#/$defs/Workflow"}


@pytest.mark.parametrize("arch", ARCHS)
def test_titles_sort_in_the_order_of_the_manifest(arch: str) -> None:
    """Krita sorts by text."""
    titles = [w.shown_title for w in load(ROOT / f"manifests/{arch}.yaml", root=ROOT).manifest.workflows]
    assert titles == sorted(titles)
    assert all(title.startswith(f"{arch.upper()} {number} ") for number, title in enumerate(titles, 1))


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("trial", [False, True], ids=["real", "trial"])
def test_shipped_manifest_loads(arch: str, trial: bool) -> None:
    selection = select(Project(ROOT), arch, trial=trial)

    manifest = load(selection.manifest, selection.layers, root=ROOT).manifest

    assert manifest.arch == arch
    assert manifest.trial is trial
    assert (manifest.base.bootstrap is None) is (not trial)
    assert all(model.name.split("/")[0] in FOLDERS[model.kind] for model in manifest.models)


@pytest.mark.parametrize("arch", ARCHS)
def test_shipped_manifest_uses_only_pinned_https_sources(arch: str) -> None:
    selection = select(Project(ROOT), arch)

    manifest = load(selection.manifest, root=ROOT).manifest

    for source in (manifest.comfyui, *manifest.nodes):
        assert source.path is None
        assert source.git is not None
        assert source.git.startswith("https://")
        assert source.ref is not None
        assert len(source.ref) == 40, "must be a commit: a tag can be moved"
    for model in manifest.models:
        assert all(url.startswith("https://") for url in model.sources)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_files_use_git_over_https_only(path: Path) -> None:
    data = plain_keys(path)

    gits = [part.get("git") for part in (data.get("comfyui", {}), *data.get("nodes", ()))]
    assert all(git is None or git.startswith("https://") for git in gits)


@pytest.mark.parametrize("arch", ARCHS)
def test_trial_uses_only_sources_in_this_project(arch: str) -> None:
    selection = select(Project(ROOT), arch, trial=True)

    manifest = load(selection.manifest, selection.layers, root=ROOT).manifest

    for source in (manifest.comfyui, *manifest.nodes):
        assert source.git is None
        assert source.path is not None
        assert (ROOT / source.path).is_dir()


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("trial", [False, True], ids=["real", "trial"])
def test_shipped_lock_is_fresh(arch: str, trial: bool) -> None:
    selection = select(Project(ROOT), arch, trial=trial)
    lock = read_lock(selection.lock)

    assert lock.arch == arch
    assert stale_inputs(lock, load(selection.manifest, selection.layers, root=ROOT).manifest) == []
    assert selection.lock.read_text(encoding="utf-8") == lock.dumps()
