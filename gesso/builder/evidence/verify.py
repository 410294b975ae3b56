"""`invoke verify REF`: check an image's signature and evidence before using it. Needs no engine."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso import report
from gesso.builder.evidence import consistency, contents, cosign, sbom
from gesso.builder.evidence.cosign import CYCLONEDX, SLSA, Trusted
from gesso.builder.registry import credentials, layer_files, reference, remote_image
from gesso.builder.registry.client import Registry
from gesso.errors import ManifestError, PublishError, VerifyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gesso.builder.evidence.cosign import Cosign
    from gesso.builder.registry.remote_image import RemoteImage


@dataclass(frozen=True)
class Check:
    """The result of one check; `said`: details or the errors."""

    what: str
    ok: bool
    said: str


def trusted(key: str, identity: str, issuer: str, *, no_tlog: bool) -> Trusted:
    """Return the expected signer from the flags.

    Raises ManifestError where none is named: a signature by anybody proves nothing.
    """
    if key and (identity or issuer):
        raise ManifestError("--key and --identity exclude each other", "use the one that the image was signed with")
    if not key and not (identity and issuer):
        raise ManifestError(
            "no expected signer",
            "add --key PUBLIC_KEY, or --identity WHO --issuer URL (such as https://token.actions.githubusercontent.com)",
        )
    if key and "://" not in key and not Path(key).is_file():
        raise ManifestError(f"--key {key}: no such file", "use the public key's file, or a KMS URI")
    if identity and no_tlog:
        raise ManifestError("--no-tlog: a keyless signature needs the log", "leave it out")
    return Trusted(key, identity, issuer, log=not no_tlog)


def verify(name: str, trusted_signer: Trusted, env: Mapping[str, str], *, as_json: bool) -> None:
    """Check an image in a registry and print the results.

    Raises VerifyError where a check failed, and PublishError where the registry does not respond.
    """
    requested = reference.parse(name)
    tool = cosign.find(credentials.ca_file(requested.host))
    registry = Registry.of(requested, env)
    image = remote_image.read(registry, requested)
    if image is None:
        raise PublishError(f"{requested}: the registry has no such image", "check its name and tag")
    found = examine(registry, image, tool, trusted_signer)
    wrong = [check for check in found if not check.ok]
    if as_json:
        checks = [asdict(check) for check in found]
        report.result_json({"ok": not wrong, "image": str(image.reference), "asked": name, "checks": checks})
    else:
        lines = [f"{'ok   ' if check.ok else 'WRONG'}  {check.what:<11} {check.said}" for check in found]
        report.result("\n".join([f"image  {image.reference}", *lines]))
    if wrong:
        raise VerifyError(
            f"{image.reference}: {'; '.join(f'{check.what}: {check.said}' for check in wrong)[:600]}",
            "do not run it until its publisher has explained this",
        )


def examine(registry: Registry, image: RemoteImage, tool: Cosign, trusted_signer: Trusted) -> list[Check]:
    """Run every check, also after one failed."""
    record = layer_files.record(registry, image)
    pins = contents.distributions(layer_files.read(registry, image, layer_files.PINS).decode())
    error = tool.signature_error(trusted_signer, image.reference)
    by = trusted_signer.key or f"{trusted_signer.identity} ({trusted_signer.issuer})"
    wrong = consistency.labels(image.labels, record, trial_allowed=image.reference.is_loopback)
    version = image.labels.get("org.opencontainers.image.version", "?")
    return [
        Check("signature", not error, error or f"by {by}"),
        Check(
            "labels", not wrong, "; ".join(wrong) or f"gesso {version}, {record['arch']}, lock {record['lock'][:12]}"
        ),
        _bill(tool, trusted_signer, image, record, pins),
        _provenance(tool, trusted_signer, image, record),
    ]


def _bill(tool: Cosign, trusted_signer: Trusted, image: RemoteImage, record: Mapping[str, Any],
          pins: tuple[contents.Distribution, ...]) -> Check:  # fmt: skip
    found, error = tool.statements(trusted_signer, image.reference, CYCLONEDX)
    if not found:
        return Check("sbom", False, error)
    wrong: list[str] = []
    for each in found:
        text = json.dumps(each)
        wrong = sbom.schema_errors(text) or consistency.bill(each, image.digest, record, pins)
        if not wrong:
            counts = ", ".join(f"{count} {kind}" for kind, count in sbom.count_components(text).items())
            return Check("sbom", True, f"signed, valid, agrees with the image: {counts}")
    return Check("sbom", False, "; ".join(wrong[:5]))


def _provenance(tool: Cosign, trusted_signer: Trusted, image: RemoteImage, record: Mapping[str, Any]) -> Check:
    found, error = tool.statements(trusted_signer, image.reference, SLSA)
    if not found:
        return Check("provenance", False, error)
    wrong: list[str] = []
    for each in found:
        wrong = consistency.provenance(each, record)
        if not wrong:
            builder = each.get("runDetails", {}).get("builder", {}).get("id", "?")
            return Check("provenance", True, f"signed, agrees with the image; built by {builder}")
    return Check("provenance", False, "; ".join(wrong[:5]))
