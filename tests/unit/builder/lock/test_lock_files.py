"""The lock files: which one belongs to a selection, when it is stale, and how it is replaced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gesso.builder.image.build import read_workflows
from gesso.builder.lock import lock_files
from gesso.errors import LockError, ManifestError
from gesso.manifest.load import load
from gesso.manifest.lock import inputs_of, read_lock
from gesso.settings import Project, Selection

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.manifest.schema import Manifest

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def copied(tmp_path: Path) -> Project:
    """A project with copies of the real manifests and locks."""
    root = tmp_path / "project"
    shutil.copytree(ROOT / "manifests", root / "manifests")
    return Project(root)


def _overlay(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _manifest(selection: Selection) -> Manifest:
    return load(selection.manifest, selection.layers, root=selection.project.root).manifest


def _fresh(selection: Selection) -> lock_files.Locked:
    return lock_files.read_fresh(selection, _manifest(selection))


@pytest.mark.parametrize("trial", [False, True])
def test_the_projects_own_locks_are_fresh(copied: Project, trial: bool) -> None:
    for arch in copied.archs():
        locked = _fresh(Selection(copied, arch, (), trial))
        assert locked.lock.arch == arch
        assert "sqlalchemy" in {pin.name for pin in locked.pins}


def test_an_overlay_that_changes_nothing_locked_needs_no_lock(copied: Project, tmp_path: Path) -> None:
    overlay = _overlay(tmp_path / "mine", "title: Another title\nhardware: {vram_gb: 24}\n")
    selection = Selection(copied, "sdxl", (overlay,))
    assert _manifest(selection).title == "Another title"
    assert _fresh(selection) == _fresh(Selection(copied, "sdxl"))


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("python: {overrides: [numpy==2.1]}\n", "python"),
        ("base: {image: 'debian:forky-slim'}\n", "base"),
        (f"comfyui: {{ref: {'1' * 40}}}\n", "comfyui"),
        (f"nodes: [{{name: ComfyUI-GGUF, ref: {'1' * 40}}}]\n", "nodes ComfyUI-GGUF"),
        ("nodes: [{name: ComfyUI-GGUF, remove: true}]\n", "nodes ComfyUI-GGUF"),
        (
            f"models: [{{name: vae/sdxl_vae_fp16.safetensors, sha256: {'1' * 64}}}]\n",
            "models vae/sdxl_vae_fp16.safetensors",
        ),
    ],
)
def test_a_stale_lock_names_what_changed(copied: Project, tmp_path: Path, text: str, changed: str) -> None:
    overlay = _overlay(tmp_path / "mine", text)
    with pytest.raises(LockError) as raised:
        _fresh(Selection(copied, "sdxl", (overlay,)))
    assert raised.value.message.endswith(f"changed since it was made: {changed}")
    assert raised.value.message.startswith("sdxl.lock.json is stale")
    assert raised.value.next_step == f"run `invoke lock --arch sdxl --overlay {overlay}`"
    assert raised.value.exit_code == 3


def test_an_overlay_with_its_own_lock_uses_that(copied: Project, tmp_path: Path) -> None:
    overlay = _overlay(tmp_path / "mine", "python: {overrides: [numpy==2.1]}\n")
    selection = Selection(copied, "sdxl", (overlay,))
    manifest = _manifest(selection)
    from gesso.manifest.lock import inputs_of

    old = read_lock(copied.locks / "sdxl.lock.json")
    text = (copied.locks / "python.lock.txt").read_text(encoding="utf-8")
    lock_files.write(selection, old.model_copy(update={"inputs": inputs_of(manifest)}), text)
    assert {p.name for p in overlay.parent.iterdir()} == {
        "mine.yaml", "mine.sdxl.lock.json", "mine.python.lock.txt",
    }  # fmt: skip
    assert lock_files.read_fresh(selection, manifest).lock.inputs == inputs_of(manifest)
    (overlay.parent / "mine.python.lock.txt").unlink()
    with pytest.raises(LockError, match=r"mine\.python\.lock\.txt: No such file"):
        lock_files.read_fresh(selection, manifest)


@pytest.mark.parametrize("name", ["sdxl.lock.json", "python.lock.txt"])
def test_a_missing_lock_is_named(copied: Project, name: str) -> None:
    (copied.locks / name).unlink()
    with pytest.raises(LockError, match=name) as raised:
        _fresh(Selection(copied, "sdxl"))
    assert raised.value.next_step == "run `invoke lock --arch sdxl`"


def test_a_python_lock_that_was_tampered_with_is_refused(copied: Project) -> None:
    path = copied.locks / "python.lock.txt"
    path.write_text(path.read_text().replace("sqlalchemy==2.0.", "sqlalchemy==1.4."))
    for arch in copied.archs():
        with pytest.raises(LockError, match=rf"python\.lock\.txt does not match {arch}\.lock\.json"):
            _fresh(Selection(copied, arch))
    assert _fresh(Selection(copied, "sdxl", (), trial=True)).pins  # its own Python lock


@pytest.mark.parametrize("text", ["", "{}", "[1", '{"format": 2}'])
def test_an_invalid_lock_is_refused(copied: Project, text: str) -> None:
    (copied.locks / "sdxl.lock.json").write_text(text)
    with pytest.raises(LockError, match=r"sdxl\.lock\.json: not a lock of format 1"):
        _fresh(Selection(copied, "sdxl"))


ONE = "checkpoints/Juggernaut-XL-v9.safetensors"


def _change_model(data: dict[str, Any], **new: Any) -> None:
    next(model for model in data["models"] if model["name"] == ONE).update(new)


# Manual edits of a lock, and the part that the error must name.
BY_HAND: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda d: _change_model(d, sha256="0" * 64), f"models {ONE}"),
    (lambda d: _change_model(d, sources=["https://bad.example/x", "https://civitai.com/y"]), f"models {ONE}"),
    (lambda d: _change_model(d, sources=["http://huggingface.co/x", "https://civitai.com/y"]), f"models {ONE}"),
    (lambda d: _change_model(d, sources=["https://huggingface.co/x"]), f"models {ONE}"),
    (lambda d: _change_model(d, size=5), f"models {ONE}"),
    (lambda d: _change_model(d, size_confirmed=True), f"models {ONE}"),  # no host confirmed it
    (lambda d: d["models"][0].update(size=-5), "models inpaint/MAT_Places512_G_fp16.safetensors"),
    (lambda d: d["models"].pop(), "models"),
    (lambda d: d["models"].append(d["models"][0]), "models"),
    (lambda d: d["nodes"].pop("ComfyUI-GGUF"), "nodes ComfyUI-GGUF"),
    (lambda d: d["nodes"].update(more=d["comfyui"]), "nodes more"),
    (lambda d: d["comfyui"].update(git="https://github.com/bad/ComfyUI"), "comfyui"),
    (lambda d: d["comfyui"].update(commit="1" * 40), "comfyui"),  # the manifest pins another
    (lambda d: d["comfyui"].update(commit="--upload-pack=x"), "comfyui"),
    (lambda d: d["nodes"]["ComfyUI-GGUF"].update(tree="HEAD"), "nodes ComfyUI-GGUF"),
    (lambda d: d["nodes"]["ComfyUI-GGUF"].pop("commit"), "nodes ComfyUI-GGUF"),
    (lambda d: d["base"].update(image="bad/debian"), "base"),
    (lambda d: d["base"].update(digest=f"sha256:{'1' * 64}\nRUN evil"), "base"),
    (lambda d: d["base"].pop("digest"), "base"),
    (lambda d: d.update(arch="flux"), "arch"),
]


@pytest.mark.parametrize(("change", "named"), BY_HAND, ids=range(len(BY_HAND)))
def test_a_manually_edited_lock_is_refused(
    copied: Project, change: Callable[[dict[str, Any]], Any], named: str
) -> None:
    """Its checksums of the manifest still match, so no other check finds it, and the lock decides what is built."""
    path = copied.locks / "sdxl.lock.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(LockError) as raised:
        _fresh(Selection(copied, "sdxl"))
    assert raised.value.message == f"sdxl.lock.json was changed by hand: it contradicts the manifest in {named}"


def test_a_lock_may_be_more_specific_than_the_manifest(copied: Project) -> None:
    """A size that the manifest lacks, a revision of the same host's file, the commit of a branch."""
    path = copied.locks / "sdxl.lock.json"
    data = json.loads(path.read_text())
    data["models"][0].update(sources=["https://huggingface.co/Acly/MAT/resolve/0123/MAT.safetensors"])
    data["models"][1].update(size=5, size_confirmed=True)
    data["unconfirmed"].remove(f"models {data['models'][1]['name']}")
    selection = Selection(copied, "sdxl")
    manifest = _manifest(selection)
    bare = manifest.models[1].model_copy(update={"size": None})
    manifest = manifest.model_copy(update={"models": (manifest.models[0], bare, *manifest.models[2:])})
    data["inputs"] = inputs_of(manifest)
    path.write_text(json.dumps(data))
    assert lock_files.read_fresh(selection, manifest).lock.models[1].size == 5


