"""Image references, parsed as Docker does."""

from __future__ import annotations

import pytest

from gesso.builder.registry.reference import is_remote, parse, repository
from gesso.errors import ManifestError

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ghcr.io/me/gesso:sdxl", ("ghcr.io", "me/gesso", "sdxl", "")),
        (f"ghcr.io/me/gesso@{DIGEST}", ("ghcr.io", "me/gesso", "", DIGEST)),
        (f"localhost:5000/gesso:sdxl@{DIGEST}", ("localhost:5000", "gesso", "sdxl", DIGEST)),
        ("me/gesso", ("docker.io", "me/gesso", "", "")),
        ("debian", ("docker.io", "library/debian", "", "")),
        ("[::1]:5000/gesso:x", ("[::1]:5000", "gesso", "x", "")),
        ("index.docker.io/me/gesso", ("docker.io", "me/gesso", "", "")),
    ],
)
def test_parts(text: str, parts: tuple[str, str, str, str]) -> None:
    found = parse(text)
    assert (found.host, found.path, found.tag, found.digest) == parts


@pytest.mark.parametrize(
    "text", ["ghcr.io/Me/gesso", "ghcr.io/me/gesso:a b", "x@sha256:12", "https://ghcr.io/x", "", ":x"]
)
def test_an_invalid_reference(text: str) -> None:
    with pytest.raises(ManifestError) as error:
        parse(text)
    assert "use a name like ghcr.io/OWNER/gesso" in str(error.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("localhost:5000", "localhost:5000/gesso"),
        ("127.0.0.1:5000/", "127.0.0.1:5000/gesso"),
        ("ghcr.io/me/images", "ghcr.io/me/images"),
        ("me/gesso", "docker.io/me/gesso"),
    ],
)
def test_the_repository_of_registry(text: str, found: str) -> None:
    assert repository(text).repository == found


@pytest.mark.parametrize("text", ["ghcr.io/me/gesso:sdxl", f"ghcr.io/me/gesso@{DIGEST}"])
def test_a_tag_or_digest_is_refused(text: str) -> None:
    with pytest.raises(ManifestError, match="gesso sets the tags itself"):
        repository(text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost:5000", True), ("127.0.0.9", True), ("[::1]:5000", True), ("ghcr.io", False), ("10.0.0.1:5000", False),
     ("127.0.0.1.example.org", False), ("localhost.example.org", False)],
)  # fmt: skip
def test_loopback(host: str, expected: bool) -> None:
    assert parse(f"{host}/gesso").is_loopback is expected


def test_a_name_without_a_host_is_in_the_engine() -> None:
    assert not is_remote("gesso:sdxl")
    assert not is_remote("me/gesso:sdxl")
    assert is_remote("localhost:5000/gesso")


def test_str_is_the_parsed_text() -> None:
    assert str(parse(f"ghcr.io/me/gesso:sdxl@{DIGEST}")) == f"ghcr.io/me/gesso:sdxl@{DIGEST}"
    assert str(parse("ghcr.io/me/gesso").tagged("x").at(DIGEST)) == f"ghcr.io/me/gesso@{DIGEST}"
