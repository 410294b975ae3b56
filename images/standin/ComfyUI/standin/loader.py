"""Load the core classes, then every node pack in custom_nodes/; one that fails does not stop the others."""

from __future__ import annotations

import importlib.util
import logging
import sys
import time
import traceback
from pathlib import Path

from . import recorded
from .core_nodes import BEHAVIOURS
from .registry import EXTENSION_WEB_DIRS, NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

log = logging.getLogger("standin")


def load_core(path: Path) -> None:
    classes = recorded.load(path, BEHAVIOURS)
    NODE_CLASS_MAPPINGS.update(classes)
    NODE_DISPLAY_NAME_MAPPINGS.update(recorded.display_names(classes))


def load_packs(directory: Path) -> None:
    core = frozenset(NODE_CLASS_MAPPINGS)
    times: list[tuple[float, str, bool]] = []
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if not _is_pack(path):
            continue
        before = time.perf_counter()
        loaded = _load_pack(path, core)
        times.append((time.perf_counter() - before, str(path), loaded))
    if not times:
        return
    log.info("\nImport times for custom nodes:")
    for seconds, name, loaded in sorted(times):
        log.info("%6.1f seconds%s: %s", seconds, "" if loaded else " (IMPORT FAILED)", name)
    log.info("")


def _is_pack(path: Path) -> bool:
    if path.name == "__pycache__" or path.name.endswith(".disabled"):
        return False
    # A folder without __init__.py is tried too, and fails, as in ComfyUI: an incomplete checkout gets noticed.
    return path.is_dir() or path.suffix == ".py"


def _load_pack(path: Path, core: frozenset[str]) -> bool:
    source = path / "__init__.py" if path.is_dir() else path
    # The path is the module's name: packs can't collide, and `from . import x` works in all of them.
    name = str(path if path.is_dir() else path.with_suffix("")).replace(".", "_x_")
    try:
        spec = importlib.util.spec_from_file_location(name, source)
        if spec is None or spec.loader is None:
            raise ImportError(f"{source} is not a Python module")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    except Exception as error:  # noqa: BLE001  a pack may raise anything
        log.warning("%s", traceback.format_exc())
        log.warning("Cannot import %s module for custom nodes: %s", path, error)
        return False
    classes = getattr(module, "NODE_CLASS_MAPPINGS", None)
    if classes is None:
        log.warning("Skip %s module for custom nodes due to the lack of NODE_CLASS_MAPPINGS.", path)
        return False
    for class_name, node in classes.items():
        if class_name not in core:
            NODE_CLASS_MAPPINGS[class_name] = node
            node.RELATIVE_PYTHON_MODULE = f"custom_nodes.{path.stem if path.is_file() else path.name}"
    NODE_DISPLAY_NAME_MAPPINGS.update(getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", None) or {})
    web = getattr(module, "WEB_DIRECTORY", None)
    if web and (path / web).is_dir():
        EXTENSION_WEB_DIRS[path.name] = str((path / web).resolve())
    return True
