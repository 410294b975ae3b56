"""What the image wing's tests share: an instance's folders in a temporary place, and servers on loopback."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from gesso.runtime.layout import Layout, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    names = ("gesso", "comfyui", "venv", "workspace", "run", "logs", "root")
    made = Layout(**{name: tmp_path / name for name in names})
    for name in ("gesso", "comfyui", "workspace"):
        (tmp_path / name).mkdir()
    return made


@pytest.fixture
def record() -> Callable[..., Record]:
    """Make a record; what is not given is plausible."""

    def make(**changes: Any) -> Record:
        given: dict[str, Any] = {
            "arch": "sdxl", "title": "A toy", "trial": False, "classes": ("IPAdapter", "ETN_Translate"), "pins": {},
            "workflows": {}, "raw": {}, **changes,
        }  # fmt: skip
        return Record(**given)

    return make


@pytest.fixture
def serving() -> Callable[[dict[str, tuple[int, bytes]]], AbstractContextManager[int]]:
    """Serve answers by path on loopback; gives the port."""

    @contextmanager
    def serve(answers: dict[str, tuple[int, bytes]]) -> Iterator[int]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = answers.get(self.path, (404, b""))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield server.server_port
            finally:
                server.shutdown()
                thread.join()

    return serve
