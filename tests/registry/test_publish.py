"""What arrives at a real registry, how little of it the next time, and what is rejected."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from gesso.builder.registry import remote_image
from gesso.builder.registry.client import Registry
from gesso.builder.registry.reference import parse

from .conftest import NAME, vouch
from .server import PASSWORD, USER

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from .conftest import Person
    from .server import Server

SMALL = 200_000  # bytes that a changed workflow may cost
FIXED = "sdxl-trial-0.1.0-cu130"


def read(server: Server, tag: str, person: Person) -> remote_image.RemoteImage:
    reference = parse(f"{server.repository}:{tag}")
    found = remote_image.read(Registry.of(reference, person.env), reference)
    assert found is not None
    return found


def test_a_second_push_sends_nothing(person: Person, server: Server) -> None:
    """Image, evidence, tags: the second time no request writes."""
    arguments = person.publish(server, "sdxl", "--sign", str(person.key), "--no-tlog", "--json")
    first = person.invoke(*arguments).expect().json()
    assert first["pushed"]
    assert first["evidence"] == dict.fromkeys(("sbom", "provenance", "signature"), "attached")
    written, stored = server.writes(), server.blobs()
    assert written
    second = person.invoke(*arguments).expect().json()
    assert second == {**first, "pushed": False, "evidence": dict.fromkeys(first["evidence"], "there")}
    assert server.writes() == written
    assert server.blobs() == stored


def test_one_workflow_changed(person: Person, server: Server, changed: str) -> None:
    """What a change of a workflow costs the registry, and what `invoke diff` reports as its cost for a host."""
    person.invoke(*person.publish(server, "sdxl", "--no-sign")).expect()
    before = server.blobs()
    vouch(person, "sdxl", changed)
    other = [
        word.replace(server.host, f"{server.host}/gesso-next") for word in person.publish(server, "sdxl", "--no-sign")
    ]
    refused = person.invoke(*person.publish(server, "sdxl", "--no-sign", image=changed)).expect(7)
    assert "is never moved" in refused.err
    assert server.blobs() == before
    person.invoke(*[changed if word == f"{NAME}:sdxl" else word for word in other]).expect()
    new = {digest: size for digest, size in server.blobs().items() if digest not in before}
    assert new
    assert sum(new.values()) < SMALL
    result = (
        person.invoke("diff", f"{server.repository}:{FIXED}", f"{server.host}/gesso-next:{FIXED}", "--json")
        .expect()
        .json()
    )
    assert 0 < result["bytes"] < SMALL
    assert [part["made_by"] for part in result["pulled"]] == ["COPY arch/ /opt/gesso/"]
    assert [row.split()[1] for row in result["changes"].pop("workflows")] == ["krita_gold_standard_sdxl.json"]
    assert not any(result["changes"].values())


def test_killed_in_the_middle_and_restarted(person: Person, server: Server) -> None:
    """The registry dies during a push; the same push finishes when it is back, and sends nothing twice."""
    pushing = person.begin(*person.publish(server, "sdxl", "--no-sign"))
    wait_for(lambda: large(server), pushing)
    arrived = large(server)
    wait_for(lambda: large(server) - arrived, pushing)  # by now the engine has the responses to the first
    server.kill()
    assert pushing.poll() is None, "it ended before the registry was killed: nothing is shown"
    before = len(server.log)
    server.start()
    result, _ = pushing.communicate()
    assert pushing.returncode == 0, result
    assert read(server, "sdxl-trial", person).digest in result
    assert arrived.isdisjoint(finished(server.log[before:])), "it had arrived, and was sent again"


def wait_for(true: Callable[[], object], pushing: subprocess.Popen[str]) -> None:
    while not true():
        assert pushing.poll() is None, pushing.communicate()[0]
        time.sleep(0.02)


def finished(log: str) -> list[str]:
    """Return the layers that the registry logs as received, in that order."""
    return [f"sha256:{digest}" for digest in re.findall(r'"PUT \S+digest=sha256%3A([0-9a-f]{64})\S* HTTP\S+ 201', log)]


def large(server: Server) -> set[str]:
    """Return those of them that took a while."""
    return {digest for digest in finished(server.log) if server.blobs().get(digest, 0) > 1_000_000}


def test_sdxl_and_flux_share_their_common_layers(person: Person, server: Server) -> None:
    """By digest: models, workflows and labels are each architecture's; a trial's models are those of its mirror."""
    person.invoke(*person.publish(server, "sdxl", "--no-sign")).expect()
    person.invoke(*person.publish(server, "flux", "--no-sign")).expect()
    sdxl, flux = (read(server, f"{arch}-trial", person) for arch in ("sdxl", "flux"))
    own = {"COPY mirror/ /opt/gesso/mirror/", "COPY arch/ /opt/gesso/"}
    assert {layer.made_by for layer in sdxl.layers if layer.made_by in own} == own
    rest = [[layer.digest for layer in image.layers if layer.made_by not in own] for image in (sdxl, flux)]
    assert rest[0] == rest[1]
    assert len(rest[0]) == len(sdxl.layers) - 2
    assert sdxl.labels != flux.labels


def test_a_dry_run_writes_nothing(person: Person, server: Server) -> None:
    result = person.invoke(*person.publish(server, "sdxl", "--dry-run")).expect()
    assert f"{FIXED}  new, never moved" in result.out
    assert (server.writes(), server.blobs()) == ([], {})
    person.invoke(*person.publish(server, "flux", "--no-sign")).expect()
    rows = person.invoke(*person.publish(server, "sdxl", "--dry-run")).expect().out.splitlines()
    assert [row.split("MB  ")[1] for row in rows if row.startswith("  push ")] == [
        "COPY mirror/ /opt/gesso/mirror/", "COPY arch/ /opt/gesso/",
    ]  # fmt: skip


def test_an_image_that_was_not_tested(person: Person, server: Server, changed: str) -> None:
    refused = person.invoke(*person.publish(server, "sdxl", "--no-sign", image=changed)).expect(1)
    assert "the image was never tested" in refused.err
    assert len(refused.err.strip().splitlines()) == 2
    assert server.writes() == []


@pytest.mark.parametrize("login", ["none", "wrong"])
def test_a_registry_with_another_login(person: Person, guarded: Server, login: str) -> None:
    if login == "wrong":
        person.log_in(guarded.host, USER, "not-the-password")
    refused = person.invoke(*person.publish(guarded, "sdxl", "--no-sign")).expect(7)
    assert f"`docker login {guarded.host}`" in refused.err
    assert len(refused.err.strip().splitlines()) == 2
    assert PASSWORD not in refused.err
    assert "not-the-password" not in refused.err


def test_a_registry_with_an_unknown_certificate(person: Person, guarded: Server, tmp_path: object) -> None:
    """Also on this machine: a registry with TLS is not contacted without it."""
    from .server import CERTIFICATES

    (CERTIFICATES / guarded.host / "ca.crt").unlink()
    refused = person.invoke(*person.publish(guarded, "sdxl", "--no-sign")).expect(7)
    assert "its certificate is not trusted" in refused.err
