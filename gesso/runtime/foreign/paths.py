"""The folders of a foreign instance, as a Layout that the rest of heal can use."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gesso import proc
from gesso.errors import CheckError, GessoError
from gesso.models.folder import Folder
from gesso.runtime.layout import Layout, Record
from gesso.runtime.prepare.guard import GUARDED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gesso.runtime.foreign.discover import Found

COMFY_PORT = 8188  # ComfyUI's own default
_INSPECT = """
import json, sys, sysconfig
print(json.dumps({"prefix": sys.prefix, "purelib": sysconfig.get_path("purelib"), "path": sys.path,
                  "venv": sys.prefix != sys.base_prefix, "version": "%d.%d.%d" % sys.version_info[:3]}))
"""


@dataclass(frozen=True)
class Python:
    """The Python that runs ComfyUI. `site`: where it imports SQLAlchemy from; `purelib`: where pip would install it."""

    path: Path
    site: Path
    purelib: Path
    prefix: Path
    venv: bool
    version: str


@dataclass(frozen=True)
class ForeignLayout(Layout):
    """A foreign instance: `gesso` is the unpacked bundle, `comfyui` the folder that contains `custom_nodes`."""

    python: Python = Python(Path(), Path(), Path(), Path(), venv=False, version="")
    state_at: Path = Path()  # outlives the bundle: reports, quarantine
    models_at: Path = Path()
    user_at: Path = Path()
    port: int = COMFY_PORT

    @property
    def site_packages(self) -> Path:
        """ComfyUI's Python packages."""
        return self.python.site

    @property
    def state(self) -> Path:
        """What gesso stores on the instance."""
        return self.state_at

    @property
    def models(self) -> Path:
        """The first folder in which ComfyUI looks for models."""
        return self.models_at

    @property
    def user(self) -> Path:
        """ComfyUI's user directory."""
        return self.user_at


def option(argv: Sequence[str], name: str, default: str = "") -> str:
    """Return the value of a command-line option, the last one of several. Pure."""
    value = default
    for number, arg in enumerate(argv):
        if arg == name and number + 1 < len(argv) and not argv[number + 1].startswith("--"):
            value = argv[number + 1]
        elif arg.startswith(f"{name}="):
            value = arg[len(name) + 1 :]
    return value


def layout_of(found: Found, python: Python, bundle: Path, state_at: Path) -> ForeignLayout:
    """Return the layout, from the arguments that ComfyUI was started with. Reads only the saved start."""
    argv = found.process.argv if found.process is not None else saved_start(state_at, found.folder).get("argv", ())
    cwd = Path(found.process.cwd) if found.process is not None else found.folder

    def folder(name: str, default: Path) -> Path:
        value = option(argv, name)
        return Path(os.path.normpath(cwd / value)) if value else default

    base = folder("--base-directory", found.folder)
    port = option(argv, "--port", str(COMFY_PORT))
    return ForeignLayout(
        gesso=bundle, comfyui=base, workspace=base, run=state_at / "run", python=python, state_at=state_at,
        models_at=folder("--models-directory", base / "models"), user_at=folder("--user-directory", base / "user"),
        port=int(port) if port.isdigit() else COMFY_PORT,
    )  # fmt: skip


def inspect_python(path: str, env: Mapping[str, str], cwd: Path) -> Python:
    """Query a Python for the folders of its packages, in ComfyUI's environment.

    Raises CheckError where it does not work.
    """
    try:
        result = proc.run([path, "-c", _INSPECT], env=dict(env), cwd=cwd, timeout=60)
        facts: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
        sites = [Path(entry) for entry in facts["path"] if entry and Path(entry).is_dir()]
        purelib = Path(facts["purelib"])
        site = next((entry for entry in sites if _holds(entry)), purelib)
        return Python(Path(path), site, purelib, Path(facts["prefix"]), bool(facts["venv"]), str(facts["version"]))
    except (GessoError, OSError, ValueError, LookupError, TypeError) as error:
        raise CheckError(f"{path}: cannot determine where this Python has its packages: {error}",
                         "fix the Python of this ComfyUI, or create a new environment") from None  # fmt: skip


def _holds(site: Path) -> bool:
    return (site / GUARDED / "__init__.py").is_file()


def sqlalchemy_only(record: Record) -> Record:
    """Return the record with SQLAlchemy as its only pin: nothing else is required on a foreign instance. Pure."""
    return replace(record, pins={GUARDED: record.pins[GUARDED]})


def save_start(state_at: Path, found: Found) -> None:
    """Save how ComfyUI was started, for when it is not running. Never its environment: it contains secrets."""
    if found.process is not None:
        start = {"folder": str(found.folder), "argv": found.process.argv, "cwd": found.process.cwd}
        try:
            state_at.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = state_at / ".started.new"
            new.write_text(json.dumps(start), encoding="utf-8")
            new.replace(state_at / "started.json")
        except OSError:
            return  # it will be started with its defaults


def saved_start(state_at: Path, folder: Path) -> dict[str, Any]:
    """Return how this ComfyUI was last started; empty where that is unknown."""
    try:
        start = json.loads((state_at / "started.json").read_bytes())
        if start["folder"] == str(folder) and start["argv"] and all(isinstance(arg, str) for arg in start["argv"]):
            return dict(start)
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return {}


def models_folder(layout: ForeignLayout, names: Iterable[str], argv: Sequence[str], code: Path) -> Folder:
    """Return the models folder; models that exist only in folders of extra_model_paths.yaml are read there."""
    extra = extra_paths(layout, argv, code)
    places = {}
    for name in names:
        kind, _, rest = name.partition("/")
        if not (layout.models / name).exists():
            existing = next((path for folder in extra.get(kind, ()) if (path := folder / rest).is_file()), None)
            if existing is not None:
                places[name] = str(existing)
    return Folder(layout.models, layout.models / ".gesso", places)


def extra_paths(layout: ForeignLayout, argv: Sequence[str], code: Path) -> dict[str, list[Path]]:
    """Return the folders by kind of ComfyUI's extra_model_paths.yaml and of the one in `argv`; skip invalid entries."""
    files = [code / "extra_model_paths.yaml"]
    if path := option(argv, "--extra-model-paths-config"):
        files.append(layout.comfyui / path)
    found: dict[str, list[Path]] = {}
    for file in files:
        try:
            sections = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue
        for section in sections.values() if isinstance(sections, dict) else ():
            for kind, folders in _section(section, file.parent).items():
                found.setdefault(kind, []).extend(folders)
    return found


def _section(section: object, beside: Path) -> dict[str, list[Path]]:
    if not isinstance(section, dict):
        return {}
    base = beside / os.path.expandvars(Path(str(section.get("base_path") or ".")).expanduser())
    texts = {str(kind): text for kind, text in section.items() if isinstance(text, str)}
    return {kind: [base / line.strip() for line in text.splitlines() if line.strip()] for kind, text in texts.items()}
