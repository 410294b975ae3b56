"""The URL to paste: the public one when it is known, and never a file created for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gesso.errors import CheckError
from gesso.runtime.gate import address, caddy

if TYPE_CHECKING:
    from gesso.runtime.layout import Layout

OWN = "own-token-0123456789"
VAST = {"PUBLIC_IPADDR": "203.0.113.9", "VAST_TCP_PORT_8188": "40123"}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("http://203.0.113.9:40123", "http://203.0.113.9:40123"), ("https://Paint.Example/", "https://paint.example"),
        ("https://paint.example:443", "https://paint.example"), ("http://[2001:db8::9]:81/", "http://[2001:db8::9]:81"),
        ("", ""),
    ],
)  # fmt: skip
def test_the_public_url(layout: Layout, given: str, found: str) -> None:
    env = {**VAST, "GESSO_PUBLIC_URL": given, "GESSO_TOKEN": OWN}
    assert address.public_url(env) == found
    assert address.url(layout, env) == f"{found or 'http://203.0.113.9:40123'}/{OWN}"
    assert address.is_public(env)


@pytest.mark.parametrize(
    "given",
    [
        "paint.example", "ftp://paint.example", "https://paint.example/x", "https://paint.example//", "https://a b",
        "https://paint.example/?token=x", "https://user@paint.example", "https://paint.example:0", "https://", "/",
        "https://paint.example:65536", "https://paint.example\n", f"https://paint.example/{OWN}", "https://müller.example",
    ],
)  # fmt: skip
def test_anything_else_stops_the_boot_and_the_command(layout: Layout, given: str) -> None:
    env = {"GESSO_PUBLIC_URL": given, "GESSO_TOKEN": OWN}
    for step in (caddy.configure, address.url):
        with pytest.raises(CheckError, match=r"^GESSO_PUBLIC_URL: .* is not the URL of a server") as raised:
            step(layout, env)
        assert raised.value.exit_code == 1
        assert "without a path" in raised.value.next_step
    assert not (layout.run / "Caddyfile").exists()


def test_the_port_is_known_or_there_is_a_note() -> None:
    assert address.port_note({"GESSO_PUBLIC_URL": "http://a"}) == address.port_note(VAST) == ""
    for env in ({}, {"PUBLIC_IPADDR": "203.0.113.9"}, {"VAST_TCP_PORT_8188": "40123"}):
        assert "docker port" in address.port_note(env)
        assert "GESSO_PUBLIC_URL" in address.port_note(env)
    assert not address.is_public({})
    assert address.is_public(VAST)
    assert address.is_public({"GESSO_PUBLIC_URL": "http://a"})


def test_printing_the_url_creates_nothing(layout: Layout) -> None:
    before = sorted(layout.root.rglob("*"))
    with pytest.raises(CheckError, match="there is no token yet") as raised:
        address.url(layout, {})
    assert "gesso boot" in raised.value.next_step
    assert address.url(layout, {"GESSO_TOKEN": OWN}).endswith(f"/{OWN}")
    assert sorted(layout.root.rglob("*")) == before
    assert not layout.run.exists()
    caddy.token(layout, {})
    stored = (layout.state / "token").read_text().strip()
    assert address.url(layout, {}).endswith(f"/{stored}")
    assert not layout.run.exists()


@pytest.mark.parametrize("body", [b"\xff\xfe\x00", "tls ünicode".encode(), b"\x00" * 99])
def test_a_damaged_configuration_is_not_read_as_tls(layout: Layout, body: bytes) -> None:
    caddy.configure(layout, {"GESSO_TOKEN": OWN})
    (layout.run / "Caddyfile").write_bytes(body)
    assert address.url(layout, {}) == f"http://127.0.0.1:8188/{OWN}"
    assert not caddy.is_configured(layout, {"GESSO_TOKEN": OWN})
    (layout.run / "Caddyfile").unlink()
    (layout.run / "Caddyfile").mkdir()
    assert address.url(layout, {}) == f"http://127.0.0.1:8188/{OWN}"
    assert not caddy.is_configured(layout, {"GESSO_TOKEN": OWN})
