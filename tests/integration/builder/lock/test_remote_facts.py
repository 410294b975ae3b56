"""Metadata from model hosts, from headers: queried from a server on loopback that fakes Hugging Face."""

from __future__ import annotations

from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest
import requests

from gesso.builder.lock import remote_facts
from gesso.builder.lock.remote_facts import OutOfReachError, RemoteFacts, query_model_host
from tests.local_server import answering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FILE = "https://huggingface.co/Acly/MAT/resolve/main/sub/MAT.safetensors"
DIGEST = "ab" * 32
COMMIT = "cd" * 20


class Server:
    """Sends the same response to every request; records the requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str | None]] = []
        self.status = 302
        self.headers: dict[str, str] = {}
        self.url = ""

    @contextmanager
    def running(self) -> Iterator[Server]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                outer.requests.append((self.command, self.path, self.headers.get("Authorization")))
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        with answering(Handler) as port:
            self.url = f"http://127.0.0.1:{port}"
            yield self


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/dev/null")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().running() as running:
        yield running


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as opened:
        yield opened


def test_a_file_with_all_its_headers(server: Server, session: requests.Session) -> None:
    server.headers = {
        "X-Linked-Etag": f'"{DIGEST}"', "X-Linked-Size": "123456789012", "X-Repo-Commit": COMMIT, "Location": "/x",
    }  # fmt: skip
    facts = query_model_host(FILE, {"HF_ENDPOINT": f"{server.url}/"}, session)
    pinned = f"https://huggingface.co/Acly/MAT/resolve/{COMMIT}/sub/MAT.safetensors"
    assert facts == RemoteFacts(pinned, DIGEST, 123456789012)
    assert server.requests == [("HEAD", "/Acly/MAT/resolve/main/sub/MAT.safetensors", None)]


@pytest.mark.parametrize("status", [200, 302, 307])
@pytest.mark.parametrize(
    ("headers", "sha256", "size"),
    [
        ({}, None, None),
        ({"X-Linked-Etag": '"0123456789abcdef0123456789abcdef01234567"', "X-Linked-Size": "12"}, None, 12),
        ({"X-Linked-Etag": DIGEST.upper(), "X-Linked-Size": "many"}, None, None),
        ({"X-Linked-Etag": DIGEST, "X-Linked-Size": "-1"}, DIGEST, None),
    ],
)
def test_missing_metadata_is_none(
    server: Server,
    session: requests.Session,
    status: int,
    headers: dict[str, str],
    sha256: str | None,
    size: int | None,
) -> None:
    server.status, server.headers = status, headers
    facts = query_model_host(FILE, {"HF_ENDPOINT": server.url}, session)
    assert facts == RemoteFacts(FILE, sha256, size)


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        (404, {"X-Error-Code": "EntryNotFound"}, "huggingface.co: EntryNotFound for Acly/MAT"),
        (401, {"X-Error-Code": "GatedRepo"}, "huggingface.co: GatedRepo for Acly/MAT"),
        (401, {}, "huggingface.co: HTTP 401 for Acly/MAT"),
        (500, {}, "huggingface.co: HTTP 500 for Acly/MAT"),
        (429, {}, "huggingface.co: HTTP 429 for Acly/MAT"),
    ],
)
def test_a_response_without_metadata(
    server: Server, session: requests.Session, status: int, headers: dict[str, str], reason: str
) -> None:
    server.status, server.headers = status, headers
    with pytest.raises(OutOfReachError) as raised:
        query_model_host(FILE, {"HF_ENDPOINT": server.url}, session)
    assert str(raised.value) == reason
    assert not raised.value.host_is_down


def test_a_host_that_is_down(server: Server, session: requests.Session) -> None:
    with Server().running() as other:
        url = other.url
    with pytest.raises(OutOfReachError, match=r"^huggingface\.co: ConnectionError$") as raised:
        query_model_host(FILE, {"HF_ENDPOINT": url}, session)
    assert raised.value.host_is_down


def test_a_token_goes_to_the_endpoint_and_no_redirect_is_followed(server: Server, session: requests.Session) -> None:
    with Server().running() as elsewhere:
        server.headers = {"Location": f"{elsewhere.url}/file", "X-Linked-Etag": DIGEST}
        facts = query_model_host(FILE, {"HF_ENDPOINT": server.url, "HF_TOKEN": "hf_x"}, session)
        assert facts.sha256 == DIGEST
        assert [authorization for _, _, authorization in server.requests] == ["Bearer hf_x"]
        assert elsewhere.requests == []


def test_the_default_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for env in ({}, {"HF_ENDPOINT": ""}):
        urls, session = _recorded(monkeypatch)
        with pytest.raises(OutOfReachError):
            query_model_host(FILE, env, session)
        assert [url for url, _ in urls] == [FILE]


def _recorded(monkeypatch: pytest.MonkeyPatch) -> tuple[list[tuple[str, dict[str, str]]], requests.Session]:
    """Return a session without a connection that records URLs and headers."""
    urls: list[tuple[str, dict[str, str]]] = []
    session = requests.Session()

    def send(request: requests.PreparedRequest, **_: Any) -> requests.Response:
        urls.append((str(request.url), dict(request.headers)))
        raise requests.ConnectionError

    monkeypatch.setattr(session, "send", send)
    return urls, session


def test_each_host_gets_its_own_token_only(monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"HF_TOKEN": "hf_x", "CIVITAI_TOKEN": "civ_x", "HF_ENDPOINT": "http://hf.test"}
    urls, session = _recorded(monkeypatch)
    for url in (FILE, "https://civitai.com/api/download/models/348913"):
        with pytest.raises(OutOfReachError):
            query_model_host(url, env, session)
    assert [(url, headers["Authorization"]) for url, headers in urls] == [
        ("http://hf.test/Acly/MAT/resolve/main/sub/MAT.safetensors", "Bearer hf_x"),
        ("https://civitai.com/api/v1/model-versions/348913", "Bearer civ_x"),
    ]


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/model.safetensors",
        "https://huggingface.co/Acly/MAT/blob/main/x.safetensors",
        "https://huggingface.co.example.org/a/b/resolve/main/x",
        "https://civitai.com/models/1",
        "http://127.0.0.1:1/x",
    ],
)
def test_other_hosts_are_not_queried(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    urls, session = _recorded(monkeypatch)
    with pytest.raises(OutOfReachError, match="sends no sha256 in its headers") as raised:
        query_model_host(url, {"HF_TOKEN": "x"}, session)
    assert not raised.value.host_is_down
    assert urls == []


# --- civitai


CIVITAI = "https://civitai.com/api/download/models/348913"


def _civitai(monkeypatch: pytest.MonkeyPatch, status: int, text: str) -> requests.Session:
    session = requests.Session()

    def send(request: requests.PreparedRequest, **_: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response._content, response.url = status, text.encode(), str(request.url)
        return response

    monkeypatch.setattr(session, "send", send)
    return session


def _files(*files: str) -> str:
    return f'{{"files": [{", ".join(files)}]}}'


ONE = f'{{"hashes": {{"SHA256": "{DIGEST.upper()}"}}}}'
FIRST = f'{{"primary": true, "hashes": {{"SHA256": "{DIGEST}"}}}}'
OTHER = f'{{"hashes": {{"SHA256": "{"0" * 64}"}}}}'


@pytest.mark.parametrize(
    ("text", "sha256"),
    [
        (_files(ONE), DIGEST),
        (_files(OTHER, FIRST), DIGEST),
        (_files(OTHER, OTHER), None),
        (_files(), None),
        (_files('{"hashes": {"SHA256": "short"}}'), None),
    ],
)
def test_civitai_sends_a_hash(monkeypatch: pytest.MonkeyPatch, text: str, sha256: str | None) -> None:
    assert query_model_host(CIVITAI, {}, _civitai(monkeypatch, 200, text)) == RemoteFacts(CIVITAI, sha256)


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        (401, "", "HTTP 401 for version 348913"),
        (200, "<html>", "response without hashes"),
        (200, "[]", "response without hashes"),
        (200, '{"files": [{}]}', "response without hashes"),
        (200, '{"files": null}', "response without hashes"),
    ],
)
def test_civitai_sends_no_hash(monkeypatch: pytest.MonkeyPatch, status: int, text: str, reason: str) -> None:
    with pytest.raises(OutOfReachError, match=reason) as raised:
        query_model_host(CIVITAI, {}, _civitai(monkeypatch, status, text))
    assert not raised.value.host_is_down


# --- registries


def test_a_registry_returns_a_digest(program: Callable[[str, str], Path]) -> None:
    log = program("docker", """echo "$@" >"$LOG/argv"; echo '{"digest": "sha256:ab", "size": 1}'""")
    assert remote_facts.query_registry("debian:trixie-slim") == "sha256:ab"
    assert (log / "argv").read_text().startswith("buildx imagetools inspect debian:trixie-slim ")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'ERROR: no such host' >&2; exit 1", "registry of debian:x: ERROR: no such host"),
        ("echo '{}'", "response without a digest"),
        ("echo 'null'", "response without a digest"),
        ("echo nonsense", "response without a digest"),
    ],
)
def test_a_registry_that_returns_no_digest(program: Callable[[str, str], Path], script: str, reason: str) -> None:
    program("docker", script)
    with pytest.raises(OutOfReachError, match=reason):
        remote_facts.query_registry("debian:x")


def test_a_registry_without_docker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OutOfReachError, match="docker: not found on PATH"):
        remote_facts.query_registry("debian:x")
