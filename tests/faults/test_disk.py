"""The local disk: full, read-only, broken, or with an obstacle in the path. Errors are typed, no file is wrong."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mirror import Mirror, behaviour

from gesso.cli import main
from gesso.models import quarantine, receipts
from gesso.models.download import finalize, journal
from gesso.models.faults import LocalError
from gesso.models.fetch import fetch
from gesso.models.folder import Folder
from gesso.models.net.limits import BLOCK

from .fetching import LARGE, NAME, OTHER, Bench, model_of, options, vae
from .harms import DAMAGES, interrupted
from .rounds import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gesso.manifest.schema import Model
    from gesso.models.events import Event
    from gesso.models.fetch import Outcome

FILE = "/vae.safetensors"
MB = 1_000_000


@pytest.fixture
def model(mirror: Mirror) -> Model:
    mirror.files[FILE] = LARGE
    return model_of(LARGE, mirror.url(FILE))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "models")


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount a small separate filesystem."""
    mounted: list[Path] = []

    def make(given: str, path: Path | None = None) -> Path:
        path = path or tmp_path / f"disk{len(mounted)}"
        path.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", given, "none", str(path)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no filesystem can be mounted here, so this was not tested: {done.stderr.strip()}")
        mounted.append(path)
        return path

    yield make
    for path in reversed(mounted):
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Fill a disk until `leave` bytes are free."""
    found = os.statvfs(disk)
    path = disk / "filler"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - leave)
    return path


def several(mirror: Mirror, *entries: tuple[str, int, str]) -> list[Model]:
    """Put models of these names, sizes and tiers on the mirror."""
    found = []
    for seed, (name, size, tier) in enumerate(entries):
        data = vae(size, seed=seed)
        mirror.files[f"/{name}"] = data
        found.append(model_of(data, mirror.url(f"/{name}"), name=f"vae/{name}.safetensors", tier=tier))
    return found


def get(models: list[Model], bench: Bench) -> list[Outcome]:
    bench.events.clear()
    return fetch(models, bench.folder, env={}, on_event=bench.events.append, options=options())


def failed(bench: Bench, model: Model, why: str) -> LocalError:
    """Fetch it; check that it fails for this local reason and names the next step."""
    [outcome] = get([model], bench)
    error = outcome.error
    assert isinstance(error, LocalError), outcome
    assert (error.why, error.exit_code) == (why, 4)
    assert error.message.startswith(model.name)
    assert [event.kind for event in bench.events][-1] == "failed"
    return error


# ── no space ──


def test_missing_space_is_reported_before_the_first_byte(mirror: Mirror, mount: Callable[..., Path]) -> None:
    bench = Bench(mount("size=10m") / "models")
    models = several(mirror, ("a", 7 * MB, "required"), ("b", 8 * MB, "required"), ("c", MB, "optional"))
    with pytest.raises(LocalError, match=r"need 15\.0 MB more; 4\.7 MB of that do not fit") as caught:
        get(models, bench)
    assert (caught.value.why, caught.value.exit_code) == ("disk-full", 4)
    assert "make room" in caught.value.next_step
    assert mirror.requests == []
    assert list(bench.folder.root.rglob("*")) == []


def test_the_command_reports_it_too(
    mirror: Mirror, mount: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = mount("size=10m")
    models = several(mirror, ("a", 12 * MB, "required"))
    (disk / "build.json").write_text(json.dumps({"models": [model.model_dump(mode="json") for model in models]}))
    with pytest.raises(SystemExit) as caught:
        main.main(["fetch", "--record", str(disk / "build.json"), "--models", str(disk / "models"), "--json"])
    assert caught.value.code == 4
    output = capsys.readouterr()
    assert "12.0 MB" in output.err
    assert "next: make room" in output.err
    assert output.out == ""


def test_optional_models_are_skipped_and_reported(mirror: Mirror, mount: Callable[..., Path]) -> None:
    bench = Bench(mount("size=10m") / "models")
    models = several(
        mirror, ("o", 5 * MB, "optional"), ("r", 6 * MB, "required"), ("m", 3 * MB, "recommended"),
        ("s", 2 * MB, "optional"),
    )  # fmt: skip
    outcomes = get(models, bench)
    assert [outcome.state for outcome in outcomes] == ["skipped", "fetched", "fetched", "skipped"]
    assert "5.0 MB do not fit" in outcomes[0].note
    assert [event.message for event in bench.of("skipped")] == [outcomes[3].note, outcomes[0].note]
    assert {record.path for record in mirror.requests} == {"/r", "/m"}


def test_quarantined_files_are_deleted_for_good_ones(mirror: Mirror, mount: Callable[..., Path]) -> None:
    bench = Bench(mount("size=10m") / "models")
    [model] = several(mirror, ("a", 7 * MB, "required"))
    bench.path(model).parent.mkdir(parents=True)
    bench.path(model).write_bytes(vae(7 * MB, seed=99))
    [outcome] = get([model], bench)
    assert outcome.state == "fetched"
    assert len(bench.of("quarantined")) == 1
    assert list(bench.folder.quarantine.iterdir()) == []


def test_quarantined_files_stay_if_there_is_space(mirror: Mirror, mount: Callable[..., Path]) -> None:
    bench = Bench(mount("size=20m") / "models")
    [model] = several(mirror, ("a", 7 * MB, "required"))
    bench.path(model).parent.mkdir(parents=True)
    bench.path(model).write_bytes(vae(7 * MB, seed=99))
    assert [outcome.state for outcome in get([model], bench)] == ["fetched"]
    assert len(list(bench.folder.quarantine.iterdir())) == 1


def test_another_locks_partial_file_is_deleted_for_space(mirror: Mirror, mount: Callable[..., Path]) -> None:
    bench = Bench(mount("size=10m") / "models")
    [model] = several(mirror, ("a", 7 * MB, "required"))
    sha = "ab" * 32
    old = [at(model.name, sha) for at in (bench.folder.partial, bench.folder.journal)]
    journal.Partial(*old, sha256=sha, size=6 * MB).close()
    unlike = old[0].with_name(".a.safetensors.part")
    unlike.touch()
    assert [outcome.state for outcome in get([model], bench)] == ["fetched"]
    assert not any(path.exists() for path in old)
    assert unlike.exists()


def test_allocated_space_is_not_counted_twice(mirror: Mirror, mount: Callable[..., Path], tmp_path: Path) -> None:
    """A killed run has its space allocated; if something else fills the disk meanwhile, the next run still finishes."""
    disk = mount("size=10m")
    bench = Bench(disk / "models")
    [model] = several(mirror, ("a", 7 * MB, "required"))
    paths = [at(model.name, model.sha256) for at in (bench.folder.partial, bench.folder.journal)]
    partial = journal.Partial(*paths, sha256=model.sha256, size=7 * MB)
    partial.write(0, memoryview(vae(7 * MB, seed=0))[:BLOCK])
    partial.mark(0)
    partial.close()
    fill(disk, 64 << 10)
    [outcome] = get([model], bench)
    assert outcome.state == "fetched"
    assert outcome.received == 7 * MB - BLOCK


def test_a_disk_that_is_filled_meanwhile_leaves_the_allocated_space(mirror: Mirror, mount: Callable[..., Path]) -> None:
    disk = mount("size=10m")
    bench = Bench(disk / "models")
    [model] = several(mirror, ("a", 7 * MB, "required"))

    def on_event(event: Event) -> None:
        if event.kind == "started":
            fill(disk, 0)

    [outcome] = fetch([model], bench.folder, env={}, on_event=on_event, options=options())
    assert outcome.error is None
    assert outcome.state == "fetched"
    bench.assert_never_wrong(model)
    # No receipt could be stored: then it is hashed again, and never fetched.
    (disk / "filler").unlink()
    assert bench.fetch(model).state == "there"
    assert receipts.is_valid(bench.folder, model.name, model.sha256)


def test_a_disk_that_fills_up_in_the_middle(
    mirror: Mirror, mount: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where space cannot be allocated, it stops with the bytes it has, and continues once there is space."""
    monkeypatch.setattr(journal, "_fallocate", lambda *_: errno.EOPNOTSUPP)
    disk = mount("size=10m")
    bench = Bench(disk / "models")
    [model] = several(mirror, ("a", 7 * MB, "required"))
    mirror.behave("/a", behaviour("slow", rate=20 * MB))

    def on_event(event: Event) -> None:
        if event.kind == "started":
            fill(disk, 3 * MB)
        bench.events.append(event)

    [outcome] = fetch([model], bench.folder, env={}, on_event=on_event, options=options())
    assert isinstance(outcome.error, LocalError)
    assert outcome.error.why == "disk-full"
    assert outcome.error.next_step == "make room, then run this again: it goes on where it was"
    assert not bench.path(model).exists()
    at = Target(bench.folder.root, model, vae(7 * MB, seed=0), BLOCK)
    had = at.marked()
    assert had
    # Still no space: no byte is fetched.
    mirror.clear_log()
    with pytest.raises(LocalError, match="do not fit"):
        get([model], bench)
    assert mirror.requests == []
    (disk / "filler").unlink()
    [outcome] = get([model], bench)
    assert outcome.state == "fetched"
    assert outcome.received == len(at.data) - at.bytes_of(had)
    at.assert_complete()


