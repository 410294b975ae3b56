"""Running cosign: the flags of both versions, and the parsing of its output. The program here is a fake."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from gesso.builder.evidence import attach, cosign, verify
from gesso.builder.evidence.attach import Evidence
from gesso.builder.evidence.cosign import CYCLONEDX, Cosign, Trusted
from gesso.builder.evidence.signer import Signer
from gesso.errors import GessoError, ManifestError, PublishError
from gesso.proc import MissingProgramError
from tests.unit.builder import images

IMAGE = images.REPOSITORY.at(images.remote().digest)
KEY = Signer("awskms:///alias/gesso")
QUIET = Signer("awskms:///alias/gesso", log=False)
OWNER = Trusted(key="gesso.pub", log=False)


class FakeCosign:
    """A cosign that records its arguments and prints the output set for a subcommand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / "cosign"
        program.write_text(
            f"#!/bin/sh\ncd {folder}\n"
            'echo "$*" >> calls\n'
            'for arg; do [ -f "$arg" ] && cat "$arg" >> files; done\n'
            "[ -f $1.out ] && cat $1.out\n"
            "[ -f $1.err ] || exit 0\ncat $1.err >&2\nexit 1\n"
        )
        program.chmod(0o755)

    def set_output(self, command: str, out: str = "", error: str = "") -> None:
        (self.folder / f"{command}.out").write_text(out)
        if error:
            (self.folder / f"{command}.err").write_text(error)

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.is_file() else []


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCosign:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return FakeCosign(tmp_path)


def envelope(predicate: Any) -> str:
    statement = {"predicateType": "https://cyclonedx.org/bom", "predicate": predicate}
    return json.dumps({"payload": base64.b64encode(json.dumps(statement).encode()).decode(), "signatures": []}) + "\n"


def test_which_version_it_is(program: FakeCosign) -> None:
    program.set_output("sign", "Flags:\n --tlog-upload\n")
    assert cosign.find() == Cosign(False)
    program.set_output("sign", "Flags:\n --use-signing-config\n")
    assert cosign.find(Path("/ca")) == Cosign(True, Path("/ca"))


def test_cosign_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingProgramError, match="apt-get install cosign"):
        cosign.find()


@pytest.mark.parametrize(
    ("is_3", "signer", "expected"),
    [
        (False, KEY, f"sign --yes --key {KEY.key} {IMAGE}"),
        (False, QUIET, f"sign --yes --key {KEY.key} --tlog-upload=false {IMAGE}"),
        (False, Signer(), f"sign --yes {IMAGE}"),
        (True, QUIET, (f"sign --yes --key {KEY.key} --tlog-upload=false --use-signing-config=false"
                      f" --new-bundle-format=false {IMAGE}")),
    ],
)  # fmt: skip
def test_signing(program: FakeCosign, is_3: bool, signer: Signer, expected: str) -> None:
    Cosign(is_3).sign(signer, IMAGE)
    assert program.calls == [expected]


@pytest.mark.parametrize(("is_3", "flag"), [(False, "--new-bundle-format "), (True, "--use-signing-config=false ")])
def test_attesting(program: FakeCosign, is_3: bool, flag: str) -> None:
    Cosign(is_3, Path("/my/ca.crt")).attest(QUIET, IMAGE, CYCLONEDX, '{"a": 1}')
    assert flag in program.calls[0]
    assert program.calls[0].endswith(f"--registry-cacert /my/ca.crt {IMAGE}")
    assert (program.folder / "files").read_text() == '{"a": 1}'


def test_a_failure_is_reported(program: FakeCosign) -> None:
    program.set_output("sign", error="Error: signing [x]: unauthorized for https://me:secret@host/\n")
    with pytest.raises(PublishError, match="could not be signed: signing") as error:
        Cosign(False).sign(KEY, IMAGE)
    assert "secret" not in str(error.value)


def test_a_good_signature(program: FakeCosign) -> None:
    assert Cosign(False).signature_error(OWNER, IMAGE) == ""
    assert program.calls == [f"verify --key gesso.pub --insecure-ignore-tlog=true {IMAGE}"]


def test_the_log_is_checked_by_default(program: FakeCosign) -> None:
    Cosign(False).signature_error(Trusted(key="gesso.pub"), IMAGE)
    assert "ignore-tlog" not in program.calls[0]


def test_a_signature_without_key(program: FakeCosign) -> None:
    Cosign(True).signature_error(Trusted(identity="me@x", issuer="https://i"), IMAGE)
    args = "verify --certificate-identity me@x --certificate-oidc-issuer https://i --new-bundle-format=false"
    assert program.calls == [f"{args} {IMAGE}"]


def test_no_signature(program: FakeCosign) -> None:
    program.set_output("verify", error="Error: no signatures found\nerror during command execution\n")
    program.set_output("verify-attestation", error="Error: no matching attestations\n")
    assert Cosign(False).signature_error(OWNER, IMAGE) == "no signatures found"


