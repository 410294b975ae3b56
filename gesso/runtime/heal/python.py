"""ComfyUI's Python: every file of every locked distribution, and what could be imported instead of one; put right.

SQLAlchemy is put right from the wheel in the image. The others are not in it a second time (they are several GB): they
come from the instance's own package index, by the hashes that the image keeps.
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
_AWAY = re.compile(
    r"NewConnectionError|Connect(ion)?Timeout|Connection (refused|broken|reset|aborted)|Temporary failure|ProxyError"
    r"|Name or service|unreachable|timed out|Retrying",
    re.IGNORECASE,
)

_CAUSE = re.compile(r"\[Errno -?\d+\] ([^'\"()\n]+)")


@dataclass(frozen=True)
class Finding:
    """One thing that is not as locked; `broken` where ComfyUI must not be started like this.

    `locked` is a version, or empty where it is about no distribution. `offline`: the image itself holds what is right.
    `files`: of a distribution, those that are altered or gone, below site-packages; of anything else none.
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
    """Find whatever is not as locked; `on_progress` gets the bytes that were hashed, and those that there are.

    Raises CheckError where there is not exactly one Python to examine.
    """
    site = layout.site_packages
    installed = guard.installed_in(site)
    has_wheel = guard.wheel_of(layout) is not None
    found = [
        Finding(f.name, f.found, f.locked, f.broken, offline=f.name == guard.GUARDED and has_wheel)
        for f in guard.check(layout, record)
    ]
    wrong = {finding.name for finding in found}
    owned: dict[str, tuple[hashing.Row, ...]] = {}
    for name, locked in record.pins.items():
        if name in wrong or name == guard.GUARDED:
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
    others = {**shadows.of_venv(layout), **shadows.in_site(site, infos)}
    found += [Finding(name, text, "", broken=False, offline=True) for name, text in others.items()]
    return found


def unlocked(layout: Layout, record: Record) -> list[str]:
    """Name what somebody installed besides (pip aside, which came with the environment): to be noted, no damage."""
    known = {guard.canonical(name) for name in record.pins} | {"pip", "setuptools"}
    return sorted(
        f"{name} {' and '.join(version for version, _ in versions)}"
        for name, versions in guard.installed_in(layout.site_packages).items()
        if name not in known and not name.startswith("~")
    )


def repair(
    layout: Layout, record: Record, findings: Iterable[Finding], env: Mapping[str, str], say: Callable[[str], None]
) -> None:
    """Put right what was found, what needs no network first; ask the package index for the rest.

    Raises CheckError where the instance refuses, FetchError where the index does not have it or is away, and
    VerifyError where it gives something else.
    """
    todo = list(findings)
    pinned = [finding for finding in todo if finding.locked]
    _clear_away(layout, [finding.name for finding in todo if not finding.locked], say)
    failed: GessoError | None = None
    if any(finding.name == guard.GUARDED for finding in pinned):
        try:
            guard.repair(layout, guard.check(layout, record))
            say(f"{guard.GUARDED}: restored from the image")
        except CheckError as error:
            failed = error
    if others := [finding for finding in pinned if finding.name != guard.GUARDED]:
        _from_index(layout, others, env, say)
    if failed is not None:
        raise failed


def _clear_away(layout: Layout, names: Sequence[str], say: Callable[[str], None]) -> None:
    """Take what shadows the locked Python out of its way, and keep it."""
    aside = layout.state / "replaced" / "python"
    for name in names:
        own = name in {shadows.SETTINGS, shadows.PYTHON}
        path = (layout.venv if own else layout.site_packages) / name
        try:
            if own:
                shadows.mend_venv(layout, [name], aside)
            else:
                atomic.clear(path, aside, name)
        except OSError as error:
            raise atomic.refused(error, path) from None
        say(f"{name}: put right; what was there is in {aside}")


def _from_index(
    layout: Layout, findings: Sequence[Finding], env: Mapping[str, str], say: Callable[[str], None]
) -> None:
    """Install distributions again, one after the other: one that cannot be had does not stand in the others' way."""
    pins = _pins(layout)
    pip = _pip(layout)
    if not Path(env.get("PIP_CONSTRAINT", "/")).is_file():  # pip would stop there; hashes say more than it could
        env = {**env, "PIP_CONSTRAINT": ""}
    failed: list[GessoError] = []
    for number, finding in enumerate(findings, 1):
        say(f"{finding.name} {finding.locked}: is not in the image a second time; asking the package index")
        try:
            _install(layout, pip, finding, pins, env)
            say(f"{finding.name} {finding.locked}: installed again")
        except _AwayError as error:
            rest = ", ".join(f.name for f in findings[number - 1 :])
            raise FetchError(
                f"{rest}: the package index does not answer: {error}",
                "check the network, or name a mirror in PIP_INDEX_URL; then heal again",
            ) from None
        except GessoError as error:
            failed.append(error)
    if failed:
        raise failed[0]


