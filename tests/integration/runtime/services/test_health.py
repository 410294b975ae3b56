"""Asking the agent on its socket: what it answers, and what counts if it does not."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError
from gesso.runtime.services import health

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gesso.runtime.layout import Layout


@dataclass
class Agent:
    """Answers by path; `silent`: it accepts, and never answers."""

    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    silent: bool = False
    seen: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def says(self, path: str, body: Any, status: int = 200) -> None:
        self.answers[path] = (status, json.dumps(body).encode())


@pytest.fixture
def agent(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    monkeypatch.setattr(health, "_TIMEOUT", 0.3)
    agent = Agent()
    layout.run.mkdir()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            agent.seen.append(self.path)
            if agent.silent:
                agent.over.wait(5)
            status, body = agent.answers.get(self.path, (404, b"not found"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "here"

        def log_message(self, *_: Any) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle()

    with socketserver.ThreadingUnixStreamServer(str(layout.agent_socket), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield agent
        finally:
            agent.over.set()
            server.shutdown()
            thread.join()


def test_the_state_is_checked_anew_where_that_is_asked_for(layout: Layout, agent: Agent) -> None:
    agent.says("/health?fresh", {"ok": True, "problems": []})
    agent.says("/state", {"state": "ready"})
    agent.says("/state?fresh", {"state": "degraded"})
    assert health.problems(layout) == []
    assert health.status(layout) == {"state": "ready"}
    assert health.fresh_status(layout) == {"state": "degraded"}
    assert agent.seen == ["/health?fresh", "/state", "/state?fresh"]


def test_problems(layout: Layout, agent: Agent) -> None:
    agent.says("/health?fresh", {"ok": False, "problems": ["failed: no network", 7]}, 503)
    assert health.problems(layout) == ["failed: no network", "7"]


@pytest.mark.parametrize("answer", [{}, {"problems": None}, {"problems": 7}])
def test_problems_of_another_form(layout: Layout, agent: Agent, answer: Any) -> None:
    agent.says("/health?fresh", answer)
    assert health.problems(layout) == ["the agent's answer is not valid"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((404, b"not found"), "the agent does not answer: Expecting value"),
        ((200, b""), "the agent does not answer: Expecting value"),
        ((200, b"\xff"), "the agent does not answer: 'utf-8' codec"),
        ((200, b"[" * 100_000), "the agent does not answer: "),
        ((200, b"[]"), "the agent answers with 200"),
        ((500, b'"Internal Server Error"'), "the agent answers with 500"),
    ],
)
def test_answers_that_are_not_valid(layout: Layout, agent: Agent, answer: tuple[int, bytes], message: str) -> None:
    agent.answers = dict.fromkeys(("/health?fresh", "/state", "/state?fresh"), answer)
    for ask in (health.status, health.fresh_status):
        with pytest.raises(CheckError) as raised:
            ask(layout)
        assert raised.value.message.startswith(message)
        assert raised.value.next_step == "`gesso logs agent` shows why"
    (problem,) = health.problems(layout)
    assert problem.startswith(message)


def test_a_frozen_agent(layout: Layout, agent: Agent) -> None:
    agent.silent = True
    assert health.problems(layout) == ["the agent does not answer: timed out"]


def test_no_agent(layout: Layout) -> None:
    (problem,) = health.problems(layout)
    assert problem.startswith("the agent does not answer: ")
    with pytest.raises(CheckError, match="the agent does not answer"):
        health.status(layout)


# --- what `gesso url` notes


def test_a_url_that_works_needs_no_note(layout: Layout, agent: Agent) -> None:
    for state in ("ready", "degraded", "starting", "fetching", "booting"):
        agent.says("/state", {"state": state, "why": "."})
        assert health.silence(layout) == "", state


def test_a_failed_instance_is_noted(layout: Layout, agent: Agent) -> None:
    agent.says("/state", {"state": "failed", "why": "port 8188 is held by `nginx` (process 7)"})
    assert health.silence(layout) == "note: this URL does not work now: port 8188 is held by `nginx` (process 7)"


def test_an_instance_that_does_not_run_is_noted(layout: Layout) -> None:
    assert health.silence(layout) == (
        "note: the instance does not run, or has just been started: nothing answers at this URL"
    )
