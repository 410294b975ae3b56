"""One verdict a file: what it is, why, and what to do. Without a valid receipt no file is trusted at any level."""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest

from gesso.models import receipts, verify
from gesso.models.folder import Folder
from gesso.models.verify import Level, Status, Stopped, Verdict, audit, check

from .conftest import head_of, raw
from .making import NAME, SDXL, VAE, descriptors, keep_times, put, vae_of, wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.manifest.schema import Model

LEVELS: tuple[Level, ...] = get_args(Level)
CHECKPOINT = "checkpoints/Juggernaut-XL-v9.safetensors"
JUGGERNAUT = 7_105_348_188  # bytes


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.at(tmp_path / "models")


def checkpoint(**more: Any) -> Model:
    return wanted(b"", CHECKPOINT, **{"kind": "checkpoint", "size": JUGGERNAUT, **more})


def bad(model: Model, folder: Folder, status: Status, *evidence: str, level: Level = "full") -> Verdict:
    found = check(model, folder, level)
    assert found.status == status, found
    assert not found.ok
    assert found.bad == (status not in {"missing", "unproven"})
    assert found.name == model.name
    assert found.tier == model.tier
    assert found.evidence
    assert found.next_step
    for text in evidence:
        assert text in found.evidence
    assert not receipts.is_valid(folder, model.name, model.sha256)
    return found


# ── ok, unproven, missing ──


@pytest.mark.parametrize("level", ["fast", "full"])
def test_the_right_bytes_are_ok_by_their_hash_and_get_a_receipt(folder: Folder, level: Level) -> None:
    put(folder, NAME, VAE)
    found = check(wanted(), folder, level)
    assert (found.status, found.ok, found.bad, found.by, found.size) == ("ok", True, False, "hash", len(VAE))
    assert receipts.is_valid(folder, NAME, wanted().sha256)


def test_a_valid_receipt_is_enough_for_fast_and_for_nothing_else(folder: Folder) -> None:
    put(folder, NAME, VAE)
    check(wanted(), folder, "full")
    hashed: list[int] = []
    found = check(wanted(), folder, "fast", hashed.append)
    assert (found.status, found.by, found.size, hashed) == ("ok", "receipt", len(VAE), [])
    assert check(wanted(), folder, "full", hashed.append).by == "hash"
    assert sum(hashed) == len(VAE)
    assert check(wanted(), folder, "header").status == "unproven"


def test_a_header_alone_proves_nothing(folder: Folder) -> None:
    put(folder, NAME, VAE[:-1] + b"!")
    found = bad(wanted(), folder, "unproven", level="header")
    assert (found.by, found.size, "gesso verify" in found.next_step) == ("header", len(VAE), True)


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_there_is_missing(folder: Folder, level: Level) -> None:
    found = bad(wanted(), folder, "missing", "no such file", level=level)
    assert "gesso fetch" in found.next_step
    assert found.size is None


@pytest.mark.parametrize("level", LEVELS)
def test_a_link_that_leads_nowhere_is_missing_and_named(folder: Folder, level: Level) -> None:
    put(folder, NAME, b"").unlink()
    folder.path(NAME).symlink_to("gone")
    bad(wanted(), folder, "missing", "link", level=level)


def test_a_receipt_for_a_file_that_is_gone_saves_nothing(folder: Folder) -> None:
    put(folder, NAME, VAE)
    check(wanted(), folder)
    folder.path(NAME).unlink()
    assert check(wanted(), folder).status == "missing"


# ── unreadable ──


def _a_folder(path: Path) -> None:
    path.mkdir()


def _a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # the path of a socket may have 107 bytes at most
        server.bind(path.name)


