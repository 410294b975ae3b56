"""Preconditions of a publish: which image may leave this machine. All problems are reported at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso.builder.image import contract_report
from gesso.errors import CheckError, ManifestError, PublishError
from gesso.models.download.disk_space import gigabytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from gesso.builder.image.contract_report import ContractReport
    from gesso.builder.registry.local_image import LocalImage
    from gesso.builder.registry.reference import Reference


@dataclass(frozen=True)
class Expected:
    """What the image must be, from the project as it is now: `lock` and `contract` are digests."""

    arch: str
    trial: bool
    lock: str
    contract: str


def refuse_trial(reference: Reference, *, trial: bool) -> None:
    """Refuse to publish a trial image, except to a registry on this machine, which tests publishing itself.

    Raises ManifestError.
    """
    if trial and not reference.is_loopback:
        raise ManifestError(
            f"a trial image is never published, and {reference.host} is not this machine",
            "build without --trial; or use a registry on localhost",
        )


def missing(image: LocalImage, report: ContractReport | None, expected: Expected, now: datetime) -> list[str]:
    """Return every reason why an image must not be published; empty where it may. Pure."""
    labels = image.labels
    problems = []
    if labels.get("dev.gesso.arch") != expected.arch:
        problems.append(f"it is no image of {expected.arch}: its label says {labels.get('dev.gesso.arch')!r}")
    if labels.get("dev.gesso.trial") != str(expected.trial).lower():
        problems.append("it is a trial image" if not expected.trial else "it is no trial image")
    if labels.get("dev.gesso.lock") != expected.lock:
        problems.append("it was built from another lock than the project has now")
    if "org.opencontainers.image.version" not in labels:
        problems.append("it has no version")
    if report is not None and (report.arch, report.trial) != (expected.arch, expected.trial):
        problems.append(f"it was tested as {report.arch}{' (trial)' * report.trial}")
    return problems + contract_report.problems_of(report, lock=expected.lock, contract=expected.contract, now=now)


def examine(image: LocalImage, expected: Expected, env: Mapping[str, str]) -> list[str]:
    """Read the image's contract report and return every unmet precondition.

    Raises CheckError for a report that cannot be read.
    """
    return missing(image, contract_report.read(env, image.image_id), expected, contract_report.now())


def refuse(image: LocalImage, problems: list[str], flags: str) -> None:
    """Raise CheckError where a precondition is not met; `flags` select the image on the command line."""
    if problems:
        raise CheckError(
            f"{image.reference} ({image.image_id[:19]}) is not published: {'; '.join(problems)}",
            f"`invoke build {flags}`, then `invoke test {flags}`, then publish again",
        )


def check_layers(image: LocalImage, limit: int) -> None:
    """Refuse a layer that the registry would refuse after an hour of pushing; `limit` in bytes.

    A layer is measured unpacked: its compressed size is known only after the push. Raises PublishError.
    """
    large = [layer for layer in image.layers if layer.size is not None and layer.size > limit]
    if large:
        named = "; ".join(f"{gigabytes(layer.size or 0)} ({layer.made_by[:60]})" for layer in large)
        raise PublishError(
            f"over the registry's limit of {gigabytes(limit)} a layer: {named}",
            "bake less into the image, or pass --layer-limit GB where your registry accepts more",
        )
