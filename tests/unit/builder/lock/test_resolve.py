"""`invoke lock`: what hosts confirm, what they contradict, and what stays as it was while they are out of reach."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from gesso import proc
from gesso.builder.lock import lock_files, python_pins, remote_facts
from gesso.builder.lock.remote_facts import OutOfReachError, Said
from gesso.builder.lock.resolve import Resolver
from gesso.builder.lock.sources import Peek, SourceCache
from gesso.errors import FetchError, LockError
from gesso.manifest.schema import Manifest
from gesso.settings import Project, Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gesso.manifest.lock import Lock, LockedSource

PINNED = "https://huggingface.co/a/b/resolve/{}/vae.safetensors"
BASE = "sha256:" + "b" * 64
VAE = "vae/one.safetensors"
CHECKPOINT = "checkpoints/two.safetensors"
HASH = "--hash=sha256:" + "0" * 64


class Sources(SourceCache):
    """The real one; but what git said of a branch is remembered between tests until the branch moves on."""

    known: ClassVar[dict[tuple[str, str | None], Peek]] = {}

    def peek(self, source: LockedSource, requirements: str | None) -> Peek:
        branch = Path((source.git or "").removeprefix("file://"), ".git/refs/heads", source.ref or "")
        if not branch.is_file():
            return super().peek(source, requirements)
        key = (branch.read_text(), requirements)
        if key not in self.known:
            self.known[key] = super().peek(source, requirements)
        return self.known[key]


@dataclass
class World:
    """Everybody whom `invoke lock` asks, and what they answer."""

    root: Path
    comfyui: Path
    pack: Path
    digest: str | OutOfReachError = BASE
    said: dict[str, Said | OutOfReachError] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    compiled: list[dict[str, str]] = field(default_factory=list)
    compiled_from: list[str | None] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def selection(self) -> Selection:
        return Selection(Project(self.root), "toy")

    @property
    def manifest(self) -> Manifest:
        models = [
            {"name": VAE, "sources": [PINNED.format("main"), "https://mirror.test/one"], "sha256": "a" * 64,
             "size": 10, "kind": "vae", "family": "sdxl", "tier": "required", "license": "MIT"},
            {"name": CHECKPOINT, "sources": ["https://mirror.test/two"], "sha256": "b" * 64, "kind": "checkpoint",
             "family": "sdxl", "tier": "required", "license": "MIT"},
        ]  # fmt: skip
        nodes = [{"name": "pack", "git": f"file://{self.pack}", "ref": "main"}]
        return Manifest.model_validate(
            {
                "arch": "toy", "title": "A toy", "family": "sdxl", "base": {"image": "debian:trixie-slim"},
                "comfyui": {"git": f"file://{self.comfyui}", "ref": "main"}, "nodes": nodes,
                "python": {"version": "3.13", "constraints": ["sqlalchemy>=2.0,<2.1"]}, "models": models, "vae": VAE,
                "workflows": ["toy"], "classes": ["Toy"], "hardware": {"vram_gb": 8, "cuda": "13.0"}, **self.changes,
            }
        )  # fmt: skip

    def lock(self, *, upgrade: bool = False) -> tuple[Lock, Resolver]:
        """Resolve, and write what comes of it."""
        manifest = self.manifest
        sources = Sources(self.root / "cache")
        resolver = Resolver(self.selection, manifest, sources, {}, lambda _: None, upgrade=upgrade)
        lock, text = resolver.resolve()
        lock_files.write(self.selection, lock, text)
        assert lock_files.fresh(self.selection, manifest).lock == lock
        return lock, resolver


@pytest.fixture
def world(
    tmp_path: Path, repository: Callable[[str, dict[str, bytes]], Path], monkeypatch: pytest.MonkeyPatch
) -> World:
    root = tmp_path / "project"
    (root / "manifests").mkdir(parents=True)
    (root / "manifests" / "toy.yaml").touch()
    made = World(
        root,
        comfyui=repository("ComfyUI", {"requirements.txt": b"torch\n"}),
        pack=repository("pack", {"requirements.txt": b"numpy\n"}),
    )
    made.said = {
        PINNED.format("main"): Said(PINNED.format("c0ffee"), "a" * 64, 10),
        "https://mirror.test/one": OutOfReachError("mirror.test: gives no sha256 in its headers"),
        "https://mirror.test/two": Said("https://mirror.test/two", "b" * 64, 20),
    }

    def ask_registry(image: str) -> str:
        made.asked.append(image)
        if isinstance(made.digest, OutOfReachError):
            raise made.digest
        return made.digest

    def ask_model_host(url: str, env: Mapping[str, str], session: Any) -> Said:
        made.asked.append(url)
        said = made.said[url]
        if isinstance(said, OutOfReachError):
            raise said
        return said

    def compile_(
        folder: Path, python: Any, requirements: Mapping[str, str], *, existing: str | None = None
    ) -> proc.Result:
        made.compiled.append(dict(requirements))
        made.compiled_from.append(existing)
        text = f"sqlalchemy==2.0.{len(made.compiled)} {HASH}\n"
        (folder / "python.lock.txt").write_text(text, encoding="utf-8")
        return proc.Result(command="", code=0, stdout="", output="")

    monkeypatch.setattr(remote_facts, "ask_registry", ask_registry)
    monkeypatch.setattr(remote_facts, "ask_model_host", ask_model_host)
    monkeypatch.setattr(python_pins, "_compile", compile_)
    return made


def _cut_off(world: World, *, git: bool = True) -> None:
    """Take the whole network away."""
    down = {url: OutOfReachError(f"{url.split('/')[2]}: ConnectionError", host_is_down=True) for url in world.said}
    world.said.update(down)
    world.digest = OutOfReachError("registry of debian:trixie-slim: no such host")
    if git:
        for upstream in (world.comfyui, world.pack):
            shutil.move(upstream, upstream.with_name(f"{upstream.name}-gone"))


def test_everybody_answers(world: World, git: Callable[..., str]) -> None:
    lock, resolver = world.lock()
    assert (lock.base.image, lock.base.digest) == ("debian:trixie-slim", BASE)
    commit, tree = git(world.comfyui, "rev-parse", "HEAD", "HEAD^{tree}").split()
    assert (lock.comfyui.commit, lock.comfyui.tree, lock.comfyui.ref) == (commit, tree, "main")
    assert lock.nodes["pack"].commit == git(world.pack, "rev-parse", "HEAD")
    assert world.compiled == [{"ComfyUI": "torch\n", "pack": "numpy\n"}]
    assert lock.python.sqlalchemy == "2.0.1"
    assert lock.python.file == "python.lock.txt"
    one, two = lock.models
    assert one.sources == (PINNED.format("c0ffee"), "https://mirror.test/one")
    assert (one.size, two.size) == (10, 20)
    assert lock.unconfirmed == ()
    assert resolver.unconfirmed == {}


def test_a_second_run_changes_nothing(world: World) -> None:
    first, _ = world.lock()
    again, _ = world.lock()
    assert again == first
    assert len(world.compiled) == 1


def test_upgrade_resolves_anew(world: World) -> None:
    world.lock()
    lock, _ = world.lock(upgrade=True)
    assert lock.python.sqlalchemy == "2.0.2"
    assert world.compiled_from == [None, None]


def test_a_change_keeps_what_still_fits(world: World) -> None:
    world.lock()
    world.changes = {"python": {"version": "3.13", "constraints": ["sqlalchemy>=2.0,<2.1"], "requirements": ["x"]}}
    lock, _ = world.lock()
    assert lock.python.sqlalchemy == "2.0.2"
    assert world.compiled_from == [None, f"sqlalchemy==2.0.1 {HASH}\n"]


def test_new_requirements_of_a_branch_are_noticed(world: World, git: Callable[..., str]) -> None:
    first, _ = world.lock()
    (world.pack / "requirements.txt").write_text("numpy<3\n")
    git(world.pack, "commit", "--quiet", "--all", "--message=two")
    lock, _ = world.lock()
    assert lock.nodes["pack"].commit != first.nodes["pack"].commit
    assert world.compiled[-1] == {"ComfyUI": "torch\n", "pack": "numpy<3\n"}


def test_an_earlier_confirmation_survives_an_offline_run(world: World) -> None:
    online, _ = world.lock()
    _cut_off(world)
    offline, resolver = world.lock()
    assert offline == online
    assert set(resolver.unconfirmed) == {"base", "comfyui", "nodes pack", f"models {VAE}", f"models {CHECKPOINT}"}
    assert resolver.unconfirmed["base"] == "registry of debian:trixie-slim: no such host"
    assert len(world.compiled) == 1


def test_what_was_never_confirmed_is_listed_until_it_is(world: World) -> None:
    online = dict(world.said)
    _cut_off(world, git=False)
    world.digest = BASE
    first, _ = world.lock()
    assert first.unconfirmed == (f"models {CHECKPOINT}", f"models {VAE}")
    assert first.models[0].sources == (PINNED.format("main"), "https://mirror.test/one")
    assert first.models[1].size is None
    assert world.lock()[0].unconfirmed == first.unconfirmed  # asking again and hearing nothing confirms nothing
    world.said = online
    assert world.lock()[0].unconfirmed == ()
    _cut_off(world)
    assert world.lock()[0].unconfirmed == ()


def test_a_changed_model_needs_a_new_confirmation(world: World) -> None:
    world.lock()
    _cut_off(world)
    models = [m.model_dump(exclude_none=True) for m in world.manifest.models]
    models[1]["sha256"] = "d" * 64
    world.changes = {"models": models}
    lock, _ = world.lock()
    assert lock.unconfirmed == (f"models {CHECKPOINT}",)
    assert lock.models[1].sha256 == "d" * 64
    assert lock.models[1].size is None  # the size was another file's
    assert lock.models[0].sources[0] == PINNED.format("c0ffee")


@pytest.mark.parametrize(
    ("sha256", "size", "message"),
    [
        ("f" * 64, 10, f"huggingface.co has sha256 {'f' * 64}, the manifest says {'a' * 64}"),
        ("a" * 64, 11, "huggingface.co has 11 bytes, the manifest says 10"),
        (None, 710_000, "huggingface.co has 710,000 bytes, the manifest says 10"),
    ],
)
def test_a_host_that_contradicts_the_manifest(world: World, sha256: str | None, size: int, message: str) -> None:
    world.said[PINNED.format("main")] = Said(PINNED.format("c0ffee"), sha256, size)
    with pytest.raises(LockError) as raised:
        world.lock()
    assert raised.value.message == f"{VAE}: {message}"
    assert raised.value.exit_code == 3
    assert "do not accept" in raised.value.next_step
    assert not world.selection.lock.exists()


def test_a_mirror_that_contradicts_is_an_error_too(world: World) -> None:
    world.said["https://mirror.test/one"] = Said("https://mirror.test/one", "f" * 64, None)
    with pytest.raises(LockError, match=r"mirror\.test has sha256 f+"):
        world.lock()


def test_a_dead_host_is_asked_once(world: World) -> None:
    world.said["https://mirror.test/one"] = OutOfReachError("mirror.test: ConnectTimeout", host_is_down=True)
    lock, resolver = world.lock()
    assert [url for url in world.asked if "mirror.test" in url] == ["https://mirror.test/one"]
    assert resolver.unconfirmed == {f"models {CHECKPOINT}": "mirror.test: ConnectTimeout"}
    assert lock.unconfirmed == (f"models {CHECKPOINT}",)


def test_a_host_that_is_up_is_asked_for_each_file(world: World) -> None:
    world.lock()
    assert [url for url in world.asked if "mirror.test" in url] == [
        "https://mirror.test/one",
        "https://mirror.test/two",
    ]


# --- what cannot be locked without a network


def test_no_first_lock_without_the_registry(world: World) -> None:
    world.digest = OutOfReachError("no such host")
    with pytest.raises(LockError, match=r"debian:trixie-slim: no digest, and none was locked before") as raised:
        world.lock()
    assert raised.value.exit_code == 3
    assert "can be reached" in raised.value.next_step


def test_a_new_base_needs_the_registry(world: World) -> None:
    world.lock()
    world.digest = OutOfReachError("no such host")
    world.changes = {"base": {"image": "debian:forky-slim"}}
    with pytest.raises(LockError, match="debian:forky-slim: no digest"):
        world.lock()


def test_no_first_lock_without_the_sources(world: World) -> None:
    _cut_off(world)
    world.digest = BASE
    with pytest.raises(FetchError, match="insteadOf") as raised:
        world.lock()
    assert raised.value.exit_code == 4


def test_a_new_ref_needs_the_source(world: World) -> None:
    world.lock()
    _cut_off(world)
    world.changes = {"comfyui": {"git": f"file://{world.comfyui}", "ref": "v2"}}
    with pytest.raises(FetchError):
        world.lock()


def test_new_python_inputs_need_every_source(world: World) -> None:
    world.lock()
    _cut_off(world)
    world.changes = {"python": {"version": "3.13", "constraints": ["sqlalchemy>=2.0,<2.1"], "requirements": ["x"]}}
    with pytest.raises(LockError, match="Python's inputs changed, and a source is out of reach") as raised:
        world.lock()
    assert "can be reached" in raised.value.next_step


def test_a_new_pack_needs_every_source(world: World, repository: Callable[[str, dict[str, bytes]], Path]) -> None:
    """Its requirements are not in the old Python lock, and a new one cannot be made without ComfyUI's."""
    world.lock()
    more = repository("more", {"requirements.txt": b"pillow\n"})
    world.changes = {
        "nodes": [
            {"name": "pack", "git": f"file://{world.pack}", "ref": "main"},
            {"name": "more", "git": f"file://{more}", "ref": "main"},
        ]
    }
    shutil.move(world.comfyui, world.comfyui.with_name("gone"))
    with pytest.raises(LockError, match="Python's inputs changed"):
        world.lock()
    assert len(world.compiled) == 1


