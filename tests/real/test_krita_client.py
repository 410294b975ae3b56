"""Krita's own client, unmodified: the published workflows are in its list, and it imports every one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gesso import report
from gesso.runtime.layout import Layout, Record
from gesso.runtime.services import krita

from .conftest import folder
from .test_gold import GOLD, PROJECT, load


@pytest.fixture(scope="module")
def plugin() -> tuple[Path, Path]:
    checkout = folder("GESSO_KRITA", "ai_diffusion/__init__.py")
    return checkout, Path(os.environ.get("GESSO_KRITA_PYTHON", sys.executable))


@pytest.fixture(scope="module")
def published(url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Publish as an image does, from its folder of baked workflows; return the file of each by what Krita shows."""
    place = tmp_path_factory.mktemp("image")
    (place / "workflows").symlink_to(PROJECT.workflows)
    record = Record(arch="all", title="All", trial=False, classes=(), pins={}, raw={},
                    workflows={f"{name}{krita.SUFFIX}": "" for name in GOLD})  # fmt: skip
    krita.publish(Layout(gesso=place), record, report.progress, int(url.rpartition(":")[2]))
    return {f"{graph.name} ({graph.client_id})": graph.file for graph in krita.list_workflows(record)}


def test_the_client_lists_them_and_imports_them(url: str, plugin: tuple[Path, Path], published: dict[str, str]) -> None:
    checkout, python = plugin
    command = [str(python), str(Path(__file__).parent / "krita_client.py"), str(checkout), url, "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    report.progress(f"Krita's client: {json.dumps(result)}")
    assert "error" not in result
    assert result["connected"]
    assert set(result["workflows"]) == set(published)
    for shown, found in result["workflows"].items():
        graph = load(published[shown].removesuffix(krita.SUFFIX))
        assert found["nodes"] == found["imported"] == len(graph)
        named = [node["inputs"]["name"] for node in graph.values() if node["class_type"] == "ETN_Parameter"]
        assert sorted(found["parameters"]) == sorted(named)
