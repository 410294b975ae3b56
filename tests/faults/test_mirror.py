"""The mirror: it is a correct server by default, and each behaviour is the one that its name says."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mirror import BEHAVIOURS, FAMILIES, Mirror, behaviour, describe, names, safetensors

if TYPE_CHECKING:
    from collections.abc import Mapping

STANDIN = Path(__file__).resolve().parents[2] / "images" / "standin"
PATH = "/vae/a b.safetensors"
HEADER = safetensors({"decoder.conv_in.weight": [4, 2]}, 5000)
DATA = HEADER + bytes(index * 7 % 251 for index in range(5000 - len(HEADER)))
PATIENCE = 30.0  # seconds; no test passes by waiting that long


class Response:
    """A response as http.client reads it."""

    def __init__(self, response: http.client.HTTPResponse, body: bytes) -> None:
        self.status, self.headers, self.body = response.status, response.headers, body


def request(
    url: str, headers: Mapping[str, str] | None = None, *, method: str = "GET", body: bytes | None = None
) -> Response:
    """Send one request, without following redirects."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, body=body, headers=headers or {})
        with connection.getresponse() as response:
            return Response(response, response.read())
    finally:
        connection.close()


def part(mirror: Mirror, range_: str, **headers: str) -> Response:
    return request(mirror.url(PATH), {"Range": f"bytes={range_}", **headers})


def follow(url: str, headers: Mapping[str, str] | None = None, *, most: int = 10) -> Response:
    for _ in range(most):
        response = request(url, headers)
        if response.status not in {301, 302, 303, 307, 308}:
            return response
        url = urllib.parse.urljoin(url, response.headers["Location"])
    raise AssertionError("too many redirects")