@pytest.mark.parametrize("spoil", ["tampered", "missing"])
def test_a_python_lock_that_is_not_the_locked_one_needs_every_source(world: World, spoil: str) -> None:
    """Without the requirements of a source out of reach, a resolution would leave them out and nobody would see."""
    world.lock()
    path = world.selection.python_lock
    if spoil == "missing":
        path.unlink()
    else:
        path.write_text(f"sqlalchemy==1.4.54 {HASH}\n")
    shutil.move(world.comfyui, world.comfyui.with_name("gone"))
    with pytest.raises(LockError, match="a source is out of reach"):
        world.lock()
    assert len(world.compiled) == 1


def test_a_tampered_python_lock_is_made_anew(world: World) -> None:
    world.lock()
    world.selection.python_lock.write_text(f"sqlalchemy==1.4.54 {HASH}\n")
    lock, _ = world.lock()
    assert lock.python.sqlalchemy == "2.0.2"


MARKS = b"<<<<<<< ours\n=======\n>>>>>>> theirs\n"


@pytest.mark.parametrize("damage", [MARKS, b"", b"\xff\xfe", b"{}"])
@pytest.mark.parametrize("which", ["lock", "python lock", "both"])
def test_a_lock_that_cannot_be_read_is_made_anew(world: World, which: str, damage: bytes) -> None:
    """As after a merge: "make it anew" was the advice, and then the same complaint."""
    first, _ = world.lock()
    selection = world.selection
    for path in (selection.lock, selection.python_lock):
        if which in ("both", "lock" if path == selection.lock else "python lock"):
            path.write_bytes(damage + (path.read_bytes() if damage == MARKS else b""))
    again, _ = world.lock()
    assert again.model_copy(update={"python": first.python}) == first
    assert lock_files.fresh(selection, world.manifest).lock == again


def test_a_lock_that_cannot_be_read_vouches_for_nothing(world: World) -> None:
    """What it said is not known any more: hosts out of reach are no reason to go on without them."""
    world.lock()
    world.selection.lock.write_bytes(MARKS + world.selection.lock.read_bytes())
    world.digest = OutOfReachError("no network")
    with pytest.raises(LockError, match="no digest, and none was locked before"):
        world.lock()


# --- folders of the project


def test_a_folder_of_the_project_is_read_as_it_is(world: World) -> None:
    folder = world.root / "images" / "standin"
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text("aiohttp\n")
    world.changes = {"comfyui": {"path": "images/standin"}, "base": {"bootstrap": "trixie"}}
    lock, _ = world.lock()
    assert (lock.comfyui.path, lock.comfyui.commit) == ("images/standin", None)
    assert (lock.base.bootstrap, lock.base.digest) == ("trixie", None)
    assert world.compiled == [{"ComfyUI": "aiohttp\n", "pack": "numpy\n"}]
    assert "debian:trixie-slim" not in world.asked
    shutil.rmtree(folder)
    with pytest.raises(LockError, match="ComfyUI: no such folder: images/standin"):
        world.lock()
