"""The client that reads a registry back: logins, refusals, and answers that go wrong. The server is in memory."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING

import pytest

from gesso.builder.registry import credentials, remote_image
from gesso.builder.registry.client import Answer, Registry
from gesso.builder.registry.credentials import Login
from gesso.builder.registry.http import Wire
from gesso.builder.registry.reference import Reference
from gesso.errors import PublishError
from gesso.retry import Clock
from tests.integration.builder.fake_registry import PASSWORD, USER
from tests.unit.builder import images

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.builder.fake_registry import RegistryLike, Reply

ME = Login(USER, PASSWORD)
BUSY: Reply = (503, b"", {})


def test_an_image_is_read(registry: RegistryLike) -> None:
    found = remote_image.read(registry.client(), registry.reference.tagged("sdxl"))
    wanted = images.remote()
    assert found is not None
    assert (found.digest, found.config_digest) == (wanted.digest, wanted.config_digest)
    assert found.labels == images.LABELS
    assert found.layers == wanted.layers
    assert found.compressed == 600 + wanted.config_size + len(wanted.manifest.content)
    assert found.created == images.CREATED


def test_what_is_not_there_is_none(registry: RegistryLike) -> None:
    assert remote_image.read(registry.client(), registry.reference.tagged("flux")) is None
    assert registry.client().blob_size(registry.reference, images.diff_id(99)) is None
    assert registry.client().tags(Reference(registry.host, "other")) == []


def test_the_image_for_this_platform_out_of_an_index(registry: RegistryLike) -> None:
    index = {
        "manifests": [
            {"digest": images.diff_id(7), "platform": {"os": "linux", "architecture": "arm64"}},
            {"digest": images.remote().digest, "platform": {"os": "linux", "architecture": "amd64"}},
        ]
    }
    registry.manifests["many"] = (json.dumps(index).encode(), "application/vnd.oci.image.index.v1+json")
    found = remote_image.read(registry.client(), registry.reference.tagged("many"))
    assert found is not None
    assert found.digest == images.remote().digest


@pytest.mark.parametrize("content", [b"[]", b"not JSON", b'{"layers": []}', b'{"config": {"digest": 5}}'])
def test_what_is_no_image(registry: RegistryLike, content: bytes) -> None:
    registry.manifests["odd"] = (content, "application/vnd.oci.image.manifest.v1+json")
    with pytest.raises(PublishError):
        remote_image.read(registry.client(), registry.reference.tagged("odd"))


def test_other_bytes_than_those_of_the_digest(registry: RegistryLike) -> None:
    digest = images.remote().digest
    content, kind = registry.manifests[digest]
    registry.manifests[digest] = (content + b" ", kind)
    with pytest.raises(PublishError, match=r"the registry gave sha256:.* for it"):
        registry.client().manifest(registry.reference.at(digest))
    registry.blobs[images.remote().config_digest] += b" "
    with pytest.raises(PublishError, match="gave other bytes"):
        registry.client().blob(registry.reference, images.remote().config_digest)


def test_an_answer_without_end(registry: RegistryLike) -> None:
    registry.blobs["sha256:" + "e" * 64] = b"x" * 2000
    with pytest.raises(PublishError, match="larger than 1000 bytes"):
        registry.client().blob(registry.reference, "sha256:" + "e" * 64, 1000)


def test_tags_come_in_pages(registry: RegistryLike) -> None:
    registry.page = 1
    assert registry.client().tags(registry.reference) == ["sdxl", "sdxl-0.1.0", "sdxl-0.1.0-cu130"]


def test_a_tag_is_put(registry: RegistryLike) -> None:
    answer = Answer(b'{"a": 1}', "application/vnd.oci.image.manifest.v1+json")
    registry.client().put_manifest(registry.reference.tagged("new"), answer)
    assert registry.client().manifest(registry.reference.tagged("new")) == answer


def test_basic(registry: RegistryLike) -> None:
    registry.login = "basic"
    assert registry.client(ME).manifest(registry.reference.tagged("sdxl")) is not None


def test_a_token_for_reading_and_one_for_writing(registry: RegistryLike) -> None:
    registry.login = "token"
    client = registry.client(ME)
    found = client.manifest(registry.reference.tagged("sdxl"))
    assert found is not None
    client.put_manifest(registry.reference.tagged("new"), found)
    client.put_manifest(registry.reference.tagged("newer"), found)
    assert registry.tokens == ["repository:me/gesso:pull", "repository:me/gesso:pull,push"]


def test_a_repository_that_is_not_there_yet(registry: RegistryLike) -> None:
    """Docker Hub lets only those look who may make it: a publish asks for both rights from the start."""
    registry.login, registry.is_new = "token", True
    registry.manifests.clear()
    with pytest.raises(PublishError, match="the registry refuses"):
        registry.client(ME).manifest(registry.reference.tagged("sdxl"))
    assert registry.client(ME, writes=True).manifest(registry.reference.tagged("sdxl")) is None
    assert registry.tokens[-1] == "repository:me/gesso:pull,push"


def test_an_identity_token(registry: RegistryLike) -> None:
    registry.login = "token"
    registry.client(Login(identity="identity")).put_manifest(registry.reference.tagged("n"), Answer(b"{}", "x"))
    assert "n" in registry.manifests


@pytest.mark.parametrize("login", ["basic", "token"])
def test_no_login_where_one_is_wanted(registry: RegistryLike, login: str) -> None:
    registry.login = login
    with pytest.raises(PublishError) as error:
        registry.client().put_manifest(registry.reference.tagged("n"), Answer(b"{}", "x"))
    assert str(error.value).splitlines()[1] == f"  next: `docker login {registry.host}`, then run this again"
    assert f"{registry.host}/me/gesso: the registry wants a login" in str(error.value)


@pytest.mark.parametrize("login", ["basic", "token"])
def test_a_wrong_login(registry: RegistryLike, login: str) -> None:
    registry.login = login
    with pytest.raises(PublishError, match=f"the registry refuses {USER}: ") as error:
        registry.client(Login(USER, "wrong-password")).put_manifest(registry.reference.tagged("n"), Answer(b"{}", "x"))
    assert "wrong-password" not in str(error.value)


def test_no_right_to_push(registry: RegistryLike) -> None:
    registry.may_push = False
    with pytest.raises(PublishError, match="requested access to the resource is denied"):
        registry.client(ME).put_manifest(registry.reference.tagged("n"), Answer(b"{}", "x"))


def test_a_login_goes_to_no_plain_service(registry: RegistryLike) -> None:
    """A registry with TLS that sends logins to an address without: the password stays here."""
    wire = registry.client(ME).wire
    tls = Wire(wire.host, wire.base.replace("http:", "https:"), ME, wire.session, wire.clock, 1)
    with pytest.raises(PublishError, match="sends logins to"):
        tls._token({"realm": f"http://{registry.host}/token"}, "/v2/me/gesso/tags/list")
    assert registry.tokens == []


def test_what_fails_for_the_moment_is_tried_again(registry: RegistryLike) -> None:
    client = registry.client()
    registry.instead = [BUSY, (429, b"", {"Retry-After": "7"})]
    assert client.manifest(registry.reference.tagged("sdxl")) is not None
    assert registry.waited == [1.0, 7.0]


def test_what_stays_is_said(registry: RegistryLike) -> None:
    client = registry.client()
    registry.instead = [BUSY] * 3
    with pytest.raises(PublishError, match="the registry answers 503"):
        client.manifest(registry.reference.tagged("sdxl"))
    assert len(registry.waited) == 2


def test_a_registry_that_is_not_there() -> None:
    client = Registry.of(Reference("127.0.0.1:1", "gesso"), {})
    quick = Registry(Wire(client.wire.host, client.wire.base, Login(), client.wire.session, tries=1))
    with pytest.raises(PublishError, match=r"registry 127\.0\.0\.1:1 is out of reach: connection refused"):
        quick.tags(Reference("127.0.0.1:1", "gesso"))


def test_a_registry_that_does_not_exist() -> None:
    """A name that nobody has is no reason to wait."""
    slept: list[float] = []
    reference = Reference("registry.invalid", "gesso")
    with pytest.raises(PublishError, match=r"registry registry\.invalid is out of reach"):
        Registry.of(reference, {}, Clock(slept.append)).tags(reference)
    assert slept == []


def test_an_answer_of_something_else(registry: RegistryLike) -> None:
    client = registry.client()
    registry.instead = [(200, b"<html>hello</html>", {})]
    with pytest.raises(PublishError, match="no answer of a registry"):
        client.tags(registry.reference)


CONFIG = {"auths": {"ghcr.io": {"auth": "cGFpbnRlcjpwYXNz"}, "https://index.docker.io/v1/": {"auth": "aHViOmh1Yg=="}}}


@pytest.mark.parametrize(("host", "user"), [("ghcr.io", "painter"), ("docker.io", "hub"), ("quay.io", "")])
def test_logins_come_from_dockers_store(tmp_path: Path, host: str, user: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    found = credentials.find(host, {"DOCKER_CONFIG": str(tmp_path)})
    assert found.user == user
    assert bool(found) is bool(user)
    assert "pass" not in repr(found)


def test_a_credential_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "docker-credential-mine"
    helper.write_text('#!/bin/sh\ncat >/dev/null\necho \'{"Username": "helped", "Secret": "s3cret"}\'\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {"ghcr.io": "mine"}}))
    found = credentials.find("ghcr.io", {"DOCKER_CONFIG": str(tmp_path)})
    assert (found.user, found.password) == ("helped", "s3cret")


def test_a_store_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "nowhere-at-all"}))
    with pytest.raises(PublishError, match="store of credentials cannot be read"):
        credentials.find("ghcr.io", {"DOCKER_CONFIG": str(tmp_path)})


def test_the_ca_that_docker_trusts(tmp_path: Path) -> None:
    assert credentials.certificate("host:5000", tmp_path) is None
    folder = tmp_path / "host:5000"
    folder.mkdir()
    (folder / "ca.crt").write_text("no certificate")
    assert credentials.certificate("host:5000", tmp_path) == folder / "ca.crt"
    with pytest.raises(PublishError, match="no certificate can be read"):
        credentials.trust("host:5000", tmp_path)
    assert credentials.trust("other", tmp_path).verify_mode == ssl.CERT_REQUIRED
