"""Download one model to its final path: from the primary source, then mirrors. Nothing unverified is visible there.

Partial file in the target's folder, hash over what the file holds, fsync, rename, fsync of the folder, receipt.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso.models.content import hash_error
from gesso.models.download import hub
from gesso.models.download.finalize import finalize
from gesso.models.download.fits import check_fits
from gesso.models.download.hashing import Follower
from gesso.models.download.journal import Partial, resumable_size
from gesso.models.download.transfer import Transfer
from gesso.models.download.unknown_length import receive_unmeasured
from gesso.models.events import Event, Kind
from gesso.models.faults import ContentError, LocalError, SourceError, combine, wrong_hash
from gesso.models.local_disk import disk_error
from gesso.models.net.limits import BLOCK, Limits, next_try
from gesso.models.net.source import Source, examine, host_of, open_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gesso.manifest.schema import Model
    from gesso.models.faults import Fault
    from gesso.models.folder import Folder
    from gesso.models.net.client import Client

_SAY_EVERY = 0.25  # seconds between two progress events of a file


@dataclass(frozen=True)
class Downloaded:
    """The result of a download: host, bytes received, seconds."""

    source: str
    received: int
    seconds: float


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """A stop was requested; the partial file stays and can be resumed."""


class ModelDownload:
    """The download of one model; the caller holds its lock."""

    def __init__(
        self, model: Model, folder: Folder, client: Client, limits: Limits, on_event: Callable[[Event], None]
    ) -> None:
        self._model, self._folder, self._client, self._limits = model, folder, client, limits
        self._on_event = on_event
        self._partial: Partial | None = None
        self._follower: Follower | None = None
        self._contributors: set[str] = set()  # whose bytes are in the partial file
        self._received = 0
        self._said = 0.0
        self._refuted: ContentError | None = None  # what is said of the wrong hash that just came out

    def run(self) -> Downloaded:
        """Download it.

        Raises SourceError or ContentError when no source gave it, LocalError when this machine cannot take it, and
        Stopped.
        """
        started = time.monotonic()
        failed: list[tuple[str, Fault]] = []
        no_room: LocalError | None = None
        try:
            for index, address in enumerate(self._model.sources):
                host = host_of(address)
                try:
                    self._from(address, last=index + 1 == len(self._model.sources))
                except (SourceError, ContentError) as fault:
                    if self._client.stopped:
                        raise Stopped from None
                    failed.append((host, fault))
                    self._switch(index + 1, f"{host}: {fault.message}")
                    continue
                except LocalError as found:  # a larger file than the lock's: another source may have the right one
                    no_room = no_room or found
                    self._switch(index + 1, found.message)
                    continue
                return Downloaded(host, self._received, time.monotonic() - started)
        except OSError as error:
            raise disk_error(error, self._model.name) from None
        finally:
            self._close()
        raise no_room or combine(self._model.name, failed)

    def _switch(self, index: int, why: str) -> None:
        if index < len(self._model.sources):
            self._report("switched", host_of(self._model.sources[index]), why)

    # One source.

    def _from(self, address: str, *, last: bool) -> None:
        """Download from one source, with retries where they can help (and no other source is left), and finalize.

        Raises SourceError, ContentError, LocalError, OSError.
        """
        failures, whole, again = 0, False, not last
        while True:
            fault: Fault | None
            try:
                fault = self._take(address, whole=whole)
            except SourceError as found:
                fault = found
            if fault is None:
                return None
            if self._client.stopped:
                raise fault
            # A right size and a wrong hash is mostly a file that was hurt on its way: once more, where it is the last.
            mixed = self._contributors != {address} or not again
            if fault.why in {"changed", "wrong-hash"}:
                self._wipe()
            waited = ""
            again = again or fault.why == "wrong-hash"
            match next_try(fault, self._limits, whole=whole, mixed=mixed, failures=failures):
                case "in one piece":
                    whole = True
                case "later":
                    failures += 1
                    waited = f" (retry {failures} of {self._limits.retries})"
                    self._rest(fault, failures)
                case "give up":
                    if fault.why in hub.WORTH_A_TRY and hub.serves(address, self._client.env):
                        return self._by_hub(address)
                    raise self._refuted or fault
            self._report("retrying", host_of(address), f"{fault.message}{waited}")

    def _take(self, address: str, *, whole: bool) -> ContentError | None:
        """Open the source, judge it, transfer the body, compare the hash and finalize the file.

        Gives the fault of a hash that did not come out. Raises SourceError, ContentError, LocalError, OSError.
        """
        self._refuted = None
        self._resume()
        partial = self._partial
        runs = partial.missing() if partial is not None else [(0, 1)]
        if runs:
            found = open_source(self._client, address, 0 if whole else runs[0][0] * BLOCK, self._model, whole=whole)
            try:
                self._examine(found)
                size = self._known or found.size
                if size is None and found.ranged:
                    raise SourceError("bad-range", "a part of nobody knows how much")
                if size is None:
                    return self._take_unmeasured(found, address)
                if self._partial is None or self._partial.size != size:
                    check_fits(self._model, found.host, size, self._paths[0])
                self._begin(size)
                self._contributors.add(address)
                self._transfer(found)
            finally:
                self._received += len(found.head)
                found.wire.leave()
        assert self._partial is not None
        assert self._follower is not None
        self._report("progress", host_of(address), force=True)
        digest = self._follower.digest(lambda: self._client.stopped)
        if digest != self._model.sha256:
            return self._wrong(digest, self._partial.size)
        self._partial.settle()
        finalize(self._folder, self._model, self._partial.path, self._partial.fd)
        return None

    @property
    def _known(self) -> int | None:
        """The size that the file must have; None if the lock has none, or just a hint."""
        return self._model.size if self._model.size_confirmed else None

    def _wrong(self, digest: str, size: int) -> ContentError:
        """Return the error that decides on a retry; for the last try, worded as the stub or the like that it is."""
        self._refuted = hash_error(self._model, digest, size)
        return wrong_hash(digest, self._model.sha256)

    def _resume(self) -> None:
        if self._partial is not None:
            return
        path, journal = self._paths
        size = self._known or resumable_size(path, journal, self._model.sha256)
        if size is not None and journal.is_file():
            self._begin(size)

    @property
    def _paths(self) -> tuple[Path, Path]:
        name, sha256 = self._model.name, self._model.sha256
        return self._folder.partial(name, sha256), self._folder.journal(name, sha256)

    def _begin(self, size: int) -> None:
        model = self._model
        if self._partial is not None and self._partial.size != size:
            self._discard()  # no size is confirmed, and another source had another one
        if self._partial is None:
            path, journal = self._paths
            self._partial = Partial(path, journal, sha256=model.sha256, size=size)
            if self._partial.resumed:
                self._contributors.add("an earlier run")
        if self._follower is None:
            self._follower = Follower(self._partial)

    def _examine(self, found: Source) -> None:
        """Judge the offered file; if only the existing partial bytes are bad, discard them."""
        beginning = self._beginning()
        try:
            examine(found, self._model, beginning)
        except ContentError:
            if beginning is None:
                raise
            examine(found, self._model)
            self._wipe()

    def _beginning(self) -> bytes | None:
        """Return the first bytes that an earlier run left."""
        if self._partial is None or not self._partial.blocks or not self._partial.has(0, 1):
            return None
        return os.pread(self._partial.fd, self._partial.bounds(0)[1], 0)

    def _transfer(self, found: Source) -> None:
        assert self._partial is not None
        assert self._follower is not None
        host = found.host
        self._report("started", host, force=True)
        transfer = Transfer(
            self._client,
            found,
            self._partial,
            self._follower,
            self._limits,
            lambda _, connections: self._report("progress", host, connections=connections),
        )
        try:
            transfer.run()
        finally:
            self._received += transfer.received

    def _take_unmeasured(self, found: Source, address: str) -> ContentError | None:
        """Download a body of unknown length: one stream, not resumable, limited by the disk."""
        self._discard()  # another source gave a part, and said how long it was
        path, _ = self._paths
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            tell: Callable[[int], None] = lambda done: self._report("progress", found.host, done=done)  # noqa: E731
            digest = receive_unmeasured(found, handle, tell, hint=self._model.size or 0)
            size = os.fstat(handle).st_size
            self._received += size - len(found.head)
            if digest != self._model.sha256:
                self._contributors = {address}
                return self._wrong(digest, size)
            os.fsync(handle)
            finalize(self._folder, self._model, path, handle)
            return None
        finally:
            os.close(handle)
            path.unlink(missing_ok=True)

    def _by_hub(self, address: str) -> None:
        """Download with Hugging Face's own library. Raises SourceError, ContentError, OSError, Stopped."""
        host = host_of(address)
        self._report("retrying", host, "plain HTTP does not serve it; once more by huggingface_hub")
        self._close()

        def look() -> None:
            if self._client.stopped:
                raise Stopped

        on_event: Callable[[int], None] = lambda count: self._report("progress", host, done=count)  # noqa: E731
        self._received += hub.bring(address, self._model, self._folder, self._client, on_event, look)

    # Small things.

    def _wipe(self) -> None:
        """Discard all bytes. Raises OSError."""
        self._contributors.clear()
        if self._follower is not None:
            self._follower.close()
            self._follower = None
        if self._partial is not None:
            self._partial.start_over()
            self._follower = Follower(self._partial)

    def _discard(self) -> None:
        """Delete the partial file."""
        self._contributors.clear()
        if self._follower is not None:
            self._follower.close()
            self._follower = None
        if self._partial is not None:
            self._partial.discard()
            self._partial = None

    def _close(self) -> None:
        """Keep what another run can resume, and delete the rest."""
        if self._follower is not None:
            self._follower.close()
            self._follower = None
        if self._partial is not None:
            if any(self._partial.done or b""):
                self._partial.close()
            else:
                self._partial.discard()
            self._partial = None

    def _rest(self, fault: Fault, failures: int) -> None:
        until = time.monotonic() + max(self._limits.backoff * 2 ** (failures - 1), fault.retry_after or 0)
        while not self._client.stopped and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

    def _report(
        self, kind: Kind, source: str, message: str = "", *, connections: int = 0, done: int | None = None,
        force: bool = False,
    ) -> None:  # fmt: skip
        now = time.monotonic()
        if kind == "progress" and not force and now - self._said < _SAY_EVERY:
            return
        self._said = now
        if done is None:
            done = self._partial.bytes_done if self._partial is not None else 0
        size = self._partial.size if self._partial is not None else self._model.size
        self._on_event(
            Event(
                kind=kind, name=self._model.name, tier=self._model.tier, size=size, done=done, source=source,
                connections=connections, message=message,
            )
        )  # fmt: skip
