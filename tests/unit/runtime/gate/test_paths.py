"""Which paths are the agent's own: everything else below /gesso/ is Krita's or ComfyUI's."""

from __future__ import annotations

import pytest
from starlette.routing import Mount, Route

from gesso.runtime.gate.decision import Gate
from gesso.runtime.gate.paths import is_agents, without_prefix
from gesso.runtime.watch.heals import Healer
from gesso.runtime.web.app import application
from gesso.runtime.web.logs import LogReader


@pytest.mark.parametrize(
    "path",
    ["/gesso", "/gesso/", "/gesso/app.js", "/gesso/api/", "/gesso/api/heal/ID/events", "/gesso/api/x", "/metrics"],
)
def test_the_agents(path: str) -> None:
    assert is_agents(path)


@pytest.mark.parametrize(
    "path",
    [
        "/gesso/system_stats", "/gesso/ws", "/gesso/object_info", "/gesso/prompt", "/gesso/queue", "/gesso/interrupt",
        "/gesso/upload/image", "/gesso/view", "/gesso/api/etn/languages", "/gesso/api/etn/image/1", "/gesso/app.js/x",
        "/gesso/statusXjson", "/gessox", "/", "/x/gesso/", "/metrics/", "/metricsx", "/GESSO/",
    ],
)  # fmt: skip
def test_not_the_agents(path: str) -> None:
    assert not is_agents(path)


def test_every_route_of_the_agent_is_its_own() -> None:
    app = application(dict, Gate("right-token-0123456789", b"k"), Healer.__new__(Healer), LogReader.__new__(LogReader))
    paths = [route.path for route in app.routes if isinstance(route, (Route, Mount))]
    public = [path for path in paths if path != "/gate" and not path.startswith("/gate/")]
    assert {"/gesso/", "/gesso/events", "/gesso/api", "/metrics"} <= set(public)
    assert [path for path in public if not is_agents(path)] == []


def test_comfyui_gets_the_path_without_gesso() -> None:
    assert without_prefix("/gesso/api/etn/languages") == "/api/etn/languages"
    assert without_prefix("/gessox/y") == "/gessox/y"
