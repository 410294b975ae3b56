"""One model from its sources to its final path: primary, then mirrors; nothing unverified is ever visible there.

Partial file in the target's folder, hash over what the file holds, fsync, rename, fsync of the folder, receipt.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso.models.download import hub
from gesso.models.download.finalize import put_in_place
from gesso.models.download.hashing import Follower
from gesso.models.download.journal import BLOCK, Partial
from gesso.models.download.limits import Limits, what_next
from gesso.models.download.transfer import Transfer
from gesso.models.download.unknown_length import receive_unmeasured
from gesso.models.events import Event, Kind
from gesso.models.faults import ContentError, SourceError, of_disk, sum_up, wrong_hash
from gesso.models.net.source import Source, examine, host_of, open_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.manifest.schema import Model
    from gesso.models.faults import Fault
    from gesso.models.folder import Folder
    from gesso.models.net.client import Client

_SAY_EVERY = 0.25  # seconds between two progress events of a file


@dataclass(frozen=True)
class Obtained:
    """How a model came: from which host, how many bytes over the wire, in how many seconds."""

    source: str
    received: int
    seconds: float


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The fetch was asked to stop; what is there stays, to be resumed."""


class Obtaining:
    """The work on one model, by one process at a time (the caller holds its lock)."""

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

    def run(self) -> Obtained:
        """Obtain it.

        Raises SourceError or ContentError when no source gave it, LocalError when this machine cannot take it, and
        Stopped.
        """
        started = time.monotonic()
        failed: list[tuple[str, Fault]] = []
        try:
            for index, address in enumerate(self._model.sources):
                host = host_of(address)
                try:
                    self._from(address, last=index + 1 == len(self._model.sources))
                except (SourceError, ContentError) as fault:
                    if self._client.stopped:
                        raise Stopped from None
                    failed.append((host, fault))
                    if index + 1 < len(self._model.sources):
                        self._say("switched", host_of(self._model.sources[index + 1]), f"{host}: {fault.message}")
                    continue
                return Obtained(host, self._received, time.monotonic() - started)
        except OSError as error:
            raise of_disk(error, self._model.name) from None
        finally:
            self._close()
        raise sum_up(self._model.name, failed)

    # One source.

    def _from(self, address: str, *, last: bool) -> None:
        """Take it from one source, again where that can help (and no other is left), and put it in place.

        Raises SourceError, ContentError, OSError.
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
            match what_next(fault, self._limits, whole=whole, mixed=mixed, failures=failures):
                case "in one piece":
                    whole = True
                case "later":
                    failures += 1
                    waited = f" (retry {failures} of {self._limits.retries})"
                    self._rest(fault, failures)
                case "give up":
                    if fault.why in hub.WORTH_A_TRY and hub.serves(address, self._client.env):
                        return self._by_hub(address)
                    raise fault
            self._say("retrying", host_of(address), f"{fault.message}{waited}")

    def _take(self, address: str, *, whole: bool) -> ContentError | None:
        """Open the source, judge it, take the body, compare the hash and put the file in place.

        Gives the fault of a hash that did not come out. Raises SourceError, ContentError, OSError.
        """
        self._resume()
        partial = self._partial
        runs = partial.missing() if partial is not None else [(0, 1)]
        if runs:
            found = open_source(self._client, address, 0 if whole else runs[0][0] * BLOCK, self._model, whole=whole)
            try:
                self._examine(found)
                size = self._model.size or found.size
                if size is None and found.ranged:
                    raise SourceError("bad-range", "a part of nobody knows how much")
                if size is None:
                    return self._take_unmeasured(found, address)
                self._begin(size)
                self._contributors.add(address)
                self._transfer(found)
            finally:
                self._received += len(found.head)
                found.wire.leave()
        assert self._partial is not None
        assert self._follower is not None
        self._say("progress", host_of(address), force=True)
        digest = self._follower.digest(lambda: self._client.stopped)
        if digest != self._model.sha256:
            return wrong_hash(digest, self._model.sha256)
        self._partial.settle()
        put_in_place(self._folder, self._model, self._partial.path, self._partial.fd)
        return None

    def _resume(self) -> None:
        journal = self._folder.journal(self._model.name, self._model.sha256)
        if self._partial is None and self._model.size is not None and journal.is_file():
            self._begin(self._model.size)

    def _begin(self, size: int) -> None:
        model = self._model
        if self._partial is not None and self._partial.size != size:
            self._discard()  # the lock has no size, and another source had another one
        if self._partial is None:
            path, journal = (at(model.name, model.sha256) for at in (self._folder.partial, self._folder.journal))
            self._partial = Partial(path, journal, sha256=model.sha256, size=size)
            if self._partial.resumed:
                self._contributors.add("an earlier run")
        if self._follower is None:
            self._follower = Follower(self._partial)

    def _examine(self, found: Source) -> None:
        """Judge what is offered; where the bytes are bad that are here already, and not those offered, forget them."""
        beginning = self._beginning()
        try:
            examine(found, self._model, beginning)
        except ContentError:
            if beginning is None:
                raise
            examine(found, self._model)
            self._wipe()

    def _beginning(self) -> bytes | None:
        """Give the first bytes, where an earlier run left them."""
        if self._partial is None or not self._partial.blocks or not self._partial.has(0, 1):
            return None
        return os.pread(self._partial.fd, self._partial.bounds(0)[1], 0)

    def _transfer(self, found: Source) -> None:
        assert self._partial is not None
        assert self._follower is not None
        host = found.host
        self._say("started", host, force=True)
        transfer = Transfer(
            self._client,
            found,
            self._partial,
            self._follower,
            self._limits,
            lambda _, connections: self._say("progress", host, connections=connections),
        )
        try:
            transfer.run()
        finally:
            self._received += transfer.received

    def _take_unmeasured(self, found: Source, address: str) -> ContentError | None:
        """Nobody says how long it is: one stream, no resuming, and no more than the disk can bear."""
        self._discard()  # another source gave a part, and said how long it was
        path = self._folder.partial(self._model.name, self._model.sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            digest = receive_unmeasured(found, handle, lambda done: self._say("progress", found.host, done=done))
            self._received += os.fstat(handle).st_size - len(found.head)
            if digest != self._model.sha256:
                self._contributors = {address}
                return wrong_hash(digest, self._model.sha256)
            os.fsync(handle)
            put_in_place(self._folder, self._model, path, handle)
            return None
        finally:
            os.close(handle)
            path.unlink(missing_ok=True)

    def _by_hub(self, address: str) -> None:
        """Have Hugging Face's own library bring it. Raises SourceError, ContentError, OSError, Stopped."""
        host = host_of(address)
        self._say("retrying", host, "plain HTTP does not serve it; once more by huggingface_hub")
        self._close()

        def look() -> None:
            if self._client.stopped:
                raise Stopped

        tell: Callable[[int], None] = lambda count: self._say("progress", host, done=count)  # noqa: E731
        self._received += hub.bring(address, self._model, self._folder, self._client, tell, look)

    # Small things.

    def _wipe(self) -> None:
        """Forget every byte. Raises OSError."""
        self._contributors.clear()
        if self._follower is not None:
            self._follower.close()
            self._follower = None
        if self._partial is not None:
            self._partial.start_over()
            self._follower = Follower(self._partial)

    def _discard(self) -> None:
        """Take the partial file away."""
        self._contributors.clear()
        if self._follower is not None:
            self._follower.close()
            self._follower = None
        if self._partial is not None:
            self._partial.discard()
            self._partial = None

    def _close(self) -> None:
        """Leave what another run can resume, and nothing else."""
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

    def _say(
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