def test_a_disk_that_fills_up_before_allocation_keeps_nothing(
    mirror: Mirror, mount: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = mount("size=10m")
    bench = Bench(disk / "models")
    [model] = several(mirror, ("a", 7 * MB, "required"))
    true = journal._fallocate

    def late(handle: int, size: int) -> int:
        fill(disk, 3 * MB)
        return true(handle, size)

    monkeypatch.setattr(journal, "_fallocate", late)
    failed(bench, model, "disk-full")
    assert bench.leftovers() == []


def test_no_free_inode(mirror: Mirror, mount: Callable[..., Path], model: Model) -> None:
    for inodes in range(3, 12):
        disk = mount(f"size=20m,nr_inodes={inodes}")
        bench = Bench(disk / "models")
        outcome = bench.fetch(model)
        if outcome.error is None:
            break
        assert isinstance(outcome.error, LocalError)
        assert outcome.error.why == "disk-full"
    assert inodes in range(5, 11)
    assert bench.bytes_of(model) == LARGE


# ── read-only folders ──


def read_only(path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(path)], check=True)


def test_a_read_only_folder(mount: Callable[..., Path], model: Model) -> None:
    disk = mount("size=20m")
    bench = Bench(disk / "models")
    read_only(disk)
    error = failed(bench, model, "read-only")
    assert "mount the models folder writable" in error.next_step


