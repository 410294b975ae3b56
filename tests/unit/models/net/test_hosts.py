"""Mirrors, tokens and refusals: a token goes to its own origin and to no other, and each refusal says what to do."""

from __future__ import annotations

from typing import get_args
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.models.faults import SourceError, SourceWhy
from gesso.models.net import hosts

HF = "https://huggingface.co/org/repo/resolve/main/vae/file.safetensors"
CIVITAI = "https://civitai.com/api/download/models/1"
TOKENS = {"HF_TOKEN": "hf_secret", "CIVITAI_TOKEN": "cv_secret"}
BEARER = {"Authorization": "Bearer hf_secret"}


# ── tokens ──


def test_each_token_goes_to_its_own_host() -> None:
    assert hosts.authorization(HF, TOKENS) == BEARER
    assert hosts.authorization(CIVITAI, TOKENS) == {"Authorization": "Bearer cv_secret"}
    assert hosts.authorization(HF, {"CIVITAI_TOKEN": "cv_secret"}) == {}
    assert hosts.authorization(CIVITAI, {"HF_TOKEN": "hf_secret"}) == {}
    assert hosts.authorization(HF, {}) == {}


@pytest.mark.parametrize(
    "url",
    [
        "http://huggingface.co/a", "https://huggingface.co:8443/a", "https://cdn.huggingface.co/a",
        "https://huggingface.co.evil.example/a", "https://evil.example/huggingface.co", "https://xhuggingface.co/a",
        "https://huggingface.co@evil.example/a", "https://evil.example#huggingface.co", "https://hf.co/a",
        "https://huggingface.co./a", "ftp://huggingface.co/a", "https:///a", "//huggingface.co/a",
        "https://cas-bridge.xethub.hf.co/a", "https://evil.example/?https://huggingface.co/",
    ],
)  # fmt: skip
def test_no_other_origin_sees_the_token(url: str) -> None:
    assert hosts.authorization(url, TOKENS) == {}


@pytest.mark.parametrize("url", ["https://huggingface.co:443/a", "HTTPS://HuggingFace.co/a", "https://huggingface.co"])
def test_the_same_origin_written_otherwise_is_the_same(url: str) -> None:
    assert hosts.authorization(url, TOKENS) == BEARER


def test_with_a_mirror_the_token_goes_there_and_no_more_to_hugging_face() -> None:
    env = {**TOKENS, "HF_ENDPOINT": "http://127.0.0.1:8080/"}
    assert hosts.authorization("http://127.0.0.1:8080/org/repo/resolve/main/f", env) == BEARER
    for url in (HF, "http://127.0.0.1:8081/a", "https://127.0.0.1:8080/a", "http://localhost:8080/a"):
        assert hosts.authorization(url, env) == {}, url


def test_the_older_name_of_the_token_is_known_and_comes_second() -> None:
    assert hosts.authorization(HF, {"HUGGING_FACE_HUB_TOKEN": "hf_secret"}) == BEARER
    assert hosts.authorization(HF, {"HUGGING_FACE_HUB_TOKEN": "old", "HF_TOKEN": "hf_secret"}) == BEARER


@pytest.mark.parametrize("token", ["hf_secret\n", "  hf_secret "])
def test_space_around_a_token_is_no_part_of_it(token: str) -> None:
    assert hosts.authorization(HF, {"HF_TOKEN": token}) == BEARER


@pytest.mark.parametrize("token", ["", " ", "two words", "a\r\nX-Evil: 1", "t\u00f6ken", "\x00"])
def test_what_cannot_be_a_header_is_never_sent(token: str) -> None:
    assert hosts.authorization(HF, {"HF_TOKEN": token}) == {}


ORIGINS = st.tuples(
    st.sampled_from(["https", "http", "ftp", ""]),
    st.sampled_from(["huggingface.co", "civitai.com", "mirror.example", "a.huggingface.co", "127.0.0.1", ""]),
    st.sampled_from(["", ":443", ":80", ":8443"]),
    st.sampled_from(["", "/", "/org/repo/resolve/main/f", "/?x=huggingface.co"]),
)


@given(
    ORIGINS, st.sampled_from([None, "https://mirror.example", "http://127.0.0.1:8443", "https://mirror.example:8443/x"])
)
def test_a_token_is_sent_to_its_exact_origin_only(made: tuple[str, str, str, str], mirror: str | None) -> None:
    scheme, host, port, path = made
    url = f"{scheme}://{host}{port}{path}"
    env = TOKENS | ({"HF_ENDPOINT": mirror} if mirror else {})
    parts = urlsplit(url)
    asked = (parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme))
    home = {
        None: ("https", "huggingface.co", 443), "https://mirror.example": ("https", "mirror.example", 443),
        "http://127.0.0.1:8443": ("http", "127.0.0.1", 8443),
        "https://mirror.example:8443/x": ("https", "mirror.example", 8443),
    }[mirror]  # fmt: skip
    expected = {}
    if asked == home:
        expected = BEARER
    elif asked == ("https", "civitai.com", 443):
        expected = {"Authorization": "Bearer cv_secret"}
    assert hosts.authorization(url, env) == expected


@pytest.mark.parametrize("mirror", ["https://mirror.example:port", "https://[::1", "mirror.example", "https://a:99999"])
def test_a_mirror_that_is_no_address_sends_no_token_anywhere(mirror: str) -> None:
    assert hosts.authorization(HF, {**TOKENS, "HF_ENDPOINT": mirror}) == {}


# ── mirrors ──


