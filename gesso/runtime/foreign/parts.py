"""The parts of a foreign instance: SQLAlchemy, the tooling nodes, workflows, the process. All else is the user's."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gesso import proc
from gesso.errors import CheckError, GessoError
from gesso.runtime import atomic
from gesso.runtime.foreign import paths
from gesso.runtime.heal import trees
from gesso.runtime.heal.damage import Damage, Outcome
from gesso.runtime.prepare import guard, wheels, workspace
from gesso.runtime.prepare.guard import GUARDED
from gesso.runtime.services import comfyui

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gesso.runtime.foreign.constraint import Constraint
    from gesso.runtime.foreign.paths import ForeignLayout
    from gesso.runtime.heal.runner import OnBytes, OnEvent
    from gesso.runtime.layout import Record

TOOLING = "comfyui-tooling-nodes"
NODE_PREFIX = "ETN_"  # prefix of their node classes
_IMPORT_CHECK = "import sqlalchemy; from sqlalchemy.orm import mapped_column; print(sqlalchemy.__version__)"
_OVERRIDES = ("PIP_CONSTRAINT", "PIP_REQUIRE_VIRTUALENV", "PIP_TARGET", "PIP_USER", "PIP_PREFIX", "UV_CONSTRAINT")


class Sqlalchemy:
    """The locked SQLAlchemy in the Python that runs ComfyUI, and the constraint that prevents its replacement."""

    what = "python"

    def __init__(self, layout: ForeignLayout, record: Record, env: Mapping[str, str], constraint: Constraint) -> None:
        self._layout, self._record, self._constraint = layout, paths.sqlalchemy_only(record), constraint
        self._env = {name: value for name, value in env.items() if name not in _OVERRIDES}

    def examine(self, _: OnBytes) -> list[Damage]:
        """Compare it with the bundled wheel, byte for byte, and check the constraint."""
        found = [
            Damage("python", GUARDED, f"is {f.found}, ComfyUI and Krita need {f.locked}",
                   f"install {f.locked} with this Python's pip, and nothing else", restart=True)
            for f in guard.check(self._layout, self._record)
        ]  # fmt: skip
        if outdated := self._constraint.outdated():
            found.append(Damage("config", "constraints", "nothing prevents pip and uv from replacing SQLAlchemy again",
                                f"write constraints to {', '.join(map(str, outdated))}"))  # fmt: skip
        return found

    def repair(self, damages: Sequence[Damage], _: OnEvent) -> list[Outcome]:
        """Install it, then write the constraint."""
        return [_outcome(damage, self._install if damage.kind == "python" else self._constrain) for damage in damages]

    def _install(self) -> str:
        wheel = guard.wheel_of(self._layout)
        if wheel is None:
            raise CheckError(f"{self._layout.gesso}: contains no wheel of SQLAlchemy", "run `invoke heal` again")
        python, purelib = self._layout.python.path, self._layout.python.purelib
        guard.remove_dist_info(purelib, GUARDED)  # of two versions pip would remove only one
        how = self._install_wheel(python, wheel)
        if not how:
            if not wheels.unpack(wheel, purelib):
                raise CheckError(f"{purelib}: SQLAlchemy cannot be installed there",
                                 "check that the disk has room, and that the folder is writable")  # fmt: skip
            how = "unpacked"
        self._verify_import(purelib)
        return f"{how}: {wheel.name}"

    def _install_wheel(self, python: Path, wheel: Path) -> str:
        """Install the wheel with pip, else with uv; return how, or nothing where neither works.

        By name, from the wheel's folder: by its path, `pip freeze` would list that path.
        """
        env = {**self._env, "PIP_BREAK_SYSTEM_PACKAGES": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
               "PIP_ROOT_USER_ACTION": "ignore"}  # fmt: skip
        options: list[str | Path]
        options = ["--quiet", "--no-index", "--find-links", wheel.parent, "--no-deps",
                  f"{GUARDED}=={self._record.pins[GUARDED]}"]  # fmt: skip
        commands: dict[str, list[str | Path]] = {
            "pip": [python, "-m", "pip", "install", "--force-reinstall", "--no-warn-script-location", *options],
            "uv": ["uv", "pip", "install", "--reinstall", "--python", python, *options],
        }
        for name, argv in commands.items():
            unset = [arg for variable in _OVERRIDES for arg in ("-u", variable)]
            try:
                if proc.run(["env", *unset, *argv], env=env, timeout=300).ok:
                    return f"by {name}"
            except GessoError:
                continue
        return ""

    def _verify_import(self, purelib: Path) -> None:
        """Check that ComfyUI will import the installed version. Raises CheckError."""
        current = paths.inspect_python(str(self._layout.python.path), self._env, self._layout.comfyui)
        if current.site != purelib:
            raise CheckError(f"{current.site}: another SQLAlchemy there takes precedence",
                             f"remove it, or take {current.site} off PYTHONPATH; then run the heal again")  # fmt: skip
        if remaining := guard.check(replace(self._layout, python=current), self._record):
            raise CheckError(f"{remaining[0]}, even after a repair", "create a new Python environment for ComfyUI")
        result = proc.run([self._layout.python.path, "-c", _IMPORT_CHECK], env=self._env, timeout=60)
        if not result.ok or result.stdout.strip() != self._record.pins[GUARDED]:
            raise CheckError(f"SQLAlchemy is installed, but cannot be imported: {result.tail(1)}",
                             "create a new Python environment for ComfyUI")  # fmt: skip

    def _constrain(self) -> str:
        self._constraint.write()
        return ""


class Packs:
    """The tooling nodes at the pinned commit. Other missing packs that Krita needs are only reported."""

    what = "code"

    def __init__(self, layout: ForeignLayout, record: Record, quarantine: Path) -> None:
        self._layout, self._record, self._quarantine = layout, record, quarantine
        self._spare = next(spare for spare in record.spares if spare.name == TOOLING)
        self._differences: tuple[trees.Difference, ...] = ()

    def examine(self, _: OnBytes) -> list[Damage]:
        """Compare file by file, and check which packs are installed."""
        folder = self._layout.comfyui / "custom_nodes"
        try:
            installed = {entry.name.lower(): entry.name for entry in folder.iterdir() if entry.is_dir()}
        except FileNotFoundError:
            installed = {}
        except OSError as error:
            raise CheckError(f"{folder}: {error.strerror}", "log in as the user that runs ComfyUI") from None
        found = []
        self._differences = trees.differences(self._layout, self._spare)
        if self._differences:
            count = len(self._differences)
            changed = f"differs from the pinned commit in {count} file{'s' * (count != 1)}"
            actual = changed if TOOLING in installed else "is missing"
            commit = self._record.raw["nodes"].get(TOOLING, {}).get("commit")
            pinned = f" (commit {commit[:12]})" if commit else ""
            found.append(Damage("pack", TOOLING, actual, f"restore it{pinned}; the current files are quarantined",
                                restart=True, files=tuple(d.path for d in self._differences[:50])))  # fmt: skip
        found += [
            Damage("pack", other, f"is a second copy of {TOOLING}", f"rename it to {other}.disabled", restart=True)
            for other in self._duplicates(installed)
        ]
        return found + [
            Damage("pack", name, "is missing, and Krita needs its node classes", "", repairable=False,
                   next_step=f"install it with its requirements into {folder}{_from(source)}, then run the heal again")
            for name, source in sorted(self._record.raw["nodes"].items())
            if name != TOOLING and name.lower() not in installed
        ]  # fmt: skip

    @staticmethod
    def _duplicates(installed: Mapping[str, str]) -> list[str]:
        """Return the same pack under another spelling: loaded twice, its routes would be registered twice."""
        names = (TOOLING, TOOLING.replace("-", "_"), f"{TOOLING}-main")
        return [installed[name] for name in names if name in installed and installed[name] != TOOLING]

    def repair(self, damages: Sequence[Damage], on_event: OnEvent) -> list[Outcome]:
        """Restore the pinned files one by one, and disable second copies."""

        def restore() -> str:
            trees.restore(self._layout, self._spare, self._differences, self._quarantine, _progress_to(on_event))
            if remaining := trees.differences(self._layout, self._spare):
                raise CheckError(
                    f"{TOOLING}: {remaining[0]}, even after a repair", "check which other program writes there"
                )
            return ""

        def disable(name: str) -> Callable[[], str]:
            folder = self._layout.comfyui / "custom_nodes" / name
            return lambda: str(folder.rename(workspace.free_name(folder.parent, folder.with_name(f"{name}.disabled"))))

        return [_outcome(d, restore if d.name == TOOLING else disable(d.name)) for d in damages]


class Workflows:
    """The gold standard workflows: both formats in ComfyUI/workflows, the UI format also in the editor's folder."""

    what = "workflows"

    def __init__(self, layout: ForeignLayout, record: Record) -> None:
        self._layout = layout
        folders = {".api.json": (layout.comfyui / "workflows",)}
        both = (layout.comfyui / "workflows", layout.user / "default" / "workflows")
        self._copies = {
            str(folder / name): workspace.WorkflowCopy(layout.gesso / "workflows" / name, digest, folder / name)
            for name, digest in sorted(record.workflows.items())
            for folder in (folders[".api.json"] if name.endswith(".api.json") else both)
        }

    def examine(self, _: OnBytes) -> list[Damage]:
        """Compare every workflow with the locked one."""
        found = []
        for name, copy in self._copies.items():
            try:
                is_current = copy.is_current()
            except OSError:
                is_current = False
            if not is_current:
                exists = os.path.lexists(copy.target)
                actual = "is not the locked one" if exists else "is missing"
                remedy = f"restore the locked one{'; yours is quarantined' * exists}"
                found.append(Damage("workflow", name, actual, remedy))
        return found

    def repair(self, damages: Sequence[Damage], on_event: OnEvent) -> list[Outcome]:
        """Restore them."""

        def put(copy: workspace.WorkflowCopy) -> Callable[[], str]:
            def act() -> str:
                workspace.install_workflow(copy, self._layout, _progress_to(on_event))
                return ""

            return act

        return [_outcome(damage, put(self._copies[damage.name])) for damage in damages]


