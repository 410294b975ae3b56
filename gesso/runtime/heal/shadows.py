"""Files that shadow the locked Python without being a distribution: they would be imported, or run, instead."""

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
    """Return entries of site-packages that belong to no distribution and take precedence: name to description."""
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
            found[entry.name] = "is a .pth file that belongs to no distribution"
        elif entry.name.startswith("~"):
            found[entry.name] = "is a leftover of an interrupted pip"
        elif stem in _HOOKS:
            found[entry.name] = "is code that Python runs at every start"
        elif stem in modules and (entry.suffix == ".so" or (entry / "__init__.py").is_file()):
            found[entry.name] = f"would be imported instead of {stem}.py"
    return found


def in_venv(layout: Layout) -> dict[str, str]:
    """Return what is wrong with the virtual environment itself: its settings, and the Python that it links to."""
    found = {}
    home = layout.root / "usr/bin"
    settings = dict(_settings(layout))
    if settings.get("home") != str(home):
        found[SETTINGS] = f"names {settings.get('home', 'nothing')} as the home of Python, not {home}"
    elif settings.get("include-system-site-packages", "").lower() != "false":
        found[SETTINGS] = "allows packages from outside the environment"
    python = layout.venv / PYTHON
    if not os.access(python, os.X_OK) or python.resolve() != (home / "python3").resolve():
        found[PYTHON] = f"links to {python.resolve()}" if python.is_file() else "is missing or a broken link"
    return found


def repair_venv(layout: Layout, names: Iterable[str], quarantine: Path) -> None:
    """Repair what `in_venv` found. Raises OSError."""
    home = layout.root / "usr/bin"
    if SETTINGS in names:
        path = layout.venv / SETTINGS
        expected = {**dict(_settings(layout)), "home": str(home), "include-system-site-packages": "false"}
        if os.path.lexists(path):
            atomic.back_up(path, quarantine, SETTINGS)
        text = "".join(f"{name} = {value}\n" for name, value in expected.items()).encode()
        atomic.write_bytes(path, text)
    if PYTHON in names:
        for name, target in (("python3", str(home / "python3")), ("python", "python3")):
            path = layout.venv / "bin" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir() and not path.is_symlink():
                atomic.clear(path, quarantine, f"bin/{name}")
            elif os.path.lexists(path):
                atomic.back_up(path, quarantine, f"bin/{name}")
            atomic.link(path, target)


def _settings(layout: Layout) -> list[tuple[str, str]]:
    try:
        text = (layout.venv / SETTINGS).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return []
    return [(match["name"].lower(), match["value"]) for match in _SETTING.finditer(text)]
