"""The gate's configuration: which token is used, that it is strong, and that nobody else can read it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gesso.errors import CheckError
from gesso.runtime import agent
from gesso.runtime.gate import address, caddy, tokens

if TYPE_CHECKING:
    from gesso.runtime.layout import Layout

GOLDEN = Path(__file__).with_name("Caddyfile.golden")
OWN, VAST, STORED = "own-token-0123456789", "vast-token-0123456789", "stored-token-0123456789"


def _store(layout: Layout, text: str) -> Path:
    layout.state.mkdir(exist_ok=True)
    path = layout.state / "token"
    path.write_text(text)
    return path


def test_precedence(layout: Layout) -> None:
    path = _store(layout, f"{STORED}\n")
    assert caddy.token(layout, {"GESSO_TOKEN": OWN, "OPEN_BUTTON_TOKEN": VAST}) == OWN
    assert caddy.token(layout, {"OPEN_BUTTON_TOKEN": VAST}) == VAST
    assert caddy.token(layout, {"GESSO_TOKEN": "", "OPEN_BUTTON_TOKEN": ""}) == STORED
    assert caddy.token(layout, {"OPEN_BUTTON_TOKEN": "1"}) == STORED, "a template's request for a token is not a token"
    with pytest.raises(CheckError, match="GESSO_TOKEN"):
        caddy.token(layout, {"GESSO_TOKEN": "1"})
    assert path.read_text() == f"{STORED}\n"


def test_a_token_is_generated_and_stored(layout: Layout) -> None:
    made = caddy.token(layout, {})
    assert len(made) >= 32
    assert re.fullmatch(r"[A-Za-z0-9_-]+", made)
    path = layout.state / "token"
    assert path.read_text().strip() == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert caddy.token(layout, {}) == made
    path.unlink()
    assert caddy.token(layout, {}) != made
    assert [p.name for p in layout.state.iterdir()] == ["token"]


def test_a_token_from_the_environment_is_not_stored(layout: Layout) -> None:
    caddy.token(layout, {"GESSO_TOKEN": OWN})
    assert not (layout.state / "token").exists()


@pytest.mark.parametrize("text", ["short"])
def test_an_invalid_stored_token_is_replaced(layout: Layout, text: str) -> None:
    path = _store(layout, text)
    made = caddy.token(layout, {})
    assert len(made) >= 32
    assert path.read_text().strip() == made
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["GESSO_TOKEN", "OPEN_BUTTON_TOKEN"])
@pytest.mark.parametrize(
    "value",
    [
        "1234",
        "a" * 15,
        "a" * 129,
        "a" * 20 + "\n",
        "with space 0123456789",
        "a/" * 10,
        '"' + "a" * 20,
        "}" * 20,
        "ä" * 20,
    ],
)
def test_a_weak_or_strange_token_is_refused(layout: Layout, name: str, value: str) -> None:
    with pytest.raises(CheckError, match=f"^{name}: must be 16 to 128") as raised:
        caddy.configure(layout, {name: value})
    assert raised.value.next_step == f"set another {name}, or unset it"
    assert value not in str(raised.value)
    assert not (layout.run / "Caddyfile").exists()


@pytest.mark.parametrize("value", ["x4Zq_9-mK2vR7pLw", "own-token-0123456789" * 6, "0_-" * 6 + "x4Zq9mK2vR7p"])
def test_a_good_token(layout: Layout, value: str) -> None:
    assert caddy.token(layout, {"GESSO_TOKEN": value}) == value


def test_the_configuration(layout: Layout) -> None:
    """Equals the golden file beside the tests; `GESSO_GOLDEN=write` rewrites it."""
    caddy.configure(layout, {"GESSO_TOKEN": OWN})
    path = layout.run / "Caddyfile"
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in layout.run.iterdir()) == ["Caddyfile", "instance-id", "token"]
    assert (layout.run / "token").stat().st_mode & 0o777 == 0o600
    text = path.read_text().replace(str(layout.run), "/run/gesso").replace(tokens.instance_id(layout), "INSTANCE")
    if os.environ.get("GESSO_GOLDEN") == "write":
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
    assert re.findall(r"^[^\t\n]*\{$", text, re.MULTILINE) == [
        "{", "(headers) {", "(comfyui) {", "(below) {", ":8188 {", "http:// {",
    ]  # fmt: skip
    assert text.endswith(text[text.index("http:// {\n\tbind unix//run/gesso/comfyui.sock\n") :]), "one public port"
    assert set(re.findall(r"reverse_proxy (?:@\w+ )?(\S+)", text)) == {
        "127.0.0.1:18188", "unix//run/gesso/agent.sock", "unix//run/gesso/comfyui.sock",
    }  # fmt: skip
    assert text.count("{") == text.count("}")
    assert "{token}" not in text


def test_nothing_passes_without_the_token(layout: Layout) -> None:
    """The agent decides first; while it does not answer, only handlers that require the token lead to ComfyUI."""
    caddy.configure(layout, {"GESSO_TOKEN": OWN})
    text = (layout.run / "Caddyfile").read_text()
    public, second = text[text.index(":8188 {") :].split("\nhttp:// {")
    (route,) = re.findall(r"^\troute \{\n(.*?)^\t\}", public, re.MULTILINE | re.DOTALL)
    steps = [line.strip() for line in route.splitlines() if re.match(r"\t\t\S", line) and line.strip() != "}"]
    assert steps[:2] == ["request_header -X-Gesso-Door", f"forward_auth unix/{layout.agent_socket} {{"]
    (errors,) = re.findall(r"^\thandle_errors \{\n(.*?)^\t\}", public, re.MULTILINE | re.DOTALL)
    handles = re.findall(r"^\t\thandle(?: (@\w+))? \{\n(.*?)^\t\t\}", errors, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in handles] == ["@agent", "@passed", "@token", "@bearer", ""]
    for name, body in handles:
        (matcher,) = re.findall(rf"^\t\t{name} ([^{{].*|.*request.uri.*)$", errors, re.MULTILINE) or [""]
        assert ("reverse_proxy" in body) == (OWN in matcher), name
        if "reverse_proxy" in body:
            assert f"reverse_proxy unix/{layout.comfyui_socket}" in body, "what fails inside handle_errors has no words"
            continue
        assert len(re.findall(r"respond (?:@html )?`.*` 503$", body, re.MULTILINE)) == 2
        assert "header Retry-After" in body
        assert "header Connection close" in body
        assert re.search(r"header @html Refresh \d", body)
    assert f"bind unix/{layout.comfyui_socket}\n" in second
    assert len(re.findall(r"respond (?:@html )?`.*` 503$", second, re.MULTILINE)) == 2
    assert text.count("import headers") == 2, "errors carry the same headers"


def test_time_outs_and_limits(layout: Layout) -> None:
    caddy.configure(layout, {"GESSO_TOKEN": OWN})
    text = (layout.run / "Caddyfile").read_text()
    limits = [
        "max_header_size 12KB",
        "read_header 10s",
        "read_body 1h",
        "dial_timeout 1s",
        "response_header_timeout 2s",
    ]
    for line in limits:
        assert line in text
    assert agent._MAX_HEADERS > 4 * (12_000 + 4096), "the agent's limit must never be the smaller one"


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("", ""), ("https://admin.example", "https://admin.example"), ("HTTPS://Admin.Example", "https://admin.example"),
        ("https://admin.example:443", "https://admin.example"), ("http://admin:80", "http://admin"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"), ("http://[2001:db8::9]:81", "http://[2001:db8::9]:81"),
        ("https://admin.example:80", "https://admin.example:80"), ("https://xn--mller-kva.example", "https://xn--mller-kva.example"),
    ],
)  # fmt: skip
def test_the_admins_origin_as_browsers_write_it(given: str, origin: str) -> None:
    assert address.admin_origin({"GESSO_ADMIN_ORIGIN": given}) == origin


@pytest.mark.parametrize(
    "given",
    [
        "*", "null", "admin.example", "https://", "https://admin.example/", "https://admin.example/x", "ftp://admin.example",
        "https://a.example,https://b.example", "https://a.example https://b.example", "https://*.example",
        "https://user@admin.example", "https://admin.example:0", "https://admin.example:65536", "https://admin.example:",
        "https://admin.example\n", " https://admin.example", "https://müller.example", "https://-a.example",
    ],
)  # fmt: skip
def test_anything_but_one_origin_stops_the_boot(layout: Layout, given: str) -> None:
    with pytest.raises(CheckError, match=r"^GESSO_ADMIN_ORIGIN: .* is not exactly one origin") as raised:
        caddy.configure(layout, {"GESSO_TOKEN": OWN, "GESSO_ADMIN_ORIGIN": given})
    assert "scheme://host:port" in raised.value.next_step
    assert not (layout.run / "Caddyfile").exists()


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    more = ["-subj", "/CN=gesso", "-days", "2", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*argv, *more], check=True, capture_output=True)
    return cert, key


def test_tls_by_files(layout: Layout, pair: tuple[Path, Path]) -> None:
    env = {"GESSO_TOKEN": OWN, "GESSO_TLS_CERT": str(pair[0]), "GESSO_TLS_KEY": str(pair[1])}
    caddy.configure(layout, env)
    text = (layout.run / "Caddyfile").read_text()
    assert f"https://:8188 {{\n\ttls {pair[0]} {pair[1]}\n" in text
    assert address.url(layout, {}) == f"https://127.0.0.1:8188/{OWN}"


def test_tls_by_text(layout: Layout, pair: tuple[Path, Path]) -> None:
    env = {"GESSO_TOKEN": OWN, "GESSO_TLS_CERT": pair[0].read_text(), "GESSO_TLS_KEY": pair[1].read_text()}
    caddy.configure(layout, env)
    key = layout.run / "gesso_tls_key.pem"
    assert key.read_text() == pair[1].read_text()
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.stat()
    caddy.certificate(layout, env)  # as often as the gate is watched
    assert (key.stat().st_ino, key.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    key.write_text("damaged")
    caddy.certificate(layout, env)
    assert key.read_text() == pair[1].read_text()


@pytest.mark.parametrize("wrong", ["one", "missing", "mixed", "text"])
def test_a_certificate_that_cannot_be_used(layout: Layout, pair: tuple[Path, Path], wrong: str) -> None:
    cert, key = map(str, pair)
    env = {
        "one": {"GESSO_TLS_CERT": cert}, "missing": {"GESSO_TLS_CERT": "/none.pem", "GESSO_TLS_KEY": key},
        "mixed": {"GESSO_TLS_CERT": key, "GESSO_TLS_KEY": cert},
        "text": {"GESSO_TLS_CERT": "-----BEGIN X", "GESSO_TLS_KEY": "-----BEGIN Y"},
    }[wrong]  # fmt: skip
    with pytest.raises(CheckError, match="GESSO_TLS_CERT") as raised:
        caddy.configure(layout, {"GESSO_TOKEN": OWN, **env})
    assert raised.value.next_step
    assert not (layout.run / "Caddyfile").exists()


def test_an_old_temporary_file_does_not_expose_the_token(layout: Layout) -> None:
    layout.run.mkdir()
    old = layout.run / "Caddyfile.new"
    old.write_text("x" * 9999)
    old.chmod(0o644)
    caddy.configure(layout, {"GESSO_TOKEN": OWN})
    path = layout.run / "Caddyfile"
    assert path.stat().st_mode & 0o777 == 0o600
    assert "xxx" not in path.read_text()


@pytest.mark.parametrize(
    ("env", "url"),
    [
        ({}, f"http://127.0.0.1:8188/{OWN}"),
        ({"PUBLIC_IPADDR": "203.0.113.9", "VAST_TCP_PORT_8188": "40123"}, f"http://203.0.113.9:40123/{OWN}"),
        ({"PUBLIC_IPADDR": "", "VAST_TCP_PORT_8188": ""}, f"http://127.0.0.1:8188/{OWN}"),
        ({"PUBLIC_IPADDR": "2001:db8::9"}, f"http://[2001:db8::9]:8188/{OWN}"),
        ({"PUBLIC_IPADDR": "203.0.113.9", "VAST_TCP_PORT_18188": "1"}, f"http://203.0.113.9:8188/{OWN}"),
    ],
)
def test_the_url_to_paste_into_krita(layout: Layout, env: dict[str, str], url: str) -> None:
    assert address.url(layout, {**env, "GESSO_TOKEN": OWN}) == url


def test_a_later_session_without_the_environment_gets_the_active_token(layout: Layout) -> None:
    caddy.configure(layout, {"GESSO_TOKEN": OWN})
    assert address.url(layout, {}).endswith(f"/{OWN}")


@pytest.mark.parametrize("damage", ["", "x", "\xff", "open sesame, please"])
def test_a_damaged_token_grants_no_access_and_is_repaired(layout: Layout, damage: str) -> None:
    caddy.configure(layout, {})
    right = caddy.active_token(layout, {})
    assert caddy.is_configured(layout, {})
    (layout.run / "token").write_text(damage, encoding="latin-1")
    assert not caddy.is_configured(layout, {})
    assert caddy.active_token(layout, {}) == right
    caddy.configure(layout, {}, caddy.active_token(layout, {}))
    assert caddy.is_configured(layout, {})
    assert (layout.run / "token").read_text(encoding="ascii").strip() == right


def test_the_active_token_outlives_the_stored_one(layout: Layout) -> None:
    """Krita uses it: if the stored file is deleted, it is restored with the same token."""
    caddy.configure(layout, {})
    right = caddy.active_token(layout, {})
    (layout.state / "token").unlink()
    assert not caddy.is_configured(layout, {})
    caddy.configure(layout, {}, caddy.active_token(layout, {}))
    assert (layout.state / "token").read_text(encoding="ascii").strip() == right


@pytest.mark.parametrize("name", ["Caddyfile", "token"])
def test_configured_means_every_file(layout: Layout, name: str) -> None:
    caddy.configure(layout, {"GESSO_TOKEN": OWN})
    assert caddy.is_configured(layout, {"GESSO_TOKEN": OWN})
    (layout.run / name).unlink()
    assert not caddy.is_configured(layout, {"GESSO_TOKEN": OWN})
