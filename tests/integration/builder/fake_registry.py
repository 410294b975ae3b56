"""A fake registry in memory: manifests, blobs, tags; no login, Basic or a token service; and error responses."""

from __future__ import annotations

import base64
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from gesso.builder.registry.client import Registry, digest_of
from gesso.builder.registry.credentials import Login
from gesso.builder.registry.http import HttpClient
from gesso.builder.registry.reference import Reference
from gesso.retry import Clock
from tests.unit.builder import images

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gesso.builder.registry.remote_image import RemoteImage

USER, PASSWORD = "painter", "canvas-and-gesso"
Response = tuple[int, bytes, dict[str, str]]


class FakeRegistry:
    """The service, its content, and the requests that it received."""

    def __init__(self) -> None:
        self.manifests: dict[str, tuple[bytes, str]] = {}
        self.blobs: dict[str, bytes] = {}
        self.sizes: dict[str, int] = {}
        self.login = ""  # "", basic, token
        self.may_push = True
        self.is_new = False  # like Docker Hub: reading a repository that does not exist requires push access
        self.page = 1000  # tags in a response
        self.responses: list[Response] = []  # returned before its own
        self.requests: list[str] = []
        self.tokens: list[str] = []  # requested scopes
        self.sleeps: list[float] = []
        self.host = ""

    @property
    def reference(self) -> Reference:
        return Reference(self.host, "me/gesso")

    def client(self, login: Login | None = None, *, writes: bool = False) -> Registry:
        http = Registry.of(self.reference, {}, Clock(self.sleeps.append)).http
        return Registry(HttpClient(http.host, http.base, login or Login(), http.session, http.clock, 3, writes))

    def add_image(self, image: RemoteImage, *tags: str) -> None:
        """Add an image, as if it had been pushed."""
        self.blobs[image.config_digest] = json.dumps(image.config).encode()
        self.sizes |= {layer.digest: layer.size for layer in image.layers}
        for name in (image.digest, *tags):
            self.manifests[name] = (image.manifest.content, image.manifest.media_type)

    def respond(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> Response:
        url = urlsplit(target)
        self.requests.append(f"{method} {url.path}")
        if url.path == "/token":
            return self._token(parse_qs(url.query), headers, body)
        response = self.responses.pop(0) if self.responses else self._refused(method, headers)
        return response or self._route(method, target, body, headers)

    def _route(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> Response:
        url = urlsplit(target)
        if match := re.fullmatch(r"/v2/me/gesso/manifests/(.+)", url.path):
            return self._manifest(method, match[1], body, headers)
        if match := re.fullmatch(r"/v2/me/gesso/blobs/(.+)", url.path):
            return self._blob(match[1])
        if url.path == "/v2/me/gesso/tags/list":
            return self._tags(parse_qs(url.query))
        return (200, b"{}", {}) if url.path == "/v2/" else _error(404, "NAME_UNKNOWN", "repository name not known")

    def _refused(self, method: str, headers: dict[str, str]) -> Response | None:
        authorization = headers.get("Authorization", "")
        if self.login == "basic" and authorization != f"Basic {_basic(USER, PASSWORD)}":
            return _error(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": 'Basic realm="x"'})
        action = "pull,push" if method == "PUT" else "pull"
        sufficient = ("pull,push",) if action != "pull" or self.is_new else ("pull", "pull,push")
        if self.login == "token" and authorization not in [f"Bearer for-{each}" for each in sufficient]:
            challenge = f'Bearer realm="http://{self.host}/token",service="s",scope="repository:me/gesso:{action}"'
            return _error(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": challenge})
        if method == "PUT" and not self.may_push:
            return _error(403, "DENIED", "requested access to the resource is denied")
        return None

    def _token(self, query: dict[str, list[str]], headers: dict[str, str], body: bytes) -> Response:
        form = parse_qs(body.decode())
        scope = (query.get("scope") or form.get("scope") or [""])[0]
        self.tokens.append(scope)
        is_user = headers.get("Authorization") == f"Basic {_basic(USER, PASSWORD)}"
        if not is_user and form.get("refresh_token") != ["identity"] and scope.endswith("push"):
            return _error(401, "UNAUTHORIZED", "incorrect username or password")
        return 200, json.dumps({"token": f"for-{scope.rpartition(':')[2]}"}).encode(), {}

    def _manifest(self, method: str, name: str, body: bytes, headers: dict[str, str]) -> Response:
        if method == "PUT":
            self.manifests[name] = (body, headers["Content-Type"])
            return 201, b"", {}
        if name not in self.manifests:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        content, media_type = self.manifests[name]
        return 200, content, {"Content-Type": media_type}

    def _blob(self, digest: str) -> Response:
        if digest in self.sizes:
            return 200, b"", {"Content-Length": str(self.sizes[digest])}
        if digest in self.blobs:
            return 200, self.blobs[digest], {}
        return _error(404, "BLOB_UNKNOWN", "blob unknown")

    def _tags(self, query: dict[str, list[str]]) -> Response:
        tags = sorted(name for name in self.manifests if not name.startswith("sha256:"))
        last = query.get("last", [""])[0]
        rest = [tag for tag in tags if tag > last]
        more = {}
        if len(rest) > self.page:
            more["Link"] = f'</v2/me/gesso/tags/list?n=1000&last={rest[self.page - 1]}>; rel="next"'
        return 200, json.dumps({"tags": rest[: self.page]}).encode(), more

    @contextmanager
    def running(self) -> Iterator[FakeRegistry]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self._do
                raise AttributeError(name)

            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, content, headers = registry.respond(self.command, self.path, body, dict(self.headers))
                self.send_response(status)
                for key, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(content if self.command != "HEAD" else b"")

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """Ignore a client that closed the connection."""

        with Server(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            self.host = f"127.0.0.1:{server.server_address[1]}"
            yield self
            server.shutdown()


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    return status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), headers or {}


def full() -> FakeRegistry:
    """Return a registry that has the image of `images` under its three tags."""
    registry = FakeRegistry()
    registry.add_image(images.remote(), "sdxl-0.1.0-cu130", "sdxl-0.1.0", "sdxl")
    return registry


__all__ = ["PASSWORD", "USER", "FakeRegistry", "digest_of", "full"]
