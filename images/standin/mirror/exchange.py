"""An exchange: one request and its response, which behaviours read and change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from . import content as files
from .content import Content
from .http1 import Body, Delivery, Request, Response


class MirrorApi(Protocol):
    """What behaviours call on the mirror."""

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
    """`content` is the requested file, `response` the response so far, `nth` how often this behaviour acted before."""

    mirror: MirrorApi
    request: Request
    path: str  # of the file itself, also if a signed URL was requested
    content: Content | None
    response: Response = field(init=False)
    delivery: Delivery = field(default_factory=Delivery)
    nth: int = 0
    close: bool = False
    responded: bool = False  # a behaviour has set the response: changes of the file no longer matter
    _deferred: list[Callable[[Response], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reset_response()

    def reset_response(self) -> None:
        """Set the normal response for the current content."""
        self.response = files.normal_response(self.request, self.content)

    def alter(self, **changes: object) -> None:
        """Replace properties of the file, and the response accordingly."""
        if self.content is not None:
            self._set_content(replace(self.content, **changes))  # type: ignore[arg-type]

    def replace_content(
        self, data: bytes, *, size: int | None = None, kind: str = files.BINARY, filler: bytes = b"\0"
    ) -> None:
        """Replace the file, and the response accordingly."""
        if self.content is not None:
            other = Content.of(data)
            self._set_content(replace(other, size=len(data) if size is None else size, type=kind, filler=filler))

    def _set_content(self, content: Content) -> None:
        self.content = content
        if not self.responded:
            self.reset_response()

    def respond(self, status: int, body: str | bytes, kind: str = "text/plain; charset=utf-8", **headers: str) -> None:
        """Set another response. In header names, write _ for -."""
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        self.responded = True
        self.response = Response(status, [("Content-Type", kind), *named], Body.text(body))

    def defer(self, edit: Callable[[Response], None]) -> None:
        """Change the response after every behaviour has acted."""
        self._deferred.append(edit)

    def apply_deferred(self) -> None:
        """Apply the deferred changes."""
        for edit in self._deferred:
            edit(self.response)

    def requested_directly(self) -> bool:
        """Return whether a file was requested by its own URL: the target of a redirect must not redirect again."""
        return self.content is not None and self.request.path == self.path

    def is_partial(self) -> bool:
        """Return whether the normal response is a part of the file."""
        return self.response.status == 206 and self.content is not None
