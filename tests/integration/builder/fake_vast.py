"""A simulated Vast.ai API: rate limits with plain-text 429s, ls/rm/du only, results that are ready later.

Its `clock` is simulated: sleeping takes no real time.
"""

from __future__ import annotations

import json
import re
import shlex
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gesso.builder.vast.api import Clock
from tests.integration.builder.fake_market import DisconnectError, Market
from tests.local_server import answering

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "vast-key-0123456789abcdef"
DISK = "/var/lib/docker/overlay2/0123abcd/merged"
THRESHOLD = 3.0  # seconds between two requests to one endpoint
COMMAND_SPACING = 1.5
RECORD = "/opt/gesso/build.json"


class FakeVast:
    """The service: instances by number, their files, and all requests received."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.sleeps: list[float] = []
        self.requests: list[str] = []
        self.authorizations: list[str | None] = []
        self.url = ""
        self.instances: dict[int, dict[str, Any]] = {7: instance()}
        self.files: dict[str, int] = {RECORD: 9000}
        self.folders: set[str] = set()
        self.polls_until_ready = 2  # of a command's result
        self.responses: list[tuple[int, str]] = []  # returned before its own
        self.ignores_rm = False
        self.strict = True  # enforce the rate limit
        self.market = Market()
        self._results: dict[str, tuple[int, str]] = {}
        self._last: dict[str, float] = {}

    @property
    def clock(self) -> Clock:
        def sleep(seconds: float) -> None:
            self.sleeps.append(round(seconds, 3))
            self.time += seconds

        return Clock(lambda: self.time, sleep)

    def respond(self, method: str, target: str, body: Any, authorization: str | None) -> tuple[int, str]:
        path = urlsplit(target).path
        if path.startswith("/results/"):
            assert authorization is None, "the key was sent to the host of the results"
            return self._result(path)
        self.authorizations.append(authorization)
        self.requests.append(f"{method} {target}{f' {json.dumps(body)}' if body is not None else ''}")
        if self.responses:
            return self.responses.pop(0)
        if authorization != f"Bearer {KEY}":
            return 401, _refusal("auth_error", "Invalid user key")
        if self.market.handles(path):
            return self._rate_limit(path, THRESHOLD) or self.market.respond(method, target, body)
        match = re.fullmatch(r"/api/v0/instances/(?:(command|reboot)/)?(\d+)/", path)
        if match is None:
            return 404, "no such endpoint"
        what, number = match[1] or "show", int(match[2])
        spacing = COMMAND_SPACING if what == "command" else THRESHOLD
        return self._rate_limit(what, spacing) or self._instance(what, number, body)

    def _rate_limit(self, endpoint: str, spacing: float) -> tuple[int, str] | None:
        if self.strict and self.time - self._last.get(endpoint, -THRESHOLD) < spacing:
            return 429, f"API requests too frequent: endpoint threshold={spacing}"
        self._last[endpoint] = self.time
        return None

    def _instance(self, what: str, number: int, body: Any) -> tuple[int, str]:
        row = self.instances.get(number)
        if what == "show":
            return 200, json.dumps({"instances": row})
        if row is None:
            return 404, json.dumps(
                {"success": False, "error": "no_such_instance", "msg": f"Instance {number} not found"}
            )
        if row["actual_status"] != "running":
            return 400, _refusal("invalid_args", "the instance is not running")
        if what == "reboot":
            return 200, json.dumps({"success": True})
        argv = shlex.split(body["command"])
        if len(body["command"]) > 512 or argv[0] not in {"ls", "rm", "du"}:
            return 400, json.dumps(
                {"success": False, "error": "invalid_args", "msg": "only ls, rm, du; 512 characters"}
            )
        key = f"/results/{len(self._results)}"
        self._results[key] = (self.polls_until_ready, self._run(argv))
        return 200, json.dumps({"success": True, "result_url": f"{self.url}{key}", "writeable_path": DISK})

    def _result(self, path: str) -> tuple[int, str]:
        left, text = self._results[path]
        self._results[path] = (left - 1, text)
        return (404, "<Error><Code>NoSuchKey</Code></Error>") if left else (200, text)

    def _run(self, argv: list[str]) -> str:
        paths = [argument for argument in argv[1:] if not argument.startswith("-")]
        lines = []
        for path in paths:
            if path in self.folders:
                lines.append(f"drwxr-xr-x 2 0 0 4096 Nov 25 04:45 {DISK}{path}")
            elif path not in self.files:
                lines.append(f"{argv[0]}: cannot access '{DISK}{path}': No such file or directory")
            elif argv[0] == "rm":
                if not self.ignores_rm:
                    del self.files[path]
            else:
                lines.append(f"-rw-r--r-- 1 0 0 {self.files[path]} Nov 25 04:45 {DISK}{path}")
        return "\n".join(lines) + "\n"

    @contextmanager
    def running(self) -> Iterator[FakeVast]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                try:
                    status, text = outer.respond(self.command, self.path, body, self.headers.get("Authorization"))
                except DisconnectError:
                    self.close_connection = True
                    return
                data = text.encode()
                self.send_response(status)
                kind = "application/json" if text.startswith("{") else "text/plain"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        with answering(Handler) as port:
            self.url = f"http://127.0.0.1:{port}"
            yield self


def _refusal(error: str, msg: str) -> str:
    return json.dumps({"success": False, "error": error, "msg": msg})


def instance(**changed: Any) -> dict[str, Any]:
    """Return an instance as Vast.ai describes it (the keys that matter)."""
    return {
        "id": 7, "actual_status": "running", "intended_status": "running", "image_uuid": "ghcr.io/someone/gesso:sdxl",
        "label": None, "public_ipaddr": "203.0.113.9\n", "ssh_host": "ssh4.vast.ai", "ssh_port": 10022,
        "ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": "40022"}]}, **changed,
    }  # fmt: skip
