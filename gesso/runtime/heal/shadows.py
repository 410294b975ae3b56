"""What stands in the way of the locked Python without being a distribution: it would be imported, or run, instead."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from gesso.runtime import atomic
from gesso.runtime.heal.hashing import rows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gesso.runtime.layout import Layout

SETTINGS = "pyvenv.cfg"
PYTHON = "bin/python"
_HOOKS = {"sitecustomize", "usercustomize"}
_SETTING = re.compile(r"^[ \t]*(?P<name>[\w-]+)[ \t]*=[ \t]*(?P<value>.*?)[ \t]*$", re.MULTILINE)


def in_site(site: Path, infos: Iterable[Path]) -> dict[str, str]:
    """Name what nobody installed at the top of site-packages and Python takes first: by its name, what it is."""
    owned: set[str] = set()
    for info in infos:
        owned |= {row.path for row in rows(info / "RECORD")}
    tops = {path.partition("/")[0] for path in owned}
    modules = {name.removesuffix(".py") for name in tops if name.endswith(".py")}
    found = {}
    for entry in sorted(site.iterdir()):
        if entry.name in tops:
            continue
        stem = entry.name.split(".")[0]
        if entry.suffix == ".pth":
            found[entry.name] = "is a .pth file that no distribution brought"
        elif entry.name.startswith("~"):
            found[entry.name] = "is what a pip that was killed left behind"
        elif stem in _HOOKS:
            found[entry.name] = "is code that Python runs at every start"
        elif stem in modules and (entry.suffix == ".so" or (entry / "__init__.py").is_file()):
            found[entry.name] = f"would be imported instead of {stem}.py"
    return found


def of_venv(layout: Layout) -> dict[str, str]:
    """Say what is wrong with the virtual environment itself: its settings, and the Python that it leads to."""
    found = {}
    home = layout.root / "usr/bin"
    settings = dict(_settings(layout))
    if settings.get("home") != str(home):
        found[SETTINGS] = f"says that Python is in {settings.get('home', 'no place')}, not in {home}"
    elif settings.get("include-system-site-packages", "").lower() != "false":
        found[SETTINGS] = "lets in packages from outside of the environment"
    python = layout.venv / PYTHON
    if not os.access(python, os.X_OK) or python.resolve() != (home / "python3").resolve():
        found[PYTHON] = f"leads to {python.resolve()}" if python.is_file() else "is missing or leads nowhere"
    return found


def mend_venv(layout: Layout, names: Iterable[str], aside: Path) -> None:
    """Put right what `of_venv` named. Raises OSError."""
    home = layout.root / "usr/bin"
    if SETTINGS in names:
        path = layout.venv / SETTINGS
        right = {**dict(_settings(layout)), "home": str(home), "include-system-site-packages": "false"}
        if os.path.lexists(path):
            atomic.keep(path, aside, SETTINGS)
        text = "".join(f"{name} = {value}\n" for name, value in right.items()).encode()
        atomic.write_bytes(path, text)
    if PYTHON in names:
        for name, target in (("python3", str(home / "python3")), ("python", "python3")):
            path = layout.venv / "bin" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir() and not path.is_symlink():
                atomic.clear(path, aside, f"bin/{name}")
            elif os.path.lexists(path):
                atomic.keep(path, aside, f"bin/{name}")
            atomic.link(path, target)


def _settings(layout: Layout) -> list[tuple[str, str]]:
    try:
        text = (layout.venv / SETTINGS).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return []
    return [(match["name"].lower(), match["value"]) for match in _SETTING.finditer(text)]
