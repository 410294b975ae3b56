"""The parts of a foreign instance, in temporary folders."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gesso.builder.image import spares
from gesso.runtime.foreign.parts import TOOLING, Packs, Running, Workflows
from gesso.runtime.foreign.paths import ForeignLayout, sqlalchemy_only
from gesso.runtime.layout import Layout, Record, read_record

if TYPE_CHECKING:
    from gesso.runtime.heal.damage import Damage
    from gesso.runtime.heal.runner import Part

GRAPHS = {"krita_gold_standard_sdxl.json": "{}", "krita_gold_standard_sdxl.api.json": "[]"}


@pytest.fixture
def instance(tmp_path: Path) -> tuple[ForeignLayout, Record]:
    bundle, source = tmp_path / "bundle", tmp_path / "source"
    source.mkdir()
    (source / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    (source / "api.py").write_text("x = 1\n")
    packed = spares.of_pack(TOOLING, source, tmp_path / "cache")
    for name in ("spare", "workflows"):
        (bundle / name).mkdir(parents=True)
    (bundle / f"spare/{TOOLING}.tar.xz").write_bytes(packed.content)
    for name, text in GRAPHS.items():
        (bundle / "workflows" / name).write_text(text)
    nodes: dict[str, Any] = {
        TOOLING: {"commit": "ab" * 20},
        "ComfyUI-GGUF": {"git": "https://example.com/gguf", "commit": "cd" * 20},
    }
    record = {
        "arch": "sdxl", "title": "t", "trial": False, "classes": ["ETN_A", "Other"], "models": [], "nodes": nodes,
        "python": {"pins": {"sqlalchemy": "2.0.58", "torch": "2.13.0"}}, "spares": {TOOLING: packed.as_record()},
        "workflows": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in GRAPHS.items()},
    }  # fmt: skip
    (bundle / "build.json").write_text(json.dumps(record))
    comfyui = tmp_path / "ComfyUI"
    (comfyui / "custom_nodes" / "comfyui-gguf").mkdir(parents=True)
    layout = ForeignLayout(gesso=bundle, comfyui=comfyui, state_at=tmp_path / "state", user_at=comfyui / "user", port=9)
    return layout, read_record(Layout(gesso=bundle))


def _examine(part: Part) -> list[Damage]:
    return list(part.examine(lambda *_: None))


def _repair(part: Part, damages: list[Damage]) -> list[str]:
    return [outcome.state for outcome in part.repair(damages, lambda *_, **__: None)]


def test_sqlalchemy_is_the_only_pin(instance: tuple[ForeignLayout, Record]) -> None:
    assert sqlalchemy_only(instance[1]).pins == {"sqlalchemy": "2.0.58"}


def test_missing_tooling_nodes_are_restored(instance: tuple[ForeignLayout, Record], tmp_path: Path) -> None:
    part = Packs(*instance, tmp_path / "quarantine")
    (damage,) = _examine(part)
    assert (damage.name, damage.found, damage.restart) == (TOOLING, "is missing", True)
    assert "commit abababababab" in damage.remedy
    assert _repair(part, [damage]) == ["repaired"]
    assert (instance[0].comfyui / f"custom_nodes/{TOOLING}/api.py").read_text() == "x = 1\n"
    assert _examine(part) == []


def test_changed_tooling_nodes_are_restored_and_quarantined(
    instance: tuple[ForeignLayout, Record], tmp_path: Path
) -> None:
    folder = instance[0].comfyui / "custom_nodes" / TOOLING
    folder.mkdir()
    (folder / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    (folder / "api.py").write_text("mine\n")
    good = (folder / "__init__.py").stat()
    part = Packs(*instance, tmp_path / "quarantine")
    (damage,) = _examine(part)
    assert damage.found == "differs from the pinned commit in 1 file"
    assert _repair(part, [damage]) == ["repaired"]
    assert (folder / "api.py").read_text() == "x = 1\n"
    assert "mine\n" in [path.read_text() for path in (tmp_path / "quarantine").rglob("api.py")]
    after = (folder / "__init__.py").stat()
    assert (after.st_ino, after.st_mtime_ns) == (good.st_ino, good.st_mtime_ns)


def test_the_same_pack_under_another_spelling_is_not_loaded_twice(
    instance: tuple[ForeignLayout, Record], tmp_path: Path
) -> None:
    duplicate = instance[0].comfyui / "custom_nodes" / "ComfyUI_Tooling_Nodes"
    duplicate.mkdir()
    part = Packs(*instance, tmp_path / "quarantine")
    damages = _examine(part)
    assert [damage.name for damage in damages] == [TOOLING, "ComfyUI_Tooling_Nodes"]
    assert _repair(part, damages) == ["repaired", "repaired"]
    names = {path.name for path in (instance[0].comfyui / "custom_nodes").iterdir()}
    assert TOOLING in names
    assert not [name for name in names if name.startswith("ComfyUI_Tooling") and not name.endswith(".disabled")]


def test_another_missing_pack_is_reported_with_its_source(
    instance: tuple[ForeignLayout, Record], tmp_path: Path
) -> None:
    (instance[0].comfyui / "custom_nodes" / "comfyui-gguf").rmdir()
    damage = _examine(Packs(*instance, tmp_path / "quarantine"))[1]
    assert (damage.name, damage.repairable) == ("ComfyUI-GGUF", False)
    assert "git clone https://example.com/gguf`, commit cdcd" in damage.next_step


def test_workflows_are_restored_in_both_places_and_a_users_own_is_quarantined(
    instance: tuple[ForeignLayout, Record],
) -> None:
    layout, record = instance
    own = layout.user / "default/workflows/krita_gold_standard_sdxl.json"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    part = Workflows(layout, record)
    damages = _examine(part)
    assert {(Path(d.name).parent.name, Path(d.name).name, d.found) for d in damages} == {
        ("workflows", "krita_gold_standard_sdxl.json", "is missing"),
        ("workflows", "krita_gold_standard_sdxl.api.json", "is missing"),
        ("workflows", "krita_gold_standard_sdxl.json", "is not the locked one"),
    }
    assert not any(damage.restart for damage in damages)
    assert _repair(part, damages) == ["repaired"] * 3
    assert _examine(part) == []
    assert [path.read_text() for path in (layout.state_at / "replaced").iterdir()] == ["mine"]


def test_a_stopped_comfyui_is_a_damage(instance: tuple[ForeignLayout, Record]) -> None:
    (damage,) = _examine(Running(*instance, runs=False))
    assert (damage.kind, damage.found, damage.restart) == ("service", "does not run", True)
    assert _examine(Running(*instance, runs=True)) == [], "it is starting: its port does not respond yet"
