"""A small instance to damage and heal: its folders, its record, every kind of damage; and heals to kill.

As a program it forks a heal for each line on stdin: it imports gesso once, so that a kill costs milliseconds.
"""

from __future__ import annotations

import base64
import hashlib
import json
import lzma
import os
import shutil
import sys
import traceback
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gesso.builder.image import spares as making
from gesso.manifest.schema import Model
from gesso.models import receipts
from gesso.models.folder import Folder
from gesso.runtime.gate import caddy
from gesso.runtime.heal import quarantine, reports
from gesso.runtime.heal.models import Models
from gesso.runtime.heal.parts import Code, Processes, Python, Workspace
from gesso.runtime.heal.runner import HealRun, heal
from gesso.runtime.layout import Layout, Record, Spare
from gesso.runtime.prepare import workspace
from gesso.runtime.services.supervisord import Program, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PINS = {"sqlalchemy": "2.0.58", "numpy": "2.3.0"}
GRAPHS = {"gold.json": b'{"nodes": []}', "gold.api.json": b'{"1": {"class_type": "ETN_KritaCanvas"}}'}
COMFYUI = {"main.py": b"import server\n", "server.py": b"x = 1\n" * 5000, "comfy/model.py": b"y = 2\n"}
TOOLING = {"__init__.py": b"NODES = {}\n", "nodes.py": b"z = 3\n" * 800, "js/web.js": b"let a;\n"}
ENV = {"GESSO_TOKEN": "a-token-of-the-tests-0"}


def vae(channels: int, size: int, seed: int) -> bytes:
    """Return the file of a VAE whose latents have `channels` channels."""
    shape = [8, channels, 3, 3]
    end = 2 * 8 * channels * 9
    table: dict[str, Any] = {"decoder.conv_in.weight": {"dtype": "F16", "shape": shape, "data_offsets": [0, end]}}
    table["rest"] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
    head = json.dumps(table).encode()
    return len(head).to_bytes(8, "little") + head + bytes([seed]) * (end + size)


MODELS = {
    "vae/one.safetensors": vae(4, 3_000_000, 1),
    "vae/two.safetensors": vae(4, 70_000, 2),
    "vae/three.safetensors": vae(4, 50_000, 3),
}


def layout_at(root: Path) -> Layout:
    """Return the folders of an instance below `root`."""
    names = ("gesso", "comfyui", "venv", "workspace", "run", "logs")
    return Layout(**{name: root / name for name in names}, root=root)


