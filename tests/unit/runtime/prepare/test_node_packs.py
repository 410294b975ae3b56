"""Node packs: git's tree IDs, and the packs that differ from the lock."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from gesso.runtime.prepare import node_packs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record


def test_the_id_of_a_folder_is_the_tree_id_of_git(tmp_path: Path) -> None:
    (tmp_path / "a-b").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "a" / "run.sh").write_text("x")
    (tmp_path / "a" / "run.sh").chmod(0o755)
    (tmp_path / "a-b" / "ä.py").write_bytes(b"")
    (tmp_path / "a.py").write_text("y")
    (tmp_path / "link").symlink_to("a.py")
    for arguments in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)
    written = subprocess.run(["git", "-C", str(tmp_path), "write-tree"], check=True, capture_output=True, text=True)
    (tmp_path / "a" / "__pycache__").mkdir()
    (tmp_path / "a" / "__pycache__" / "x.pyc").write_text("bytecode is no change")
    found = node_packs.tree_id(tmp_path)
    assert found is not None
    assert found.hex() == written.stdout.strip()


def test_a_changed_pack_is_reported(layout: Layout, record: Callable[..., Record]) -> None:
    folder = layout.comfyui / "custom_nodes" / "comfyui_controlnet_aux"
    folder.mkdir(parents=True)
    (folder / "x.py").write_text("x")
    tree = node_packs.tree_id(folder)
    assert tree is not None
    made = record(raw={"nodes": {folder.name: {"tree": tree.hex()}}})
    assert node_packs.changed(layout, made) == ()
    (folder / "ckpts").mkdir()
    (folder / "ckpts" / "downloaded.pth").write_text("the pack's own downloads are no change")
    assert node_packs.changed(layout, made) == ()
    (folder / "x.py").write_text("y")
    assert node_packs.changed(layout, made) == (f"{folder.name}: does not match the lock; files were changed or added",)
    assert node_packs.changed(layout, record(raw={"nodes": {"gone": {}}})) == ("gone: is missing or cannot be read",)
