"""Hugging Face by its own library, for files that plain HTTP does not serve (kept in Xet alone, or too large).

In a process of its own: its memory and its threads are not ours, and one that hangs can be ended. It writes into a
folder beside the target; what it gives is nothing but bytes until we have hashed them.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from gesso import proc
from gesso.models import hosts
from gesso.models.faults import ContentError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gesso.manifest.schema import Model

# After these refusals of plain HTTP its own protocol may still do; a missing token or file is missing there too.
WORTH_A_TRY = {"refused-request", "forbidden", "bad-range", "not-http", "bad-answer", "encoded", "bad-redirect"}
_SLACK = 64 << 20  # bytes that it may have on disk beyond the file's size: its own bookkeeping
# Bounds its threads and with them its memory; the caps it has for itself are for machines that do nothing else.
_ENV = {"TOKIO_WORKER_THREADS": "4", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def serves(address: str, env: Mapping[str, str]) -> bool:
    """Tell whether this source is Hugging Face's (or its mirror's), and the library is installed."""
    asked = hosts.address(address, env)
    ours = asked.startswith(f"{hosts.endpoint(env)}/") and hosts.HF_PATH.match(urlsplit(asked).path)
    return bool(ours) and importlib.util.find_spec("huggingface_hub") is not None


def download(address: str, model: Model, target: Path, stall: float, on_progress: Callable[[int], None]) -> None:
    """Have the library put the file at `target`; no byte for `stall` seconds ends it, and plain transfer is tried.

    Raises SourceError, ContentError, OSError.
    """
    match = hosts.HF_PATH.match(urlsplit(address).path)
    assert match is not None
    words = [unquote(match[name]) for name in ("repo", "file", "revision")]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".gesso-hub-") as scratch:
        command = [sys.executable, "-m", __name__, *words, scratch]
        for more in ({}, {"HF_HUB_DISABLE_XET": "1"}):
            watch = _Watch(model.size, stall, on_progress)
            try:
                done = proc.stream(command, watch.on_line, env={**_ENV, **more})
            except SourceError:
                if more:
                    raise
                continue
            if done.ok:
                break
            if more:
                said = done.tail(1)[:200] or "no file"
                raise SourceError("hub", f"huggingface_hub: {said}", "see the file's page; it may want HF_TOKEN")
        Path(scratch, words[1]).replace(target)


class _Watch:
    """Reads how many bytes the child has on disk."""

    def __init__(self, size: int | None, stall: float, on_progress: Callable[[int], None]) -> None:
        self._size, self._stall, self._on_progress = size, stall, on_progress
        self._last, self._since = -1, time.monotonic()

    def on_line(self, line: str) -> None:
        if not line.isdigit():
            return
        count, now = int(line), time.monotonic()
        if self._size is not None and count > self._size + _SLACK:
            raise ContentError("oversized", f"{count:,} bytes and more, the lock says {self._size:,}")
        if count != self._last:
            self._last, self._since = count, now
            self._on_progress(count)
        elif now - self._since > self._stall:
            raise SourceError("stalled", f"huggingface_hub: nothing came for {self._stall:g} s", transient=True)


def main(repo: str, file: str, revision: str, folder: str) -> int:
    """The child: download, and say every half second how many bytes there are."""
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
