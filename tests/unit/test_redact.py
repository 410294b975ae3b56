"""Secrets are hidden at any depth and in any notation."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.redact import HIDDEN, is_secret, redact, redact_urls, secret_values

CANARY = "hf_CanaryCanaryCanary"

SHAPES: dict[str, Any] = {
    "mapping": {"HF_TOKEN": CANARY},
    "deep": {"env": [{"x": ({"VAST_API_KEY": CANARY},)}]},
    "mapping under a secret's name": {"auth": {"username": CANARY, "password": CANARY}},
    "a list under a secret's name": {"tokens": 1, "token": [CANARY]},
    "header": {"headers": {"Authorization": f"Bearer {CANARY}"}},
    "header as a pair": [("Authorization", f"Bearer {CANARY}")],
    "header in text": f"GET / HTTP/1.1\r\nAuthorization: Bearer {CANARY}\r\nAccept: */*",
    "header in JSON": f'{{"X-Api-Key": "{CANARY}"}}',
    "a scheme alone": f"sent Basic {CANARY}",
    "URL": f"https://me:{CANARY}@host.example/x",
    "URL with an @ in the password": f"https://me:p@{CANARY}@host.example/x",
    "query": f"https://host.example/x?a=1&api_key={CANARY}&b=2",
    "docker run": f"docker run -p 8188:8188 -e HF_TOKEN={CANARY} -e A=1 image",
    "docker run, quoted": f"-e HF_TOKEN='{CANARY} {CANARY}' -e A=1",
    "docker run, argv": ["docker", "run", "-e", f"HF_TOKEN={CANARY}"],
    "a flag and its value": ["--registry-password", CANARY],
    "a flag in text": f"login --password {CANARY} host",
    "bytes": f"HF_TOKEN={CANARY}".encode(),
    "camel case": {"identityToken": CANARY},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_hidden(shape: str) -> None:
    shown = repr(redact(SHAPES[shape]))
    assert CANARY not in shown
    assert HIDDEN in shown


def test_a_given_value_is_hidden_wherever_it_occurs() -> None:
    shown = redact({"note": f"it is {CANARY}, you see", CANARY: 1, "n": 5}, [CANARY])
    assert shown == {"note": "it is ***, you see", HIDDEN: 1, "n": 5}


@pytest.mark.parametrize(
    "harmless",
    [
        {"author": "me", "tokens_per_second": 5, "tokenizer": "clip", "key": "value", "monkey": "x"},
        {"HF_TOKEN": ""},
        {"gated": True, "needs_token": False},
        "ghcr.io/me/gesso@sha256:0123",
        "https://huggingface.co/a/b/resolve/main/c.safetensors?download=true",
        "-e GESSO_ADMIN_ORIGIN=https://admin.example -p 8188:8188",
        ["text_encoders/clip_l.safetensors", 246144152, None, 1.5],
        "author: me",
    ],
)
def test_harmless_data_is_not_changed(harmless: Any) -> None:
    assert redact(harmless) == harmless


def test_the_rest_of_the_text_is_not_changed() -> None:
    text = f"docker run -e HF_TOKEN={CANARY} -e A=1 https://u:{CANARY}@h/x?token={CANARY}&b=2"
    assert redact(text) == "docker run -e HF_TOKEN=*** -e A=1 https://***@h/x?token=***&b=2"


def test_the_data_itself_is_not_changed() -> None:
    data = {"a": [{"token": CANARY}]}
    redact(data)
    assert data == {"a": [{"token": CANARY}]}


def test_which_variables_hold_secrets() -> None:
    env = {"HF_TOKEN": CANARY, "VAST_API_KEY": "abcdefg", "MY_PASSWORD": "hunter22", "PATH": "/bin", "HOME": "/root"}
    assert secret_values(env) == ("abcdefg", CANARY, "hunter22")


def test_a_short_value_hides_nothing_else() -> None:
    """A password of one letter would hide every such letter in a report."""
    assert redact("a banana", ["a"]) == "a banana"


@pytest.mark.parametrize("name", ["HF_TOKEN", "x-api-key", "Password", "VAST_API_KEY", "clientSecret", "auth"])
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_JSON, st.sampled_from(["HF_TOKEN", "password", "Authorization"]), st.text(min_size=6, max_size=30))
def test_at_any_depth(around: Any, name: str, secret: str) -> None:
    where = {name: secret + CANARY, "around": around, "deeper": [[{"x": {name: CANARY}}]]}
    assert CANARY not in json.dumps(redact(where))
    assert redact(redact(where)) == redact(where)


def test_a_shells_working_directory_is_no_secret() -> None:
    env = {"PWD": "/home/me/gesso", "OLDPWD": "/home/me/other", "DB_PWD": "hunter22", "HF_TOKEN": "hf_something"}
    assert secret_values(env) == ("hf_something", "hunter22")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:secret@host/simple", "https://***@host/simple"),
        ("https://token@host", "https://***@host"),
        ("https://user:p@ss@host/x", "https://***@host/x"),
        ("two https://a:b@c and http://d:e@f/g", "two https://***@c and http://***@f/g"),
        ("https://host/path@v1", "https://host/path@v1"),
        ("mail me@example.org", "mail me@example.org"),
        ("git@github.com:Acly/x", "git@github.com:Acly/x"),
        ("", ""),
    ],
)
def test_credentials_in_urls(text: str, expected: str) -> None:
    assert redact_urls(text) == expected


@given(st.text(st.characters(exclude_characters="/", exclude_categories=["Z", "C"]), min_size=1, max_size=30))
def test_no_password_is_left_in_a_url(password: str) -> None:
    text = redact_urls(f"fatal: 'https://user:<{password}>@host/x' not found")
    assert text == "fatal: 'https://***@host/x' not found"


@pytest.mark.parametrize(
    "text", ["--a", "--token-", "token-", "?a.a", "://a", "token" + " " * 50, 'token="', "bearer "]
)
def test_a_long_line_takes_no_long_time(text: str) -> None:
    """Logs are redacted while people wait: 256 KB took minutes once, in a line of many `--a`."""
    long = text * (256 * 1024 // len(text))
    begun = time.process_time()
    redact(long, ("secret-value",))
    assert time.process_time() - begun < 5
