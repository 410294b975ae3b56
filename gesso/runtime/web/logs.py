"""The instance's logs over the API: /gesso/api/logs, without secrets, the last lines only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gesso import redact
from gesso.errors import ManifestError
from gesso.runtime import variables
from gesso.runtime.state import log_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from gesso.runtime.layout import Layout

MAX_LINES, DEFAULT_LINES = 1000, 200
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class LogReader:
    """Reads the ends of logs, and hides every secret in them: by its form, and the given values wherever they occur."""

    def __init__(self, layout: Layout, env: Mapping[str, str], token: str) -> None:
        self._layout, self._secrets = layout, (*variables.private_values(env), token)

    def names(self) -> list[str]:
        """Return the names of the logs."""
        return log_files.names(self._layout)

    def read(self, name: str, lines: int) -> list[str]:
        """Return the last lines of a log.

        Raises ManifestError for an unknown name, OSError.
        """
        (path,) = log_files.find(self._layout, name)
        text: str = redact.redact(log_files.tail(path), self._secrets)
        return text.removesuffix("\n").split("\n")[-lines:] if text else []


def routes(reader: LogReader) -> list[Route]:
    """Return the routes of the API."""

    def listed(_: Request) -> Response:
        return _json({"logs": reader.names()})

    def one(request: Request) -> Response:
        name, lines = request.path_params["name"], _lines(request)
        try:
            return _json({"name": name, "lines": reader.read(name, lines)})
        except ManifestError as error:
            return _json({"error": error.message, "next": error.next_step}, 404)
        except OSError as error:
            return _json({"error": f"the log cannot be read: {error.strerror}", "next": "try again"}, 503)

    return [Route("/logs", listed), Route("/logs/{name}", one)]


def _lines(request: Request) -> int:
    """Return how many lines are requested."""
    if unknown := request.query_params.keys() - {"lines"}:
        raise HTTPException(
            400, f"{min(unknown)[:40]!r} is not a parameter of this request\nsend only lines, or nothing"
        )
    given = request.query_params.get("lines", str(DEFAULT_LINES))
    if not (given.isascii() and given.isdigit() and len(given) < 6 and 1 <= int(given) <= MAX_LINES):
        raise HTTPException(400, f"lines is not a number from 1 to {MAX_LINES}\nsend such a number, or nothing")
    return int(given)


def _json(found: Mapping[str, Any], status: int = 200) -> Response:
    return JSONResponse(found, status, headers=_HEADERS)
