"""The guard before every start of ComfyUI: SQLAlchemy matches the lock byte for byte, or is restored, offline.

It reads files and imports nothing, so it takes milliseconds and cannot be fooled by what it checks.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import re
import shutil
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso import proc, small_files
from gesso.errors import CheckError, GessoError
from gesso.runtime.prepare import wheels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record

GUARDED = "sqlalchemy"
_DIST_INFO = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)\.dist-info\Z")


@dataclass(frozen=True)
class Finding:
    """A distribution that differs from the lock; `broken` if ComfyUI must not be started with it."""

    name: str
    found: str
    locked: str
    broken: bool

    def __str__(self) -> str:
        return f"{self.name} is {self.found}, the lock says {self.locked}"


def check(layout: Layout, record: Record) -> list[Finding]:
    """Compare the installation with the lock: all versions, and every file of SQLAlchemy."""
    site = layout.site_packages
    installed = installed_in(site)
    findings = []
    for name, locked in record.pins.items():
        versions = [version for version, _ in installed.get(canonical(name), [])]
        if versions != [locked]:
            findings.append(Finding(name, " and ".join(versions) or "missing", locked, name == GUARDED))
    if GUARDED in record.pins and not any(f.name == GUARDED for f in findings):
        locked = record.pins[GUARDED]
        if damaged := _damaged(site, _trusted_record(layout, site / f"{GUARDED}-{locked}.dist-info")):
            findings.append(Finding(GUARDED, f"{locked} with {damaged} altered", locked, broken=True))
    return findings


def repair(layout: Layout, findings: list[Finding]) -> None:
    """Reinstall SQLAlchemy from the wheel in the image; no network.

    Raises CheckError if the wheel is missing or damaged, or cannot be installed.
    """
    if not any(finding.name == GUARDED for finding in findings):
        return
    wheel = wheel_of(layout)
    if wheel is None:
        raise CheckError("the SQLAlchemy wheel is missing from the image", "start a fresh instance of this image")
    if wheels.is_damaged(wheel):
        raise CheckError("the SQLAlchemy wheel in the image is damaged", "start a fresh instance of this image")
    remove_dist_info(layout.site_packages, GUARDED)
    wheels.clear_targets(wheel, layout)
    pip: list[str | Path] = [
        layout.venv / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
    ]
    try:
        result = proc.run([*pip, "--force-reinstall", "--no-warn-script-location", wheel], timeout=120)
        failure = None if result.ok else result.tail() or f"pip ended with {result.code}"
    except (GessoError, OSError) as error:  # no Python in the venv, or one that hangs
        failure = str(error)
    if failure is not None and not wheels.unpack(wheel, layout.site_packages):  # pip itself may be broken
        raise CheckError(f"SQLAlchemy could not be restored: {failure}", "start a fresh instance of this image")


def remove_dist_info(site: Path, name: str, *, keep: str = "") -> None:
    """Remove the .dist-info folders of a distribution, except that of version `keep`: pip then overwrites its files.

    Of two versions left by a broken downgrade, pip would remove only one; without a RECORD it refuses to work.
    """
    for version, entry in installed_in(site).get(name, []):
        if version == keep:
            continue
        try:
            shutil.rmtree(entry)
        except OSError as error:
            raise CheckError(f"{entry}: {error.strerror}", "start a fresh instance of this image") from None


def ensure(layout: Layout, record: Record, on_progress: Callable[[str], None]) -> list[Finding]:
    """Check, repair what can be repaired, and return the remaining differences (none prevents a start).

    Raises CheckError if ComfyUI must not be started.
    """
    findings = check(layout, record)
    broken = [finding for finding in findings if finding.broken]
    if broken:
        on_progress(f"guard: {broken[0]}; restoring it from the image")
        repair(layout, broken)
        findings = check(layout, record)
        if still := [finding for finding in findings if finding.broken]:
            raise CheckError(f"guard: {still[0]}, even after a repair", "start a fresh instance of this image")
        on_progress("guard: restored")
    for finding in findings:
        on_progress(f"guard: note: {finding}")
    return findings


def installed_in(site: Path) -> dict[str, list[tuple[str, Path]]]:
    """Return every installed version with its .dist-info folder, by canonical name."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for entry in site.iterdir():
        if match := _DIST_INFO.match(entry.name):
            found.setdefault(canonical(match["name"]), []).append((match["version"], entry))
    return {name: sorted(versions) for name, versions in found.items()}


def canonical(name: str) -> str:
    """Return a distribution's name in canonical form."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wheel_of(layout: Layout) -> Path | None:
    """Return the SQLAlchemy wheel of the image, if there is one."""
    wheels = sorted((layout.gesso / "wheels").glob("*.whl"))
    return next((w for w in wheels if canonical(w.name.split("-")[0]) == GUARDED), None)


def _trusted_record(layout: Layout, info: Path) -> str:
    """Return the trusted RECORD: that of the image's wheel, which no installer overwrites; else the installed one."""
    wheel = wheel_of(layout)
    try:
        if wheel is not None and zipfile.is_zipfile(wheel):
            with zipfile.ZipFile(wheel) as archive:
                return archive.read(f"{info.name}/RECORD").decode("utf-8")
        return small_files.read(info / "RECORD").decode("utf-8")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return ""


def _damaged(site: Path, record: str) -> str:
    """Return the first file of a distribution that does not match its RECORD; empty if all match."""
    try:
        rows = list(csv.reader(record.splitlines()))
    except csv.Error:
        return "RECORD"
    hashed = [(row[0], row[1]) for row in rows if len(row) > 1 and row[1].startswith("sha256=")]
    if not hashed:  # an empty RECORD would match anything
        return "RECORD"
    for name, digest in hashed:
        if name.startswith(".."):
            continue
        try:
            actual = hashlib.sha256(small_files.read(site / name)).digest()
        except (OSError, ValueError):
            return name
        if base64.urlsafe_b64encode(actual).rstrip(b"=").decode() != digest.removeprefix("sha256="):
            return name
    return ""
