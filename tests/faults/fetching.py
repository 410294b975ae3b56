"""Helpers of the fetch tests: files to fetch, a fetch that records its events, and the invariants of every fetch."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import re
import struct
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso.manifest.schema import Model
from gesso.models import receipts
from gesso.models.faults import ContentError, LocalError, SourceError
from gesso.models.fetch import Options, fetch
from gesso.models.folder import Folder
from gesso.models.net.limits import BLOCK, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gesso.models.events import Event
    from gesso.models.fetch import Outcome

NAME = "vae/sdxl_vae_fp16.safetensors"
REPO = "/acme/models/resolve/main/"  # as on Hugging Face, so that its rules apply
PATH = f"{REPO}vae.safetensors"
SECOND = "/mirror/vae.safetensors"


def safetensors(shapes: Mapping[str, list[int]], size: int = 0, seed: int = 1, *, data: bool = True) -> bytes:
    """Return a safetensors file (or its head) of half floats; one more tensor fills it up to `size` bytes."""
    at, table = 0, {}
    for name, shape in shapes.items():
        end = at + 2 * math.prod(shape)
        table[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, end]}
        at = end
    for _ in range(4):  # the header's length depends on the numbers in it
        head = json.dumps(table).encode()
        if (rest := size - 8 - len(head) - at) > 0:
            table["rest"] = {"dtype": "U8", "shape": [rest], "data_offsets": [at, at + rest]}
    start = struct.pack("<Q", len(head)) + head
    return start + (random.Random(seed).randbytes(max(at, size - len(start))) if data else b"")


def vae(size: int, channels: int = 4, seed: int = 1) -> bytes:
    """Return a VAE's file."""
    return safetensors({"decoder.conv_in.weight": [8, channels, 3, 3]}, size, seed)


LARGE = vae(5 * BLOCK + 12_345)  # six blocks, the last one short
SMALL = vae(40_000)  # less than a block
OTHER = vae(5 * BLOCK + 12_345, seed=2)  # as large as SIX_BLOCKS, and another file


def model_of(data: bytes, *sources: str, name: str = NAME, **more: Any) -> Model:
    """Return the model whose bytes are `data`."""
    entry = {
        "name": name, "sources": sources, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "kind": "vae",
        "family": "sdxl", "tier": "required", "license": "MIT", "size_confirmed": True,
    }  # fmt: skip
    return Model.model_validate(entry | more)


def pickled(data: bytes, *sources: str, **more: Any) -> Model:
    """Return the model whose bytes are `data`, whatever they are: a pickle is only judged by its hash."""
    return model_of(data, *sources, name="upscale_models/x.pth", kind="upscale_model", family="any",
                  allow_pickle="for the tests", **more)  # fmt: skip


def options(stall: float = 10, **limits: Any) -> Options:
    """Return options for tests: short waits between retries; a long `stall`, unless a server is to stall."""
    chosen: dict[str, Any] = {"retries": 2, "backoff": 0.02, "patience": 1.5} | limits
    return Options(connect=2 if stall > 2 else 1, stall=stall, limits=Limits(**chosen))


class Bench:
    """A models folder, and the events of its last fetch."""

    def __init__(self, root: Path) -> None:
        self.folder = Folder.at(root)
        self.events: list[Event] = []

    def fetch(
        self, model: Model, chosen: Options | None = None, *, env: Mapping[str, str] | None = None,
        stop: threading.Event | None = None,
    ) -> Outcome:  # fmt: skip
        """Fetch one model and check the invariants."""
        before = set(threading.enumerate())
        self.events.clear()
        try:
            [outcome] = fetch([model], self.folder, env=env or {}, on_event=self.events.append,
                              options=chosen or options(), stop=stop)  # fmt: skip
        finally:
            self.assert_never_wrong(model)
            assert not [thread for thread in _new_threads(before) if thread.is_alive()]
        if outcome.state == "failed":
            self._check_message(outcome)
        return outcome

    def path(self, model: Model) -> Path:
        return self.folder.path(model.name)

    def bytes_of(self, model: Model) -> bytes | None:
        path = self.path(model)
        return path.read_bytes() if path.exists() else None

    def assert_never_wrong(self, model: Model) -> None:
        """Check that at the final path is nothing, or exactly the right bytes."""
        found = self.bytes_of(model)
        assert found is None or hashlib.sha256(found).hexdigest() == model.sha256

    def leftovers(self) -> list[str]:
        """Return all files that are neither models nor gesso's small records of them."""
        found = [path for path in self.folder.root.rglob("*") if path.is_file() or path.is_symlink()]
        return sorted(
            str(path.relative_to(self.folder.root))
            for path in found
            if path.name.startswith(".") or path.is_relative_to(self.folder.quarantine)
        )

    def assert_fetched(self, outcome: Outcome, data: bytes) -> None:
        """Check that it is complete, with a receipt, and nothing else is left."""
        assert outcome.error is None, outcome.error
        assert outcome.state == "fetched"
        assert self.bytes_of(outcome.model) == data
        assert receipts.is_valid(self.folder, outcome.model.name, outcome.model.sha256)
        assert self.leftovers() == []
        assert self.events[-1].kind == "done"

    def assert_failed(self, outcome: Outcome, *whys: str) -> SourceError | ContentError | LocalError:
        """Check that it is absent, for one of these reasons."""
        assert outcome.state == "failed"
        assert not self.path(outcome.model).exists()
        error = outcome.error
        assert isinstance(error, SourceError | ContentError | LocalError)
        assert error.why in whys, error
        assert self.events[-1].kind == "failed"
        return error

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    def _check_message(self, outcome: Outcome) -> None:
        error = outcome.error
        assert type(error) in {SourceError, ContentError, LocalError}
        assert isinstance(error, SourceError | ContentError | LocalError)
        assert error.message.startswith(outcome.model.name)
        assert len(error.message) < 2000
        assert error.message.isprintable()
        assert any(re.search(step, error.next_step) for step in NEXT[error.why]), (error.why, error.next_step)
        assert error.exit_code == (5 if isinstance(error, ContentError) else 4)