class _AwayError(Exception):
    """Nobody answers: there is no use in asking for the next."""


def _install(
    layout: Layout, pip: Sequence[str | Path], finding: Finding, pins: Mapping[str, str], env: Mapping[str, str]
) -> None:
    """Fetch first, then replace: where it cannot be had, what is there stays."""
    name = guard.canonical(finding.name)
    if name not in pins:
        raise CheckError(f"{finding.name}: {layout.gesso}/requirements.txt does not have it", _FRESH)
    folder = layout.run / "wheels"
    shutil.rmtree(folder, ignore_errors=True)  # a killed heal's
    try:
        folder.mkdir(parents=True)
        wanted = folder / "wanted.txt"
        wanted.write_text(pins[name] + "\n", encoding="utf-8")
        quiet = ("--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-deps")
        options = ("--require-hashes", "--retries", "1", "--timeout", "15", "--dest", folder, "--requirement", wanted)
        got = proc.run([*pip, "download", *quiet, *options], env=dict(env))
        if not got.ok:
            raise _why(finding, got)
        files = [path for path in folder.iterdir() if path != wanted]
        if not _can_be_uninstalled(layout, name):
            guard.forget(layout.site_packages, name)
        for wheel in files:
            wheels.make_way(wheel, layout)
        flags = ("--force-reinstall", "--no-warn-script-location", "--root-user-action", "ignore")
        done = proc.run([*pip, "install", *quiet, *flags, *files], env=dict(env))
        if not done.ok:
            raise CheckError(f"{finding.name}: pip could not install it: {done.tail()}", "make room, then heal again")
        guard.forget(layout.site_packages, name, but=finding.locked)  # what pip took no notice of
    except OSError as error:
        raise atomic.refused(error, folder) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _why(finding: Finding, result: proc.Result) -> Exception:
    if "DO NOT MATCH THE HASHES" in result.output:
        return VerifyError(
            f"{finding.name} {finding.locked}: what the package index gave is not what is locked",
            "name another index in PIP_INDEX_URL, then heal again",
        )
    if match := _AWAY.search(result.output):
        cause = _CAUSE.search(result.output)
        return _AwayError(cause[1] if cause else match[0])
    absent = re.search(r"No matching distribution|ResolutionImpossible", result.output)  # the latter: so says the lock
    return FetchError(
        f"{finding.name} {finding.locked}: the package index does not {'have' if absent else 'give'} it"
        f"{'' if absent else f': {result.tail(2)}'}",
        "name another index in PIP_INDEX_URL, then heal again; or start a fresh instance of this image",
    )


def _can_be_uninstalled(layout: Layout, name: str) -> bool:
    """Tell whether pip could take away what is installed: of two versions it takes one, without RECORD it refuses."""
    versions = guard.installed_in(layout.site_packages).get(name, [])
    return not versions or (len(versions) == 1 and bool(hashing.rows(versions[0][1] / "RECORD")))


def _pip(layout: Layout) -> list[str | Path]:
    """Give a pip that works: the environment's, else the one that Debian's Python brings for making environments.

    Raises CheckError where there is none.
    """
    python = layout.venv / shadows.PYTHON
    kept = sorted((layout.root / "usr/share/python-wheels").glob("pip-*.whl"))
    ways: list[list[str | Path]] = [[python, "-m", "pip"]]
    ways += [[python, wheel / "pip"] for wheel in kept]
    for way in ways:
        try:
            if proc.run([*way, "--version"], timeout=60).ok:
                return way
        except (GessoError, OSError):
            continue
    raise CheckError(f"pip does not work in {layout.venv}, and there is no other", _FRESH)


def _pins(layout: Layout) -> dict[str, str]:
    """Read the lock that the image keeps: the lines of every distribution, hashes included.

    Raises CheckError where the image has none.
    """
    path = layout.gesso / "requirements.txt"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CheckError(f"{path}: cannot be read: {error}", _FRESH) from None
    blocks = re.findall(r"^(?:[^\n]*\\\n)*[^\n]+$", text, re.MULTILINE)
    return {guard.canonical(match["name"]): block for block in blocks if (match := _PIN.match(block))}