def everything(mirror: Mirror, request: str | None = None) -> bytes:
    """Read all bytes until the end of the connection, also if it is a reset."""
    path = urllib.parse.quote(PATH)
    found = b""
    try:
        with socket.create_connection(("127.0.0.1", mirror.port), timeout=PATIENCE) as sock:
            sock.sendall((request or f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").encode())
            while piece := sock.recv(65536):
                found += piece
    except ConnectionError:
        found += b"<reset>"
    return found


@pytest.fixture(params=["in memory", "on disk"])
def serving(request: pytest.FixtureRequest, mirror: Mirror, tmp_path: Path) -> Mirror:
    """Return a mirror with one file."""
    (tmp_path / "file").write_bytes(DATA)
    mirror.files[PATH] = DATA if request.param == "in memory" else tmp_path / "file"
    return mirror


# -- healthy -----------------------------------------------------------------------------------------------------


def test_a_whole_file(serving: Mirror) -> None:
    response = request(serving.url(PATH))
    assert (response.status, response.body) == (200, DATA)
    assert response.headers["Accept-Ranges"] == "bytes"
    assert response.headers["Content-Length"] == "5000"
    assert response.headers["ETag"].startswith('"')
    assert response.headers["Last-Modified"].endswith("GMT")


def test_head_has_the_same_headers_and_no_body(serving: Mirror) -> None:
    got, head = request(serving.url(PATH)), request(serving.url(PATH), method="HEAD")
    assert head.headers.items() == got.headers.items()
    assert [record.sent for record in serving.requests] == [5000, 0]


@pytest.mark.parametrize(
    ("range_", "first", "last"),
    [
        ("0-0", 0, 0),
        ("10-19", 10, 19),
        ("4990-", 4990, 4999),
        ("-10", 4990, 4999),
        ("0-99999", 0, 4999),
        ("-9999", 0, 4999),
    ],
)
def test_ranges(serving: Mirror, range_: str, first: int, last: int) -> None:
    response = part(serving, range_)
    assert (response.status, response.body) == (206, DATA[first : last + 1])
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/5000"
    (record,) = serving.requests
    assert (record.range, record.span) == (f"bytes={range_}", (first, last - first + 1))
    assert record.sent == last - first + 1


@pytest.mark.parametrize("range_", ["5000-", "9999-10000", "-0"])
def test_unsatisfiable_ranges(serving: Mirror, range_: str) -> None:
    response = part(serving, range_)
    assert (response.status, response.headers["Content-Range"]) == (416, "bytes */5000")


@pytest.mark.parametrize("range_", ["9-3", "0-1,5-6", "x-", "-"])
def test_ranges_that_are_ignored(serving: Mirror, range_: str) -> None:
    assert (response := part(serving, range_)).status == 200
    assert response.body == DATA


def test_conditions(serving: Mirror) -> None:
    response = request(serving.url(PATH))
    etag, modified = response.headers["ETag"], response.headers["Last-Modified"]
    old = "Sat, 01 Jan 2000 00:00:00 GMT"
    found = [
        part(serving, "0-9", **{name: value}).status
        for name, value in [
            ("If-Range", etag), ("If-Range", '"other"'), ("If-Range", modified), ("If-Range", old),
            ("If-Match", etag), ("If-Match", "*"), ("If-Match", '"other"'),
            ("If-Unmodified-Since", modified), ("If-Unmodified-Since", old),
            ("If-None-Match", etag), ("If-None-Match", '"other"'), ("If-Modified-Since", modified),
        ]
    ]  # fmt: skip
    assert found == [206, 200, 206, 200, 206, 206, 412, 206, 412, 304, 206, 304]


def test_a_connection_is_kept(serving: Mirror) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=PATIENCE)
    for _ in range(3):
        connection.request("GET", urllib.parse.quote(PATH))
        assert connection.getresponse().read() == DATA
    connection.close()
    assert len({(record.port, record.connection) for record in serving.requests}) == 1
    assert serving.peak == 1


def test_missing_files_and_other_methods(serving: Mirror) -> None:
    assert request(serving.url("/other")).status == 404
    assert request(serving.url(PATH), method="DELETE").status == 405


def test_nothing_outside_the_root(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "sub" / "file").write_bytes(DATA)
    with Mirror(root=tmp_path / "root") as mirror:
        assert request(mirror.url("/sub/file")).body == DATA
        outside = [
            "/../secret",
            "/%2e%2e/secret",
            "/sub/../../secret",
            "/sub/%2e%2e%2f%2e%2e%2fsecret",
            "/",
            "/sub",
            "/%00",
        ]
        found = [everything(mirror, f"GET {path} HTTP/1.0\r\n\r\n").split()[1] for path in outside]
        assert found == [b"404"] * len(outside)


def test_it_stops_at_once_with_stalled_clients() -> None:
    before = set(threading.enumerate())  # other tests may have left some
    with Mirror(files={PATH: DATA}) as one, Mirror(files={PATH: DATA}) as other:
        one.behave(PATH, "stall")
        other.behave(PATH, behaviour("trickle", rate=0.01))
        socks = [socket.create_connection(("127.0.0.1", each.port)) for each in (one, other, other)]
        for sock in socks[:2]:
            sock.sendall(f"GET {urllib.parse.quote(PATH)} HTTP/1.1\r\n\r\n".encode())
            sock.recv(1)
        assert set(threading.enumerate()) > before
        other.stop()
        one.stop()
        assert set(threading.enumerate()) <= before
    for sock in socks:
        sock.close()


# -- scopes ------------------------------------------------------------------------------------------------------


def test_times_and_after(serving: Mirror) -> None:
    serving.behave(PATH, behaviour("503", after=1, times=2))
    assert [request(serving.url(PATH)).status for _ in range(5)] == [200, 503, 503, 200, 200]
    assert [record.behaviours for record in serving.requests] == [(), ("503",), ("503",), (), ()]


def test_scopes(serving: Mirror) -> None:
    def statuses(**scope: object) -> list[int]:
        serving.behave(PATH, behaviour("503", **scope))
        requested: list[dict[str, str]] = [{}, {"Range": "bytes=0-9"}, {"Range": "bytes=10-19", "Authorization": "x"}]
        return [request(serving.url(PATH), headers).status for headers in requested]

    assert statuses(only_ranges=True) == [200, 503, 503]
    assert statuses(only_whole=True) == [503, 206, 206]
    assert statuses(not_first=True) == [200, 206, 503]
    assert statuses(covering=9) == [503, 503, 206]
    assert statuses(authorized=True) == [200, 206, 503]
    assert statuses(authorized=False) == [503, 503, 206]
    assert statuses(method="HEAD") == [200, 206, 206]


def test_paths_and_patterns(mirror: Mirror) -> None:
    mirror.files |= {"/a/1": b"1", "/a/2": b"2", "/b": b"3"}
    mirror.behave("*", "503")
    mirror.behave("/a/*", behaviour("404", after=1))
    mirror.behave("/b", "healthy")
    assert [request(mirror.url(path)).status for path in ("/a/1", "/a/2", "/b")] == [503, 404, 200]
    mirror.behave("/b", "410", also=True)
    assert mirror.requests[-1].behaviours == ("healthy",)
    assert request(mirror.url("/b")).status == 410
    mirror.forget("/b")
    assert request(mirror.url("/b")).status == 503
    mirror.reset()
    assert (request(mirror.url("/b")).status, len(mirror.requests)) == (200, 1)


def test_behaviours_combine(serving: Mirror) -> None:
    serving.behave(PATH, "tiny-segments", "chunked", behaviour("flip", at=3), "no-etag", "header-case-upper")
    response = part(serving, "2-9")
    assert response.body == DATA[2:3] + bytes([DATA[3] ^ 0xFF]) + DATA[4:10]
    assert (response.headers["ETag"], response.headers["Transfer-Encoding"]) == (None, "chunked")
    assert b"CONTENT-RANGE:" in everything(
        serving, f"GET {urllib.parse.quote(PATH)} HTTP/1.0\r\nRange: bytes=0-0\r\n\r\n"
    )


def test_unknown_names_and_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown behaviour 'cutt'"):
        behaviour("cutt")
    with pytest.raises(ValueError, match=r"cut takes after, at, .*, not where"):
        behaviour("cut", where=3)


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_every_behaviour_is_described(name: str) -> None:
    assert describe(name).startswith(f"{name} (")


# -- quirks ------------------------------------------------------------------------------------------------------

QUIRK_PARAMETERS: dict[str, dict[str, float]] = {
    "connection-limit": {"limit": 99},
    "agent-blocked": {},
    "late": {"seconds": 0.01},
    "pause": {"seconds": 0.01},
}


# http.client takes 103 for the final response: test_interim_responses_come_first covers it.
@pytest.mark.parametrize("name", [name for name in names("quirk") if name != "early-hints"])
def test_quirks_still_deliver_the_file(serving: Mirror, name: str) -> None:
    serving.behave(PATH, behaviour(name, **QUIRK_PARAMETERS.get(name, {})))
    headers = {"User-Agent": "test"}
    assert follow(serving.url(PATH), headers).body == DATA
    found = follow(serving.url(PATH), {**headers, "Range": "bytes=1000-1999"})
    if found.status == 206:
        assert found.body == DATA[1000:2000]
        assert (found.headers["Content-Range"] or "").startswith("bytes 1000-1999/")
    else:
        assert found.body == DATA


@pytest.mark.parametrize("name", names("transient"))
def test_transient_faults_end(serving: Mirror, name: str) -> None:
    serving.behave(PATH, behaviour(name, **({"ending": "close"} if name == "stall-once" else {})))
    first = everything(serving)
    assert not (first.startswith(b"HTTP/1.1 200") and first.endswith(DATA))
    assert everything(serving).endswith(b"\r\n\r\n" + DATA)


def test_retry_after(serving: Mirror) -> None:
    serving.behave(PATH, "429-once-date")
    assert request(serving.url(PATH)).headers["Retry-After"].endswith("GMT")
    serving.behave(PATH, behaviour("429-once", retry=7))
    assert request(serving.url(PATH)).headers["Retry-After"] == "7"


def test_slow_is_for_each_connection(serving: Mirror) -> None:
    serving.behave(PATH, behaviour("slow", rate=20_000))
    began = time.monotonic()
    threads = [threading.Thread(target=request, args=(serving.url(PATH),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began >= 0.24  # 5000 bytes at 20 kB/s
    assert [record.sent for record in serving.requests] == [5000] * 4


def test_no_ranges(serving: Mirror) -> None:
    serving.behave(PATH, "no-ranges-chunked")
    response = part(serving, "0-9")
    assert (response.status, response.body) == (200, DATA)
    assert (response.headers["Accept-Ranges"], response.headers["Content-Length"]) == (None, None)


def test_old_http_ends_with_the_connection(serving: Mirror) -> None:
    serving.behave(PATH, "http10")
    found = everything(serving, f"GET {urllib.parse.quote(PATH)} HTTP/1.1\r\n\r\n")
    assert found.startswith(b"HTTP/1.0 200")
    assert b"content-length" not in found.lower().partition(b"\r\n\r\n")[0]


def test_shorter_ranges_and_unknown_totals(serving: Mirror) -> None:
    serving.behave(PATH, behaviour("shorter-range", limit=10), "total-star")
    response = part(serving, "100-")
    assert (response.body, response.headers["Content-Range"]) == (DATA[100:110], "bytes 100-109/*")


def test_as_many_headers_as_http_client_accepts(serving: Mirror) -> None:
    serving.behave(PATH, "many-headers")
    assert len(request(serving.url(PATH)).headers) == 99
    serving.behave(PATH, behaviour("many-headers", total=100))
    with pytest.raises(http.client.HTTPException, match="more than 100 headers"):
        request(serving.url(PATH))


def test_interim_responses_come_first(serving: Mirror) -> None:
    serving.behave(PATH, "early-hints")
    assert everything(serving).startswith(b"HTTP/1.1 103 Early Hints\r\nLink: ")
    serving.behave(PATH, "continue-first")
    assert everything(serving).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


# -- redirects ---------------------------------------------------------------------------------------------------


def test_a_chain(serving: Mirror) -> None:
    serving.behave(PATH, "redirect-chain")
    assert follow(serving.url(PATH)).body == DATA
    assert [record.status for record in serving.requests] == [302, 302, 302, 200]


def test_storage_elsewhere_refuses_authorization(serving: Mirror) -> None:
    serving.behave(PATH, "redirect-elsewhere")
    first = request(serving.url(PATH), {"Authorization": "Bearer good"})
    assert first.headers["Location"].startswith(f"http://localhost:{serving.port}/cdn/")
    assert request(first.headers["Location"], {"Authorization": "Bearer good"}).status == 400
    assert request(first.headers["Location"]).body == DATA
    assert ["authorization" in record.headers for record in serving.requests] == [True, True, False]
    assert request(serving.url(PATH, host="localhost")).headers["Location"].startswith("http://127.0.0.1:")


def test_addresses_expire(serving: Mirror) -> None:
    serving.behave(PATH, behaviour("expiring", uses=2))
    address = request(serving.url(PATH)).headers["Location"]
    assert [request(address).status for _ in range(3)] == [200, 200, 403]
    assert follow(serving.url(PATH)).body == DATA
    serving.behave(PATH, behaviour("expiring", uses=None, seconds=0))
    assert follow(serving.url(PATH)).status == 403


def test_redirect_targets_can_misbehave_too(serving: Mirror) -> None:
    serving.behave("*", "redirect-elsewhere")
    serving.behave("/cdn/*", behaviour("flip", at=0))
    assert follow(serving.url(PATH)).body == bytes([DATA[0] ^ 0xFF]) + DATA[1:]


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("redirect-to-private", "http://10.0.0.1/"),
        ("redirect-to-metadata", "http://169.254.169.254/"),
        ("redirect-to-ipv6-loopback", "http://[::1]:1/"),
        ("redirect-to-file", "file:///etc/passwd"),
        ("redirect-to-ftp", "ftp://"),
        ("redirect-downgrade", "http://127.0.0.1"),
        ("redirect-loop", "/vae/a%20b.safetensors"),
        ("redirect-endless", "/vae/a%20b.safetensors?hop=1"),
        ("redirect-empty", ""),
    ],
)
def test_bad_redirects(serving: Mirror, name: str, where: str) -> None:
    serving.behave(PATH, name)
    response = request(serving.url(PATH))
    assert response.status == 302
    assert response.headers["Location"].startswith(where)
    serving.behave(PATH, "redirect-nowhere")
    assert request(serving.url(PATH)).headers["Location"] is None


# -- wrong files -------------------------------------------------------------------------------------------------


def test_pages(serving: Mirror) -> None:
    def got(name: str) -> tuple[int, str, int, bytes]:
        serving.behave(PATH, name)
        response = request(serving.url(PATH))
        return response.status, response.headers["Content-Type"], len(response.body), response.body[:9]

    page = b"<!DOCTYPE"
    assert got("login-page")[::3] == (200, page)
    assert got("login-page")[1].startswith("text/html")
    assert got("login-page-as-binary")[1::2] == ("application/octet-stream", page)
    assert got("login-page-same-size")[2:] == (5000, page)
    assert part(serving, "4990-").body == b" " * 10
    assert got("json-error")[3].startswith(b"{")
    assert got("lfs-pointer")[3] == b"version h"
    assert got("stub")[2] == 710_000
    assert got("empty")[2] == 0
    assert got("204")[0] == 204
    assert got("pickle")[3].startswith(b"\x80\x02c")
    assert got("pickle-same-size")[2] == 5000
    assert got("header-only")[2] == len(HEADER)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_wrong_family_is_a_valid_file(mirror: Mirror, family: str) -> None:
    size = 500_000_000 if family == "flux" else 10_000_000
    mirror.files[PATH] = b"x"
    mirror.behave(PATH, behaviour("wrong-family", family=family))
    length = struct.unpack("<Q", part(mirror, "0-7").body)[0]
    table = json.loads(part(mirror, f"8-{7 + length}").body)
    ends = [entry["data_offsets"][1] for entry in table.values()]
    assert int(request(mirror.url(PATH), method="HEAD").headers["Content-Length"]) == 8 + length + max(ends)
    whole = safetensors(FAMILIES[family], size)
    table = json.loads(whole[8:])
    assert len(whole) + max(entry["data_offsets"][1] for entry in table.values()) == size


def test_wrong_bytes(serving: Mirror) -> None:
    serving.behave(PATH, behaviour("flip", at=[0, -1], covering=0))
    assert part(serving, "0-9").body == bytes([DATA[0] ^ 0xFF]) + DATA[1:10]
    assert part(serving, "4990-").body == DATA[4990:]
    serving.behave(PATH, "flip")
    wrong = request(serving.url(PATH)).body
    assert [at for at in range(5000) if wrong[at] != DATA[at]] == [2500]


def test_another_file(serving: Mirror) -> None:
    serving.files["/other"] = b"other"
    serving.behave(PATH, behaviour("other-file", path="/other"))
    assert request(serving.url(PATH)).body == b"other"


def test_a_file_that_is_replaced(serving: Mirror) -> None:
    serving.behave(PATH, "replaced")
    first, second, third = (part(serving, "10-19") for _ in range(3))
    assert first.body == DATA[10:20]
    assert second.body == third.body == bytes(byte ^ 0x55 for byte in DATA[10:20])
    assert first.headers["ETag"] != second.headers["ETag"]
    assert part(serving, "0-9", **{"If-Range": first.headers["ETag"]}).status == 200
    assert part(serving, "0-9", **{"If-Match": first.headers["ETag"]}).status == 412
    serving.behave(PATH, behaviour("replaced-longer", keep=2))
    assert [len(request(serving.url(PATH)).body) for _ in range(3)] == [5000, 5000, 6000]
    serving.behave(PATH, "replaced-no-etag")
    first, second = (request(serving.url(PATH)) for _ in range(2))
    assert first.headers["Last-Modified"] != second.headers["Last-Modified"]
    assert first.headers["ETag"] is second.headers["ETag"] is None
    serving.behave(PATH, "replaced-silently")
    first, second = (request(serving.url(PATH)) for _ in range(2))
    assert (first.headers.items() == second.headers.items(), first.body == second.body) == (True, False)


def test_changing_validators(serving: Mirror) -> None:
    for name, header in (("etag-changes", "ETag"), ("modified-changes", "Last-Modified")):
        serving.behave(PATH, name)
        responses = [request(serving.url(PATH)) for _ in range(3)]
        assert len({response.headers[header] for response in responses}) == 3
        assert {response.body for response in responses} == {DATA}


def test_gzip(serving: Mirror) -> None:
    serving.behave(PATH, "gzip")
    response = request(serving.url(PATH), {"Accept-Encoding": "identity"})
    assert (response.headers["Content-Encoding"], gzip.decompress(response.body)) == ("gzip", DATA)
    serving.behave(PATH, "gzip-header-only")
    assert request(serving.url(PATH)).body == DATA


# -- error statuses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in BEHAVIOURS if name[:3].isdigit() and not name.startswith("20")])
def test_error_statuses(serving: Mirror, name: str) -> None:
    serving.behave(PATH, name)
    response = request(serving.url(PATH))
    assert response.status == int(name[:3])
    codes = {"gated": "GatedRepo", "repo": "RepoNotFound", "revision": "RevisionNotFound", "entry": "EntryNotFound"}
    assert response.headers["X-Error-Code"] == codes.get(name[4:])
    if name.endswith("for-ever"):
        assert response.headers["Retry-After"] == "86400"


# -- responses to ranges -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status", "where", "first", "length"),
    [
        ("range-answered-whole", 200, None, 0, 5000),
        ("range-answered-200", 200, None, 100, 100),
        ("range-wrong-start", 206, "bytes 101-200/5000", 100, 100),
        ("range-other-part", 206, "bytes 101-200/5000", 101, 100),
        ("range-lies", 206, "bytes 100-199/5000", 101, 100),
        ("range-wrong-last", 206, "bytes 100-200/5000", 100, 100),
        ("range-wrong-total", 206, "bytes 100-199/5001", 100, 100),
        ("range-no-header", 206, None, 100, 100),
        ("range-nonsense", 206, "bytes 0-x/y", 100, 100),
        ("range-longer", 206, "bytes 100-199/5000", 100, 200),
        ("range-longer-chunked", 206, "bytes 100-199/5000", 100, 200),
    ],
)
def test_wrong_responses_to_ranges(
    serving: Mirror, name: str, status: int, where: str | None, first: int, length: int
) -> None:
    serving.behave(PATH, name)
    response = part(serving, "100-199")
    assert (response.status, response.headers["Content-Range"]) == (status, where)
    assert response.headers["Accept-Ranges"] == "bytes"
    assert response.body == DATA[first : first + length]


def test_multipart(serving: Mirror) -> None:
    serving.behave(PATH, "range-multipart")
    response = part(serving, "100-199")
    assert response.headers.get_content_type() == "multipart/byteranges"
    assert DATA[100:200] in response.body


def test_an_unrequested_range(serving: Mirror) -> None:
    serving.behave(PATH, "206-unrequested-part")
    response = request(serving.url(PATH))
    assert (response.status, response.body) == (206, DATA[:100])


# -- connections -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cut", "cut-reset", "stall"])
@pytest.mark.parametrize(("at", "arrives"), [(0, 0), (1, 1), (1234, 1234), (0.5, 2500), (-1, 4999)])
def test_cuts(serving: Mirror, name: str, at: float, arrives: int) -> None:
    serving.behave(PATH, behaviour(name, at=at))
    with socket.create_connection(("127.0.0.1", serving.port), timeout=PATIENCE) as sock:
        sock.sendall(f"GET {urllib.parse.quote(PATH)} HTTP/1.1\r\n\r\n".encode())
        found = b""
        while b"\r\n\r\n" not in found or len(found.partition(b"\r\n\r\n")[2]) < arrives:
            piece = sock.recv(65536)
            assert piece
            found += piece
        head, _, body = found.partition(b"\r\n\r\n")
        assert b"Content-Length: 5000" in head
        assert body == DATA[:arrives]
        if name == "cut":
            assert sock.recv(1) == b""
        elif name == "cut-reset":
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        else:
            sock.settimeout(0.05)
            with pytest.raises(TimeoutError):
                sock.recv(1)
    assert [record.sent for record in serving.requests] == [arrives]


def test_no_response(serving: Mirror) -> None:
    serving.behave(PATH, "close-before-status")
    assert everything(serving) == b""
    serving.behave(PATH, "reset-before-status")
    assert everything(serving) == b"<reset>"
    serving.behave(PATH, "stall-before-status")
    with socket.create_connection(("127.0.0.1", serving.port), timeout=0.05) as sock:
        sock.sendall(f"GET {urllib.parse.quote(PATH)} HTTP/1.1\r\n\r\n".encode())
        with pytest.raises(TimeoutError):
            sock.recv(1)
    assert {(record.status, record.sent) for record in serving.requests} == {(0, 0)}


def test_trickle(serving: Mirror) -> None:
    serving.behave(PATH, "trickle-head")
    with socket.create_connection(("127.0.0.1", serving.port), timeout=PATIENCE) as sock:
        sock.sendall(f"GET {urllib.parse.quote(PATH)} HTTP/1.1\r\n\r\n".encode())
        assert 0 < len(sock.recv(65536)) < 100  # one byte, unless the test itself was slow


def test_refused_connections(serving: Mirror) -> None:
    serving.behave(PATH, behaviour("refuse", after=1, connections=2, times=1))
    assert everything(serving).endswith(DATA)
    assert everything(serving) == b"<reset>"
    assert [everything(serving) for _ in range(2)] == [b"<reset>", b"<reset>"]
    assert everything(serving).endswith(DATA)
    assert len(serving.requests) == 3


def test_connection_limit(serving: Mirror) -> None:
    serving.behave(PATH, behaviour("connection-limit", limit=1))
    with socket.create_connection(("127.0.0.1", serving.port), timeout=PATIENCE) as sock:
        sock.sendall(f"GET {urllib.parse.quote(PATH)} HTTP/1.1\r\n\r\n".encode())
        assert sock.recv(12) == b"HTTP/1.1 200"
        assert everything(serving).startswith(b"HTTP/1.1 503")
    assert serving.peak == 2


# -- broken HTTP -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "lengths"),
    [
        ("length-missing", []),
        ("length-low", ["4999"]),
        ("length-high", ["5001"]),
        ("length-negative", ["-1"]),
        ("length-nonsense", ["many"]),
        ("length-zero", ["0"]),
        ("length-huge", ["9" * 30]),
        ("length-twice", ["4999", "5000"]),
    ],
)
def test_lengths(serving: Mirror, name: str, lengths: list[str]) -> None:
    serving.behave(PATH, name)
    head, _, body = everything(serving).partition(b"\r\n\r\n")
    found = [line.partition(": ")[2] for line in head.decode().split("\r\n") if line.startswith("Content-Length")]
    assert (found, body) == (lengths, DATA)