class Running:
    """Whether ComfyUI runs, and has the node classes of the tooling nodes."""

    what = "processes"

    def __init__(self, layout: ForeignLayout, record: Record, *, runs: bool) -> None:
        self._layout, self._record, self._runs = layout, record, runs

    def examine(self, _: OnBytes) -> list[Damage]:
        """Query it."""
        if not self._runs:
            return [Damage("service", "comfyui", "does not run", "start it", restart=True)]
        try:
            missing = comfyui.missing_classes(
                [c for c in self._record.classes if c.startswith(NODE_PREFIX)], port=self._layout.port
            )
        except CheckError:
            return []  # it is starting
        if not missing:
            return []
        return [Damage("service", "comfyui", f"lacks node classes that Krita needs: {', '.join(missing)}",
                       "restart it", restart=True)]  # fmt: skip

    def repair(self, damages: Sequence[Damage], _: OnEvent) -> list[Outcome]:
        """Do nothing: the restart is a step of its own."""
        return [Outcome(damage, "repaired", "by the restart") for damage in damages]


def _progress_to(on_event: OnEvent) -> Callable[[str], None]:
    """Return a progress callback that emits each text as an event."""

    def on_progress(text: str) -> None:
        on_event("said", text=text)

    return on_progress


def _from(source: Mapping[str, str]) -> str:
    return f" (`git clone {source['git']}`, commit {source['commit']})" if source.get("git") else ""


def _outcome(damage: Damage, act: Callable[[], str]) -> Outcome:
    try:
        return Outcome(damage, "repaired", act())
    except GessoError as error:
        return Outcome.failed(damage, error)
    except OSError as error:
        return Outcome.failed(damage, atomic.repair_error(error, Path(error.filename or damage.name)))
