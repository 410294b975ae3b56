"""The guard before every start of ComfyUI: SQLAlchemy is the locked one, byte for byte, or is made so, offline.

It reads files and imports nothing, so that it takes milliseconds and cannot be fooled by what it checks.
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

from gesso import proc
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
    """A distribution that is not what the lock says; `broken` where ComfyUI must not be started like this."""

    name: str
    found: str
    locked: str
    broken: bool

    def __str__(self) -> str:
        return f"{self.name} is {self.found}, the lock says {self.locked}"


def check(layout: Layout, record: Record) -> list[Finding]:
    """Compare what is installed with the lock: versions of everything, and every file of SQLAlchemy."""
    site = layout.site_packages
    installed = installed_in(site)
    findings = []
    for name, locked in record.pins.items():
        versions = [version for version, _ in installed.get(canonical(name), [])]
        if versions != [locked]:
            findings.append(Finding(name, " and ".join(versions) or "missing", locked, name == GUARDED))
    if GUARDED in record.pins and not any(f.name == GUARDED for f in findings):
        locked = record.pins[GUARDED]
        if damaged := _damaged(site, _truth(layout, site / f"{GUARDED}-{locked}.dist-info")):
            findings.append(Finding(GUARDED, f"{locked} with {damaged} altered", locked, broken=True))
    return findings


def repair(layout: Layout, findings: list[Finding]) -> None:
    """Install SQLAlchemy again from the wheel in the image; no network.

    Raises CheckError where the wheel is gone or pip refuses.
    """
    if not any(finding.name == GUARDED for finding in findings):
        return
    wheel = wheel_of(layout)
    if wheel is None:
        raise CheckError("the SQLAlchemy wheel is not in the image any more", "start a fresh instance of this image")
    if wheels.is_damaged(wheel):
        raise CheckError("the SQLAlchemy wheel in the image is damaged", "start a fresh instance of this image")
    forget(layout.site_packages, GUARDED)
    wheels.make_way(wheel, layout)
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
    except (GessoError, OSError) as error:  # no python in the venv, or one that hangs
        failure = str(error)
    if failure is not None and not wheels.unpack(wheel, layout.site_packages):  # pip may be what is broken
        raise CheckError(f"SQLAlchemy could not be restored: {failure}", "start a fresh instance of this image")


def forget(site: Path, name: str, *, but: str = "") -> None:
    """Take away what says that a distribution is installed, in versions `but` one.

    pip then writes its files over whatever is there.

    Of two versions that a broken downgrade left, pip would take away one; without a RECORD it refuses to work at all.
    """
    for version, entry in installed_in(site).get(name, []):
        if version == but:
            continue
        try:
            shutil.rmtree(entry)
        except OSError as error:
            raise CheckError(f"{entry}: {error.strerror}", "start a fresh instance of this image") from None


def ensure(layout: Layout, record: Record, say: Callable[[str], None]) -> list[Finding]:
    """Check, repair what can be repaired, and give what remains different (none of it in the way of a start).

    Raises CheckError where ComfyUI could not start like this.
    """
    findings = check(layout, record)
    broken = [finding for finding in findings if finding.broken]
    if broken:
        say(f"guard: {broken[0]}; restoring it from the image")
        repair(layout, broken)
        findings = check(layout, record)
        if still := [finding for finding in findings if finding.broken]:
            raise CheckError(f"guard: {still[0]}, even after a repair", "start a fresh instance of this image")
        say("guard: restored")
    for finding in findings:
        say(f"guard: note: {finding}")
    return findings


def installed_in(site: Path) -> dict[str, list[tuple[str, Path]]]:
    """Give every version that says it is installed, and the folder that says so, by canonical name."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for entry in site.iterdir():
        if match := _DIST_INFO.match(entry.name):
            found.setdefault(canonical(match["name"]), []).append((match["version"], entry))
    return {name: sorted(versions) for name, versions in found.items()}


def canonical(name: str) -> str:
    """Give a distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wheel_of(layout: Layout) -> Path | None:
    """Find the wheel of SQLAlchemy that the image keeps."""
    wheels = sorted((layout.gesso / "wheels").glob("*.whl"))
    return next((w for w in wheels if canonical(w.name.split("-")[0]) == GUARDED), None)


def _truth(layout: Layout, info: Path) -> str:
    """Give the RECORD to believe: the one inside the kept wheel, which no installer writes over; else the installed."""
    wheel = wheel_of(layout)
    try:
        if wheel is not None and zipfile.is_zipfile(wheel):
            with zipfile.ZipFile(wheel) as archive:
                return archive.read(f"{info.name}/RECORD").decode("utf-8")
        return (info / "RECORD").read_text(encoding="utf-8")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return ""


def _damaged(site: Path, record: str) -> str:
    """Name the first file of a distribution that is not what its RECORD says; empty when all are."""
    try:
        rows = list(csv.reader(record.splitlines()))
    except csv.Error:
        return "RECORD"
    hashed = [(row[0], row[1]) for row in rows if len(row) > 1 and row[1].startswith("sha256=")]
    if not hashed:  # an empty one would vouch for anything
        return "RECORD"
    for name, digest in hashed:
        if name.startswith(".."):
            continue
        try:
            actual = hashlib.sha256((site / name).read_bytes()).digest()
        except (OSError, ValueError):
            return name
        if base64.urlsafe_b64encode(actual).rstrip(b"=").decode() != digest.removeprefix("sha256="):
            return name
    return ""
