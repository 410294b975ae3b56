"""What the instance's own programs ask: health, state, alive."""

from __future__ import annotations

import asyncio
import inspect
import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request

from gesso.runtime.web import internal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

    from gesso.runtime.watch.status import Status


class FakeStatus:
    def __init__(self) -> None:
        self.found: list[str] = []
        self.is_alive = True

    def __call__(self) -> dict[str, Any]:
        return {"state": "cached"}

    def fresh(self) -> dict[str, Any]:
        return {"state": "fresh"}

    def problems(self, status: Mapping[str, Any]) -> list[str]:
        return [f"{status['state']}: {text}" for text in self.found]

    def alive(self) -> bool:
        return self.is_alive


@pytest.fixture
def status() -> FakeStatus:
    return FakeStatus()


def _ask(status: FakeStatus, path: str) -> tuple[int, Any]:
    fake: Status = status  # type: ignore[assignment]
    name, _, query = path.partition("?")
    (endpoint,) = (route.endpoint for route in internal.routes(fake) if route.path == name)
    answer = endpoint(Request({"type": "http", "query_string": query.encode(), "headers": []}))
    response: Response = asyncio.run(answer) if inspect.iscoroutine(answer) else answer
    return response.status_code, json.loads(bytes(response.body) or b"null")


def test_health(status: FakeStatus) -> None:
    assert _ask(status, "/health") == (200, {"ok": True, "problems": []})
    status.found = ["no network"]
    assert _ask(status, "/health") == (503, {"ok": False, "problems": ["cached: no network"]})
    assert _ask(status, "/health?fresh") == (503, {"ok": False, "problems": ["fresh: no network"]})


def test_state(status: FakeStatus) -> None:
    assert _ask(status, "/state") == (200, {"state": "cached"})
    assert _ask(status, "/state?fresh") == (200, {"state": "fresh"})


def test_alive(status: FakeStatus) -> None:
    assert _ask(status, "/alive") == (200, None)
    status.is_alive = False
    assert _ask(status, "/alive") == (503, None)


def test_only_the_watchdogs_question_takes_no_thread(status: FakeStatus) -> None:
    """The others may wait for locks, which would keep every other answer waiting."""
    fake: Status = status  # type: ignore[assignment]
    found = {route.path: inspect.iscoroutinefunction(route.endpoint) for route in internal.routes(fake)}
    threads = {"/health", "/state", "/cli/status", "/cli/health", "/cli/url"}
    assert found == {**dict.fromkeys(threads, False), "/alive": True}


@pytest.mark.parametrize("path", ["/health", "/state", "/alive", "/cli/status", "/cli/health", "/cli/url"])
def test_they_only_answer_a_get(status: FakeStatus, path: str) -> None:
    fake: Status = status  # type: ignore[assignment]
    (methods,) = (route.methods for route in internal.routes(fake) if route.path == path)
    assert methods == {"GET", "HEAD"}
