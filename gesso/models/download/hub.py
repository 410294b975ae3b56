"""Download from Hugging Face with its own library: for files that plain HTTP does not serve (in Xet only, too large).

In a process of its own: its memory and its threads are not ours, and one that hangs can be ended. It writes into a
folder beside the target; what it gives is nothing but bytes until we have hashed them.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import threading
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from gesso import proc
from gesso.models.content import hash_error, judge
from gesso.models.download.finalize import finalize
from gesso.models.faults import ContentError, SourceError
from gesso.models.net import hosts
from gesso.models.verify import sha256_of
from gesso.redact import redact_urls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gesso.manifest.schema import Model
    from gesso.models.folder import Folder
    from gesso.models.net.client import Client

# After these refusals of plain HTTP its own protocol may still do; a missing token or file is missing there too.
WORTH_A_TRY = {"refused-request", "forbidden", "bad-range", "not-http", "bad-answer", "encoded", "bad-redirect"}
_SLACK = 64 << 20  # bytes on disk beyond the file's size: the library's bookkeeping
# Bounds its threads and with them its memory; the caps it has for itself are for machines that do nothing else.
_ENV = {"TOKIO_WORKER_THREADS": "4", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def serves(address: str, env: Mapping[str, str]) -> bool:
    """Return whether this source is Hugging Face's (or its mirror's), and the library is installed."""
    asked = hosts.address(address, env)
    ours = asked.startswith(f"{hosts.endpoint(env)}/") and hosts.HF_PATH.match(urlsplit(asked).path)
    return bool(ours) and importlib.util.find_spec("huggingface_hub") is not None


def bring(
    address: str, model: Model, folder: Folder, client: Client, on_progress: Callable[[int], None],
    look: Callable[[], None],
) -> int:  # fmt: skip
    """Download with the library, then judge, hash and finalize the file as any other; return its size.

    Raises SourceError, ContentError, OSError, and what `look` raises.
    """
    path = folder.partial(model.name, model.sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    download(address, model, path, client.stall, on_progress, client.env, look)
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(handle).st_size
        if fault := judge(model, lambda offset, length: os.pread(handle, length, offset), size):
            raise fault
        if (digest := sha256_of(handle)) != model.sha256:
            raise hash_error(model, digest, size)
        os.fsync(handle)
        finalize(folder, model, path, handle)
        return size
    finally:
        os.close(handle)
        for each in (path, folder.journal(model.name, model.sha256)):
            each.unlink(missing_ok=True)


def download(
    address: str, model: Model, target: Path, stall: float, on_progress: Callable[[int], None],
    env: Mapping[str, str] | None = None, look: Callable[[], None] = lambda: None,
) -> None:  # fmt: skip
    """Download to `target` with the library; after `stall` seconds without a byte it is retried without Xet.

    `env` has the token and the mirror. Raises SourceError, ContentError, OSError, and what `look` does, which is
    called twice a second.
    """
    match = hosts.HF_PATH.match(urlsplit(address).path)
    assert match is not None
    told = {name: value for name, value in (env or {}).items() if name.startswith(("HF_", "HUGGING_FACE_"))}
    words = [unquote(match[name]) for name in ("repo", "file", "revision")]
    if PurePosixPath(words[1]).is_absolute() or ".." in PurePosixPath(words[1]).parts:
        raise SourceError("hub", "its URL leads out of its folder", "correct `sources` in the manifest")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".gesso-hub-") as scratch:
        command = [sys.executable, "-m", __name__, *words, scratch]
        for more in ({}, {"HF_HUB_DISABLE_XET": "1"}):
            watch = _Watch(model.size if model.size_confirmed else None, stall, on_progress, look)
            try:
                done = proc.stream(command, watch.on_line, env={**told, **_ENV, **more})
            except SourceError:
                if more:
                    raise
                continue
            if done.ok:
                break
            if more:
                said = _last_word(done.output) or "no file"
                raise SourceError("hub", f"huggingface_hub: {said}", "check the file's page; it may require HF_TOKEN")
        Path(scratch, words[1]).replace(target)


def _last_word(output: str) -> str:
    """Return the last line that is not a byte count: counts go on after the error."""
    words = [line.strip() for line in output.splitlines() if line.strip() and not line.strip().isdigit()]
    return redact_urls(words[-1])[:200] if words else ""


class _Watch:
    """Reads the child's byte counts."""

    def __init__(
        self, size: int | None, stall: float, on_progress: Callable[[int], None], look: Callable[[], None]
    ) -> None:
        self._size, self._stall, self._on_progress, self._look = size, stall, on_progress, look
        self._last, self._since = -1, time.monotonic()

    def on_line(self, line: str) -> None:
        if not line.isdigit():
            return
        count, now = int(line), time.monotonic()
        self._look()
        if self._size is not None and count > self._size + _SLACK:
            raise ContentError("oversized", f"{count:,} bytes and more, the lock says {self._size:,}")
        if count != self._last:
            self._last, self._since = count, now
            self._on_progress(count)
        elif now - self._since > self._stall:
            raise SourceError("stalled", f"huggingface_hub: nothing came for {self._stall:g} s", transient=True)


def main(repo: str, file: str, revision: str, folder: str) -> int:
    """The child process: download, and print the number of bytes every half second."""
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - slow to import, and in the child only

    def count() -> None:
        while True:
            found = sum(p.stat().st_blocks * 512 for p in Path(folder).rglob("*") if p.is_file())
            sys.stdout.write(f"{found}\n")
            sys.stdout.flush()
            time.sleep(0.5)

    threading.Thread(target=count, daemon=True).start()
    try:
        hf_hub_download(repo, file, revision=revision, local_dir=folder)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent reads its last line
        sys.stdout.write(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
