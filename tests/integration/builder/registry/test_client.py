"""The registry client: logins, refusals, and bad responses. The server is in memory."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING

import pytest

from gesso.builder.registry import credentials, remote_image
from gesso.builder.registry.client import RawManifest, Registry
from gesso.builder.registry.credentials import Login
from gesso.builder.registry.http import HttpClient
from gesso.builder.registry.reference import Reference
from gesso.errors import PublishError
from gesso.retry import Clock
from tests.integration.builder.fake_registry import PASSWORD, USER
from tests.unit.builder import images

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.builder.fake_registry import FakeRegistry, Response

ME = Login(USER, PASSWORD)
BUSY: Response = (503, b"", {})


def test_an_image_is_read(registry: FakeRegistry) -> None:
    found = remote_image.read(registry.client(), registry.reference.tagged("sdxl"))
    expected = images.remote()
    assert found is not None
    assert (found.digest, found.config_digest) == (expected.digest, expected.config_digest)
    assert found.labels == images.LABELS
    assert found.layers == expected.layers
    assert found.compressed == 600 + expected.config_size + len(expected.manifest.content)
    assert found.created == images.CREATED


def test_a_missing_image_is_none(registry: FakeRegistry) -> None:
    assert remote_image.read(registry.client(), registry.reference.tagged("flux")) is None
    assert registry.client().blob_size(registry.reference, images.diff_id(99)) is None
    assert registry.client().tags(Reference(registry.host, "other")) == []


def test_the_image_of_the_platform_from_an_index(registry: FakeRegistry) -> None:
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
def test_not_an_image(registry: FakeRegistry, content: bytes) -> None:
    registry.manifests["odd"] = (content, "application/vnd.oci.image.manifest.v1+json")
    with pytest.raises(PublishError):
        remote_image.read(registry.client(), registry.reference.tagged("odd"))


def test_content_that_does_not_match_its_digest(registry: FakeRegistry) -> None:
    digest = images.remote().digest
    content, kind = registry.manifests[digest]
    registry.manifests[digest] = (content + b" ", kind)
    with pytest.raises(PublishError, match=r"the registry returned sha256:"):
        registry.client().manifest(registry.reference.at(digest))
    registry.blobs[images.remote().config_digest] += b" "
    with pytest.raises(PublishError, match="returned other content"):
        registry.client().blob(registry.reference, images.remote().config_digest)


def test_a_response_that_is_too_large(registry: FakeRegistry) -> None:
    registry.blobs["sha256:" + "e" * 64] = b"x" * 2000
    with pytest.raises(PublishError, match="larger than 1000 bytes"):
        registry.client().blob(registry.reference, "sha256:" + "e" * 64, 1000)


def test_tags_come_in_pages(registry: FakeRegistry) -> None:
    registry.page = 1
    assert registry.client().tags(registry.reference) == ["sdxl", "sdxl-0.1.0", "sdxl-0.1.0-cu130"]


def test_a_tag_is_put(registry: FakeRegistry) -> None:
    manifest = RawManifest(b'{"a": 1}', "application/vnd.oci.image.manifest.v1+json")
    registry.client().put_manifest(registry.reference.tagged("new"), manifest)
    assert registry.client().manifest(registry.reference.tagged("new")) == manifest


def test_basic(registry: FakeRegistry) -> None:
    registry.login = "basic"
    assert registry.client(ME).manifest(registry.reference.tagged("sdxl")) is not None


def test_a_token_for_reading_and_one_for_writing(registry: FakeRegistry) -> None:
    registry.login = "token"
    client = registry.client(ME)
    found = client.manifest(registry.reference.tagged("sdxl"))
    assert found is not None
    client.put_manifest(registry.reference.tagged("new"), found)
    client.put_manifest(registry.reference.tagged("newer"), found)
    assert registry.tokens == ["repository:me/gesso:pull", "repository:me/gesso:pull,push"]


def test_a_repository_that_does_not_exist_yet(registry: FakeRegistry) -> None:
    """On Docker Hub reading it requires push access: a publish requests both from the start."""
    registry.login, registry.is_new = "token", True
    registry.manifests.clear()
    with pytest.raises(PublishError, match="the registry refuses"):
        registry.client(ME).manifest(registry.reference.tagged("sdxl"))
    assert registry.client(ME, writes=True).manifest(registry.reference.tagged("sdxl")) is None
    assert registry.tokens[-1] == "repository:me/gesso:pull,push"


def test_an_identity_token(registry: FakeRegistry) -> None:
    registry.login = "token"
    registry.client(Login(identity="identity")).put_manifest(registry.reference.tagged("n"), RawManifest(b"{}", "x"))
    assert "n" in registry.manifests


@pytest.mark.parametrize("login", ["basic", "token"])
def test_no_login_where_one_is_required(registry: FakeRegistry, login: str) -> None:
    registry.login = login
    with pytest.raises(PublishError) as error:
        registry.client().put_manifest(registry.reference.tagged("n"), RawManifest(b"{}", "x"))
    assert str(error.value).splitlines()[1] == f"  next: `docker login {registry.host}`, then retry"
    assert f"{registry.host}/me/gesso: the registry requires a login" in str(error.value)


@pytest.mark.parametrize("login", ["basic", "token"])
def test_a_wrong_login(registry: FakeRegistry, login: str) -> None:
    registry.login = login
    with pytest.raises(PublishError, match=f"the registry refuses {USER}: ") as error:
        registry.client(Login(USER, "wrong-password")).put_manifest(
            registry.reference.tagged("n"), RawManifest(b"{}", "x")
        )
    assert "wrong-password" not in str(error.value)


def test_no_permission_to_push(registry: FakeRegistry) -> None:
    registry.may_push = False
    with pytest.raises(PublishError, match="requested access to the resource is denied"):
        registry.client(ME).put_manifest(registry.reference.tagged("n"), RawManifest(b"{}", "x"))


def test_a_login_is_never_sent_without_tls(registry: FakeRegistry) -> None:
    """A registry with TLS whose token service has none gets no password."""
    http = registry.client(ME).http
    tls = HttpClient(http.host, http.base.replace("http:", "https:"), ME, http.session, http.clock, 1)
    with pytest.raises(PublishError, match="requests the login without TLS"):
        tls._token({"realm": f"http://{registry.host}/token"}, "/v2/me/gesso/tags/list")
    assert registry.tokens == []


def test_transient_failures_are_retried(registry: FakeRegistry) -> None:
    client = registry.client()
    registry.responses = [BUSY, (429, b"", {"Retry-After": "7"})]
    assert client.manifest(registry.reference.tagged("sdxl")) is not None
    assert registry.sleeps == [1.0, 7.0]


def test_a_lasting_failure_is_reported(registry: FakeRegistry) -> None:
    client = registry.client()
    registry.responses = [BUSY] * 3
    with pytest.raises(PublishError, match="the registry responded with HTTP 503"):
        client.manifest(registry.reference.tagged("sdxl"))
    assert len(registry.sleeps) == 2


def test_a_registry_that_is_down() -> None:
    client = Registry.of(Reference("127.0.0.1:1", "gesso"), {})
    quick = Registry(HttpClient(client.http.host, client.http.base, Login(), client.http.session, tries=1))
    with pytest.raises(PublishError, match=r"registry 127\.0\.0\.1:1 cannot be reached: connection refused"):
        quick.tags(Reference("127.0.0.1:1", "gesso"))


def test_a_registry_that_does_not_exist() -> None:
    """An unknown host name is not retried."""
    sleeps: list[float] = []
    reference = Reference("registry.invalid", "gesso")
    with pytest.raises(PublishError, match=r"registry registry\.invalid cannot be reached"):
        Registry.of(reference, {}, Clock(sleeps.append)).tags(reference)
    assert sleeps == []


def test_a_response_of_another_server(registry: FakeRegistry) -> None:
    client = registry.client()
    registry.responses = [(200, b"<html>hello</html>", {})]
    with pytest.raises(PublishError, match="not a registry's response"):
        client.tags(registry.reference)


CONFIG = {"auths": {"ghcr.io": {"auth": "cGFpbnRlcjpwYXNz"}, "https://index.docker.io/v1/": {"auth": "aHViOmh1Yg=="}}}


@pytest.mark.parametrize(("host", "user"), [("ghcr.io", "painter"), ("docker.io", "hub"), ("quay.io", "")])
def test_logins_come_from_dockers_credential_store(tmp_path: Path, host: str, user: str) -> None:
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
    with pytest.raises(PublishError, match="credential store cannot be read"):
        credentials.find("ghcr.io", {"DOCKER_CONFIG": str(tmp_path)})


def test_the_ca_that_docker_trusts(tmp_path: Path) -> None:
    assert credentials.ca_file("host:5000", tmp_path) is None
    folder = tmp_path / "host:5000"
    folder.mkdir()
    (folder / "ca.crt").write_text("no certificate")
    assert credentials.ca_file("host:5000", tmp_path) == folder / "ca.crt"
    with pytest.raises(PublishError, match="not a readable certificate"):
        credentials.ssl_context("host:5000", tmp_path)
    assert credentials.ssl_context("other", tmp_path).verify_mode == ssl.CERT_REQUIRED