def test_a_read_only_folder_in_which_all_is_right(mirror: Mirror, mount: Callable[..., Path], model: Model) -> None:
    disk = mount("size=20m")
    bench = Bench(disk / "models")
    bench.path(model).parent.mkdir(parents=True)
    bench.path(model).write_bytes(LARGE)
    read_only(disk)
    for _ in range(2):
        assert bench.fetch(model).note == "its sha256 is right"
    assert mirror.requests == []


def test_a_bad_file_in_a_read_only_folder(mirror: Mirror, mount: Callable[..., Path], model: Model) -> None:
    disk = mount("size=20m")
    bench = Bench(disk / "models")
    bench.path(model).parent.mkdir(parents=True)
    bench.path(model).write_bytes(b"bad")
    read_only(disk)
    outcomes = get([model], bench)
    assert isinstance(outcomes[0].error, LocalError)
    assert outcomes[0].error.why == "read-only"
    assert bench.path(model).read_bytes() == b"bad"
    assert mirror.requests == []


def test_a_folder_that_becomes_read_only_meanwhile(mount: Callable[..., Path], mirror: Mirror, model: Model) -> None:
    """A disk with errors is remounted read-only: a partial file is resumed afterwards."""
    disk = mount("size=20m")
    bench = Bench(disk / "models")
    at = Target(bench.folder.root, model, LARGE, BLOCK)
    paths = at.partial, at.journal
    partial = journal.Partial(*paths, sha256=model.sha256, size=len(LARGE))
    partial.write(0, memoryview(LARGE)[:BLOCK])
    partial.mark(0)
    partial.close()
    read_only(disk)
    failed(bench, model, "read-only")
    assert at.marked() == {0}
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    outcome = bench.fetch(model)
    assert outcome.received == len(LARGE) - BLOCK
    at.assert_complete()