def test_a_lock_of_an_earlier_version_has_no_confirmed_size(copied: Project) -> None:
    path = copied.locks / "sdxl.lock.json"
    data = json.loads(path.read_text())
    for model in data["models"]:
        del model["size_confirmed"]
    path.write_text(json.dumps(data))
    assert not any(model.size_confirmed for model in _fresh(Selection(copied, "sdxl")).lock.models)


def test_the_trials_sizes_are_confirmed_and_the_real_ones_are_not_yet(copied: Project) -> None:
    for arch in copied.archs():
        for trial in (True, False):
            models = _fresh(Selection(copied, arch, (), trial)).lock.models
            assert {model.size_confirmed for model in models} == {trial}


def test_a_lock_cannot_write_control_characters_to_the_terminal(copied: Project) -> None:
    path = copied.locks / "sdxl.lock.json"
    data = json.loads(path.read_text())
    data["inputs"]["models \x1b[2J\nok: fresh"] = "0"
    path.write_text(json.dumps(data))
    with pytest.raises(LockError) as raised:
        _fresh(Selection(copied, "sdxl"))
    assert raised.value.message.endswith("changed since it was made: models ?[2J?ok: fresh")


@pytest.mark.parametrize("damage", [b"\xff", b"<<<<<<< ours\n"])
def test_a_python_lock_with_other_bytes_is_refused(copied: Project, damage: bytes) -> None:
    path = copied.locks / "python.lock.txt"
    path.write_bytes(damage + path.read_bytes())
    with pytest.raises(LockError, match=r"python\.lock\.txt does not match") as raised:
        _fresh(Selection(copied, "sdxl"))
    assert raised.value.next_step == "run `invoke lock --arch sdxl`"


