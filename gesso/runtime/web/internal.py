"""What only the instance's own programs ask, on the agent's socket; the gate leads no client here.

`/health` is the HEALTHCHECK: the agent knows, so that a check costs almost nothing. `/alive` is the watchdog's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

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

    return [Route("/health", health), Route("/state", state), Route("/alive", alive)]
