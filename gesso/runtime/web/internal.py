"""What only the instance's own programs ask, on the agent's socket; the gate leads no client here.

`/health` is the HEALTHCHECK: the agent knows, so that a check costs almost nothing. `/alive` is the watchdog's, `/cli`
the output of short commands: the exit code, a line for stderr, and the text.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gesso.runtime.services import health as answers
from gesso.runtime.state import status_view

if TYPE_CHECKING:
    from starlette.requests import Request

    from gesso.runtime.watch.status import Status


def routes(status: Status) -> list[Route]:
    """Return the routes; with `?fresh` the state is checked anew before the answer."""

    def current(request: Request) -> dict[str, Any]:
        return status.fresh() if "fresh" in request.query_params else status()

    def health(request: Request) -> Response:
        problems = status.problems(current(request))
        return JSONResponse({"ok": not problems, "problems": problems}, 503 if problems else 200)

    def state(request: Request) -> Response:
        return JSONResponse(current(request))

    async def alive(_: Request) -> Response:  # async: a thread would cost more than the answer
        return Response(status_code=200 if status.alive() else 503)

    def cli_status(request: Request) -> Response:
        found = status()
        text = _pretty(found) if "json" in request.query_params else status_view.text(found)
        return _output(int(found["state"] == "failed"), text)

    def cli_health(request: Request) -> Response:
        problems = status.problems(status.fresh())
        found = {"ok": not problems, "problems": problems}
        text = _pretty(found) if "json" in request.query_params else status_view.health(problems)
        return _output(int(bool(problems)), text)

    def cli_url(_: Request) -> Response:
        found = status()
        return _output(0, found["url"], answers.silence_of(found) or status.port_note())

    return [
        Route("/health", health), Route("/state", state), Route("/alive", alive),
        Route("/cli/status", cli_status), Route("/cli/health", cli_health), Route("/cli/url", cli_url),
    ]  # fmt: skip


def _pretty(found: Any) -> str:
    return json.dumps(found, indent=2, sort_keys=True)


def _output(code: int, text: str, note: str = "") -> Response:
    return PlainTextResponse(f"{code}\n{note}\n{text}")
