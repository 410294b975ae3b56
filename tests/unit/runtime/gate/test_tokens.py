"""Chosen tokens are hard to guess, stored ones are not lost, and the other random values survive damage."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from gesso.errors import CheckError
from gesso.runtime.gate import caddy, tokens

if TYPE_CHECKING:
    from pathlib import Path

    from gesso.runtime.layout import Layout

EASY = [
    "a" * 16, "1234567890123456", "passwordpassword", "abcdefghijklmnop", "qwertyuiopasdfgh", "zyxwvutsrqponmlk",
    "ABCDEFGHIJKLMNOP", "0_-" * 6, "Z" * 128, "aBaBaBaBaBaBaBaBaBaB", "9876543210987654", "letmein-letmein-letmein",
    "asdfghjklasdfghjkl", "password12345678", "0123456789abcdef",
]  # fmt: skip


@pytest.mark.parametrize("name", tokens.VARIABLES)
@pytest.mark.parametrize("value", EASY)
def test_an_easy_token_is_refused_in_words(layout: Layout, name: str, value: str) -> None:
    with pytest.raises(CheckError, match=f"^{name}: is easy to guess") as raised:
        caddy.configure(layout, {name: value})
    assert raised.value.next_step == f"set another {name}, or unset it"
    assert value not in str(raised.value)
    assert not (layout.run / "Caddyfile").exists()


@pytest.mark.parametrize("value", ["example-token-0123456789", "own-token-0123456789", "correct-horse-battery"])
def test_a_token_with_enough_that_surprises(layout: Layout, value: str) -> None:
    assert caddy.token(layout, {"GESSO_TOKEN": value}) == value


def test_random_tokens_pass(layout: Layout) -> None:
    for _ in range(2000):
        for value in (secrets.token_urlsafe(24), secrets.token_hex(16)):
            assert caddy.token(layout, {"OPEN_BUTTON_TOKEN": value}) == value


def _stored(layout: Layout) -> Path:
    layout.state.mkdir(parents=True, exist_ok=True)
    return layout.state / "token"


@pytest.mark.parametrize(
    "body", [b"", b"short\n", b"with space 0123456789", "ünicode-0123456789".encode(), b"\xff\x00" * 40]
)
def test_a_damaged_stored_token_is_kept_and_reported(layout: Layout, body: bytes) -> None:
    path, messages = _stored(layout), list[str]()
    path.write_bytes(body)
    (layout.state / "token.damaged-1").write_text("an earlier one")
    caddy.configure(layout, {}, on_progress=messages.append)
    made = caddy.active_token(layout, {})
    assert len(made) >= 32
    assert path.read_text().strip() == made
    assert (layout.state / "token.damaged-2").read_bytes() == body
    assert (layout.state / "token.damaged-1").read_text() == "an earlier one"
    (message,) = messages
    assert "token.damaged-2" in message
    assert "new token" in message


def test_nothing_is_reported_about_a_good_one_and_about_none(layout: Layout) -> None:
    messages: list[str] = []
    first = tokens.choose(layout, {}, messages.append)
    assert tokens.choose(layout, {}, messages.append) == first
    assert messages == []
    assert [path.name for path in layout.state.iterdir()] == ["token"]


def test_a_folder_in_its_place_is_an_error_in_words(layout: Layout) -> None:
    (_stored(layout) / "x").mkdir(parents=True)
    with pytest.raises(CheckError, match="token: is a folder") as raised:
        caddy.configure(layout, {})
    assert raised.value.next_step == "remove it"
    with pytest.raises(CheckError, match="no token yet"):
        tokens.known(layout, {})


def test_a_dangling_link_in_its_place_is_kept(layout: Layout) -> None:
    _stored(layout).symlink_to("nowhere")
    assert len(caddy.token(layout, {})) >= 32
    assert (layout.state / "token.damaged-1").is_symlink()


# --- the key of cookies, and the name of the instance


def test_the_key_is_random_kept_and_private(layout: Layout) -> None:
    caddy.configure(layout, {"GESSO_TOKEN": "own-token-0123456789"})
    path = layout.state / "cookie-key"
    assert path.stat().st_mode & 0o777 == 0o600
    key = tokens.cookie_key(layout)
    assert len(key) == 32
    assert path.read_text().strip() == key.hex()
    caddy.configure(layout, {"GESSO_TOKEN": "own-token-0123456789"})
    assert tokens.cookie_key(layout) == key
    path.unlink()
    assert tokens.cookie_key(layout) != key


@pytest.mark.parametrize("body", [b"", b"x", b"\xff" * 64, b"0" * 63, b"G" * 64])
def test_a_damaged_key_is_replaced(layout: Layout, body: bytes) -> None:
    layout.state.mkdir(parents=True)
    (layout.state / "cookie-key").write_bytes(body)
    key = tokens.cookie_key(layout)
    assert (layout.state / "cookie-key").read_text().strip() == key.hex()
    assert tokens.cookie_key(layout) == key


def test_where_it_cannot_be_kept_it_lasts_for_one_boot(layout: Layout) -> None:
    (layout.state / "cookie-key").mkdir(parents=True)
    key = tokens.cookie_key(layout)
    assert (layout.run / "cookie-key").read_text().strip() == key.hex()
    assert tokens.cookie_key(layout) == key
    (layout.run / "cookie-key").unlink()
    (layout.run / "cookie-key").mkdir()
    assert len(tokens.cookie_key(layout)) == 32, "not kept at all, but usable"


@pytest.mark.parametrize("body", [None, b"", b"x", b"\xff" * 32, b"0" * 31])
def test_the_instance_has_a_name_for_one_boot(layout: Layout, body: bytes | None) -> None:
    assert tokens.instance_id(layout) == ""
    if body is not None:
        layout.run.mkdir(parents=True)
        (layout.run / "instance-id").write_bytes(body)
        assert tokens.instance_id(layout) == ""
    caddy.configure(layout, {"GESSO_TOKEN": "own-token-0123456789"})
    name = tokens.instance_id(layout)
    assert len(name) == 32
    assert f"X-Gesso-Instance {name}\n" in (layout.run / "Caddyfile").read_text()
    caddy.configure(layout, {"GESSO_TOKEN": "own-token-0123456789"})
    assert tokens.instance_id(layout) == name
    (layout.run / "instance-id").unlink()
    assert not caddy.is_configured(layout, {"GESSO_TOKEN": "own-token-0123456789"})
