"""Which addresses are asked: https or this machine, and nothing inside a network that a source merely leads to."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.models.faults import SourceError
from gesso.models.net.addresses import Reach, allowed, connect_to, proxy_for, reach_of

HERE, THERE = "http://127.0.0.1:80/f", "https://huggingface.co/f"


@pytest.mark.parametrize(
    ("url", "source"),
    [
        (THERE, THERE), (HERE, HERE), ("https://cdn.example/f?sig=1", THERE), (THERE, HERE),
        ("http://localhost:1/f", HERE), ("http://[::1]:1/f", HERE), ("HTTPS://cdn.example/f", THERE),
    ],
)  # fmt: skip
def test_https_and_from_this_machine_this_machine(url: str, source: str) -> None:
    allowed(url, source)


@pytest.mark.parametrize(
    ("url", "source", "why"),
    [
        ("http://huggingface.co/f", THERE, "insecure"),
        (HERE, THERE, "insecure"),
        ("http://localhost/f", THERE, "insecure"),
        ("http://localhost/f", "https://localhost/f", "insecure"),
        ("http://10.0.0.1/f", HERE, "private-address"),
        ("http://127.0.0.2/f", HERE, "private-address"),
        ("http://127.0.0.1.evil.example/f", HERE, "private-address"),
        ("http://127.0.0.1@evil.example/f", HERE, "private-address"),
        ("ftp://127.0.0.1/f", HERE, "insecure"),
        ("file:///etc/passwd", THERE, "insecure"),
        ("file:///etc/passwd", HERE, "insecure"),
        ("data:,x", THERE, "insecure"),
        ("https:///f", THERE, "insecure"),
        ("", THERE, "insecure"),
        ("//cdn.example/f", THERE, "insecure"),
        ("https://cdn.example:port/f", THERE, "insecure"),
        ("https://cdn.example:99999/f", THERE, "insecure"),
        ("https://[::1/f", THERE, "insecure"),
        ("https://[nonsense]/f", THERE, "insecure"),
    ],
)
def test_everything_else_is_refused(url: str, source: str, why: str) -> None:
    with pytest.raises(SourceError) as caught:
        allowed(url, source)
    assert caught.value.why == why
    assert caught.value.next_step
    assert not caught.value.transient


ADDRESS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["https://", "http://", "//", "HTTP:", ""]),
        st.text("a1[]:@.%/#?\\ \u0130", max_size=12),
        st.sampled_from(["", "/f", ":80/f", "]:1"]),
    ),
)


@given(ADDRESS | st.text(max_size=30), st.sampled_from([HERE, THERE]))
def test_whatever_a_server_names_is_allowed_or_refused_and_nothing_else(url: str, source: str) -> None:
    fault = None
    try:
        allowed(url, source)
    except SourceError as found:
        fault = found
    assert fault is None or len(fault.message) < 300
    assert fault or url.lower().startswith(("https:", "http:"))


def test_what_the_manifest_names_may_be_anywhere_and_what_it_leads_to_must_be_public() -> None:
    assert reach_of(THERE, THERE) == "any"
    assert reach_of("https://cdn.example/f", THERE) == "public"
    assert reach_of("http://localhost/f", HERE) == "public or here"
    assert reach_of("https://localhost/f", THERE) == "public"


class Peer:
    """A socket, as far as it is looked at, that reached this address."""

    def __init__(self, address: str) -> None:
        self.address, self.closed = address, False

    def getpeername(self) -> tuple[str, int]:
        return self.address, 443

    def close(self) -> None:
        self.closed = True


PUBLIC = ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8"]
LOOPBACK = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]
PRIVATE = [
    "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "fe80::1%eth0", "fd00::1",
    "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::", "198.18.0.1", "255.255.255.255",
]  # fmt: skip
MAY: dict[Reach, list[str]] = {
    "public": PUBLIC, "public or here": PUBLIC + LOOPBACK, "any": PUBLIC + LOOPBACK + PRIVATE,
}  # fmt: skip


@pytest.mark.parametrize("reach", MAY)
@pytest.mark.parametrize("address", PUBLIC + LOOPBACK + PRIVATE)
def test_a_name_that_leads_inside_is_let_go_at_once(
    address: str, reach: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Judged by who was reached, not by what was asked: the name of a public host may lead anywhere."""
    peer: Any = Peer(address)
    monkeypatch.setattr(socket, "create_connection", lambda *_: peer)
    if address in MAY[reach]:
        found: Any = connect_to(("innocent.example", 443), 1, None, reach=reach)
        assert found is peer
        assert not peer.closed
        return
    with pytest.raises(SourceError, match=r"innocent\.example.*inside the network") as caught:
        connect_to(("innocent.example", 443), 1, None, reach=reach)
    assert peer.closed
    assert caught.value.why == "private-address"
    assert address not in caught.value.message  # what is inside a network is not for a server to learn from our logs


def test_a_real_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = server.getsockname()
        with connect_to(where, 5, None, reach="public or here") as connected:
            assert connected.getpeername() == where
        with pytest.raises(SourceError):
            connect_to(where, 5, None, reach="public")


# ── proxies ──


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    "named", ["http://proxy.example:3128", "proxy.example:3128", "http://me:pw@proxy.example:3128/"]
)
def test_the_proxy_of_the_environment(proxy: pytest.MonkeyPatch, named: str) -> None:
    assert proxy_for("https", "huggingface.co", 443) is None
    proxy.setenv("https_proxy", named)
    assert proxy_for("https", "huggingface.co", 443) == ("proxy.example", 3128)


def test_a_proxy_without_a_port_has_the_usual_one(proxy: pytest.MonkeyPatch) -> None:
    proxy.setenv("https_proxy", "http://proxy.example")
    assert proxy_for("https", "huggingface.co", 443) == ("proxy.example", 8080)


def test_this_machine_and_no_proxy_are_asked_directly(proxy: pytest.MonkeyPatch) -> None:
    proxy.setenv("https_proxy", "http://proxy.example:3128")
    proxy.setenv("http_proxy", "http://proxy.example:3128")
    proxy.setenv("no_proxy", "mirror.example,.corp.example")
    assert proxy_for("http", "127.0.0.1", 80) is None
    for host in ("127.0.0.1", "localhost", "::1", "mirror.example", "a.corp.example"):
        assert proxy_for("https", host, 443) is None, host
    assert proxy_for("https", "huggingface.co", 443) is not None


@pytest.mark.parametrize(
    "named", ["http://proxy.example:port", "http://[::1", "http://proxy:99999", ":8080", "http://"]
)
def test_a_proxy_that_makes_no_sense_is_said(proxy: pytest.MonkeyPatch, named: str) -> None:
    proxy.setenv("https_proxy", named)
    with pytest.raises(SourceError, match="proxy") as caught:
        proxy_for("https", "huggingface.co", 443)
    assert "https_proxy" in caught.value.next_step
