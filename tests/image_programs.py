"""Load the programs of the image, which are no modules of gesso, by their path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

BIN = Path(__file__).resolve().parents[1] / "images/rootfs/opt/gesso/bin"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a program as a module of its own."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # it adds the image's packages
    spec = importlib.util.spec_from_file_location(f"image_{name}", BIN / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
