"""The gate: which image may leave this machine. All that is missing is said at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso.builder.image import contract_report
from gesso.errors import CheckError, ManifestError, PublishError
from gesso.models.download.disk_space import gigabytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from gesso.builder.image.contract_report import Checked
    from gesso.builder.registry.local_image import LocalImage
    from gesso.builder.registry.reference import Reference


@dataclass(frozen=True)
class Wanted:
    """What the image must be, by the project as it stands: `lock` and `contract` are digests."""

    arch: str
    trial: bool
    lock: str
    contract: str


def refuse_trial(reference: Reference, *, trial: bool) -> None:
    """A trial image goes nowhere but to this machine's own registry, to try out publishing itself.

    Raises ManifestError.
    """
    if trial and not reference.is_loopback:
        raise ManifestError(
            f"a trial image is never published, and {reference.host} is not this machine",
            "build without --trial; or try it out with a registry on localhost",
        )


def missing(image: LocalImage, report: Checked | None, wanted: Wanted, now: datetime) -> list[str]:
    """Name all that keeps an image from being published; empty where nothing does. Pure."""
    labels = image.labels
    problems = []
    if labels.get("dev.gesso.arch") != wanted.arch:
        problems.append(f"it is no image of {wanted.arch}: its label says {labels.get('dev.gesso.arch')!r}")
    if labels.get("dev.gesso.trial") != str(wanted.trial).lower():
        problems.append("it is a trial image" if not wanted.trial else "it is no trial image")
    if labels.get("dev.gesso.lock") != wanted.lock:
        problems.append("it was built from another lock than the project has now")
    if "org.opencontainers.image.version" not in labels:
        problems.append("it has no version")
    if report is not None and (report.arch, report.trial) != (wanted.arch, wanted.trial):
        problems.append(f"it was tested as {report.arch}{' (trial)' * report.trial}")
    return problems + contract_report.why_not(report, lock=wanted.lock, contract=wanted.contract, now=now)


def examine(image: LocalImage, wanted: Wanted, env: Mapping[str, str]) -> list[str]:
    """Look up the image's report and name all that is missing.

    Raises CheckError for a report that cannot be read.
    """
    return missing(image, contract_report.read(env, image.image_id), wanted, contract_report.now())


def refuse(image: LocalImage, problems: list[str], flags: str) -> None:
    """Raise CheckError where something is missing; `flags` select the image on the command line."""
    if problems:
        raise CheckError(
            f"{image.reference} ({image.image_id[:19]}) is not published: {'; '.join(problems)}",
            f"`invoke build {flags}`, then `invoke test {flags}`, then publish again",
        )


def check_layers(image: LocalImage, limit: int) -> None:
    """Refuse a layer that the registry would refuse after an hour; `limit` in bytes.

    A layer is measured unpacked: how small it travels is known only once it has. Raises PublishError.
    """
    large = [layer for layer in image.layers if layer.size is not None and layer.size > limit]
    if large:
        named = "; ".join(f"{gigabytes(layer.size or 0)} ({layer.made_by[:60]})" for layer in large)
        raise PublishError(
            f"over the registry's limit of {gigabytes(limit)} a layer: {named}",
            "bake less into the image, or give --layer-limit GB where your registry takes more",
        )
