"""Examine and repair ComfyUI's Python: every file of every locked distribution, and files that shadow one.

SQLAlchemy is repaired from the wheel in the image. The image holds no copy of the others (they are several GB): they
come from the instance's own package index, by the hashes of the image's lock.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gesso import proc
from gesso.errors import CheckError, FetchError, GessoError, VerifyError
from gesso.runtime import atomic
from gesso.runtime.heal import hashing, shadows
from gesso.runtime.prepare import guard, wheels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gesso.runtime.layout import Layout, Record

_FRESH = "start a fresh instance of this image"
_PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==")
_UNREACHABLE = re.compile(
    r"NewConnectionError|Connect(ion)?Timeout|Connection (refused|broken|reset|aborted)|Temporary failure|ProxyError"
    r"|Name or service|unreachable|timed out|Retrying",
    re.IGNORECASE,
)

_CAUSE = re.compile(r"\[Errno -?\d+\] ([^'\"()\n]+)")


@dataclass(frozen=True)
class Finding:
    """One thing that differs from the lock; `broken` where ComfyUI must not be started with it.

    `locked` is a version, or empty where it is not a distribution. `offline`: the image itself holds a good copy.
    `files`: altered or missing files of a distribution, below site-packages; otherwise none.
    """

    name: str
    found: str
    locked: str
    broken: bool
    offline: bool
    files: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"{self.name} is {self.found}, the lock says {self.locked}" if self.locked else f"{self.name} {self.found}"
        )


def examine(layout: Layout, record: Record, on_progress: Callable[[int, int], None]) -> list[Finding]:
    """Return what differs from the lock; `on_progress` gets the bytes hashed so far and in total.

    Raises CheckError where there is not exactly one Python to examine.
    """
    site = layout.site_packages
    installed = guard.installed_in(site)
    has_wheel = guard.wheel_of(layout) is not None
    found = [
        Finding(f.name, f.found, f.locked, f.broken, offline=f.name == guard.GUARDED and has_wheel)
        for f in guard.check(layout, record)
    ]
    reported = {finding.name for finding in found}
    owned: dict[str, tuple[hashing.Row, ...]] = {}
    for name, locked in record.pins.items():
        if name in reported or name == guard.GUARDED:
            continue
        (_, info), *_ = installed[guard.canonical(name)]
        owned[name] = hashing.rows(info / "RECORD")
        if not owned[name]:
            found.append(Finding(name, f"{locked} with RECORD altered", locked, broken=False, offline=False))
    for name, files in hashing.damaged(site, owned, on_progress).items():
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        text = f"{record.pins[name]} with {files[0]}{more} altered"
        found.append(Finding(name, text, record.pins[name], broken=False, offline=False, files=tuple(files)))
    infos = [info for versions in installed.values() for _, info in versions]
    shadowing = {**shadows.in_venv(layout), **shadows.in_site(site, infos)}
    found += [Finding(name, text, "", broken=False, offline=True) for name, text in shadowing.items()]
    return found


def unlocked(layout: Layout, record: Record) -> list[str]:
    """Return packages that were installed in addition (except pip, part of the environment): a note, not a damage."""
    expected = {guard.canonical(name) for name in record.pins} | {"pip", "setuptools"}
    return sorted(
        f"{name} {' and '.join(version for version, _ in versions)}"
        for name, versions in guard.installed_in(layout.site_packages).items()
        if name not in expected and not name.startswith("~")
    )


def repair(
    layout: Layout,
    record: Record,
    findings: Iterable[Finding],
    env: Mapping[str, str],
    on_progress: Callable[[str], None],
) -> None:
    """Repair the findings: offline ones first, then from the package index.

    Raises CheckError where a file cannot be replaced, FetchError where the index does not have it or is unreachable,
    and VerifyError where the hash differs.
    """
    pending = list(findings)
    pinned = [finding for finding in pending if finding.locked]
    _remove_shadows(layout, [finding.name for finding in pending if not finding.locked], on_progress)
    failed: GessoError | None = None
    if any(finding.name == guard.GUARDED for finding in pinned):
        try:
            guard.repair(layout, guard.check(layout, record))
            on_progress(f"{guard.GUARDED}: restored from the image")
        except CheckError as error:
            failed = error
    if others := [finding for finding in pinned if finding.name != guard.GUARDED]:
        _from_index(layout, others, env, on_progress)
    if failed is not None:
        raise failed


def _remove_shadows(layout: Layout, names: Sequence[str], on_progress: Callable[[str], None]) -> None:
    """Move what shadows the locked Python to the quarantine."""
    quarantine = layout.state / "replaced" / "python"
    for name in names:
        in_venv = name in {shadows.SETTINGS, shadows.PYTHON}
        path = (layout.venv if in_venv else layout.site_packages) / name
        try:
            if in_venv:
                shadows.repair_venv(layout, [name], quarantine)
            else:
                atomic.clear(path, quarantine, name)
        except OSError as error:
            raise atomic.repair_error(error, path) from None
        on_progress(f"{name}: repaired; the previous one is in {quarantine}")


def _from_index(
    layout: Layout, findings: Sequence[Finding], env: Mapping[str, str], on_progress: Callable[[str], None]
) -> None:
    """Reinstall distributions one by one: a failure does not stop the others."""
    pins = _pins(layout)
    pip = _pip(layout)
    if not Path(env.get("PIP_CONSTRAINT", "/")).is_file():  # pip would fail; the hashes are stricter anyway
        env = {**env, "PIP_CONSTRAINT": ""}
    failed: list[GessoError] = []
    for number, finding in enumerate(findings, 1):
        on_progress(f"{finding.name} {finding.locked}: the image holds no copy; using the package index")
        try:
            _install(layout, pip, finding, pins, env)
            on_progress(f"{finding.name} {finding.locked}: reinstalled")
        except _UnreachableError as error:
            rest = ", ".join(f.name for f in findings[number - 1 :])
            raise FetchError(
                f"{rest}: the package index is unreachable: {error}",
                "check the network, or set PIP_INDEX_URL to a mirror; then run the heal again",
            ) from None
        except GessoError as error:
            failed.append(error)
    if failed:
        raise failed[0]


class _UnreachableError(Exception):
    """The index is unreachable, so that further requests are pointless."""


def _install(
    layout: Layout, pip: Sequence[str | Path], finding: Finding, pins: Mapping[str, str], env: Mapping[str, str]
) -> None:
    """Download first, then replace: where the download fails, the installed one stays."""
    name = guard.canonical(finding.name)
    if name not in pins:
        raise CheckError(f"{finding.name}: {layout.gesso}/requirements.txt does not have it", _FRESH)
    folder = layout.run / "wheels"
    shutil.rmtree(folder, ignore_errors=True)  # a killed heal's
    try:
        folder.mkdir(parents=True)
        requirement = folder / "wanted.txt"
        requirement.write_text(pins[name] + "\n", encoding="utf-8")
        quiet = ("--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-deps")
        options = (
            "--require-hashes",
            "--retries",
            "1",
            "--timeout",
            "15",
            "--dest",
            folder,
            "--requirement",
            requirement,
        )
        download = proc.run([*pip, "download", *quiet, *options], env=dict(env))
        if not download.ok:
            raise _download_error(finding, download)
        files = [path for path in folder.iterdir() if path != requirement]
        if not _can_be_uninstalled(layout, name):
            guard.remove_dist_info(layout.site_packages, name)
        for wheel in files:
            wheels.clear_targets(wheel, layout)
        flags = ("--force-reinstall", "--no-warn-script-location", "--root-user-action", "ignore")
        install = proc.run([*pip, "install", *quiet, *flags, *files], env=dict(env))
        if not install.ok:
            raise CheckError(
                f"{finding.name}: pip could not install it: {install.tail()}", "make room, then run the heal again"
            )
        guard.remove_dist_info(layout.site_packages, name, keep=finding.locked)  # metadata that pip ignores
    except OSError as error:
        raise atomic.repair_error(error, folder) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _download_error(finding: Finding, result: proc.Result) -> Exception:
    if "DO NOT MATCH THE HASHES" in result.output:
        return VerifyError(
            f"{finding.name} {finding.locked}: the package index serves a file that does not match the lock",
            "set PIP_INDEX_URL to another index, then run the heal again",
        )
    if match := _UNREACHABLE.search(result.output):
        cause = _CAUSE.search(result.output)
        return _UnreachableError(cause[1] if cause else match[0])
    absent = re.search(
        r"No matching distribution|ResolutionImpossible", result.output
    )  # the latter where the lock constrains it
    return FetchError(
        f"{finding.name} {finding.locked}: the package index does not {'have' if absent else 'serve'} it"
        f"{'' if absent else f': {result.tail(2)}'}",
        "set PIP_INDEX_URL to another index, then run the heal again; or start a fresh instance of this image",
    )


def _can_be_uninstalled(layout: Layout, name: str) -> bool:
    """Return whether pip can uninstall it: of two versions it removes one, and without a RECORD it refuses."""
    versions = guard.installed_in(layout.site_packages).get(name, [])
    return not versions or (len(versions) == 1 and bool(hashing.rows(versions[0][1] / "RECORD")))


def _pip(layout: Layout) -> list[str | Path]:
    """Return a pip that works: the environment's, else the one that Debian's Python has for new environments.

    Raises CheckError where there is none.
    """
    python = layout.venv / shadows.PYTHON
    bundled = sorted((layout.root / "usr/share/python-wheels").glob("pip-*.whl"))
    candidates: list[list[str | Path]] = [[python, "-m", "pip"]]
    candidates += [[python, wheel / "pip"] for wheel in bundled]
    for command in candidates:
        try:
            if proc.run([*command, "--version"], timeout=60).ok:
                return command
        except (GessoError, OSError):
            continue
    raise CheckError(f"pip does not work in {layout.venv}, and no other pip was found", _FRESH)


def _pins(layout: Layout) -> dict[str, str]:
    """Return the image's lock: the lines of every distribution, hashes included.

    Raises CheckError where it cannot be read.
    """
    path = layout.gesso / "requirements.txt"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CheckError(f"{path}: cannot be read: {error}", _FRESH) from None
    blocks = re.findall(r"^(?:[^\n]*\\\n)*[^\n]+$", text, re.MULTILINE)
    return {guard.canonical(match["name"]): block for block in blocks if (match := _PIN.match(block))}
