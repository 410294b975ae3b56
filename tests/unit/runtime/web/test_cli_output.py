"""What the short commands print: the agent's words, the exit code, and the line for stderr."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request

from gesso.cli import quick
from gesso.runtime.state import status_view
from gesso.runtime.web import internal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gesso.runtime.watch.status import Status


class FakeStatus:
    def __init__(self) -> None:
        self.state, self.found = "ready", list[str]()

    def __call__(self) -> dict[str, Any]:
        return {"state": self.state, "why": "port 8188 is held by `nc` (process 7)", "url": "http://h:1/TOKEN"}

    fresh = __call__

    def problems(self, _: Mapping[str, Any]) -> list[str]:
        return self.found

    def port_note(self) -> str:
        return "note: the published port may differ"


@pytest.fixture
def status() -> FakeStatus:
    return FakeStatus()


@pytest.fixture
def run(
    status: FakeStatus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the `gesso` command, with the agent's own routes answering it."""
    monkeypatch.setattr(status_view, "text", lambda found: f"{found['state']}: as people read it")
    monkeypatch.delenv("GESSO_PUBLIC_URL", raising=False)

    def ask(path: str, timeout: float) -> tuple[int, str]:
        assert timeout
        fake: Status = status  # type: ignore[assignment]
        name, _, query = path.partition("?")
        (endpoint,) = (route.endpoint for route in internal.routes(fake) if route.path == name)
        answer = endpoint(Request({"type": "http", "query_string": query.encode(), "headers": []}))
        return answer.status_code, bytes(answer.body).decode()

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["gesso", *words])
        code = quick.main()
        out, err = capsys.readouterr()
        return code, out, err

    monkeypatch.setattr(quick, "ask", ask)
    return run


def test_status(run: Callable[..., tuple[int, str, str]], status: FakeStatus) -> None:
    assert run("status") == (0, "ready: as people read it\n", "")
    assert json.loads(run("status", "--json")[1])["state"] == "ready"
    status.state = "failed"
    assert run("status")[:2] == (1, "failed: as people read it\n")
    assert run("status", "--json")[0] == 1


def test_health(run: Callable[..., tuple[int, str, str]], status: FakeStatus) -> None:
    assert run("health") == (0, "ok: Krita can work with this instance\n", "")
    status.found = ["failed: no network"]
    assert run("health") == (1, "failed: no network\n", "")
    assert json.loads(run("health", "--json")[1]) == {"ok": False, "problems": ["failed: no network"]}


def test_url(run: Callable[..., tuple[int, str, str]], status: FakeStatus) -> None:
    assert run("url") == (0, "http://h:1/TOKEN\n", "note: the published port may differ\n")
    status.state = "failed"
    assert run("url") == (
        0, "http://h:1/TOKEN\n", "note: this URL does not work now: port 8188 is held by `nc` (process 7)\n",
    )  # fmt: skip


@pytest.mark.parametrize("words", [["url", "--json"], ["status", "-h"], ["logs"], [], ["heal"]])
def test_everything_else_is_the_whole_command(
    words: list[str], run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gesso.cli.main.main", lambda: 77)
    assert run(*words)[0] == 77


def test_without_an_agent_it_is_the_whole_command(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gesso.cli.main.main", lambda: 77)
    monkeypatch.setattr(quick, "ask", lambda *_: (0, ""))
    assert run("status")[0] == 77
    monkeypatch.setenv("GESSO_PUBLIC_URL", "https://paint.example")
    monkeypatch.setattr(quick, "ask", lambda *_: (200, "0\n\nthe agent cannot know it"))
    assert run("url")[0] == 77
