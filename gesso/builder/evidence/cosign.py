"""cosign, as it is driven here: sign a digest, attest what belongs to it, verify both. Versions 2 and 3.

Whichever version signs, the same is written: a signature that every version reads, and attestations as bundles that lie
beside the image as OCI referrers (docs/adr/0030).
"""

from __future__ import annotations

import base64
import json
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso import proc
from gesso.errors import ManifestError, PublishError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gesso.builder.publish.request import Signer
    from gesso.builder.registry.reference import Reference

CYCLONEDX = "cyclonedx"
SLSA = "slsaprovenance1"
_SIGNATURE = "https://sigstore.dev/cosign/sign/v1"  # what version 3 signs with by default
_WITHIN = 180.0  # seconds for one signature or check, transparency log and all
HOW_TO_GET_ONE = "install it: `apt-get install cosign` on Debian 13 or newer, `brew install cosign` on a Mac"
# A root that trusts nobody, for checks that need none: with a key and without a log. Without it cosign 2 fetches one.
_NO_ROOT = '{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'


@dataclass(frozen=True)
class Trusted:
    """Who must have signed: the owner of a public key, or an identity that an issuer vouches for."""

    key: str = ""
    identity: str = ""
    issuer: str = ""
    log: bool = True


@dataclass(frozen=True)
class Cosign:
    """The program on this machine; `is_3`: version 3, with its other defaults; `ca` what the registry is held to."""

    is_3: bool
    ca: Path | None = None

    def sign(self, signer: Signer, image: Reference) -> None:
        """Sign a digest.

        Raises PublishError.
        """
        words = ["cosign", "sign", *self._signing(signer), *["--new-bundle-format=false"] * self.is_3]
        _do([*words, *self._registry(), str(image)], f"{image} could not be signed")

    def attest(self, signer: Signer, image: Reference, kind: str, predicate: str) -> None:
        """Attach a signed statement of a kind (CYCLONEDX, SLSA) to a digest.

        Raises PublishError.
        """
        words = ["cosign", "attest", *self._signing(signer), *["--new-bundle-format"] * (not self.is_3)]
        with _file(predicate) as path:
            words += ["--type", kind, "--predicate", str(path), *self._registry(), str(image)]
            _do(words, f"{kind} could not be attached to {image}")

    def public_key(self, signer: Signer) -> str:
        """Give the public half of a signer's key, which also shows that its password is right.

        Raises PublishError.
        """
        return _do(["cosign", "public-key", "--key", signer.key], f"--sign {signer.key}: cannot sign with it").stdout

    def is_signed(self, trusted: Trusted, image: Reference) -> str:
        """Verify the signature of a digest; give why not, or nothing where it is good."""
        words = ["cosign", "verify", *self._trusting(trusted), *["--new-bundle-format=false"] * self.is_3]
        result = proc.run([*words, *self._registry(), str(image)], timeout=_WITHIN)
        if result.ok:
            return ""
        bundles, _ = self._statements(trusted, image, _SIGNATURE)
        return "" if bundles else _reason(result)

    def statements(self, trusted: Trusted, image: Reference, kind: str) -> tuple[list[dict[str, Any]], str]:
        """Give the predicates of a kind that the trusted attached to a digest, and why not where there is none."""
        found, why = self._statements(trusted, image, kind)
        return [dict(statement.get("predicate") or {}) for statement in found], why

    def _statements(self, trusted: Trusted, image: Reference, kind: str) -> tuple[list[dict[str, Any]], str]:
        with _file(_NO_ROOT) as root:
            rootless = bool(trusted.key) and not trusted.log
            words = ["cosign", "verify-attestation", "--new-bundle-format", "--type", kind, *self._trusting(trusted)]
            words += ["--trusted-root", str(root)] if rootless else []
            result = proc.run([*words, *self._registry(), str(image)], timeout=_WITHIN)
        if not result.ok:
            return [], _reason(result)
        found = [_statement(line) for line in result.stdout.splitlines() if line.startswith("{")]
        return [each for each in found if each], "" if any(found) else "cosign gave no statement"

    def _signing(self, signer: Signer) -> list[str]:
        words = ["--yes", *(["--key", signer.key] if signer.key else [])]
        words += [] if signer.log else ["--tlog-upload=false"]
        return words + ["--use-signing-config=false"] * self.is_3

    def _trusting(self, trusted: Trusted) -> list[str]:
        words = ["--key", trusted.key] if trusted.key else [
            "--certificate-identity", trusted.identity, "--certificate-oidc-issuer", trusted.issuer,
        ]  # fmt: skip
        return words + ([] if trusted.log else ["--insecure-ignore-tlog=true"])

    def _registry(self) -> list[str]:
        return ["--registry-cacert", str(self.ca)] if self.ca is not None else []


def find(ca: Path | None = None) -> Cosign:
    """Find cosign, and which it is: Debian's does not know its own version, but its help does.

    Raises MissingProgramError.
    """
    try:
        said = proc.run(["cosign", "sign", "--help"], timeout=30).output
    except proc.MissingProgramError:
        raise proc.MissingProgramError(
            "cosign, which signs and verifies images, is not on PATH", HOW_TO_GET_ONE
        ) from None
    return Cosign("--use-signing-config" in said, ca)


def check_signer(cosign: Cosign, signer: Signer, env: Mapping[str, str]) -> str:
    """See before anything is pushed that a key can sign, and give its public half; nothing for a keyless signer.

    Raises ManifestError and PublishError.
    """
    if not signer.key:
        return ""
    if "://" not in signer.key:
        if not Path(signer.key).is_file():
            raise ManifestError(f"--sign {signer.key}: no such file", "`cosign generate-key-pair` makes a key")
        if "COSIGN_PASSWORD" not in env:
            raise ManifestError(
                f"--sign {signer.key}: COSIGN_PASSWORD is not set",
                "set it to the key's password (empty, if it has none)",
            )
    return cosign.public_key(signer)


@contextmanager
def as_file(text: str) -> Iterator[str]:
    """Keep a public key in a file for as long as the block lasts, and give its path."""
    with _file(text) as path:
        yield str(path)


@contextmanager
def _file(text: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gesso-cosign-") as folder:
        path = Path(folder) / "file"
        path.write_text(text, encoding="utf-8")
        yield path


def _do(words: list[str], what: str) -> proc.Result:
    result = proc.run(words, timeout=_WITHIN)
    if not result.ok:
        raise PublishError(
            f"{what}: {_reason(result)}", "mend that, then publish again: what is there is not sent again"
        )
    return result


def _reason(result: proc.Result) -> str:
    lines = [line.removeprefix("Error: ") for line in result.output.splitlines() if line.startswith("Error: ")]
    return proc.redact(lines[-1])[:300] if lines and lines[-1] else result.tail(1)[:300]


def _statement(line: str) -> dict[str, Any]:
    try:
        found = json.loads(base64.b64decode(json.loads(line)["payload"]))
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