def test_the_signature_of_version_3(program: FakeCosign) -> None:
    program.set_output("verify", error="Error: no signatures found\n")
    program.set_output("verify-attestation", envelope({}))
    assert Cosign(False).signature_error(OWNER, IMAGE) == ""
    assert "--type https://sigstore.dev/cosign/sign/v1" in program.calls[1]


def test_statements(program: FakeCosign) -> None:
    program.set_output("verify-attestation", "noise\n" + envelope({"a": 1}) + envelope({"b": 2}) + '{"payload": "?"}\n')
    assert Cosign(False).statements(OWNER, IMAGE, CYCLONEDX) == ([{"a": 1}, {"b": 2}], "")
    assert "--trusted-root" in program.calls[0], "with a key and no log nothing is downloaded"


def test_no_statement(program: FakeCosign) -> None:
    program.set_output("verify-attestation", "hello\n")
    assert Cosign(False).statements(OWNER, IMAGE, CYCLONEDX) == ([], "cosign returned no statement")


def test_a_key_is_checked_before_the_push(program: FakeCosign, tmp_path: Path) -> None:
    key = tmp_path / "cosign.key"
    with pytest.raises(ManifestError, match="no such file"):
        cosign.check_signer(Cosign(False), Signer(str(key)), {})
    key.touch()
    with pytest.raises(ManifestError, match="COSIGN_PASSWORD is not set"):
        cosign.check_signer(Cosign(False), Signer(str(key)), {})
    program.set_output("public-key", "PUBLIC\n")
    assert cosign.check_signer(Cosign(False), Signer(str(key)), {"COSIGN_PASSWORD": ""}) == "PUBLIC\n"
    program.set_output("public-key", error="Error: decrypt: encrypted: decryption failed\n")
    with pytest.raises(PublishError, match="cannot sign with it: decrypt"):
        cosign.check_signer(Cosign(False), Signer(str(key)), {"COSIGN_PASSWORD": "wrong"})
    assert cosign.check_signer(Cosign(False), Signer(), {}) == ""


MADE = Evidence('{"sbom": 1}', '{"origin": 1}')


def test_evidence_is_attached_and_then_signed(program: FakeCosign) -> None:
    program.set_output("verify-attestation", error="Error: none\n")
    program.set_output("verify", error="Error: none\n")
    done = attach.attach(Cosign(False), QUIET, "PUBLIC", IMAGE, MADE, lambda _: None)
    assert done == {"sbom": "attached", "provenance": "attached", "signature": "attached"}
    assert [line.split()[0] for line in program.calls if not line.startswith("verify")] == ["attest", "attest", "sign"]


def test_existing_evidence_is_not_attached_again(program: FakeCosign) -> None:
    program.set_output("verify-attestation", envelope({"sbom": 1}) + envelope({"origin": 1}))
    done = attach.attach(Cosign(False), QUIET, "PUBLIC", IMAGE, MADE, lambda _: None)
    assert done == dict.fromkeys(("sbom", "provenance", "signature"), "there")
    assert all(line.startswith("verify") for line in program.calls)


def test_another_sbom_is_attached_too(program: FakeCosign) -> None:
    program.set_output("verify-attestation", envelope({"sbom": 2}) + envelope({"origin": 1}))
    done = attach.attach(Cosign(False), QUIET, "PUBLIC", IMAGE, MADE, lambda _: None)
    assert done == {"sbom": "attached", "provenance": "there", "signature": "there"}


def test_without_a_key_everything_is_signed_each_time(program: FakeCosign) -> None:
    """The expected identity is unknown here: accepting any signature would trust everybody."""
    done = attach.attach(Cosign(False), Signer(), "", IMAGE, MADE, lambda _: None)
    assert done == dict.fromkeys(("sbom", "provenance", "signature"), "attached")
    assert [line.split()[0] for line in program.calls] == ["attest", "attest", "sign"]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("", "", ""), "no expected signer"),
        (("", "me@x", ""), "no expected signer"),
        (("k", "me@x", "https://i"), "exclude each other"),
    ],
)
def test_exactly_one_signer_is_expected(flags: tuple[str, str, str], reason: str) -> None:
    with pytest.raises(GessoError, match=reason):
        verify.trusted(*flags, no_tlog=False)


def test_keyless_needs_the_log() -> None:
    with pytest.raises(ManifestError, match="needs the log"):
        verify.trusted("", "me@x", "https://i", no_tlog=True)


def test_a_public_key_must_exist(tmp_path: Path) -> None:
    key = tmp_path / "gesso.pub"
    with pytest.raises(ManifestError, match="no such file"):
        verify.trusted(str(key), "", "", no_tlog=True)
    key.touch()
    assert verify.trusted(str(key), "", "", no_tlog=True) == Trusted(str(key), log=False)
    assert verify.trusted("gcpkms://x", "", "", no_tlog=False) == Trusted("gcpkms://x")
