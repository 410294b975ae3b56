"""The push: its progress, retries, and the comparison of the image read back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import requests

from gesso.builder.publish.plan import rows
from gesso.builder.registry import push as pushing
from gesso.builder.registry.client import digest_of
from gesso.builder.registry.credentials import Login
from gesso.builder.registry.push import Step, is_permanent, listen, push
from gesso.builder.registry.readback import differences, read_back
from gesso.errors import PublishError
from gesso.retry import TRIES, Clock
from tests.unit.builder import images

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.builder.fake_registry import FakeRegistry

DIGEST = f"sha256:{'d' * 64}"
GOOD: list[dict[str, Any]] = [
    {"status": "The push refers to repository [x]"},
    {"status": "Preparing", "progressDetail": {}, "id": "aaa"},
    {"status": "Layer already exists", "progressDetail": {}, "id": "bbb"},
    {"status": "Pushing", "progressDetail": {"current": 512, "total": 2048}, "progress": "[=> ]", "id": "aaa"},
    {"status": "Pushed", "progressDetail": {}, "id": "aaa"},
    {"status": "Mounted from me/other", "progressDetail": {}, "id": "ccc"},
    {"status": f"sdxl: digest: {DIGEST} size: 5000"},
    {"progressDetail": {}, "aux": {"Tag": "sdxl", "Digest": DIGEST, "Size": 5000}},
]
REFUSED: list[dict[str, Any]] = [
    GOOD[1],
    {"error": "Put http://127.0.0.1:5000/v2/x: dial tcp 127.0.0.1:5000: connect: connection refused"},
]
TARGET = images.REPOSITORY.tagged("sdxl-0.1.0-cu130")


class Engine:
    """A fake engine API that returns the given outcomes of pushes in order."""

    def __init__(self, *outcomes: Any, tags: tuple[str, ...] = ("gesso:sdxl",)) -> None:
        self.api = self
        self.outcomes = list(outcomes)
        self.tags = list(tags)
        self.auth: Any = None

    def inspect_image(self, _: str) -> dict[str, Any]:
        return {"RepoTags": list(self.tags)}

    def tag(self, _: str, repository: str, tag: str) -> bool:
        self.tags = [*dict.fromkeys([*self.tags, f"{repository}:{tag}"])]
        return True

    def remove_image(self, name: str, **_: Any) -> None:
        self.tags.remove(name)

    def push(self, *_: Any, auth_config: Any, **__: Any) -> Iterator[dict[str, Any]]:
        self.auth = auth_config
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return iter(outcome)


def run(engine: Engine, login: Login | None = None) -> tuple[str, list[Step], list[str], list[float]]:
    steps: list[Step] = []
    lines: list[str] = []
    sleeps: list[float] = []
    client: Any = engine
    digest = push(client, images.local(), TARGET, login or Login(), (steps.append, lines.append), Clock(sleeps.append))
    return digest, steps, lines, sleeps


def test_progress_by_layer_and_the_digest() -> None:
    digest, steps, _, _ = run(Engine(GOOD))
    assert digest == DIGEST
    assert steps == [
        Step("aaa", "waiting"), Step("bbb", "exists"), Step("aaa", "pushing", 512, 2048), Step("aaa", "pushed"),
        Step("ccc", "mounted"),
    ]  # fmt: skip


def test_transient_failures_are_retried() -> None:
    digest, _, lines, sleeps = run(Engine(REFUSED, requests.ConnectionError("gone"), GOOD))
    assert digest == DIGEST
    assert sleeps == [1.0, 2.0]
    assert "connection refused; retrying in 1 s (attempt 2 of 7)" in lines[0]


def test_a_lasting_failure_is_reported() -> None:
    engine = Engine(*[REFUSED] * TRIES)
    with pytest.raises(PublishError, match=r"the push failed: .*connection refused"):
        run(engine)
    assert engine.outcomes == []
    assert engine.tags == ["gesso:sdxl"]


@pytest.mark.parametrize(
    ("error", "step"),
    [
        ("no basic auth credentials", "docker login ghcr.io"),
        ("unauthorized: authentication required", "docker login ghcr.io"),
        ("denied: requested access to the resource is denied", "docker login ghcr.io"),
        ("Get https://x/v2/: tls: failed to verify certificate: x509: unknown authority", "certs.d/ghcr.io/ca.crt"),
        ("http: server gave HTTP response to HTTPS client", "certs.d/ghcr.io/ca.crt"),
        ("dial tcp: lookup x: no such host", "check the registry's name"),
        ("quota exceeded", "free space"),
    ],
)
def test_permanent_errors_are_not_retried(error: str, step: str) -> None:
    with pytest.raises(PublishError) as raised:
        run(Engine([{"error": error}]))
    first, second = str(raised.value).splitlines()
    assert error in first
    assert step in second


@pytest.mark.parametrize("error", ["EOF", "connection reset by peer", "blob upload unknown",
                                   "received unexpected HTTP status: 502 Bad Gateway",
                                   "net/http: TLS handshake timeout", "i/o timeout"])  # fmt: skip
def test_transient_errors(error: str) -> None:
    assert not is_permanent(error)


def test_no_digest_is_no_success() -> None:
    assert listen(GOOD[:-1], lambda _: None).error == "the engine ended the push without a digest"


def test_an_error_after_the_digest_is_an_error() -> None:
    assert listen([*GOOD, *REFUSED], lambda _: None).digest == ""


def test_no_login_in_a_message() -> None:
    with pytest.raises(PublishError) as error:
        run(Engine([{"error": "denied: https://me:secret@host/x"}]))
    assert "secret" not in str(error.value)


def test_the_login_goes_to_the_engine() -> None:
    engine = Engine(GOOD)
    run(engine, Login("me", "pass"))
    assert engine.auth == {"username": "me", "password": "pass", "serveraddress": "ghcr.io"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("gesso:sdxl",), ["gesso:sdxl"]),
        (("gesso:sdxl", str(TARGET)), ["gesso:sdxl", str(TARGET)]),
        ((), [str(TARGET)]),  # without any tag the engine would delete the image
    ],
)
def test_the_engines_tags_stay_unchanged(before: tuple[str, ...], after: list[str]) -> None:
    engine = Engine(GOOD, tags=before)
    run(engine)
    assert engine.tags == after


def test_an_interrupted_push_removes_its_tag() -> None:
    engine = Engine(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(engine)
    assert engine.tags == ["gesso:sdxl"]


def _sizes(**change: int | None) -> dict[str, int | None]:
    return {layer.digest: layer.size for layer in images.remote().layers} | change


def test_equal_images_have_no_differences() -> None:
    assert differences(images.local(), images.remote(), _sizes()) == []


def test_every_difference_is_named() -> None:
    first, second, _ = (layer.digest for layer in images.remote().layers)
    found = differences(images.local(), images.remote(), _sizes(**{first: None, second: 5}))
    assert found == [f"layer {first[:19]} is missing", f"layer {second[:19]} has 5 bytes"]
    other = differences(images.local(), images.remote({**images.LABELS, "dev.gesso.arch": "flux"}, 2), _sizes())
    assert len(other) == 3
    assert all(word in text for word, text in zip(("another image", "its layers", "gesso.arch"), other, strict=True))


def test_the_image_is_read_back_by_digest(registry: FakeRegistry) -> None:
    digest = images.remote().digest
    found = read_back(registry.client(), registry.reference.at(digest), images.local())
    assert found.digest == digest
    registry.sizes.pop(images.remote().layers[1].digest)
    with pytest.raises(PublishError, match=r"the registry's copy differs: layer .* is missing"):
        read_back(registry.client(), registry.reference.at(digest), images.local())
    with pytest.raises(PublishError, match="pushed, but not found"):
        read_back(registry.client(), registry.reference.at(digest_of(b"")), images.local())


def test_existing_layers_are_found() -> None:
    image = replace(images.local(layers=4), layers=images.local(layers=4).layers)
    found = rows(image, [images.remote(layers=2), images.remote()])
    assert [row.existing.digest if row.existing else None for row in found] == [
        *(layer.digest for layer in images.remote().layers), None,
    ]  # fmt: skip


def test_states_of_the_engine() -> None:
    assert pushing._state("Retrying in 5 seconds") == "retrying"
    assert pushing._state("The push refers to repository [x]") == ""
