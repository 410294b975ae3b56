"""The difference between two images: what an update pulls, and what changed."""

from __future__ import annotations

import copy
from typing import Any

from gesso.builder.diff.delta import ComparedImage, Layer, changes, compare
from tests.unit.builder import images

OLD = ComparedImage("old", "sha256:1", True, (Layer("a", 1000, "base"), Layer("b", 2000, "COPY arch")), images.RECORD)


def test_the_same_image_pulls_nothing() -> None:
    found = compare(OLD, OLD)
    assert (found.size, found.pulled, len(found.shared)) == (0, (), 2)
    assert all(rows == [] for rows in found.changes.values())
    assert "0.0 MB to pull (compressed) in 0 of 2 layers; 2 are shared" in found.lines()
    assert "packages: nothing changed" in found.lines()


def test_layers_are_shared_by_diff_id_in_any_order() -> None:
    new = ComparedImage(
        "new", "sha256:2", True, (Layer("c", 150_000, "COPY arch"), Layer("a", 1000, "base")), images.RECORD
    )
    found = compare(OLD, new)
    assert (found.size, [layer.diff_id for layer in found.pulled]) == (150_000, ["c"])
    assert found.as_json()["bytes"] == 150_000
    assert any("0.1 MB  COPY arch" in line or "0.2 MB  COPY arch" in line for line in found.lines())


def test_an_unknown_size_is_shown_as_unknown() -> None:
    new = ComparedImage("new", "sha256:2", False, (Layer("c", None, ""),), images.RECORD)
    found = compare(OLD, new)
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


def test_a_new_title_in_krita_is_a_change() -> None:
    old = {"workflows": {"a.json": "0" * 64, "a.api.json": "1" * 64}}
    new = {**old, "workflow_titles": {"a": "SDXL 1 Paint"}}
    assert changes(old, new)["workflows"] == ['~ a.api.json 111111111111 -> 111111111111 "SDXL 1 Paint"']


def test_a_model_that_is_no_longer_baked_has_changed() -> None:
    (row,) = changed(baked=[])["models"]
    assert row.startswith("~ vae/a.safetensors abababababab 0.0 MB required, in a layer -> ")


def test_a_model_of_unknown_size_is_not_shown_as_empty() -> None:
    first, *rest = images.RECORD["models"]
    (row,) = changed(models=[{key: value for key, value in first.items() if key != "size"}, *rest])["models"]
    assert row.endswith(" -> abababababab ? MB required, in a layer")
