"""Node packs that differ from the image's record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gesso.manifest.git_tree import tree_id
from gesso.runtime.prepare import node_packs

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.runtime.layout import Layout, Record


def test_a_changed_pack_is_reported(layout: Layout, record: Callable[..., Record]) -> None:
    folder = layout.comfyui / "custom_nodes" / "comfyui_controlnet_aux"
    folder.mkdir(parents=True)
    (folder / "x.py").write_text("x")
    made = record(raw={"nodes": {folder.name: {"tree": tree_id(folder)}}})
    assert node_packs.changed(layout, made) == ()
    (folder / "ckpts").mkdir()
    (folder / "ckpts" / "downloaded.pth").write_text("the pack's own downloads are no change")
    assert node_packs.changed(layout, made) == ()
    (folder / "x.py").write_text("y")
    assert node_packs.changed(layout, made) == (f"{folder.name}: does not match the lock; files were changed or added",)
    assert node_packs.changed(layout, record(raw={"nodes": {"gone": {}}})) == ("gone: is missing or cannot be read",)


def test_an_emptied_pack_is_reported_and_one_without_a_tree_id_is_not(
    layout: Layout, record: Callable[..., Record]
) -> None:
    folder = layout.comfyui / "custom_nodes" / "pack"
    folder.mkdir(parents=True)
    assert node_packs.changed(layout, record(raw={"nodes": {"pack": {"tree": "0" * 40}}})) != ()
    (folder / "x.py").touch()
    assert node_packs.changed(layout, record(raw={"nodes": {"pack": {"path": "images/pack"}}})) == ()