# ── obstacles in the path ──


def test_a_folder_of_the_models_name_stays_where_it_is(mirror: Mirror, bench: Bench, model: Model) -> None:
    (bench.path(model) / "precious").mkdir(parents=True)
    error = failed(bench, model, "in-the-way")
    assert "move away what stands there" in error.next_step
    assert (bench.path(model) / "precious").is_dir()
    assert mirror.requests == []


def test_a_file_where_the_folder_should_be(mirror: Mirror, bench: Bench, model: Model) -> None:
    bench.folder.root.mkdir()
    (bench.folder.root / "vae").write_bytes(b"precious")
    failed(bench, model, "in-the-way")
    assert (bench.folder.root / "vae").read_bytes() == b"precious"
    assert mirror.requests == []


def test_an_obstacle_to_one_model_does_not_stop_the_others(mirror: Mirror, bench: Bench) -> None:
    models = several(mirror, ("a", MB, "required"), ("b", MB, "required"), ("c", MB, "optional"))
    (bench.path(models[0])).mkdir(parents=True)
    assert [outcome.state for outcome in get(models, bench)] == ["failed", "fetched", "fetched"]


def test_a_root_that_is_a_file(bench: Bench, model: Model) -> None:
    bench.folder.root.write_bytes(b"precious")
    failed(bench, model, "in-the-way")
    assert bench.folder.root.read_bytes() == b"precious"


def test_a_folder_appears_at_the_final_path_meanwhile(bench: Bench, model: Model) -> None:
    def on_event(event: Event) -> None:
        if event.kind == "started":
            bench.path(model).mkdir()

    [outcome] = fetch([model], bench.folder, env={}, on_event=on_event, options=options())
    assert isinstance(outcome.error, LocalError)
    assert outcome.error.why == "in-the-way"
    bench.path(model).rmdir()
    second = bench.fetch(model)
    assert (second.state, second.received) == ("fetched", 0)  # all of it stays


@pytest.mark.parametrize("leads", ["to the right file", "to another", "nowhere", "to itself"])
def test_a_link_at_the_final_path(bench: Bench, model: Model, tmp_path: Path, leads: str) -> None:
    """A link to a good file stays; otherwise the link is moved, and its target stays."""
    theirs = tmp_path / "theirs"
    link = bench.path(model)
    link.parent.mkdir(parents=True)
    link.symlink_to(theirs if leads != "to itself" else link)
    if leads != "nowhere":
        theirs.write_bytes(LARGE if leads == "to the right file" else OTHER)
    before = theirs.read_bytes() if theirs.exists() else b""
    [outcome] = get([model], bench)
    assert outcome.error is None
    assert link.read_bytes() == LARGE
    assert (theirs.read_bytes() if theirs.exists() else b"") == before
    if leads == "to the right file":
        assert outcome.state == "there"
        assert link.is_symlink()
    else:
        assert outcome.state == "fetched"
        assert not link.is_symlink()
        [kept] = bench.folder.quarantine.iterdir()
        assert kept.is_symlink()
    assert receipts.is_valid(bench.folder, model.name, model.sha256)