def wheel(name: str, version: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files of a wheel, with their RECORD."""
    info = f"{name}-{version}.dist-info"
    contents = {**files, f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()}
    rows = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for path, data in contents.items()
    )
    return {**contents, f"{info}/RECORD": f"{rows}{info}/RECORD,,\n".encode()}


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o644)


def build(root: Path, url: str) -> None:
    """Build an instance at `root` as in an image; its models come from `url`."""
    layout = layout_at(root)
    site = layout.venv / "lib/python3.13/site-packages"
    sqlalchemy = wheel(
        "sqlalchemy", PINS["sqlalchemy"], {"sqlalchemy/__init__.py": b"v = 2\n", "sqlalchemy/orm.py": b"o\n"}
    )
    put(site, sqlalchemy)
    put(site, wheel("numpy", PINS["numpy"], {"numpy/__init__.py": b"n = 1\n"}))
    # A Python that does nothing: SQLAlchemy is then unpacked from its wheel without pip, which takes milliseconds.
    put(root / "usr/bin", {"python3": b"#!/bin/sh\nexit 1\n"})
    (root / "usr/bin/python3").chmod(0o755)
    (layout.venv / "bin").mkdir()
    (layout.venv / "bin/python").symlink_to(root / "usr/bin/python3")
    (layout.gesso / "wheels").mkdir(parents=True)
    with zipfile.ZipFile(layout.gesso / "wheels" / f"sqlalchemy-{PINS['sqlalchemy']}-py3-none-any.whl", "w") as archive:
        for name, data in sqlalchemy.items():
            archive.writestr(name, data)
    put(layout.venv, {"pyvenv.cfg": f"home = {root}/usr/bin\ninclude-system-site-packages = false\n".encode()})
    put(layout.comfyui, COMFYUI)
    put(layout.comfyui / "custom_nodes/tooling", TOOLING)
    put(layout.gesso / "workflows", GRAPHS)
    spares = {}
    for name, target, folder in (
        ("ComfyUI", "/opt/ComfyUI", layout.comfyui), ("tooling", "/opt/ComfyUI/custom_nodes/tooling", None),
        ("gesso", "/", root / "own"),
    ):  # fmt: skip
        if name == "gesso":
            put(root / "own/opt/gesso/workflows", GRAPHS)
        source = folder or layout.comfyui / "custom_nodes/tooling"
        members = [m for m in making.of_folder(source) if name != "ComfyUI" or "custom_nodes" not in m[0].name]
        content = lzma.compress(making.tar(members), preset=0)
        layout.spare.mkdir(exist_ok=True)
        (layout.spare / f"{name}.tar.xz").write_bytes(content)
        spares[name] = {"sha256": hashlib.sha256(content).hexdigest(), "target": target}
    models = [
        {"name": name, "sources": [f"{url}/{name}"], "sha256": hashlib.sha256(data).hexdigest(), "size": len(data),
         "kind": "vae", "family": "sdxl", "tier": "required", "license": "MIT"}
        for name, data in MODELS.items()
    ]  # fmt: skip
    (root / "record.json").write_text(json.dumps({"spares": spares, "models": models}), encoding="utf-8")
    put(layout.models, MODELS)
    workspace.lay_out(layout, record_at(root), lambda _: None)
    caddy.configure(layout, ENV)
    models_folder = Folder.at(layout.models)
    for model in models_of(root):
        receipts.write(models_folder, model.name, model.sha256, models_folder.path(model.name).stat())


def record_at(root: Path) -> Record:
    """Return the record of the instance at `root`."""
    raw = json.loads((root / "record.json").read_bytes())
    return Record(
        "sdxl", "A toy", True, (), PINS, {n: hashlib.sha256(c).hexdigest() for n, c in GRAPHS.items()}, raw,
        spares=tuple(Spare(name, **spare) for name, spare in raw["spares"].items()),
    )  # fmt: skip


def models_of(root: Path) -> tuple[Model, ...]:
    """Return its models."""
    return tuple(Model.model_validate(entry) for entry in json.loads((root / "record.json").read_bytes())["models"])


class FakeSupervisor(Supervisor):
    """A supervisor whose programs all run."""

    def __init__(self) -> None:
        object.__setattr__(self, "path", Path("/nowhere"))

    def programs(self) -> dict[str, Program]:
        return {name: Program(name, "RUNNING", 7, 1) for name in ("agent", "gate", "comfyui")}

    def terminate(self, name: str) -> None:
        pass


@dataclass
class FakeService:
    """A ComfyUI that is up, and counts its restarts in a file."""

    layout: Layout

    def is_up(self) -> bool:
        return True

    def restart_pending(self) -> bool:
        return self.layout.pending_restart.exists()

    def mark_restart_pending(self) -> None:
        self.layout.pending_restart.touch()

    def prevent_start(self) -> None:
        raise AssertionError("it is up")

    def restart(self, _: Any) -> None:
        with (self.layout.run / "restarts").open("a", encoding="ascii") as file:
            file.write("x")
        self.layout.pending_restart.unlink()

    def wait_ready(self, _: Any, *, all_repaired: bool) -> None:
        assert all_repaired

    def confirm(self, *, repaired: bool) -> None:
        pass


def one_heal(root: Path, name: str) -> dict[str, Any]:
    """Heal the instance at `root`, and return the report."""
    layout, record = layout_at(root), record_at(root)
    journal = reports.Journal(layout.reports, name)
    heal_run = HealRun({"id": name})
    parts = (
        Python(layout, record, ENV),
        Code(layout, record, quarantine.folder(layout, name), port=9),
        Workspace(layout, record),
        Processes(layout, record, ENV, FakeSupervisor(), port=9),
        Models(models_of(root), Folder.at(layout.models), ENV),
    )
    heal(parts, FakeService(layout), journal.emit, heal_run)
    found = heal_run.report()
    journal.end(found)
    return found


def _site(root: Path) -> Path:
    return layout_at(root).site_packages


def _old_sqlalchemy(root: Path) -> None:
    site = _site(root)
    shutil.rmtree(site / "sqlalchemy")
    shutil.rmtree(site / f"sqlalchemy-{PINS['sqlalchemy']}.dist-info")
    put(site, wheel("SQLAlchemy", "1.4.54", {"sqlalchemy/__init__.py": b"v = 1\n"}))


def _rotten(root: Path) -> None:
    folder, model = Folder.at(layout_at(root).models), models_of(root)[0]
    path = folder.path(model.name)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    receipts.write(folder, model.name, model.sha256, path.stat())


def _in_the_way(root: Path) -> None:
    path = layout_at(root).user / "default/workflows/gold.json"
    path.unlink()
    path.mkdir()
    (path / "mine.txt").write_text("mine", encoding="utf-8")


# Name: how to damage it, and the path below the root that may be another file afterwards (a folder: all below it).
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "an older SQLAlchemy": (_old_sqlalchemy, "venv/lib/python3.13/site-packages"),
    "a file of SQLAlchemy edited": (
        lambda r: (_site(r) / "sqlalchemy/orm.py").write_bytes(b"evil\n"), "venv/lib/python3.13/site-packages"),
    "something shadows the locked Python": (
        lambda r: (_site(r) / "sitecustomize.py").write_bytes(b"evil\n"), "venv/lib/python3.13/site-packages/x"),
    "a node pack deleted": (
        lambda r: shutil.rmtree(layout_at(r).comfyui / "custom_nodes/tooling"), "comfyui/custom_nodes/tooling"),
    "a file of a node pack edited": (
        lambda r: (layout_at(r).comfyui / "custom_nodes/tooling/__init__.py").write_bytes(b"evil\n"),
        "comfyui/custom_nodes/tooling"),
    "an extra file in ComfyUI": (
        lambda r: (layout_at(r).comfyui / "comfy/evil.py").write_bytes(b"evil\n"), "comfyui/comfy/evil.py"),
    "a file of ComfyUI cut off": (
        lambda r: (layout_at(r).comfyui / "server.py").write_bytes(b"x = 1\n"), "comfyui/server.py"),
    "a file of ComfyUI deleted": (
        lambda r: (layout_at(r).comfyui / "comfy/model.py").unlink(), "comfyui/comfy/model.py"),
    "a workflow overwritten": (
        lambda r: (layout_at(r).workspace / "ComfyUI/workflows/gold.json").write_bytes(b'{"1": "LoadImage"}'),
        "workspace/ComfyUI/workflows/gold.json"),
    "a workflow deleted": (
        lambda r: (layout_at(r).workspace / "ComfyUI/workflows/gold.api.json").unlink(),
        "workspace/ComfyUI/workflows/gold.api.json"),
    "a folder in the place of a workflow": (_in_the_way, "workspace/user/default/workflows/gold.json"),
    "the image's own workflow damaged": (
        lambda r: (layout_at(r).gesso / "workflows/gold.json").write_bytes(b"{}"), "gesso/workflows/gold.json"),
    "a model cut to a stub": (
        lambda r: os.truncate(layout_at(r).models / "vae/two.safetensors", 700),
        "workspace/models/vae/two.safetensors"),
    "a model of another architecture": (
        lambda r: (layout_at(r).models / "vae/three.safetensors").write_bytes(vae(16, 9, 1)),
        "workspace/models/vae/three.safetensors"),
    "a model that rotted under a valid receipt": (_rotten, "workspace/models/vae/one.safetensors"),
    "the gate opened": (lambda r: (layout_at(r).run / "Caddyfile").write_text(":8188\n", encoding="ascii"), "run"),
    "a folder of the workspace deleted": (
        lambda r: shutil.rmtree(layout_at(r).workspace / "input"), "workspace/input"),
}  # fmt: skip
FETCHED = {  # the model that each makes bad
    "a model cut to a stub": "vae/two.safetensors",
    "a model of another architecture": "vae/three.safetensors",
    "a model that rotted under a valid receipt": "vae/one.safetensors",
}


def good_files(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return inode, mtime and content of every file of the instance except gesso's own records."""
    found = {}
    for part in ("gesso", "comfyui", "venv", "workspace", "run"):
        for path in (root / part).rglob("*"):
            name = path.relative_to(root).as_posix()
            internal = name.startswith(("workspace/gesso/", "workspace/models/.gesso/"))
            if path.is_file() and not path.is_symlink() and not internal and "ComfyUI/models" not in name:
                stat = path.stat()
                found[name] = (stat.st_ino, stat.st_mtime_ns, hashlib.sha256(path.read_bytes()).digest())
    return found


def main() -> None:
    """Fork a heal for each line."""
    for line in sys.stdin:
        root, name = json.loads(line)
        pid = os.fork()
        if not pid:
            code = 70
            try:
                code = int(one_heal(Path(root), name)["code"])
            except BaseException:  # noqa: BLE001 - the parent must never go on in a child
                Path(root, "trace").write_text(traceback.format_exc(), encoding="utf-8")
            os._exit(code)
        print(pid, flush=True)  # noqa: T201 - the response
        sys.stdin.readline()  # before that it is not reaped, so that its PID is not reused
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
