"""`invoke verify REF`: what a stranger checks before trusting an image. Nothing of it needs an engine."""

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
    """One thing that was looked at: whether it is right, and what there is to say."""

    what: str
    ok: bool
    said: str


def trusted(key: str, identity: str, issuer: str, *, no_tlog: bool) -> Trusted:
    """Read who must have signed.

    Raises ManifestError where that is not said: a signature by anybody is worth nothing.
    """
    if key and (identity or issuer):
        raise ManifestError("--key and --identity exclude each other", "give the one by which it was signed")
    if not key and not (identity and issuer):
        raise ManifestError(
            "who must have signed is not said",
            "--key PUBLIC_KEY, or --identity WHO --issuer URL (such as https://token.actions.githubusercontent.com)",
        )
    if key and "://" not in key and not Path(key).is_file():
        raise ManifestError(f"--key {key}: no such file", "give the public key's file, or a KMS's address")
    if identity and no_tlog:
        raise ManifestError("--no-tlog: a keyless signature is nothing without the log", "leave it out")
    return Trusted(key, identity, issuer, log=not no_tlog)


def verify(name: str, who: Trusted, env: Mapping[str, str], *, as_json: bool) -> None:
    """Check an image in a registry and print what was found.

    Raises VerifyError where anything is not as it should be, and PublishError where the registry does not answer.
    """
    asked = reference.parse(name)
    tool = cosign.find(credentials.certificate(asked.host))
    registry = Registry.of(asked, env)
    image = remote_image.read(registry, asked)
    if image is None:
        raise PublishError(f"{asked}: the registry has no such image", "check its name and tag")
    found = examine(registry, image, tool, who)
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
            "do not run it before whoever published it has explained this",
        )


def examine(registry: Registry, image: RemoteImage, tool: Cosign, who: Trusted) -> list[Check]:
    """Look at everything, also where something is wrong already."""
    record = layer_files.record(registry, image)
    pins = contents.distributions(layer_files.read(registry, image, layer_files.PINS).decode())
    said = tool.is_signed(who, image.reference)
    by = who.key or f"{who.identity} ({who.issuer})"
    wrong = consistency.labels(image.labels, record, trial_allowed=image.reference.is_loopback)
    version = image.labels.get("org.opencontainers.image.version", "?")
    return [
        Check("signature", not said, said or f"by {by}"),
        Check(
            "labels", not wrong, "; ".join(wrong) or f"gesso {version}, {record['arch']}, lock {record['lock'][:12]}"
        ),
        _bill(tool, who, image, record, pins),
        _provenance(tool, who, image, record),
    ]


def _bill(tool: Cosign, who: Trusted, image: RemoteImage, record: Mapping[str, Any],
          pins: tuple[contents.Distribution, ...]) -> Check:  # fmt: skip
    found, why = tool.statements(who, image.reference, CYCLONEDX)
    if not found:
        return Check("sbom", False, why)
    wrong: list[str] = []
    for each in found:
        text = json.dumps(each)
        wrong = sbom.faults(text) or consistency.bill(each, image.digest, record, pins)
        if not wrong:
            counts = ", ".join(f"{count} {kind}" for kind, count in sbom.counted(text).items())
            return Check("sbom", True, f"signed, valid, agrees with the image: {counts}")
    return Check("sbom", False, "; ".join(wrong[:5]))


def _provenance(tool: Cosign, who: Trusted, image: RemoteImage, record: Mapping[str, Any]) -> Check:
    found, why = tool.statements(who, image.reference, SLSA)
    if not found:
        return Check("provenance", False, why)
    wrong: list[str] = []
    for each in found:
        wrong = consistency.provenance(each, record)
        if not wrong:
            builder = each.get("runDetails", {}).get("builder", {}).get("id", "?")
            return Check("provenance", True, f"signed, agrees with the image; built by {builder}")
    return Check("provenance", False, "; ".join(wrong[:5]))