STANDS_THERE: dict[str, Callable[[Path], None]] = {
    "a folder": _a_folder,
    "a pipe": os.mkfifo,
    "a socket": _a_socket,
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("what", STANDS_THERE)
def test_what_is_no_file_is_unreadable(
    folder: Folder, what: str, level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path.cwd())
    path = put(folder, NAME, b"")
    path.unlink()
    STANDS_THERE[what](path)
    assert "move away" in bad(wanted(), folder, "unreadable", level=level).next_step


def test_a_file_where_a_folder_should_be_is_unreadable(folder: Folder) -> None:
    folder.root.mkdir()
    (folder.root / "vae").touch()
    assert "move away" in bad(wanted(), folder, "unreadable").next_step


@pytest.mark.parametrize(
    ("code", "step"), [(errno.EACCES, "permissions"), (errno.EPERM, "permissions"), (errno.EIO, "disk")]
)
def test_what_cannot_be_opened_is_unreadable(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, code: int, step: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    put(folder, NAME, VAE)
    monkeypatch.setattr(os, "open", refuse)
    found = check(wanted(), folder, "full")
    assert (found.status, found.evidence) == ("unreadable", os.strerror(code))
    assert step in found.next_step


@pytest.mark.parametrize("call", ["pread", "preadv"])
def test_a_disk_that_fails_while_it_is_read(folder: Folder, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    put(folder, NAME, VAE)
    monkeypatch.setattr(os, call, fail)
    assert "disk" in bad(wanted(), folder, "unreadable", "Input/output error").next_step


def test_a_file_that_is_written_to_while_it_is_read_is_not_judged(folder: Folder) -> None:
    """Not even where its bytes came out right: the receipt would be of something that is no more."""
    path = put(folder, NAME, VAE)

    def write(_: int) -> None:
        with path.open("r+b") as file:
            file.write(VAE[:9])

    found = check(wanted(), folder, "full", write)
    assert (found.status, "written to" in found.evidence) == ("unreadable", True)
    assert not receipts.is_valid(folder, NAME, wanted().sha256)
    assert check(wanted(), folder).ok


def test_descriptors_are_given_back(folder: Folder) -> None:
    put(folder, NAME, VAE)
    put(folder, CHECKPOINT, b"<html>")
    before = descriptors()
    for _ in range(5):
        check(wanted(), folder, "full")
        check(checkpoint(), folder)
        check(wanted(b"x", "vae/none.safetensors"), folder)
    assert descriptors() == before


# ── impostors, stubs, cuts ──


IMPOSTORS: dict[Status, bytes] = {
    "html": b"<!DOCTYPE html><html><title>Sign in</title></html>",
    "json": b'{"error": "Access to model is restricted"}',
    "lfs-pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7105348188\n",
    "pickle": b"PK\x03\x04\x00\x00\x08\x08archive/data.pkl" + bytes(500),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("status", IMPOSTORS)
def test_impostors_are_named_for_what_they_are_and_not_for_their_size(
    folder: Folder, status: Status, level: Level
) -> None:
    put(folder, CHECKPOINT, IMPOSTORS[status])
    bad(checkpoint(), folder, status, level=level)
    bad(checkpoint(size=len(IMPOSTORS[status])), folder, status, level=level)
    bad(checkpoint(size=None), folder, status, level=level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["garbage", "zeros", "genuine header", "empty"])
def test_the_incident(folder: Folder, kind: str, level: Level) -> None:
    """710 KB in the place of 6.6 GiB: as noise, as reserved space, and as a real header with the rest cut off."""
    head, size = head_of({**SDXL, "model.diffusion_model.middle_block.0.weight": [3_552_000_000]})
    random.seed(1)
    data = {
        "garbage": random.randbytes(710_000), "zeros": bytes(710_000), "genuine header": head.ljust(710_000, b"\1"),
        "empty": b"",
    }[kind]  # fmt: skip
    assert size > JUGGERNAUT * 0.99
    put(folder, CHECKPOINT, data)
    found = bad(checkpoint(size=size), folder, "stub", level=level)
    assert found.size == len(data)
    if kind in {"garbage", "genuine header"}:
        assert f"710,000 bytes, the lock says {size:,}" in found.evidence
    assert "gesso fetch" in found.next_step


@pytest.mark.parametrize("kind", ["zeros", "genuine header"])
def test_the_incident_where_the_lock_knows_no_size(folder: Folder, kind: str) -> None:
    head, _ = head_of({**SDXL, "model.diffusion_model.middle_block.0.weight": [3_552_000_000]})
    put(folder, CHECKPOINT, bytes(710_000) if kind == "zeros" else head.ljust(710_000, b"\1"))
    for level in LEVELS:
        bad(checkpoint(size=None), folder, "stub", level=level)


def test_noise_of_the_right_size_is_malformed(folder: Folder) -> None:
    put(folder, CHECKPOINT, b"\xfe" * 5_000)
    for level in LEVELS:
        bad(checkpoint(size=5_000), folder, "malformed", level=level)
        bad(checkpoint(size=None), folder, "malformed", level=level)


@pytest.mark.parametrize("size_known", [True, False])
def test_a_file_cut_at_any_byte_is_never_right(folder: Folder, *, size_known: bool) -> None:
    path = put(folder, NAME, VAE)
    model = wanted() if size_known else wanted(size=None)
    for end in range(len(VAE) - 1, 0, -1):
        os.truncate(path, end)
        found = check(model, folder, "header" if end % 3 else "fast")
        assert found.status in {"stub", "truncated"}, (end, found)
        assert not size_known or (found.status == "stub") == (end < len(VAE) / 100), end


def test_one_byte_more_is_oversized(folder: Folder) -> None:
    put(folder, NAME, VAE + b"\0")
    for level in LEVELS:
        bad(wanted(), folder, "oversized", f"{len(VAE) + 1:,} bytes, the lock says {len(VAE):,}", level=level)
        bad(wanted(size=None), folder, "oversized", "1 bytes too many", level=level)


def test_a_header_that_lies_is_malformed(folder: Folder) -> None:
    data = raw({"a": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]}}, 8)
    put(folder, NAME, data)
    for level in LEVELS:
        bad(wanted(data), folder, "malformed", "follows a gap", level=level)


# ── another model, other bytes ──


def test_a_vae_of_flux_in_the_place_of_sdxl_s_names_both_numbers(folder: Folder) -> None:
    flux = vae_of(16)
    put(folder, NAME, flux)
    for level in LEVELS:  # though the lock itself names these bytes: it is the lock that is wrong
        found = bad(wanted(flux), folder, "wrong-family", "4 latent channels", "16", level=level)
        assert "manifest" in found.next_step or "fetch" in found.next_step


def test_a_vae_in_the_place_of_a_checkpoint(folder: Folder) -> None:
    put(folder, CHECKPOINT, VAE)
    bad(wanted(VAE, CHECKPOINT, kind="checkpoint"), folder, "wrong-family", "a checkpoint", "a VAE")


@pytest.mark.parametrize("at", [-1, -500, -1_000])
@pytest.mark.parametrize("level", ["fast", "full"])
def test_one_flipped_byte_is_a_wrong_hash_whatever_its_mtime_says(folder: Folder, level: Level, at: int) -> None:
    path = put(folder, NAME, VAE)
    check(wanted(), folder)
    stat, data = path.stat(), bytearray(VAE)
    data[at] ^= 1  # in the data: the header of both is the same
    with path.open("r+b") as file:
        file.write(data)
    keep_times(path, stat)
    found = bad(wanted(), folder, "wrong-hash", wanted().sha256, wanted(bytes(data)).sha256, level=level)
    assert found.by == "hash"


def test_a_wrong_hash_where_the_lock_knows_no_size_claims_nothing_of_it(folder: Folder) -> None:
    put(folder, NAME, VAE)
    found = bad(wanted(b"other", size=None), folder, "wrong-hash")
    assert "right size" not in found.evidence


def test_a_wrong_file_takes_the_receipt_of_no_other(folder: Folder) -> None:
    put(folder, NAME, VAE)
    other = wanted(vae_of(4)[:-1] + b"?")
    assert check(wanted(), folder).ok
    assert check(other, folder).status == "wrong-hash"
    assert check(wanted(), folder).by == "receipt"


# ── pickles that the manifest accepts ──


PTH = "upscale_models/4x.pth"
PICKLE = b"PK\x03\x04\x00\x00\x08\x08archive/data.pkl" + bytes(300)


def pickle(data: bytes = PICKLE, **more: Any) -> Model:
    more = {"kind": "upscale_model", "family": "any", "allow_pickle": "there is no other"} | more
    return wanted(data, PTH, **more)


def test_an_accepted_pickle_is_right_by_its_hash_alone(folder: Folder) -> None:
    put(folder, PTH, PICKLE)
    assert check(pickle(), folder, "header").status == "unproven"
    assert check(pickle(), folder).by == "hash"
    put(folder, PTH, PICKLE[:-1] + b"!")
    bad(pickle(), folder, "wrong-hash")
    put(folder, PTH, PICKLE[:-1])
    bad(pickle(), folder, "truncated")
    put(folder, PTH, b"<html>")
    bad(pickle(), folder, "html")


# ── where gesso's own notes cannot be kept; links ──


def test_with_a_state_that_cannot_be_written_the_check_still_works(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = Folder.at(tmp_path / "models", tmp_path / "file" / "state")
    put(folder, NAME, VAE)
    for _ in range(2):
        found = check(wanted(), folder)
        assert (found.status, found.by) == ("ok", "hash")
    assert [v.status for v in audit([wanted()], folder)] == ["ok"]


@pytest.mark.parametrize("which", ["file", "folder"])
def test_links_are_followed_and_what_they_lead_to_is_judged(folder: Folder, tmp_path: Path, which: str) -> None:
    apart = Folder.at(tmp_path / "big-disk")
    there = put(apart, NAME, VAE)
    folder.root.mkdir()
    if which == "folder":
        (folder.root / "vae").symlink_to(there.parent)
    else:
        (folder.root / "vae").mkdir()
        folder.path(NAME).symlink_to(there)
    assert check(wanted(), folder).by == "hash"
    assert check(wanted(), folder).by == "receipt"
    stat = there.stat()
    there.write_bytes(VAE[:-1] + b"!")
    keep_times(there, stat)
    bad(wanted(), folder, "wrong-hash", level="fast")


# ── many ──


def many(folder: Folder, count: int = 8) -> list[Model]:
    """Give wanted models, all in place; but for number 2, which is missing, and 5, which has a wrong byte."""
    models = []
    for n in range(count):
        name = f"vae/{n}.safetensors"
        if n != 2:
            put(folder, name, VAE[:-1] + bytes([n]))
        models.append(wanted(VAE[:-1] + bytes([n if n != 5 else 99]), name))
    return models


@pytest.mark.parametrize("workers", [None, 1, 3, 99])
@pytest.mark.parametrize("level", LEVELS)
def test_an_audit_gives_what_single_checks_give_in_the_order_asked(
    folder: Folder, level: Level, workers: int | None
) -> None:
    models = many(folder)
    random.seed(7)
    random.shuffle(models)
    expected = [check(model, folder, level).status for model in models]
    told: dict[str, Verdict] = {}
    found = audit(models, folder, level, workers=workers, on_verdict=lambda v: told.update({v.name: v}))
    assert [v.name for v in found] == [m.name for m in models]
    assert [v.status for v in found] == expected
    assert told == {v.name: v for v in found}
    assert audit([], folder, level) == []


def test_an_audit_reads_side_by_side(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the other: one after the other they would never come together."""
    together = threading.Barrier(3)

    def meet(model: Model, *_: object) -> Verdict:
        together.wait(20)
        return Verdict(model.name, model.tier, "ok", "met")

    models = many(folder, 3)
    monkeypatch.setattr(verify, "check", meet)
    assert [v.evidence for v in audit(models, folder, "full", workers=3)] == ["met"] * 3


def test_the_largest_are_begun_first(folder: Folder) -> None:
    sizes = [10, 4_000, 1, 300, 2_000]
    models = [wanted(b"\xfe" * size, f"vae/{size}.safetensors") for size in sizes]
    for model, size in zip(models, sizes, strict=True):
        put(folder, model.name, b"\xfe" * size)
    begun: list[str] = []
    audit(models, folder, "full", workers=1, on_verdict=lambda v: begun.append(v.name))
    assert begun == [f"vae/{size}.safetensors" for size in sorted(sizes, reverse=True)]


def test_receipts_need_no_thread(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [m for n, m in enumerate(many(folder)) if n not in {2, 5}]
    audit(models, folder)
    monkeypatch.setattr(verify, "ThreadPoolExecutor", None)
    assert {v.by for v in audit(models, folder)} == {"receipt"}


def test_bytes_are_told_by_name_and_add_up(folder: Folder) -> None:
    models = many(folder)
    counted: dict[str, int] = {}
    guard = threading.Lock()

    def tell(name: str, count: int) -> None:
        with guard:
            counted[name] = counted.get(name, 0) + count

    audit(models, folder, "full", on_bytes=tell)
    assert counted == {model.name: len(VAE) for n, model in enumerate(models) if n != 2}


def test_a_check_that_is_asked_to_stop_does_so_within_a_chunk(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "_CHUNK", 300)
    put(folder, NAME, VAE)
    stop = threading.Event()
    hashed: list[int] = []

    def count(n: int) -> None:
        hashed.append(n)
        if len(hashed) == 2:
            stop.set()

    with pytest.raises(Stopped):
        check(wanted(), folder, "full", count, stop)
    assert hashed == [300, 300]
    assert not receipts.is_valid(folder, NAME, wanted().sha256)


def test_ctrl_c_stops_what_runs_and_begins_nothing_more(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)
    begun, stopped = [], []

    def fake(model: Model, _folder: Folder, _level: Level, _on_bytes: object, stop: threading.Event) -> Verdict:
        begun.append(model.name)
        if both.wait(20) == 0:
            time.sleep(0.05)  # until the one who asked waits
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            if not stop.wait(2):  # CPython can lose one that comes in the moment in which it begins to wait
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        stopped.append(stop.wait(20))
        raise Stopped

    models = many(folder, 6)
    monkeypatch.setattr(verify, "check", fake)
    with pytest.raises(KeyboardInterrupt):
        audit(models, folder, "full", workers=2)
    assert (len(begun), stopped) == (2, [True, True])


def test_hashing_takes_constant_memory_and_gives_what_hashlib_gives(tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = random.randbytes(2_500_000)
    path.write_bytes(data)
    sizes: list[int] = []
    handle = os.open(path, os.O_RDONLY)
    try:
        assert verify.sha256_of(handle, sizes.append) == wanted(data).sha256
        assert verify.sha256_of(handle) == wanted(data).sha256  # from the start, wherever it was
    finally:
        os.close(handle)
    assert (sum(sizes), max(sizes)) == (len(data), 1 << 20)


def test_cores_are_those_that_we_may_use() -> None:
    assert verify.cores() == len(os.sched_getaffinity(0))


def test_every_status_is_either_ok_bad_or_says_that_it_is_neither() -> None:
    found = {status: Verdict("n", "required", status, "e") for status in get_args(Status)}
    assert {s for s, v in found.items() if v.ok} == {"ok"}
    assert {s for s, v in found.items() if not v.bad} == {"ok", "unproven", "missing"}


# ── a size that no host confirmed ──


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", [5, len(VAE) - 1, len(VAE) + 1, JUGGERNAUT])
def test_the_hash_decides_where_the_size_is_a_hint(folder: Folder, size: int, level: Level) -> None:
    put(folder, NAME, VAE)
    model = wanted(size=size, size_confirmed=False)
    found = check(model, folder, level)
    assert (found.status, found.by, found.size) == ("ok", "hash", len(VAE))
    assert found.remark.startswith(f"{size:,} bytes said by the lock (unconfirmed), the file has {len(VAE):,}")
    assert receipts.is_valid(folder, NAME, model.sha256)
    again = check(model, folder)
    assert (again.by, again.remark) == ("receipt", found.remark)


def test_a_header_alone_proves_nothing_where_the_hint_is_right(folder: Folder) -> None:
    put(folder, NAME, VAE)
    found = check(wanted(size_confirmed=False), folder, "header")
    assert (found.status, found.by, found.remark) == ("unproven", "header", "")
    assert check(wanted(size_confirmed=False), folder).remark == ""


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("size", "status"), [(JUGGERNAUT, "stub"), (len(VAE) + 1, "truncated"), (len(VAE) - 1, "oversized")]
)
def test_a_wrong_hash_is_called_a_stub_where_the_hint_says_so(
    folder: Folder, size: int, status: Status, level: Level
) -> None:
    put(folder, NAME, VAE[:-1] + b"!")
    model = wanted(size=size, size_confirmed=False)
    found = bad(model, folder, status, f"the lock says {size:,} (unconfirmed)", "sha256 ", level=level)
    assert found.by == "hash"
    assert not found.remark


def test_the_incidents_stub_is_named_whoever_confirmed_its_size(folder: Folder) -> None:
    put(folder, CHECKPOINT, b"\xfe" * 710_000)
    bad(checkpoint(size_confirmed=False), folder, "stub", "710,000 bytes, the lock says 7,105,348,188 (unconfirmed)")


@pytest.mark.parametrize("level", LEVELS)
def test_a_confirmed_size_refuses_unhashed(folder: Folder, level: Level) -> None:
    put(folder, NAME, VAE)
    hashed: list[int] = []
    found = check(wanted(size=len(VAE) + 1), folder, level, hashed.append)
    assert (found.status, hashed) == ("truncated", [])
