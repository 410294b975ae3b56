"""ComfyUI's Python and gesso's own, each in a venv: the locked packages, byte for byte as distributed."""

from __future__ import annotations

import base64
import csv
import hashlib
import posixpath
import re
import zipfile
from io import BytesIO
from typing import TYPE_CHECKING

from gesso.builder.lock.python_pins import GUARDED, pin_of, read_pins

from .expected import some

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .expected import Expected
    from .image_snapshot import ImageSnapshot

VENV, OWN_VENV = "opt/venv", "opt/gesso/venv"
_INFO = re.compile(r"(?P<name>[^/]+)-(?P<version>[^/-]+)\.dist-info/METADATA\Z")
_HOOKS = {"conda-meta", "sitecustomize.py", "usercustomize.py"}
_OWN_RECORD = re.compile(r"[^/]+\.dist-info/RECORD")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_PACKAGES = re.compile(r".*/(site|dist)-packages\Z")


def site(expected: Expected, venv: str = VENV) -> str:
    """Return the folder of a venv's packages."""
    return f"{venv}/lib/python{expected.manifest.python.version}/site-packages/"


def installed(snapshot: ImageSnapshot, folder: str) -> dict[str, str]:
    """Return the installed distributions in a folder of packages: versions by normalized name."""
    found = {}
    for path, _ in snapshot.below(folder):
        if match := _INFO.fullmatch(path):
            found[re.sub(r"[-_.]+", "-", match["name"]).lower()] = match["version"]
    return found


def locked(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Compare the installed packages with the lock, both ways, in ComfyUI's venv and in gesso's."""
    project = expected.selection.project
    own = read_pins((project.locks / "gesso.lock.txt").read_text(encoding="utf-8"))
    problems = []
    for venv, pins in {VENV: expected.locked.pins, OWN_VENV: own}.items():
        found = installed(snapshot, site(expected, venv))
        found = {name: version for name, version in found.items() if name not in {"pip", "gesso-images"}}
        should = {pin.name: pin.version for pin in pins}
        problems += some(f"{venv}: {name} {found.get(name, 'is missing')}, the lock has {should.get(name, 'none')}"
                         for name in found.keys() | should.keys() if found.get(name) != should.get(name))  # fmt: skip
    return problems


def records(snapshot: ImageSnapshot, folder: str) -> Iterator[tuple[str, str, str]]:
    """Yield each file in the distributions' records: distribution, path, and hash ("" if it has none)."""
    for path, entry in snapshot.below(folder):
        if _OWN_RECORD.fullmatch(path):  # a package's vendored copies have records, too
            for row in csv.reader((entry.content or b"").decode("utf-8", "replace").splitlines()):
                if len(row) == 3:
                    name = path.rpartition(".dist-info/")[0]
                    yield name, posixpath.normpath(f"{folder}{row[0]}"), row[1].removeprefix("sha256=")


def as_distributed(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Compare each installed file with the hash in its distribution's record."""
    problems = []
    for venv in (VENV, OWN_VENV):
        for name, path, recorded in records(snapshot, site(expected, venv)):
            entry = snapshot.files.get(path)
            if entry is None:
                if not path.endswith(".pyc"):
                    problems.append(f"{name}: {path} is missing")
            elif recorded and (entry.kind != "file" or encoded(entry.sha256) != recorded):
                problems.append(f"{name}: {path} is not as distributed")
    return some(problems)


def published(snapshot: ImageSnapshot, expected: Expected) -> set[str]:
    """Return the digests of all installed files that are as distributed."""
    return {
        entry.sha256
        for venv in (VENV, OWN_VENV)
        for _, path, recorded in records(snapshot, site(expected, venv))
        if (entry := snapshot.files.get(path)) is not None and recorded and encoded(entry.sha256) == recorded
    }


def encoded(sha256: str) -> str:
    """Encode a digest as RECORD does."""
    return base64.urlsafe_b64encode(bytes.fromhex(sha256)).rstrip(b"=").decode() if sha256 else ""


def wheel(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Check that SQLAlchemy's wheel, which the guard restores from, is locked, and that its content is installed."""
    pin = pin_of(expected.locked.pins, GUARDED)
    wheels = {path: entry for path, entry in snapshot.below("opt/gesso/wheels/") if entry.kind != "folder"}
    if len(wheels) != 1:
        return [f"/opt/gesso/wheels holds {sorted(wheels)}, not one wheel"]
    content = next(iter(wheels.values())).content or b""
    if hashlib.sha256(content).hexdigest() not in _HASH.findall(pin.text):
        return [f"{next(iter(wheels))} has none of the locked hashes"]
    folder = site(expected)
    with zipfile.ZipFile(BytesIO(content)) as archive:
        names = [name for name in archive.namelist() if not name.endswith(("/", ".dist-info/RECORD"))]
        digests = {f"{folder}{name}": hashlib.sha256(archive.read(name)).hexdigest() for name in names}
    return some(f"{path} is not out of the locked wheel" for path, sha256 in digests.items()
                if (entry := snapshot.files.get(path)) is None or entry.sha256 != sha256)  # fmt: skip


def venvs(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Check that there are exactly two environments, both isolated, on Debian's Python."""
    python = f"/usr/bin/python{expected.manifest.python.version}"
    found = sorted(path.removesuffix("/pyvenv.cfg") for path in snapshot.files if path.endswith("pyvenv.cfg"))
    problems = [f"{path}: an unexpected virtual environment" for path in found
                if path not in {VENV, OWN_VENV}]  # fmt: skip
    for venv in (VENV, OWN_VENV):
        text = snapshot.text(f"{venv}/pyvenv.cfg")
        settings = dict(re.findall(r"^\s*([\w-]+)\s*=\s*(.*?)\s*$", text, re.MULTILINE))
        if settings.get("home") != "/usr/bin":
            problems.append(f"{venv}: its Python is in {settings.get('home', 'no place')}, not in /usr/bin")
        if settings.get("include-system-site-packages", "").lower() != "false":
            problems.append(f"{venv}: lets in packages from outside of it")
        if (end := _followed(snapshot, f"{venv}/bin/python")) != python.lstrip("/"):
            problems.append(f"{venv}/bin/python leads to {end}, not to {python}")
    homes = {site(expected, venv).rstrip("/") for venv in (VENV, OWN_VENV)} | {"usr/lib/python3/dist-packages"}
    folders = [path for path, entry in snapshot.files.items() if entry.kind == "folder" and _PACKAGES.match(path)]
    problems += [f"{path}: a folder of packages outside of the two environments" for path in folders
                 if path not in homes and any(snapshot.below(f"{path}/"))]  # fmt: skip
    debians = re.compile(rf"(etc|usr/lib)/python{re.escape(expected.manifest.python.version)}/sitecustomize\.py")
    return problems + [f"{path}: changes what Python imports" for path in snapshot.files
                       if path.rpartition("/")[2] in _HOOKS and not debians.fullmatch(path)]  # fmt: skip


def _followed(snapshot: ImageSnapshot, path: str) -> str:
    for _ in range(8):
        entry = snapshot.files.get(path)
        if entry is None or entry.kind != "link":
            break
        path = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), entry.target)).lstrip("/")
    return path
