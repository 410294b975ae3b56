"""Fixtures of the manifest tests: paths, small files, and the problems of a load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gesso.errors import ManifestError
from gesso.manifest.load import load

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = Path(__file__).parent / "examples"


@pytest.fixture(scope="session")
def project() -> Path:
    return Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def examples() -> Path:
    return EXAMPLES


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write a file into tmp_path, beside a copy of the good example."""
    (tmp_path / "good.yaml").write_bytes((EXAMPLES / "good.yaml").read_bytes())

    def write(name: str, text: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


@pytest.fixture
def findings(tmp_path: Path) -> Callable[..., list[str]]:
    """Load an invalid manifest and return the lines of its problems."""

    def findings(path: Path, *overlays: Path) -> list[str]:
        with pytest.raises(ManifestError) as caught:
            load(path, overlays, root=tmp_path)
        assert caught.value.exit_code == 2
        head, *lines = caught.value.message.split("\n")
        assert head == f"the manifest has {len(lines)} problem{'s' * (len(lines) != 1)}:"
        return lines

    return findings
