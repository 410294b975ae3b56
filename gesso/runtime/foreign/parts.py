"""The parts of a foreign instance: SQLAlchemy, the tooling nodes, workflows, what runs. Nothing else there is ours."""

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
    from gesso.runtime.foreign.paths import Foreign
    from gesso.runtime.heal.runner import OnBytes, Tell
    from gesso.runtime.layout import Record

TOOLING = "comfyui-tooling-nodes"
KRITAS = "ETN_"  # begins the names of their node classes
_PROOF = "import sqlalchemy; from sqlalchemy.orm import mapped_column; print(sqlalchemy.__version__)"
_OTHERS = ("PIP_CONSTRAINT", "PIP_REQUIRE_VIRTUALENV", "PIP_TARGET", "PIP_USER", "PIP_PREFIX", "UV_CONSTRAINT")


class Sqlalchemy:
    """SQLAlchemy as locked, in the Python that runs ComfyUI, and kept so."""

    what = "python"

    def __init__(self, layout: Foreign, record: Record, env: Mapping[str, str], constraint: Constraint) -> None:
        self._layout, self._record, self._constraint = layout, paths.only_ours(record), constraint
        self._env = {name: value for name, value in env.items() if name not in _OTHERS}

    def examine(self, _: OnBytes) -> list[Damage]:
        """Compare it with the wheel that came along, to the byte; and see what keeps it so."""
        found = [
            Damage("python", GUARDED, f"is {f.found}, ComfyUI and Krita need {f.locked}",
                   f"install {f.locked} with this Python's pip, and nothing else", restart=True)
            for f in guard.check(self._layout, self._record)
        ]  # fmt: skip
        if lacking := self._constraint.lacking():
            found.append(Damage("config", "constraints", "nothing keeps pip and uv from replacing SQLAlchemy again",
                                f"write it to {', '.join(map(str, lacking))}"))  # fmt: skip
        return found

    def repair(self, damages: Sequence[Damage], _: Tell) -> list[Outcome]:
        """Install it, then constrain it."""
        return [_outcome(damage, self._install if damage.kind == "python" else self._constrain) for damage in damages]

    def _install(self) -> str:
        wheel = guard.wheel_of(self._layout)
        if wheel is None:
            raise CheckError(f"{self._layout.gesso}: has no wheel of SQLAlchemy", "run `invoke heal` again")
        python, purelib = self._layout.python.path, self._layout.python.purelib
        guard.forget(purelib, GUARDED)  # of two versions pip would take away one
        how = self._by_program(python, wheel)
        if not how:
            if not wheels.unpack(wheel, purelib):
                raise CheckError(f"{purelib}: SQLAlchemy cannot be installed there",
                                 "see that the disk has room, and that it may be written to")  # fmt: skip
            how = "unpacked"
        self._prove(purelib)
        return f"{how}: {wheel.name}"

    def _by_program(self, python: Path, wheel: Path) -> str:
        """Install the wheel with pip, else with uv; nothing where neither can.

        By name, out of the wheel's folder: by its path, `pip freeze` would name that path for ever.
        """
        env = {**self._env, "PIP_BREAK_SYSTEM_PACKAGES": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
               "PIP_ROOT_USER_ACTION": "ignore"}  # fmt: skip
        wanted: list[str | Path]
        wanted = ["--quiet", "--no-index", "--find-links", wheel.parent, "--no-deps",
                  f"{GUARDED}=={self._record.pins[GUARDED]}"]  # fmt: skip
        ways: dict[str, list[str | Path]] = {
            "pip": [python, "-m", "pip", "install", "--force-reinstall", "--no-warn-script-location", *wanted],
            "uv": ["uv", "pip", "install", "--reinstall", "--python", python, *wanted],
        }
        for name, words in ways.items():
            unset = [word for other in _OTHERS for word in ("-u", other)]
            try:
                if proc.run(["env", *unset, *words], env=env, timeout=300).ok:
                    return f"by {name}"
            except GessoError:
                continue
        return ""

    def _prove(self, purelib: Path) -> None:
        """See that it is what ComfyUI will import. Raises CheckError."""
        now = paths.ask(str(self._layout.python.path), self._env, self._layout.comfyui)
        if now.site != purelib:
            raise CheckError(f"{now.site}: another SQLAlchemy comes first there",
                             f"remove it, or take {now.site} out of PYTHONPATH; then heal again")  # fmt: skip
        if still := guard.check(replace(self._layout, python=now), self._record):
            raise CheckError(f"{still[0]}, even after a repair", "make a fresh Python environment for ComfyUI")
        proof = proc.run([self._layout.python.path, "-c", _PROOF], env=self._env, timeout=60)
        if not proof.ok or proof.stdout.strip() != self._record.pins[GUARDED]:
            raise CheckError(f"SQLAlchemy is installed, and cannot be imported: {proof.tail(1)}",
                             "make a fresh Python environment for ComfyUI")  # fmt: skip

    def _constrain(self) -> str:
        self._constraint.put()
        return ""


