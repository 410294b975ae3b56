"""The push: the engine's account of it, what is tried again, and what is read back and compared afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import requests

from gesso.builder.publish.plan import rows
from gesso.builder.registry import push as pushing
from gesso.builder.registry.client import digest_of
from gesso.builder.registry.credentials import Login
from gesso.builder.registry.push import Step, is_lasting, listen, push
from gesso.builder.registry.readback import differences, read_back
from gesso.errors import PublishError
from gesso.retry import TRIES, Clock
from tests.unit.builder import images

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.builder.fake_registry import RegistryLike

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
GONE: list[dict[str, Any]] = [
    GOOD[1],
    {"error": "Put http://127.0.0.1:5000/v2/x: dial tcp 127.0.0.1:5000: connect: connection refused"},
]
TARGET = images.REPOSITORY.tagged("sdxl-0.1.0-cu130")


class Engine:
    """An engine's API that answers pushes one after the other."""

    def __init__(self, *answers: Any, tags: tuple[str, ...] = ("gesso:sdxl",)) -> None:
        self.api = self
        self.answers = list(answers)
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
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return iter(answer)


def run(engine: Engine, login: Login | None = None) -> tuple[str, list[Step], list[str], list[float]]:
    steps: list[Step] = []
    said: list[str] = []
    waited: list[float] = []
    client: Any = engine
    digest = push(client, images.local(), TARGET, login or Login(), (steps.append, said.append), Clock(waited.append))
    return digest, steps, said, waited


def test_progress_by_layer_and_the_digest() -> None:
    digest, steps, _, _ = run(Engine(GOOD))
    assert digest == DIGEST
    assert steps == [
        Step("aaa", "waits"), Step("bbb", "there"), Step("aaa", "moves", 512, 2048), Step("aaa", "pushed"),
        Step("ccc", "mounted"),
    ]  # fmt: skip


def test_what_fails_for_the_moment_is_begun_again() -> None:
    digest, _, said, waited = run(Engine(GONE, requests.ConnectionError("gone"), GOOD))
    assert digest == DIGEST
    assert waited == [1.0, 2.0]
    assert "connection refused; again in 1 s (try 2 of 7)" in said[0]


def test_what_stays_is_given_up() -> None:
    engine = Engine(*[GONE] * TRIES)
    with pytest.raises(PublishError, match=r"the push failed: .*connection refused"):
        run(engine)
    assert engine.answers == []
    assert engine.tags == ["gesso:sdxl"]


@pytest.mark.parametrize(
    ("said", "step"),
    [
        ("no basic auth credentials", "docker login ghcr.io"),
        ("unauthorized: authentication required", "docker login ghcr.io"),
        ("denied: requested access to the resource is denied", "docker login ghcr.io"),
        ("Get https://x/v2/: tls: failed to verify certificate: x509: unknown authority", "certs.d/ghcr.io/ca.crt"),
        ("http: server gave HTTP response to HTTPS client", "certs.d/ghcr.io/ca.crt"),
        ("dial tcp: lookup x: no such host", "check the registry's name"),
        ("quota exceeded", "make room"),
    ],
)
def test_what_does_not_get_better_is_said_at_once(said: str, step: str) -> None:
    with pytest.raises(PublishError) as error:
        run(Engine([{"error": said}]))
    first, second = str(error.value).splitlines()
    assert said in first
    assert step in second


@pytest.mark.parametrize("said", ["EOF", "connection reset by peer", "received unexpected HTTP status: 502 Bad Gateway",
                                  "blob upload unknown", "net/http: TLS handshake timeout", "i/o timeout"])  # fmt: skip
def test_what_passes(said: str) -> None:
    assert not is_lasting(said)


def test_no_digest_is_no_success() -> None:
    assert listen(GOOD[:-1], lambda _: None).error == "the engine ended the push without a digest"


def test_an_error_after_the_digest_is_an_error() -> None:
    assert listen([*GOOD, *GONE], lambda _: None).digest == ""


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
        ((), [str(TARGET)]),  # without any name the engine would drop the image
    ],
)
def test_the_engines_names_stay_as_they_were(before: tuple[str, ...], after: list[str]) -> None:
    engine = Engine(GOOD, tags=before)
    run(engine)
    assert engine.tags == after


def test_interrupted_the_name_goes_as_well() -> None:
    engine = Engine(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(engine)
    assert engine.tags == ["gesso:sdxl"]


def _sizes(**change: int | None) -> dict[str, int | None]:
    return {layer.digest: layer.size for layer in images.remote().layers} | change


def test_what_was_pushed_is_what_is_there() -> None:
    assert differences(images.local(), images.remote(), _sizes()) == []


def test_every_difference_is_named() -> None:
    first, second, _ = (layer.digest for layer in images.remote().layers)
    found = differences(images.local(), images.remote(), _sizes(**{first: None, second: 5}))
    assert found == [f"layer {first[:19]} is not there", f"layer {second[:19]} has 5 bytes"]
    other = differences(images.local(), images.remote({**images.LABELS, "dev.gesso.arch": "flux"}, 2), _sizes())
    assert len(other) == 3
    assert all(word in said for word, said in zip(("another image", "its layers", "gesso.arch"), other, strict=True))


def test_it_is_read_back_by_digest(registry: RegistryLike) -> None:
    digest = images.remote().digest
    found = read_back(registry.client(), registry.reference.at(digest), images.local())
    assert found.digest == digest
    registry.sizes.pop(images.remote().layers[1].digest)
    with pytest.raises(PublishError, match=r"what the registry gives back differs: layer .* is not there"):
        read_back(registry.client(), registry.reference.at(digest), images.local())
    with pytest.raises(PublishError, match="pushed, and not there"):
        read_back(registry.client(), registry.reference.at(digest_of(b"")), images.local())


def test_which_layers_are_there_already() -> None:
    image = replace(images.local(layers=4), layers=images.local(layers=4).layers)
    found = rows(image, [images.remote(layers=2), images.remote()])
    assert [row.there.digest if row.there else None for row in found] == [
        *(layer.digest for layer in images.remote().layers), None,
    ]  # fmt: skip


def test_states_are_those_of_an_engine() -> None:
    assert pushing._state("Retrying in 5 seconds") == "retries"
    assert pushing._state("The push refers to repository [x]") == ""