# The next steps by reason: the error must name one of these.
_LOOK = r"^look at (http\S+|the file's page on \S+)"
_LATER = r"^try again later"
_ANOTHER = r"^give the manifest another source"
_AGAIN = r"^fetch it again"
_OTHER = r"^the source has another file: correct the manifest"
NEXT: dict[str, list[str]] = {
    "needs-token": [r"^set HF_TOKEN; see http\S+", r"^set CIVITAI_TOKEN; see the file's page on civitai", _ANOTHER],
    "bad-token": [r"^set (HF|CIVITAI)_TOKEN to a valid token"],
    "gated": [r"^accept the licence at (http\S+|the file's page on \S+)"],
    "forbidden": [_LOOK],
    "not-found": [_LOOK + ".*correct `sources`", _ANOTHER],
    "gone": [_LOOK + ".*correct `sources`"],
    "rate-limited": [_LATER],
    "server-error": [_LATER],
    "refused-request": [_LOOK],
    "unreachable": [r"^check the network: can this machine reach \S+\?", _LATER, r"^correct https_proxy"],
    "tls": [r"SSL_CERT_FILE"],
    "stalled": [_LATER],
    "cut-off": [_LATER],
    "not-http": [_ANOTHER],
    "bad-answer": [_ANOTHER],
    "bad-range": [_ANOTHER, _LOOK],
    "changed": [_ANOTHER],
    "encoded": [_ANOTHER],
    "bad-redirect": [_ANOTHER],
    "private-address": [_ANOTHER],
    "insecure": [_ANOTHER],
    "hub": [r"HF_TOKEN", r"^correct `sources`"],
    "html": [r"^open the address in a browser"],
    "json": [r"^read what it says"],
    "lfs-pointer": [r"^fetch the file itself"],
    "pickle": [r"^use its \.safetensors"],
    "stub": [_AGAIN, r"^fetch the rest", _OTHER],
    "truncated": [_AGAIN, r"^fetch the rest", _OTHER],
    "oversized": [_AGAIN, _ANOTHER, r"^give its size", _OTHER],
    "malformed": [_AGAIN],
    "wrong-family": [r"^correct the manifest, or its sources"],
    "wrong-hash": [r"correct the manifest"],
    "disk-full": [r"^make room"],
    "read-only": [r"^mount the models folder writable"],
    "in-the-way": [r"^move away"],
    "io-error": [r"^check the disk"],
}


def _new_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    """Return the threads of a fetch that are still alive (not the mirror's)."""
    until = time.monotonic() + 5
    while True:
        more = [t for t in set(threading.enumerate()) - before if not _of_the_mirror(t)]
        if not more or time.monotonic() > until:
            return more
        time.sleep(0.01)


def _of_the_mirror(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None)
    module = getattr(target, "__module__", "") or ""
    return module.startswith(("mirror", "test_", "tests.", "faults.")) or target is None


def sockets_to(port: int) -> int:
    """Count the connections that this process, as a client, has open to a port of the loopback."""
    ours = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)  # noqa: PTH115 - there is no such file
        except OSError:
            continue
        if target.startswith("socket:["):
            ours.add(target[8:-1])
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    found = [line.split() for line in lines]
    return sum(1 for words in found if words[9] in ours and int(words[2].rpartition(":")[2], 16) == port)