@pytest.mark.parametrize("suffix", [".json", ".api.json"])
def test_a_workflow_that_is_not_text_is_named(copied: Project, suffix: str) -> None:
    shutil.copytree(ROOT / "workflows", copied.workflows)
    path = copied.workflows / f"krita_gold_standard_sdxl{suffix}"
    path.write_bytes(b"\xff" + path.read_bytes())
    with pytest.raises(ManifestError, match=rf"krita_gold_standard_sdxl{suffix}: not UTF-8 text"):
        read_workflows(copied, _manifest(Selection(copied, "sdxl")))


# --- writing


def test_write_names_what_changed(copied: Project) -> None:
    selection = Selection(copied, "sdxl")
    lock = read_lock(selection.lock)
    text = selection.python_lock.read_text(encoding="utf-8")
    before = selection.lock.stat().st_mtime_ns
    assert lock_files.write(selection, lock, text) == []
    assert selection.lock.stat().st_mtime_ns == before
    assert lock_files.write(selection, lock, text + "# more\n") == [selection.python_lock]
    assert lock_files.write(selection, lock.model_copy(update={"arch": "flux"}), text) == [
        selection.python_lock,
        selection.lock,
    ]
    assert read_lock(selection.lock).arch == "flux"
    assert selection.lock.stat().st_mode & 0o777 == 0o644
    assert not list(copied.locks.glob(".*"))


def test_write_is_all_or_nothing(copied: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new text is complete, in a file next to the old one, before it replaces it."""
    path = copied.locks / "sdxl.lock.json"
    old = path.read_text(encoding="utf-8")
    seen: list[str] = []

    def stop(source: str, target: Path) -> None:
        seen.append(Path(source).read_text(encoding="utf-8"))
        assert Path(source).parent == Path(target).parent
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", stop)
    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        lock_files.replace(path, "new\n" * 9999)
    assert seen == ["new\n" * 9999]
    assert path.read_text(encoding="utf-8") == old
