"""What an update pulls, and what is different in it."""

from __future__ import annotations

import copy
from typing import Any

from gesso.builder.diff.delta import Part, Shape, between, changes
from tests.unit.builder import images

OLD = Shape("old", "sha256:1", True, (Part("a", 1000, "base"), Part("b", 2000, "COPY arch")), images.RECORD)


def test_the_same_image_pulls_nothing() -> None:
    found = between(OLD, OLD)
    assert (found.size, found.pulled, len(found.shared)) == (0, (), 2)
    assert all(rows == [] for rows in found.changes.values())
    assert "0.0 MB to pull (compressed) in 0 of 2 layers; 2 are shared" in found.lines()
    assert "packages: nothing changed" in found.lines()


def test_a_layer_counts_by_what_it_unpacks_to_wherever_it_stands() -> None:
    new = Shape("new", "sha256:2", True, (Part("c", 150_000, "COPY arch"), Part("a", 1000, "base")), images.RECORD)
    found = between(OLD, new)
    assert (found.size, [part.diff_id for part in found.pulled]) == (150_000, ["c"])
    assert found.as_json()["bytes"] == 150_000
    assert any("0.1 MB  COPY arch" in line or "0.2 MB  COPY arch" in line for line in found.lines())


def test_a_size_that_is_not_known_is_not_made_up() -> None:
    new = Shape("new", "sha256:2", False, (Part("c", None, ""),), images.RECORD)
    found = between(OLD, new)
    assert found.size == 0
    assert any("? MB" in line for line in found.lines())
    assert "unpacked" in "".join(found.lines())


def changed(**change: Any) -> dict[str, list[str]]:
    new = {**copy.deepcopy(images.RECORD), **change}
    return {kind: rows for kind, rows in changes(images.RECORD, new).items() if rows}


def test_what_changed_by_kind() -> None:
    pins = {"sqlalchemy": "2.0.59", "numpy": "2.3"}
    assert changed(python={"version": "3.13", "pins": pins}) == {
        "packages": ["+ numpy 2.3", "~ sqlalchemy 2.0.58 -> 2.0.59", "- torch 2.9.1"]
    }
    assert changed(nodes={}) == {"nodes": ["- own images/own", f"- pack {images.COMMIT[::-1]}"]}
    assert changed(comfyui={"commit": "f" * 40}) == {"nodes": [f"~ ComfyUI {images.COMMIT} -> {'f' * 40}"]}
    assert changed(workflows={"gold.json": "0" * 64}) == {"workflows": ["~ gold.json efefefefefef -> 000000000000"]}
    assert changed(base={"bootstrap": "trixie"})["base"][0].endswith("-> trixie")


def test_a_model_that_moves_into_a_layer_has_changed() -> None:
    (row,) = changed(baked=[])["models"]
    assert row.startswith("~ vae/a.safetensors abababababab 0.0 MB required, in a layer -> ")


def test_a_model_of_unknown_size_is_not_called_empty() -> None:
    first, *rest = images.RECORD["models"]
    (row,) = changed(models=[{key: value for key, value in first.items() if key != "size"}, *rest])["models"]
    assert row.endswith(" -> abababababab ? MB required, in a layer")
