"""`invoke lock`: what hosts confirm, what they contradict, and what is kept while they cannot be reached."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from gesso import proc
from gesso.builder.lock import lock_files, python_pins, remote_facts
from gesso.builder.lock.remote_facts import OutOfReachError, RemoteFacts
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
    """The real one, but results of a branch are cached between tests until the branch moves."""

    cache: ClassVar[dict[tuple[str, str | None], Peek]] = {}

    def peek(self, source: LockedSource, requirements: str | None) -> Peek:
        branch = Path((source.git or "").removeprefix("file://"), ".git/refs/heads", source.ref or "")
        if not branch.is_file():
            return super().peek(source, requirements)
        key = (branch.read_text(), requirements)
        if key not in self.cache:
            self.cache[key] = super().peek(source, requirements)
        return self.cache[key]


@dataclass
class World:
    """The hosts that `invoke lock` queries, and their responses."""

    root: Path
    comfyui: Path
    pack: Path
    digest: str | OutOfReachError = BASE
    facts: dict[str, RemoteFacts | OutOfReachError] = field(default_factory=dict)
    queries: list[str] = field(default_factory=list)
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
        """Resolve, and write the lock."""
        manifest = self.manifest
        sources = Sources(self.root / "cache")
        resolver = Resolver(self.selection, manifest, sources, {}, lambda _: None, upgrade=upgrade)
        lock, text = resolver.resolve()
        lock_files.write(self.selection, lock, text)
        assert lock_files.read_fresh(self.selection, manifest).lock == lock
        return lock, resolver


@pytest.fixture
def world(
    tmp_path: Path, repository: Callable[[str, dict[str, bytes]], Path], monkeypatch: pytest.MonkeyPatch
) -> World:
    root = tmp_path / "project"
    (root / "manifests").mkdir(parents=True)
    (root / "manifests" / "toy.yaml").touch()
    world = World(
        root,
        comfyui=repository("ComfyUI", {"requirements.txt": b"torch\n"}),
        pack=repository("pack", {"requirements.txt": b"numpy\n"}),
    )
    world.facts = {
        PINNED.format("main"): RemoteFacts(PINNED.format("c0ffee"), "a" * 64, 10),
        "https://mirror.test/one": OutOfReachError("mirror.test: sends no sha256 in its headers"),
        "https://mirror.test/two": RemoteFacts("https://mirror.test/two", "b" * 64, 20),
    }

    def ask_registry(image: str) -> str:
        world.queries.append(image)
        if isinstance(world.digest, OutOfReachError):
            raise world.digest
        return world.digest

    def ask_model_host(url: str, env: Mapping[str, str], session: Any) -> RemoteFacts:
        world.queries.append(url)
        facts = world.facts[url]
        if isinstance(facts, OutOfReachError):
            raise facts
        return facts

    def compile_(
        folder: Path, python: Any, requirements: Mapping[str, str], *, existing: str | None = None
    ) -> proc.Result:
        world.compiled.append(dict(requirements))
        world.compiled_from.append(existing)
        text = f"sqlalchemy==2.0.{len(world.compiled)} {HASH}\n"
        (folder / "python.lock.txt").write_text(text, encoding="utf-8")
        return proc.Result(command="", code=0, stdout="", output="")

    monkeypatch.setattr(remote_facts, "query_registry", ask_registry)
    monkeypatch.setattr(remote_facts, "query_model_host", ask_model_host)
    monkeypatch.setattr(python_pins, "_compile", compile_)
    return world


def _cut_off(world: World, *, git: bool = True) -> None:
    """Disconnect the network."""
    down = {url: OutOfReachError(f"{url.split('/')[2]}: ConnectionError", host_is_down=True) for url in world.facts}
    world.facts.update(down)
    world.digest = OutOfReachError("registry of debian:trixie-slim: no such host")
    if git:
        for upstream in (world.comfyui, world.pack):
            shutil.move(upstream, upstream.with_name(f"{upstream.name}-gone"))


def test_every_host_responds(world: World, git: Callable[..., str]) -> None:
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
    second, _ = world.lock()
    assert second == first
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
    online = dict(world.facts)
    _cut_off(world, git=False)
    world.digest = BASE
    first, _ = world.lock()
    assert first.unconfirmed == (f"models {CHECKPOINT}", f"models {VAE}")
    assert first.models[0].sources == (PINNED.format("main"), "https://mirror.test/one")
    assert first.models[1].size is None
    assert world.lock()[0].unconfirmed == first.unconfirmed  # a repeated query without a response confirms nothing
    world.facts = online
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
        (None, 710_000, "huggingface.co has 710,000 bytes, the manifest says 10"),
    ],
)
def test_a_host_that_contradicts_the_manifest(world: World, sha256: str | None, size: int, message: str) -> None:
    world.facts[PINNED.format("main")] = RemoteFacts(PINNED.format("c0ffee"), sha256, size)
    with pytest.raises(LockError) as raised:
        world.lock()
    assert raised.value.message == f"{VAE}: {message}"
    assert raised.value.exit_code == 3
    assert "do not accept" in raised.value.next_step
    assert not world.selection.lock.exists()


def test_a_host_with_the_right_hash_and_another_size_names_the_size_to_set(world: World) -> None:
    world.facts[PINNED.format("main")] = RemoteFacts(PINNED.format("c0ffee"), "a" * 64, 11)
    with pytest.raises(LockError) as raised:
        world.lock()
    assert raised.value.message == f"{VAE}: huggingface.co has 11 bytes, the manifest says 10"
    assert raised.value.next_step == "its sha256 matches, so the manifest's size is wrong: set `size: 11`"


def _sizes(lock: Lock) -> list[tuple[int | None, bool]]:
    return [(model.size, model.size_confirmed) for model in lock.models]


def test_a_size_is_confirmed_by_a_host_that_sends_it_with_the_hash(world: World) -> None:
    assert _sizes(world.lock()[0]) == [(10, True), (20, True)]
    world.facts[PINNED.format("main")] = RemoteFacts(PINNED.format("c0ffee"), "a" * 64, None)
    world.facts["https://mirror.test/two"] = RemoteFacts("https://mirror.test/two", None, 20)
    world.selection.lock.unlink()
    assert _sizes(world.lock()[0]) == [(10, False), (20, False)]


def test_a_confirmed_size_stays_confirmed_offline_for_the_same_entry_only(world: World) -> None:
    world.lock()
    _cut_off(world)
    assert _sizes(world.lock()[0]) == [(10, True), (20, True)]
    models = [m.model_dump(exclude_none=True) for m in world.manifest.models]
    models[0]["size"] = 12
    models[1]["sha256"] = "d" * 64
    world.changes = {"models": models}
    assert _sizes(world.lock()[0]) == [(12, False), (None, False)]


def test_a_hint_is_corrected_by_the_host_and_confirmed(world: World) -> None:
    """The manifest has no size: the lock has it from a list, or from a host that sent no hash."""
    first, _ = world.lock()
    hint = first.models[1].model_copy(update={"size": 25, "size_confirmed": False})
    world.selection.lock.write_text(first.model_copy(update={"models": (first.models[0], hint)}).dumps())
    assert _sizes(world.lock()[0]) == [(10, True), (20, True)]
    world.selection.lock.write_text(first.model_copy(update={"models": (first.models[0], hint)}).dumps())
    _cut_off(world)
    assert _sizes(world.lock()[0]) == [(10, True), (25, False)]


def test_a_size_that_is_not_the_manifests_was_not_confirmed(world: World) -> None:
    first, _ = world.lock()
    forged = first.models[0].model_copy(update={"size": 11})
    world.selection.lock.write_text(first.model_copy(update={"models": (forged, first.models[1])}).dumps())
    _cut_off(world)
    assert _sizes(world.lock()[0]) == [(10, False), (20, True)]


def test_two_hosts_that_differ_confirm_nothing(world: World) -> None:
    models = [m.model_dump(exclude_none=True) for m in world.manifest.models]
    del models[0]["size"]
    world.changes = {"models": models}
    world.facts["https://mirror.test/one"] = RemoteFacts("https://mirror.test/one", "a" * 64, 11)
    assert _sizes(world.lock()[0])[0] == (10, False)


def test_a_loopback_mirror_serves_what_the_manifest_was_made_with(world: World) -> None:
    models = [m.model_dump(exclude_none=True) for m in world.manifest.models]
    models[0]["sources"] = ["http://127.0.0.1:18190/one"]
    world.changes = {"models": models}
    assert _sizes(world.lock()[0])[0] == (10, True)


def test_a_manual_confirmation_is_removed_by_the_next_lock(world: World) -> None:
    _cut_off(world, git=False)
    world.digest = BASE
    first, _ = world.lock()
    forged = first.models[0].model_copy(update={"size_confirmed": True})
    world.selection.lock.write_text(first.model_copy(update={"models": (forged, first.models[1])}).dumps())
    assert _sizes(world.lock()[0])[0] == (10, False)


def test_a_mirror_that_contradicts_is_an_error_too(world: World) -> None:
    world.facts["https://mirror.test/one"] = RemoteFacts("https://mirror.test/one", "f" * 64, None)
    with pytest.raises(LockError, match=r"mirror\.test has sha256 f+"):
        world.lock()


def test_a_host_that_is_down_is_queried_once(world: World) -> None:
    world.facts["https://mirror.test/one"] = OutOfReachError("mirror.test: ConnectTimeout", host_is_down=True)
    lock, resolver = world.lock()
    assert [url for url in world.queries if "mirror.test" in url] == ["https://mirror.test/one"]
    assert resolver.unconfirmed == {f"models {CHECKPOINT}": "mirror.test: ConnectTimeout"}
    assert lock.unconfirmed == (f"models {CHECKPOINT}",)


def test_a_host_that_is_up_is_queried_for_each_file(world: World) -> None:
    world.lock()
    assert [url for url in world.queries if "mirror.test" in url] == [
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
    """Without the requirements of an unreachable source, a resolution would silently omit them."""
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


def test_a_tampered_python_lock_is_resolved_again(world: World) -> None:
    world.lock()
    world.selection.python_lock.write_text(f"sqlalchemy==1.4.54 {HASH}\n")
    lock, _ = world.lock()
    assert lock.python.sqlalchemy == "2.0.2"


MARKS = b"<<<<<<< ours\n=======\n>>>>>>> theirs\n"


@pytest.mark.parametrize("damage", [MARKS, b"", b"\xff\xfe", b"{}"])
@pytest.mark.parametrize("which", ["lock", "python lock", "both"])
def test_an_unreadable_lock_is_resolved_again(world: World, which: str, damage: bytes) -> None:
    """As after a merge conflict: the error's next step, `invoke lock`, must work."""
    first, _ = world.lock()
    selection = world.selection
    for path in (selection.lock, selection.python_lock):
        if which in ("both", "lock" if path == selection.lock else "python lock"):
            path.write_bytes(damage + (path.read_bytes() if damage == MARKS else b""))
    second, _ = world.lock()
    assert second.model_copy(update={"python": first.python}) == first
    assert lock_files.read_fresh(selection, world.manifest).lock == second


def test_an_unreadable_lock_confirms_nothing(world: World) -> None:
    """Its content is lost, so unreachable hosts are an error."""
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
    assert "debian:trixie-slim" not in world.queries
    shutil.rmtree(folder)
    with pytest.raises(LockError, match="ComfyUI: no such folder: images/standin"):
        world.lock()