@pytest.mark.parametrize("name", ["endless", "endless-chunked"])
def test_endless(serving: Mirror, name: str) -> None:
    serving.behave(PATH, name)
    with urllib.request.urlopen(serving.url(PATH), timeout=PATIENCE) as response:
        assert response.headers["Content-Length"] is None
        assert response.read(5000) == DATA
        assert response.read(1 << 20) == bytes(1 << 20)


@pytest.mark.parametrize(
    ("name", "line", "end"),
    [
        ("bad-chunks", b"zz", b"\r\n0\r\n\r\n"),
        ("bad-chunks-negative", b"-5", b"\r\n0\r\n\r\n"),
        ("bad-chunks-huge", b"f" * 40, b"\r\n0\r\n\r\n"),
        ("chunks-unended", b"1388", b"\r\n"),
    ],
)
def test_chunks(serving: Mirror, name: str, line: bytes, end: bytes) -> None:
    serving.behave(PATH, name)
    head, _, body = everything(serving).partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert body == line + b"\r\n" + DATA + end


@pytest.mark.parametrize("name", ["not-http", "no-status-line", "status-nonsense"])
def test_not_http(serving: Mirror, name: str) -> None:
    serving.behave(PATH, name)
    with pytest.raises(http.client.BadStatusLine):
        request(serving.url(PATH))


