"""Memory stays constant, however large the files are: 150 MB at most."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .fetching import model_of, vae

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mirror import Mirror

    from gesso.manifest.schema import Model

HERE = Path(__file__).resolve().parent
MOST = 150_000  # kB, in total
NOISE = 20_000  # kB between two equal runs
BIG = int(os.environ.get("GESSO_BIG_MB", "1500"))
SMALL = 200


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that is removed afterwards: it takes gigabytes."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def serve_files(mirror: Mirror, scratch: Path, megabytes: int, files: int) -> list[Model]:
    """Put sparse files on the mirror: their header, then a hole of the full size."""
    found = []
    for number in range(files):
        head = vae(1 << 20, seed=number)[: 64 << 10]
        size = megabytes * 1_000_000 // files
        path = scratch / f"{megabytes}-{number}"
        table = head[8 : 8 + int.from_bytes(head[:8], "little")]
        entries = json.loads(table)
        start = entries["rest"]["data_offsets"][0]
        for _ in range(4):  # the header's length depends on the numbers in it
            rest = size - 8 - len(table) - start
            entries["rest"] = {"dtype": "U8", "shape": [rest], "data_offsets": [start, start + rest]}
            table = json.dumps(entries).encode()
        with path.open("wb") as file:
            file.write(len(table).to_bytes(8, "little") + table + number.to_bytes(4, "little"))
            file.truncate(size)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        mirror.files[f"/{path.name}"] = path
        url = mirror.url(f"/{path.name}")
        found.append(model_of(b"", url, name=f"vae/{path.name}.safetensors", size=size, sha256=sha256))
    return found


def peak(what: str, root: Path, models: list[Model]) -> int:
    listed = json.dumps([model.model_dump(mode="json") for model in models])
    command = [sys.executable, str(HERE / "measured.py"), what, str(root), listed]
    env = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("files", [1, 3])
def test_memory_is_the_same_whatever_the_size(mirror: Mirror, scratch: Path, files: int) -> None:
    found = {}
    for megabytes in (SMALL, BIG if files == 1 else BIG // 2):
        if shutil.disk_usage(scratch).free < 2 * megabytes * 1_000_000:
            pytest.skip(f"{megabytes} MB are not free here, so this was not tested")
        models = serve_files(mirror, scratch, megabytes, files)
        root = scratch / "models"
        for what in ("fetch", "verify"):
            found[what, megabytes] = peak(what, root, models)
        shutil.rmtree(root)
    print(found)  # noqa: T201 - shown where it fails
    assert max(found.values()) <= MOST
    for what in ("fetch", "verify"):
        small, large = (found[key] for key in found if key[0] == what)
        assert large <= small + NOISE
