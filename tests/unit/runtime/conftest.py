"""Fixtures of the runtime tests: an instance's folders in a temporary directory, and servers on loopback."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gesso.runtime.layout import Layout, Record
from tests.local_server import answering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    names = ("gesso", "comfyui", "venv", "workspace", "run", "logs", "root")
    made = Layout(**{name: tmp_path / name for name in names})
    for name in ("gesso", "comfyui", "workspace"):
        (tmp_path / name).mkdir()
    return made


@pytest.fixture
def record() -> Callable[..., Record]:
    """Create a record with plausible defaults."""

    def make(**changes: Any) -> Record:
        fields: dict[str, Any] = {
            "arch": "sdxl", "title": "A toy", "trial": False, "classes": ("IPAdapter", "ETN_Translate"), "pins": {},
            "workflows": {}, "raw": {}, **changes,
        }  # fmt: skip
        return Record(**fields)

    return make


@pytest.fixture
def serving() -> Callable[[dict[str, tuple[int, bytes]]], AbstractContextManager[int]]:
    """Serve responses by path on loopback; yields the port."""

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

        with answering(Handler) as port:
            yield port

    return serve


@dataclass
class FakeHeal:
    """Controls the fake heal (tests/fake_heal.py)."""

    layout: Layout
    program: Path

    def finds(self, *damages: dict[str, Any], hold: str = "", die: str = "") -> None:
        """Make the next heal find this; it waits before the event `hold` until `go_on`, or ends before `die`."""
        self.layout.state.mkdir(parents=True, exist_ok=True)
        plan = {"damages": damages, "hold": hold, "die": die}
        (self.layout.state / "fake-heal.json").write_text(json.dumps(plan))
        (self.layout.state / "fake-heal.hold").touch()

    def go_on(self) -> None:
        (self.layout.state / "fake-heal.hold").unlink(missing_ok=True)


@pytest.fixture
def fake_heal(layout: Layout) -> FakeHeal:
    program = layout.gesso / "venv" / "bin" / "gesso"
    program.parent.mkdir(parents=True)
    script = Path(__file__).resolve().parents[2] / "fake_heal.py"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -S {script} {layout.workspace} "$@"\n')
    program.chmod(0o755)
    return FakeHeal(layout, program)