def test_hf_endpoint_stands_for_hugging_face_and_for_nothing_else() -> None:
    env = {"HF_ENDPOINT": "https://mirror.example/hf/"}
    assert hosts.address(HF, env) == HF.replace("https://huggingface.co", "https://mirror.example/hf")
    for url in (CIVITAI, "https://huggingface.co.evil.example/a", "https://evil.example/https://huggingface.co/"):
        assert hosts.address(url, env) == url
    assert hosts.address(HF, {}) == HF
    assert hosts.address(HF, {"HF_ENDPOINT": ""}) == HF
    assert hosts.endpoint({"HF_ENDPOINT": "https://mirror.example///"}) == "https://mirror.example"


# ── what a host says before it gives anything ──


def test_what_hugging_face_announces() -> None:
    sha = "ab" * 32
    assert hosts.announced({"X-Linked-ETag": f'"{sha}"', "x-linked-size": "42"}) == hosts.Announced(sha, 42)
    assert hosts.announced({"x-linked-etag": f'W/"{sha}"'}) == hosts.Announced(sha, None)
    assert hosts.announced({}) == hosts.Announced(None, None)


@pytest.mark.parametrize("etag", ["", "ab" * 20, "AB" * 32, "g" * 64, f"{'ab' * 32}0", f"{'ab' * 32}\n"])
def test_an_etag_that_is_no_sha256_announces_nothing(etag: str) -> None:
    assert hosts.announced({"X-Linked-Etag": f'"{etag}"'}).sha256 is None


@pytest.mark.parametrize("size", ["", "-1", "1.5", "0x9", "\u0663", "9" * 19, " 7"])
def test_a_size_that_is_no_number_announces_nothing(size: str) -> None:
    assert hosts.announced({"X-Linked-Size": size}).size is None


@given(st.dictionaries(st.sampled_from(["X-Linked-Etag", "x-linked-size", "ETag"]), st.text(max_size=80)))
def test_any_announcement_is_read_or_left(headers: dict[str, str]) -> None:
    found = hosts.announced(headers)
    assert found.sha256 is None or len(found.sha256) == 64
    assert found.size is None or 0 <= found.size < 10**18


# ── refusals ──


def refused(status: int, code: str = "", url: str = HF, *, with_token: bool = False) -> SourceError:
    return hosts.refusal(status, {"X-Error-Code": code} if code else {}, url, with_token=with_token)


PAGE = "https://huggingface.co/org/repo"


@pytest.mark.parametrize(
    ("status", "code", "with_token", "why", "step"),
    [
        (401, "GatedRepo", False, "gated", f"accept the licence at {PAGE}, then set HF_TOKEN"),
        (403, "GatedRepo", True, "gated", f"accept the licence at {PAGE}"),
        (403, "", True, "gated", PAGE),
        (403, "", False, "forbidden", "HF_TOKEN"),
        (401, "", False, "needs-token", "set HF_TOKEN"),
        (401, "", True, "bad-token", "HF_TOKEN to a valid token"),
        (401, "RepoNotFound", False, "not-found", PAGE),
        (401, "RepoNotFound", True, "not-found", "sources"),
        (404, "EntryNotFound", False, "not-found", "sources"),
        (404, "RevisionNotFound", False, "not-found", "sources"),
        (404, "", False, "not-found", "sources"),
        (410, "", False, "gone", "sources"),
        (416, "", False, "bad-range", "sources"),
        (429, "", False, "rate-limited", "later"),
        (408, "", False, "server-error", "later"),
        (425, "", False, "server-error", "later"),
        (500, "", False, "server-error", "later"),
        (503, "", True, "server-error", "later"),
        (599, "", False, "server-error", "later"),
        (204, "", False, "refused-request", PAGE),
        (304, "", False, "refused-request", PAGE),
        (400, "", False, "refused-request", PAGE),
        (451, "", False, "refused-request", PAGE),
    ],
)
def test_what_a_refusal_means(status: int, code: str, why: str, step: str, *, with_token: bool) -> None:
    found = refused(status, code, with_token=with_token)
    assert found.why == why
    assert step in found.next_step
    assert f"HTTP {status}" in found.message
    assert found.transient == (why in {"rate-limited", "server-error"})


def test_a_licence_that_only_wants_accepting_does_not_ask_for_a_token_that_is_there() -> None:
    assert "HF_TOKEN" not in refused(403, "GatedRepo", with_token=True).next_step


def test_each_host_has_its_own_token_and_page() -> None:
    assert "CIVITAI_TOKEN" in refused(401, url=CIVITAI).next_step
    assert "HF_TOKEN" not in refused(401, url=CIVITAI).next_step
    assert "civitai.com" in refused(404, url=CIVITAI).next_step
    assert refused(403, url=CIVITAI, with_token=True).why == "forbidden"
    mirror = refused(404, url=HF.replace("huggingface.co", "mirror.example"))
    assert "https://mirror.example/org/repo" in mirror.next_step


def test_the_name_of_a_header_is_read_in_any_case() -> None:
    assert hosts.refusal(401, {"x-error-code": "GatedRepo"}, HF, with_token=False).why == "gated"


@given(
    st.integers(100, 999),
    st.dictionaries(st.sampled_from(["X-Error-Code", "x-error-code", "Retry-After"]), st.text(max_size=20)),
    st.sampled_from(
        [HF, CIVITAI, "http://127.0.0.1:9/f", "https://h/{page}{x}", "https://h", "https://[::1]:8/%7B%7D"]
    ),
    st.booleans(),
)
def test_any_refusal_is_a_source_error_with_a_next_step(
    status: int,
    headers: dict[str, str],
    url: str,
    with_token: bool,
) -> None:
    found = hosts.refusal(status, headers, url, with_token=with_token)
    assert isinstance(found, SourceError)
    assert found.why in get_args(SourceWhy)
    assert f"HTTP {status}" in found.message
    assert found.next_step
    assert "{token}" not in found.next_step
    assert not found.transient or status in {408, 425, 429} or status >= 500