def test_invalid_statuses_and_huge_headers(serving: Mirror) -> None:
    serving.behave(PATH, "status-999")
    assert everything(serving).startswith(b"HTTP/1.1 999 ")
    serving.behave(PATH, "huge-header")
    assert len(everything(serving)) > 1 << 20
    serving.behave(PATH, "thousands-of-headers")
    assert everything(serving).count(b"X-Huge-") == 5000


# -- Hugging Face ------------------------------------------------------------------------------------------------


def test_hub(mirror: Mirror) -> None:
    path = mirror.hub("owner/repo", {"sub/x.safetensors": DATA}) + "sub/x.safetensors"
    assert path == "/owner/repo/resolve/main/sub/x.safetensors"
    head = request(mirror.url(path), method="HEAD")
    assert (head.status, head.headers["X-Linked-Size"]) == (302, "5000")
    assert head.headers["X-Linked-Etag"].strip('"') == hashlib.sha256(DATA).hexdigest()
    assert len(head.headers["X-Repo-Commit"]) == 40
    address = head.headers["Location"]
    assert address.startswith(f"http://localhost:{mirror.port}/cdn/")
    assert request(address, {"Range": "bytes=10-19"}).body == DATA[10:20]
    assert request(address, {"Authorization": "Bearer good"}).status == 400