def test_a_good_link_is_trusted_until_its_target_changes(bench: Bench, model: Model, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_bytes(LARGE)
    bench.path(model).parent.mkdir(parents=True)
    bench.path(model).symlink_to(theirs)
    assert bench.fetch(model).note == "its sha256 is right"
    assert bench.fetch(model).note == "its receipt is valid"
    theirs.write_bytes(OTHER)
    assert fetch([model], bench.folder, env={})[0].state == "fetched"
    assert (bench.bytes_of(model), theirs.read_bytes()) == (LARGE, OTHER)


def test_a_folder_that_is_a_link(bench: Bench, model: Model, tmp_path: Path) -> None:
    """A models folder on another disk: files are fetched there, and the link stays."""
    (tmp_path / "elsewhere").mkdir()
    bench.folder.root.mkdir()
    (bench.folder.root / "vae").symlink_to(tmp_path / "elsewhere")
    bench.assert_fetched(bench.fetch(model), LARGE)
    assert (tmp_path / "elsewhere" / Path(NAME).name).read_bytes() == LARGE
    assert (bench.folder.root / "vae").is_symlink()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == [Path(NAME).name]


def test_a_folder_that_is_a_link_to_nowhere(bench: Bench, model: Model, tmp_path: Path) -> None:
    bench.folder.root.mkdir()
    (bench.folder.root / "vae").symlink_to(tmp_path / "unplugged")
    failed(bench, model, "in-the-way")
    assert not (tmp_path / "unplugged").exists()


def test_a_folder_on_another_disk(mirror: Mirror, mount: Callable[..., Path], bench: Bench, model: Model) -> None:
    """Its bad files cannot be moved to the quarantine: they stay on their disk, hidden."""
    disk = mount("size=20m", bench.folder.root / "vae")
    bench.path(model).write_bytes(b"bad")
    assert get([model], bench)[0].state == "fetched"
    [kept] = [path for path in disk.iterdir() if path.name.endswith(".quarantined")]
    assert kept.read_bytes() == b"bad"
    assert kept.name.startswith(".")
    assert not list(bench.folder.quarantine.iterdir())
    bench.assert_never_wrong(model)
    assert receipts.is_valid(bench.folder, model.name, model.sha256)


def test_space_is_counted_on_the_right_disk(mirror: Mirror, mount: Callable[..., Path], bench: Bench) -> None:
    """A full disk stops downloads to it, and no others."""
    mount("size=4m", bench.folder.root / "loras")
    models = several(mirror, ("a", 6 * MB, "required"))
    lora = several(mirror, ("l", 5 * MB, "optional"))[0].model_copy(update={"name": "loras/l.safetensors"})
    lora = lora.model_copy(update={"kind": "lora"})
    assert [outcome.state for outcome in get([*models, lora], bench)] == ["fetched", "skipped"]


def test_obstacles_at_the_paths_of_our_own_records(bench: Bench, model: Model) -> None:
    bench.folder.state.parent.mkdir()
    bench.folder.state.write_bytes(b"precious")
    failed(bench, model, "in-the-way")
    assert bench.folder.state.read_bytes() == b"precious"


# ── a broken disk ──


class Broken:
    """Make a function of `os` fail from the n-th call on; `only` that many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, at: int = 0, code: int = errno.EIO) -> None:
        self.calls, self._at, self._code, self._true = 0, at, code, getattr(os, name)
        monkeypatch.setattr(os, name, self)

    def __call__(self, *args: Any, **more: Any) -> Any:
        self.calls += 1
        if self.calls > self._at:
            raise OSError(self._code, os.strerror(self._code))
        return self._true(*args, **more)


@pytest.mark.parametrize(
    ("name", "at"),
    [("pwrite", 0), ("pwrite", 1), ("pwrite", 2), ("pwrite", 6), ("pwrite", 12), ("preadv", 0), ("preadv", 3),
     ("fsync", 0), ("replace", 0), ("ftruncate", 0), ("ftruncate", 1), ("pread", 0), ("pread", 7), ("fstat", 0)],
)  # fmt: skip
def test_input_and_output_errors(mirror: Mirror, bench: Bench, model: Model, name: str, at: int) -> None:
    """Each error names the disk; nothing is visible; and once the disk works again, the fetch finishes."""
    with pytest.MonkeyPatch.context() as broken:
        Broken(broken, name, at)
        [outcome] = fetch([model], bench.folder, env={}, options=options())
        broken.undo()
    assert isinstance(outcome.error, LocalError), outcome
    assert outcome.error.why == "io-error"
    assert "check the disk" in outcome.error.next_step
    assert NAME in outcome.error.message
    assert not bench.path(model).exists()
    bench.assert_fetched(bench.fetch(model), LARGE)


def test_what_could_not_be_synced_is_never_trusted_again(mirror: Mirror, bench: Bench, model: Model) -> None:
    """After a failed fsync the kernel returns bytes that the disk does not have, and the next fsync succeeds."""
    with pytest.MonkeyPatch.context() as broken:
        Broken(broken, "fsync")
        failed(bench, model, "io-error")
    assert bench.leftovers() == []
    outcome = bench.fetch(model)
    assert outcome.received == len(LARGE)
    bench.assert_fetched(outcome, LARGE)


def test_a_folder_that_cannot_be_synced_is_no_failure(
    bench: Bench, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    Broken(monkeypatch, "fsync", 1, errno.EINVAL)
    bench.assert_fetched(bench.fetch(model), LARGE)


def test_a_broken_disk_whose_free_space_is_read(
    bench: Bench, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    Broken(monkeypatch, "statvfs")
    with pytest.raises(LocalError) as caught:
        get([model], bench)
    assert caught.value.why == "io-error"


def test_a_bad_file_that_cannot_be_read(mirror: Mirror, bench: Bench, model: Model) -> None:
    """It is quarantined and fetched again: a moved file does not need to be read."""
    bench.path(model).parent.mkdir(parents=True)
    bench.path(model).write_bytes(LARGE)
    true = os.preadv

    def preadv(handle: int, buffers: list[Any], offset: int) -> int:
        if Path(f"/proc/self/fd/{handle}").resolve() == bench.path(model):
            raise OSError(errno.EIO, "Input/output error")
        return true(handle, buffers, offset)

    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(os, "preadv", preadv)
        [outcome] = fetch([model], bench.folder, env={}, on_event=bench.events.append, options=options())
    assert outcome.state == "fetched"
    [kept] = bench.folder.quarantine.iterdir()
    assert ".unreadable." in kept.name
    assert bench.bytes_of(model) == LARGE


def test_folders_in_the_quarantine_do_not_matter(bench: Bench, model: Model) -> None:
    (bench.folder.quarantine / "theirs").mkdir(parents=True)
    bench.path(model).parent.mkdir(parents=True)
    bench.path(model).write_bytes(b"bad")
    assert get([model], bench)[0].state == "fetched"
    assert quarantine.trim(bench.folder, 0) > 0
    assert (bench.folder.quarantine / "theirs").is_dir()


# ── a journal that is torn, wrong, or of another file ──


_KEPT = {"nothing"}


@pytest.mark.parametrize("harm", DAMAGES)
def test_any_damage_to_a_partial_file_is_recovered_from(mirror: Mirror, bench: Bench, model: Model, harm: str) -> None:
    at = Target(bench.folder.root, model, LARGE, BLOCK)
    interrupted(at)
    DAMAGES[harm](at)
    outcome = bench.fetch(model)
    bench.assert_fetched(outcome, LARGE)
    assert outcome.received <= 2 * len(LARGE)
    if harm in _KEPT:
        assert outcome.received == len(LARGE) - 3 * BLOCK
    at.assert_complete()


def test_leftovers_of_a_killed_run_are_removed_if_the_file_is_right(mirror: Mirror, bench: Bench, model: Model) -> None:
    at = Target(bench.folder.root, model, LARGE, BLOCK)
    interrupted(at)
    at.path.write_bytes(LARGE)
    assert bench.fetch(model).state == "there"
    assert mirror.requests == []
    at.assert_complete()


def test_a_folder_cannot_be_quarantined_by_the_last_step(bench: Bench, model: Model) -> None:
    at = Target(bench.folder.root, model, LARGE, BLOCK)
    interrupted(at, (0, 1, 2, 3, 4, 5))
    at.path.mkdir()
    handle = os.open(at.partial, os.O_RDWR)
    with pytest.raises(OSError, match=r".") as caught:
        finalize.finalize(Folder.at(bench.folder.root), model, at.partial, handle)
    os.close(handle)
    assert caught.value.errno == errno.EISDIR
    assert at.partial.exists()