class Packs:
    """The tooling nodes at the pinned commit. Other packs that Krita needs are named where they lack."""

    what = "code"

    def __init__(self, layout: Foreign, record: Record, aside: Path) -> None:
        self._layout, self._record, self._aside = layout, record, aside
        self._spare = next(spare for spare in record.spares if spare.name == TOOLING)
        self._differences: tuple[trees.Difference, ...] = ()

    def examine(self, _: OnBytes) -> list[Damage]:
        """Compare file by file, and look which packs are there at all."""
        folder = self._layout.comfyui / "custom_nodes"
        try:
            there = {entry.name.lower(): entry.name for entry in folder.iterdir() if entry.is_dir()}
        except FileNotFoundError:
            there = {}
        except OSError as error:
            raise CheckError(f"{folder}: {error.strerror}", "log in as the user that runs ComfyUI") from None
        found = []
        self._differences = trees.differences(self._layout, self._spare)
        if self._differences:
            said = "is not there" if TOOLING not in there else f"{len(self._differences)} files are not as pinned"
            commit = self._record.raw["nodes"].get(TOOLING, {}).get("commit")
            pinned = f" (commit {commit[:12]})" if commit else ""
            found.append(Damage("pack", TOOLING, said, f"restore it{pinned}; what is there now is kept aside",
                                restart=True, files=tuple(d.path for d in self._differences[:50])))  # fmt: skip
        found += [
            Damage("pack", other, f"is {TOOLING} a second time", f"rename it to {other}.disabled", restart=True)
            for other in self._twins(there)
        ]
        return found + [
            Damage("pack", name, "is not there, and Krita needs its node classes", "", repairable=False,
                   next_step=f"install it with its requirements into {folder}{_from(source)}, then heal again")
            for name, source in sorted(self._record.raw["nodes"].items())
            if name != TOOLING and name.lower() not in there
        ]  # fmt: skip

    @staticmethod
    def _twins(there: Mapping[str, str]) -> list[str]:
        """Name what is the same pack under another spelling: loaded twice, its routes would be there twice."""
        names = (TOOLING, TOOLING.replace("-", "_"), f"{TOOLING}-main")
        return [there[name] for name in names if name in there and there[name] != TOOLING]

    def repair(self, damages: Sequence[Damage], tell: Tell) -> list[Outcome]:
        """Put the right files in place, one by one."""

        def restore() -> str:
            trees.restore(self._layout, self._spare, self._differences, self._aside, _saying(tell))
            if still := trees.differences(self._layout, self._spare):
                raise CheckError(f"{TOOLING}: {still[0]}, even after a repair", "look at who else writes there")
            return ""

        def disable(name: str) -> Callable[[], str]:
            folder = self._layout.comfyui / "custom_nodes" / name
            return lambda: str(folder.rename(workspace.free_name(folder.parent, folder.with_name(f"{name}.disabled"))))

        return [_outcome(d, restore if d.name == TOOLING else disable(d.name)) for d in damages]


class Workflows:
    """The gold graphs: both formats where people look, what the editor opens in the editor's own folder."""

    what = "workflows"

    def __init__(self, layout: Foreign, record: Record) -> None:
        self._layout = layout
        folders = {".api.json": (layout.comfyui / "workflows",)}
        both = (layout.comfyui / "workflows", layout.user / "default" / "workflows")
        self._places = {
            str(folder / name): workspace.Place(layout.gesso / "workflows" / name, digest, folder / name)
            for name, digest in sorted(record.workflows.items())
            for folder in (folders[".api.json"] if name.endswith(".api.json") else both)
        }

    def examine(self, _: OnBytes) -> list[Damage]:
        """Compare."""
        found = []
        for name, spot in self._places.items():
            try:
                right = spot.right()
            except OSError:
                right = False
            if not right:
                there = os.path.lexists(spot.target)
                said = "is not the locked one" if there else "is not there"
                found.append(Damage("workflow", name, said, f"put the locked one there{'; yours is kept' * there}"))
        return found

    def repair(self, damages: Sequence[Damage], tell: Tell) -> list[Outcome]:
        """Put them there."""

        def put(spot: workspace.Place) -> Callable[[], str]:
            def act() -> str:
                workspace.put(spot, self._layout, _saying(tell))
                return ""

            return act

        return [_outcome(damage, put(self._places[damage.name])) for damage in damages]


class Running:
    """Whether ComfyUI runs, and has what Krita needs of the tooling nodes."""

    what = "processes"

    def __init__(self, layout: Foreign, record: Record, *, runs: bool) -> None:
        self._layout, self._record, self._runs = layout, record, runs

    def examine(self, _: OnBytes) -> list[Damage]:
        """Ask it."""
        if not self._runs:
            return [Damage("service", "comfyui", "does not run", "start it", restart=True)]
        try:
            missing = comfyui.missing([c for c in self._record.classes if c.startswith(KRITAS)], port=self._layout.port)
        except CheckError:
            return []  # it is starting
        if not missing:
            return []
        return [Damage("service", "comfyui", f"lacks node classes that Krita needs: {', '.join(missing)}",
                       "start it again", restart=True)]  # fmt: skip

    def repair(self, damages: Sequence[Damage], _: Tell) -> list[Outcome]:
        """Nothing: the restart is a step of its own."""
        return [Outcome(damage, "repaired", "by its restart") for damage in damages]


def _saying(tell: Tell) -> Callable[[str], None]:
    def say(text: str) -> None:
        tell("said", text=text)

    return say


def _from(source: Mapping[str, str]) -> str:
    return f" (`git clone {source['git']}`, commit {source['commit']})" if source.get("git") else ""


def _outcome(damage: Damage, act: Callable[[], str]) -> Outcome:
    try:
        return Outcome(damage, "repaired", act())
    except GessoError as error:
        return Outcome.failed(damage, error)
    except OSError as error:
        return Outcome.failed(damage, atomic.refused(error, Path(error.filename or damage.name)))