def test_hub_gates(mirror: Mirror) -> None:
    url = mirror.url(mirror.hub("owner/repo", {"x": DATA}, gated=True) + "x")
    found = [
        request(url, {"Authorization": f"Bearer {token}"} if token else {})
        for token in ("", "bad", "no-licence", "good")
    ]
    assert [response.status for response in found] == [401, 401, 403, 302]
    assert [response.headers["X-Error-Code"] for response in found] == ["GatedRepo"] * 3 + [None]


def test_hub_reports_what_is_missing(mirror: Mirror) -> None:
    mirror.hub("owner/repo", {"x": DATA})
    mirror.behave("/*/*/resolve/*", "hub")
    found = [
        request(mirror.url(f"/{path}"))
        for path in ("owner/repo/resolve/main/y", "owner/repo/resolve/v2/x", "o/r/resolve/main/x")
    ]
    assert [response.headers["X-Error-Code"] for response in found] == [
        "EntryNotFound",
        "RevisionNotFound",
        "RepoNotFound",
    ]
    assert [response.status for response in found] == [404, 404, 401]


def test_hub_small_files_and_wrong_headers(mirror: Mirror) -> None:
    url = mirror.url(mirror.hub("owner/repo", {"x": b"hello\n"}, lfs=False) + "x")
    first = request(url)
    assert (first.status, first.headers["ETag"]) == (307, '"ce013625030ba8dba906f756967f9e9ca394464a"')
    assert first.headers["Location"].startswith("/cdn/")
    assert follow(url).body == b"hello\n"
    url = mirror.url(mirror.hub("owner/repo", {"x": b"hello\n"}, linked={"X-Linked-Size": "7"}) + "x")
    assert request(url).headers["X-Linked-Size"] == "7"


