"""One request on its way to an answer: what a behaviour sees, and what it may change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from . import content as files
from .content import Content
from .wire import Body, Delivery, Reply, Request


class Desk(Protocol):
    """What a behaviour may ask of the mirror."""

    def find(self, path: str) -> Content | None: ...
    def paths(self) -> list[str]: ...
    def url(self, path: str, *, host: str | None = None) -> str: ...
    def other_name(self, request: Request) -> str: ...
    def sign(
        self, path: str, *, uses: int | None = None, seconds: float | None = None, strict: bool = False, etag: str = ""
    ) -> str: ...
    def refuse(self, connections: int) -> None: ...
    def connections(self) -> int: ...


@dataclass(slots=True)
class Exchange:
    """`content` is what is asked for, `reply` the honest answer so far, `nth` how often this behaviour acted before."""

    desk: Desk
    request: Request
    path: str  # of the file itself, also where a signed address was asked for
    content: Content | None
    reply: Reply = field(init=False)
    delivery: Delivery = field(default_factory=Delivery)
    nth: int = 0
    close: bool = False
    said: bool = False  # a behaviour has answered: that the file changes does not matter any more
    _edits: list[Callable[[Reply], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.answer()

    def answer(self) -> None:
        """Answer honestly for the content as it is now."""
        self.reply = files.answer(self.request, self.content)

    def alter(self, **changes: object) -> None:
        """Pretend that the file is another, or has other properties, and answer honestly for that one."""
        if self.content is not None:
            self._now(replace(self.content, **changes))  # type: ignore[arg-type]

    def become(self, data: bytes, *, size: int | None = None, kind: str = files.BINARY, filler: bytes = b"\0") -> None:
        """Pretend that the file is this one."""
        if self.content is not None:
            other = Content.of(data)
            self._now(replace(other, size=len(data) if size is None else size, type=kind, filler=filler))

    def _now(self, content: Content) -> None:
        self.content = content
        if not self.said:
            self.answer()

    def say(self, status: int, body: str | bytes, kind: str = "text/plain; charset=utf-8", **headers: str) -> None:
        """Answer something else. In names of headers write _ for -."""
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        self.said = True
        self.reply = Reply(status, [("Content-Type", kind), *named], Body.text(body))

    def later(self, edit: Callable[[Reply], None]) -> None:
        """Change the answer once every behaviour has had its say about what the answer is."""
        self._edits.append(edit)

    def finish(self) -> None:
        """Do what was left for later."""
        for edit in self._edits:
            edit(self.reply)

    def unsigned(self) -> bool:
        """Say whether a file was asked for by its own address: what is behind a redirect does not redirect again."""
        return self.content is not None and self.request.path == self.path

    def ranged(self) -> bool:
        """Say whether the honest answer is a part of the file."""
        return self.reply.status == 206 and self.content is not None
