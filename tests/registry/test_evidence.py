"""With TLS and a login: pushed, read back, and its evidence verified by cosign itself, Debian 13's."""

from __future__ import annotations

import base64
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from gesso.builder.evidence import sbom

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Done, Person
    from .server import Server

NOBODY = '{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'


def cosign(person: Person, server: Server, verb: str, *arguments: str) -> Done:
    options = ["--key", str(person.public), "--insecure-ignore-tlog=true", "--registry-cacert", str(server.ca)]
    return person.run(str(person.path / "cosign"), verb, *options, *arguments)


def attested(person: Person, server: Server, kind: str, image: str, root: Path) -> dict[str, Any]:
    """Verify a statement with cosign, and return it."""
    root.write_text(NOBODY)
    arguments = ("--new-bundle-format", "--trusted-root", str(root), "--type", kind, image)
    lines = cosign(person, server, "verify-attestation", *arguments).expect().out.splitlines()
    envelope = json.loads(next(line for line in lines if line.startswith("{")))
    found: dict[str, Any] = json.loads(base64.b64decode(envelope["payload"]))
    return found


def test_a_stranger_can_trust_it(person: Person, guarded: Server, tmp_path: Path) -> None:
    person.log_in(guarded.host)
    arguments = person.publish(guarded, "sdxl", "--sign", str(person.key), "--no-tlog", "--json")
    found = person.invoke(*arguments).expect().json()
    image, digest = found["reference"], found["digest"]

    signed = cosign(person, guarded, "verify", image).expect()
    assert digest in signed.out
    bill = attested(person, guarded, "cyclonedx", image, tmp_path / "root.json")
    assert bill["subject"][0]["digest"] == {"sha256": digest.removeprefix("sha256:")}
    assert bill["predicate"]["specVersion"] == "1.6"
    assert sbom.schema_errors(json.dumps(bill["predicate"])) == []
    kinds = {part["type"] for part in bill["predicate"]["components"]}
    assert {"library", "machine-learning-model", "data", "application"} <= kinds
    models = [part for part in bill["predicate"]["components"] if part["type"] == "machine-learning-model"]
    assert all(part["hashes"] and part["licenses"] for part in models)
    origin = attested(person, guarded, "slsaprovenance1", image, tmp_path / "root.json")
    assert origin["predicate"]["runDetails"]["builder"]["id"]

    reference = f"{guarded.repository}:sdxl-trial"
    result = person.invoke("verify", reference, "--key", str(person.public), "--no-tlog").expect()
    assert [line.split()[:2] for line in result.out.splitlines()[1:]] == [
        ["ok", what] for what in ("signature", "labels", "sbom", "provenance")
    ]


def test_signed_by_somebody_else(person: Person, guarded: Server, tmp_path: Path) -> None:
    person.log_in(guarded.host)
    person.invoke(*person.publish(guarded, "sdxl", "--sign", str(person.key), "--no-tlog")).expect()
    other = tmp_path / "other"
    other.mkdir()
    arguments = [str(person.path / "cosign"), "generate-key-pair"]
    subprocess.run(arguments, cwd=other, env=person.env, capture_output=True, check=True)
    command = ["verify", f"{guarded.repository}:sdxl-trial", "--key", str(other / "cosign.pub"), "--no-tlog", "--json"]
    result = person.invoke(*command).expect(5)
    assert [check["what"] for check in result.json()["checks"] if not check["ok"]] == [
        "signature",
        "sbom",
        "provenance",
    ]
    assert len(result.err.strip().splitlines()) == 2


def test_published_without_a_signature(person: Person, server: Server) -> None:
    person.invoke(*person.publish(server, "sdxl", "--no-sign")).expect()
    command = ["verify", f"{server.repository}:sdxl-trial", "--key", str(person.public), "--no-tlog"]
    result = person.invoke(*command).expect(5)
    assert "WRONG  signature" in result.out


def test_the_signature_of_another_image_is_rejected(person: Person, server: Server) -> None:
    """flux, unsigned, under the name of sdxl: a tag that somebody moved."""
    person.invoke(*person.publish(server, "sdxl", "--sign", str(person.key), "--no-tlog")).expect()
    person.invoke(*person.publish(server, "flux", "--no-sign")).expect()
    from gesso.builder.registry.client import Registry
    from gesso.builder.registry.reference import parse

    reference = parse(server.repository)
    registry = Registry.of(reference, person.env)
    flux = registry.manifest(reference.tagged("flux-trial"))
    assert flux is not None
    registry.put_manifest(reference.tagged("sdxl-trial"), flux)
    command = ["verify", f"{server.repository}:sdxl-trial", "--key", str(person.public), "--no-tlog"]
    person.invoke(*command).expect(5)


@pytest.mark.parametrize("password", ["", "wrong"])
def test_an_unreadable_key_stops_it_before_the_push(person: Person, server: Server, password: str) -> None:
    person.more["COSIGN_PASSWORD"] = password
    refused = person.invoke(*person.publish(server, "sdxl", "--sign", str(person.key), "--no-tlog")).expect(7)
    assert "cannot sign with it" in refused.err
    assert server.writes() == []