# -- TLS, another host, and a separate process -------------------------------------------------------------------


def test_tls(tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    names_ = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    try:
        subprocess.run([*command, *names_, "-keyout", key, "-out", cert], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed, so no certificate can be made")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    trusting = ssl.create_default_context(cafile=str(cert))
    with Mirror(files={PATH: DATA}, tls=tls) as mirror:
        with urllib.request.urlopen(mirror.url(PATH), timeout=PATIENCE, context=trusting) as response:
            assert response.read() == DATA
        with pytest.raises(urllib.error.URLError, match="certificate"):
            urllib.request.urlopen(mirror.url(PATH), timeout=PATIENCE, context=ssl.create_default_context())
        silent = socket.create_connection(("127.0.0.1", mirror.port))  # no handshake: must not delay the end
    silent.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2"])
def test_another_host(host: str) -> None:
    with Mirror(files={PATH: DATA}, host=host) as other:
        assert other.url(PATH) == f"http://{host}:{other.port}/vae/a%20b.safetensors"
        assert request(other.url(PATH)).body == DATA


@pytest.mark.parametrize(("command", "number"), [(["mirror"], signal.SIGTERM), (["-m", "mirror"], signal.SIGINT)])
def test_as_a_separate_process(tmp_path: Path, command: list[str], number: signal.Signals) -> None:
    place = tmp_path / "owner" / "repo" / "resolve" / "main"
    place.mkdir(parents=True)
    (place / "x.safetensors").write_bytes(DATA)
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    with subprocess.Popen(
        [sys.executable, *command, "--root", tmp_path, "--port", "0", "--hub"],
        cwd=STANDIN, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stderr
        base = process.stdout.readline().strip()
        try:
            _talk(base)
        finally:
            process.send_signal(number)
            left = process.stderr.read()
        assert (process.wait(), left) == (0, "")


def _talk(base: str) -> None:
    path = "owner/repo/resolve/main/x.safetensors"
    assert follow(base + path).body == DATA
    endpoint = f"{base}_mirror/behave"
    for requested, status in (
        ({"path": f"/{path}", "behaviour": "429", "times": 1}, 200),
        ({"path": f"/{path}", "behaviour": "no-such"}, 400),
        ({"path": f"/{path}", "behaviour": "cut", "where": 1}, 400),
        ({"behaviour": "cut"}, 400),
    ):
        assert request(endpoint, method="POST", body=json.dumps(requested).encode()).status == status
    assert request(base + path).status == 429
    log = json.loads(request(f"{base}_mirror/log").body)
    assert [(entry["path"], entry["status"]) for entry in log][-1] == (f"/{path}", 429)
    assert request(endpoint, method="DELETE").status == 204
    assert follow(base + path).body == DATA
    assert len(json.loads(request(f"{base}_mirror/behaviours").body)) == len(BEHAVIOURS)
    assert request(f"{base}_mirror/log", method="DELETE").status == 204
    assert json.loads(request(f"{base}_mirror/log").body) == []
