"""The Python lock: compiled by one `uv pip compile` of all requirements, parsed as pins with hashes. The manifest
decides what is in it."""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from gesso import proc
from gesso.errors import LockError
from gesso.redact import redact_urls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gesso.manifest.schema import Python, PythonLayer

PLATFORM = "x86_64-manylinux_2_40"  # Debian trixie's glibc is 2.41
GUARDED = "sqlalchemy"
UV_COMPILE = (
    sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--generate-hashes", "--no-progress",
    "--no-python-downloads", "--custom-compile-command", "invoke lock",
)  # fmt: skip
_NEVER = "sys_platform == 'never'"
_EXCLUDED_VERSIONS = ("1.4.54", "2.1.0", "2.1.1", "2.2", "3")  # a range that keeps SQLAlchemy at 2.0 has none of these
_PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;\\]+)")
_OTHER_HOSTS = re.compile(r"^[ \t]*(-[if]|--(index-url|extra-index-url|find-links|trusted-host)\b)", re.MULTILINE)


@dataclass(frozen=True)
class Pin:
    """One distribution of the lock; `text`: its lines, unchanged, with hashes."""

    name: str
    version: str
    text: str


def read_pins(text: str) -> tuple[Pin, ...]:
    """Parse a lock made by `uv pip compile --generate-hashes`.

    Raises LockError for a line without a hash, or one that is not a pin.
    """
    pins: list[Pin] = []
    block: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        block.append(line)
        if line.rstrip().endswith("\\"):
            continue
        joined, block = "\n".join(block), []
        if joined.startswith("--"):  # index options, which uv repeats; the image gets them from secrets
            continue
        match = _PIN.match(joined)
        if match is None or "--hash=sha256:" not in joined:
            raise LockError(f"line {number}: `{line.strip()[:60]}` is not a pin with a hash", "run `invoke lock`")
        pins.append(Pin(canonicalize_name(match["name"]), match["version"], joined))
    if block:
        raise LockError(f"`{block[0].strip()[:60]}`: the lock ends inside this entry", "run `invoke lock`")
    return tuple(pins)


def usable_pins(text: str) -> tuple[Pin, ...]:
    """Parse the pins of an existing lock; none where any of it cannot be parsed."""
    try:
        return read_pins(text)
    except LockError:
        return ()


def pin_of(pins: Sequence[Pin], name: str) -> Pin:
    """Return the pin of one distribution.

    Raises LockError where the lock lacks it.
    """
    for pin in pins:
        if pin.name == canonicalize_name(name):
            return pin
    raise LockError(f"the Python lock has no {name}", "add it to `python.requirements`, then run `invoke lock`")


def grouped(pins: Sequence[Pin], layers: Sequence[PythonLayer]) -> dict[str, tuple[Pin, ...]]:
    """Group the pins by layer: the first layer that matches takes a pin, `libraries` takes the rest."""
    groups: dict[str, list[Pin]] = {layer.name: [] for layer in layers}
    rest: list[Pin] = []
    for pin in pins:
        match = next((layer for layer in layers if any(fnmatchcase(pin.name, glob) for glob in layer.match)), None)
        (groups[match.name] if match else rest).append(pin)
    result = {name: tuple(group) for name, group in groups.items() if group}
    return result | ({"libraries": tuple(rest)} if rest else {})


