"""The folders of a foreign instance, in the words that the other rooms of heal know."""

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
_FACTS = """
import json, sys, sysconfig
print(json.dumps({"prefix": sys.prefix, "purelib": sysconfig.get_path("purelib"), "path": sys.path,
                  "venv": sys.prefix != sys.base_prefix, "version": "%d.%d.%d" % sys.version_info[:3]}))
"""


@dataclass(frozen=True)
class Python:
    """The Python that runs ComfyUI. `site`: where it has SQLAlchemy from; `purelib`: where pip would put it."""

    path: Path
    site: Path
    purelib: Path
    prefix: Path
    venv: bool
    version: str


@dataclass(frozen=True)
class Foreign(Layout):
    """A foreign instance: `gesso` is the unpacked bundle, `comfyui` the folder that has `custom_nodes`."""

    python: Python = Python(Path(), Path(), Path(), Path(), venv=False, version="")
    kept: Path = Path()  # what outlives the bundle: reports, what was put aside
    models_at: Path = Path()
    user_at: Path = Path()
    port: int = COMFY_PORT

    @property
    def site_packages(self) -> Path:
        """ComfyUI's Python packages."""
        return self.python.site

    @property
    def state(self) -> Path:
        """What gesso keeps here."""
        return self.kept

    @property
    def models(self) -> Path:
        """Where ComfyUI looks for models first."""
        return self.models_at

    @property
    def user(self) -> Path:
        """ComfyUI's user directory."""
        return self.user_at


def option(argv: Sequence[str], name: str, default: str = "") -> str:
    """Give the value of an option of ComfyUI's, the last one of several. Pure."""
    found = default
    for number, word in enumerate(argv):
        if word == name and number + 1 < len(argv) and not argv[number + 1].startswith("--"):
            found = argv[number + 1]
        elif word.startswith(f"{name}="):
            found = word[len(name) + 1 :]
    return found


def of(found: Found, python: Python, bundle: Path, kept: Path) -> Foreign:
    """Say where everything is, by the arguments that ComfyUI was started with. Pure but for the working folder."""
    argv = found.process.argv if found.process is not None else remembered(kept, found.folder).get("argv", ())
    cwd = Path(found.process.cwd) if found.process is not None else found.folder

    def folder(name: str, default: Path) -> Path:
        given = option(argv, name)
        return Path(os.path.normpath(cwd / given)) if given else default

    base = folder("--base-directory", found.folder)
    port = option(argv, "--port", str(COMFY_PORT))
    return Foreign(
        gesso=bundle, comfyui=base, workspace=base, run=kept / "run", python=python, kept=kept,
        models_at=folder("--models-directory", base / "models"), user_at=folder("--user-directory", base / "user"),
        port=int(port) if port.isdigit() else COMFY_PORT,
    )  # fmt: skip


def ask(path: str, env: Mapping[str, str], cwd: Path) -> Python:
    """Ask a Python where its packages are: those of ComfyUI's own environment count.

    Raises CheckError where it does not answer.
    """
    try:
        result = proc.run([path, "-c", _FACTS], env=dict(env), cwd=cwd, timeout=60)
        said: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
        sites = [Path(entry) for entry in said["path"] if entry and Path(entry).is_dir()]
        purelib = Path(said["purelib"])
        site = next((entry for entry in sites if _holds(entry)), purelib)
        return Python(Path(path), site, purelib, Path(said["prefix"]), bool(said["venv"]), str(said["version"]))
    except (GessoError, OSError, ValueError, LookupError, TypeError) as error:
        raise CheckError(f"{path}: this Python does not say where its packages are: {error}",
                         "mend the Python of this ComfyUI, or make a fresh environment") from None  # fmt: skip


def _holds(site: Path) -> bool:
    return (site / GUARDED / "__init__.py").is_file()


def only_ours(record: Record) -> Record:
    """Give the record as far as a foreign instance must be like it: of Python's packages SQLAlchemy alone. Pure."""
    return replace(record, pins={GUARDED: record.pins[GUARDED]})


def remember(kept: Path, found: Found) -> None:
    """Keep how ComfyUI was started: it may be dead the next time. Its environment is not kept: there are secrets."""
    if found.process is not None:
        told = {"folder": str(found.folder), "argv": found.process.argv, "cwd": found.process.cwd}
        try:
            kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = kept / ".started.new"
            new.write_text(json.dumps(told), encoding="utf-8")
            new.replace(kept / "started.json")
        except OSError:
            return  # then it is started by its defaults


def remembered(kept: Path, folder: Path) -> dict[str, Any]:
    """Give how this ComfyUI was started when it was seen last; nothing where it never was."""
    try:
        told = json.loads((kept / "started.json").read_bytes())
        if told["folder"] == str(folder) and told["argv"] and all(isinstance(word, str) for word in told["argv"]):
            return dict(told)
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return {}


def models_folder(layout: Foreign, names: Iterable[str], argv: Sequence[str], code: Path) -> Folder:
    """Give where the models are: in ComfyUI's own folder, or where its extra_model_paths.yaml leads to and they lie."""
    extra = extra_paths(layout, argv, code)
    places = {}
    for name in names:
        kind, _, rest = name.partition("/")
        if not (layout.models / name).exists():
            there = next((path for folder in extra.get(kind, ()) if (path := folder / rest).is_file()), None)
            if there is not None:
                places[name] = str(there)
    return Folder(layout.models, layout.models / ".gesso", places)


def extra_paths(layout: Foreign, argv: Sequence[str], code: Path) -> dict[str, list[Path]]:
    """Read ComfyUI's extra_model_paths.yaml, and the one of its arguments: folders by kind. What is odd is left out."""
    files = [code / "extra_model_paths.yaml"]
    if given := option(argv, "--extra-model-paths-config"):
        files.append(layout.comfyui / given)
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
