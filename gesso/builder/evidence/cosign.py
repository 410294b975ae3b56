"""Run cosign, version 2 or 3: sign a digest, attach attestations, verify both.

Both versions write the same formats: a signature that every version reads, and attestations as bundles, stored as OCI
referrers of the image (docs/adr/0030).
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
from gesso.redact import redact_urls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gesso.builder.evidence.signer import Signer
    from gesso.builder.registry.reference import Reference

CYCLONEDX = "cyclonedx"
SLSA = "slsaprovenance1"
_SIGNATURE = "https://sigstore.dev/cosign/sign/v1"  # version 3's default
_TIMEOUT = 180.0  # seconds for one signature or check, including the transparency log
HOW_TO_INSTALL = "install it: `apt-get install cosign` on Debian 13 or newer, `brew install cosign` on a Mac"
# An empty trusted root, for checks that need none (with a key, without a log): otherwise cosign 2 downloads one.
_EMPTY_ROOT = '{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'


@dataclass(frozen=True)
class Trusted:
    """The expected signer: the owner of a public key, or an identity of an issuer."""

    key: str = ""
    identity: str = ""
    issuer: str = ""
    log: bool = True


@dataclass(frozen=True)
class Cosign:
    """The installed program; `is_3`: version 3, with other defaults; `ca`: the registry's CA certificate."""

    is_3: bool
    ca: Path | None = None

    def sign(self, signer: Signer, image: Reference) -> None:
        """Sign a digest.

        Raises PublishError.
        """
        args = ["cosign", "sign", *self._sign_flags(signer), *["--new-bundle-format=false"] * self.is_3]
        _run([*args, *self._registry_flags(), str(image)], f"{image} could not be signed")

    def attest(self, signer: Signer, image: Reference, kind: str, predicate: str) -> None:
        """Attach a signed statement of a kind (CYCLONEDX, SLSA) to a digest.

        Raises PublishError.
        """
        args = ["cosign", "attest", *self._sign_flags(signer), *["--new-bundle-format"] * (not self.is_3)]
        with _temporary_file(predicate) as path:
            args += ["--type", kind, "--predicate", str(path), *self._registry_flags(), str(image)]
            _run(args, f"{kind} could not be attached to {image}")

    def public_key(self, signer: Signer) -> str:
        """Return the public key of a signer's key, which also checks its password.

        Raises PublishError.
        """
        return _run(["cosign", "public-key", "--key", signer.key], f"--sign {signer.key}: cannot sign with it").stdout

    def signature_error(self, trusted: Trusted, image: Reference) -> str:
        """Verify the signature of a digest; return the error, or an empty string where it is valid."""
        args = ["cosign", "verify", *self._trust_flags(trusted), *["--new-bundle-format=false"] * self.is_3]
        result = proc.run([*args, *self._registry_flags(), str(image)], timeout=_TIMEOUT)
        if result.ok:
            return ""
        bundles, _ = self._statements(trusted, image, _SIGNATURE)
        return "" if bundles else _reason(result)

    def statements(self, trusted: Trusted, image: Reference, kind: str) -> tuple[list[dict[str, Any]], str]:
        """Return the predicates of a kind that the trusted signer attached to a digest, and an error for none."""
        found, error = self._statements(trusted, image, kind)
        return [dict(statement.get("predicate") or {}) for statement in found], error

    def _statements(self, trusted: Trusted, image: Reference, kind: str) -> tuple[list[dict[str, Any]], str]:
        with _temporary_file(_EMPTY_ROOT) as root:
            rootless = bool(trusted.key) and not trusted.log
            args = ["cosign", "verify-attestation", "--new-bundle-format", "--type", kind, *self._trust_flags(trusted)]
            args += ["--trusted-root", str(root)] if rootless else []
            result = proc.run([*args, *self._registry_flags(), str(image)], timeout=_TIMEOUT)
        if not result.ok:
            return [], _reason(result)
        found = [_statement(line) for line in result.stdout.splitlines() if line.startswith("{")]
        return [each for each in found if each], "" if any(found) else "cosign returned no statement"

    def _sign_flags(self, signer: Signer) -> list[str]:
        args = ["--yes", *(["--key", signer.key] if signer.key else [])]
        args += [] if signer.log else ["--tlog-upload=false"]
        return args + ["--use-signing-config=false"] * self.is_3

    def _trust_flags(self, trusted: Trusted) -> list[str]:
        args = ["--key", trusted.key] if trusted.key else [
            "--certificate-identity", trusted.identity, "--certificate-oidc-issuer", trusted.issuer,
        ]  # fmt: skip
        return args + ([] if trusted.log else ["--insecure-ignore-tlog=true"])

    def _registry_flags(self) -> list[str]:
        return ["--registry-cacert", str(self.ca)] if self.ca is not None else []


def find(ca: Path | None = None) -> Cosign:
    """Find cosign and its version, by its help: Debian's build does not report its own version.

    Raises MissingProgramError.
    """
    try:
        help_text = proc.run(["cosign", "sign", "--help"], timeout=30).output
    except proc.MissingProgramError:
        raise proc.MissingProgramError(
            "cosign, which signs and verifies images, is not on PATH", HOW_TO_INSTALL
        ) from None
    return Cosign("--use-signing-config" in help_text, ca)


def check_signer(cosign: Cosign, signer: Signer, env: Mapping[str, str]) -> str:
    """Check before the push that a key can sign, and return its public key; an empty string for a keyless signer.

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
    """Write a public key to a temporary file, and yield its path."""
    with _temporary_file(text) as path:
        yield str(path)


@contextmanager
def _temporary_file(text: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gesso-cosign-") as folder:
        path = Path(folder) / "file"
        path.write_text(text, encoding="utf-8")
        yield path


def _run(args: list[str], what: str) -> proc.Result:
    result = proc.run(args, timeout=_TIMEOUT)
    if not result.ok:
        raise PublishError(
            f"{what}: {_reason(result)}", "fix this, then publish again: existing layers are not sent again"
        )
    return result


def _reason(result: proc.Result) -> str:
    lines = [line.removeprefix("Error: ") for line in result.output.splitlines() if line.startswith("Error: ")]
    return redact_urls(lines[-1])[:300] if lines and lines[-1] else result.tail(1)[:300]


def _statement(line: str) -> dict[str, Any]:
    try:
        found = json.loads(base64.b64decode(json.loads(line)["payload"]))
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