def compile_lock(
    python: Python, requirements: Mapping[str, str], *, existing: str | None = None, upgrade: bool = False
) -> str:
    """Resolve the manifest's requirements and every source's file in one run of uv.

    `requirements` maps a source's name to the text of its requirements file. Pins of `existing` are kept where they
    still fit, unless `upgrade`. Raises LockError that names the source and the conflict.
    """
    ours = f"gesso's own {GUARDED} guard"
    _check_guard(python)
    for name, text in requirements.items():
        if _OTHER_HOSTS.search(text):
            raise LockError(f"{name}: its requirements name another package host", "set `requirements: null` for it")
    with tempfile.TemporaryDirectory(prefix="gesso-lock-") as scratch:
        folder = Path(scratch)
        usable = existing if usable_pins(existing or "") and not upgrade else None
        result = _compile(folder, python, requirements, existing=usable)
        if result.ok:
            text = (folder / "python.lock.txt").read_text(encoding="utf-8")
            read_pins(text)
            return text
        culprits = _culprits(folder, python, requirements)
        if not culprits:
            raise LockError(f"Python requirements cannot be resolved: {_reason(result)}", _next_step(result))
        reasons = "; ".join(f"node pack {name}: {reason}" for name, reason in culprits.items())
        raise LockError(
            f"conflict with {ours if GUARDED in reasons.lower() else 'the rest'}: {reasons}",
            "leave the pack out, set `requirements: null` for it, or force it with `python.overrides`",
        )


def _check_guard(python: Python) -> None:
    """Raise LockError unless the manifest's own constraints keep SQLAlchemy at 2.0: everything else relies on it."""
    for line in python.constraints:
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            raise LockError(f"python.constraints: `{line}`: {error}", "write it in pip's syntax") from None
        spec = requirement.specifier
        holds = spec.contains("2.0.40") and not any(spec.contains(version) for version in _EXCLUDED_VERSIONS)
        if canonicalize_name(requirement.name) == GUARDED and holds and requirement.marker is None:
            return
    raise LockError("python.constraints: nothing keeps SQLAlchemy at 2.0", 'add "sqlalchemy>=2.0,<2.1"')


def _compile(
    folder: Path, python: Python, requirements: Mapping[str, str], *, existing: str | None = None
) -> proc.Result:
    files = {"gesso.in": "\n".join(python.requirements)}
    files |= {f"{name}.txt": text for name, text in requirements.items()}
    constraints = "\n".join(python.constraints)
    overrides = "\n".join([*python.overrides, *(f"{name} ; {_NEVER}" for name in python.exclude)])
    for name, text in {**files, "constraints.txt": constraints, "overrides.txt": overrides}.items():
        (folder / name).write_text(text + "\n", encoding="utf-8")
    output = folder / "python.lock.txt"
    output.unlink(missing_ok=True)
    if existing is not None:
        output.write_text(existing, encoding="utf-8")
    command = [
        *UV_COMPILE, "--python-version", python.version, "--python-platform", PLATFORM, "--constraint",
        "constraints.txt", "--override", "overrides.txt", "--output-file", output.name,
        *(["--index", python.index] if python.index else []), *files,
    ]  # fmt: skip
    return proc.run(command, cwd=folder, timeout=600)


def _culprits(folder: Path, python: Python, requirements: Mapping[str, str]) -> dict[str, str]:
    """Find the sources that conflict with ComfyUI (the first) and gesso's own requirements, by adding one at a time."""
    first, *packs = requirements
    base = {first: requirements[first]}
    if not _compile(folder, python, base).ok:
        return {}
    found = {}
    for name in packs:
        if requirements[name].strip():
            result = _compile(folder, python, base | {name: requirements[name]})
            if not result.ok:
                found[name] = _reason(result)
                continue
        base |= {name: requirements[name]}
    return found


def _reason(result: proc.Result) -> str:
    """Return uv's explanation in one line, without its drawing characters."""
    lines = [re.sub(r"^[\s×│├╰─▶]+", "", line).strip() for line in result.output.splitlines()]  # noqa: RUF001
    text = " ".join(line for line in lines if line and not line.startswith(("hint:", "warning:")))
    text = re.sub(r"^(error: )?No solution found when resolving dependencies:?( cause:)? ", "", text)
    return redact_urls(text)


def _next_step(result: proc.Result) -> str:
    offline = any(word in result.output.lower() for word in ("dns", "connect", "timed out", "network"))
    if offline:
        return "the package index cannot be reached: check the network, or set UV_DEFAULT_INDEX to a mirror"
    return "correct `python` in the manifest"
