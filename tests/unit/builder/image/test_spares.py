"""The archives that heal restores from: reproducible, and with everything that the image contains."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from gesso.builder.image import context, spares
from gesso.builder.image.context import Inputs
from gesso.builder.image.own_package import Wheel
from gesso.builder.image.plan import EPOCH, Plan
from gesso.builder.image.spares import Spare
from gesso.manifest.git_tree import tree_id

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "source"
    for name in ("b.py", "a.py", "a/z.py", "a.d/x.txt", "sub/\u00e9.txt", ".hidden", "empty"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name if name != "empty" else "")
    (made / "run.sh").write_text("#!/bin/sh\n")
    (made / "run.sh").chmod(0o700)
    (made / "b.py").chmod(0o640)
    (made / "link").symlink_to("a.py")
    (made / "folder link").symlink_to("a")
    for junk in ("__pycache__/a.pyc", ".git/HEAD", "sub/__pycache__/b.pyc", "left.pyc", ".DS_Store"):
        (made / junk).parent.mkdir(exist_ok=True)
        (made / junk).write_text("junk")
    return made


def _members(content: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {member.name: member for member in archive}


def test_the_tree_id_is_that_of_the_context(folder: Path, tmp_path: Path) -> None:
    inputs = Inputs(folder, {"pack": folder}, Wheel("x.whl", b""))
    (tmp_path / "images").mkdir()
    for name in ("build", "rootfs"):
        (tmp_path / "images" / name).mkdir()
    (tmp_path / "images" / "Dockerfile.j2").touch()
    context.write_context(Plan((), {}, {"gesso/x": ""}, trial=False), inputs, tmp_path / "images", tmp_path / "out")
    as_built = tree_id(tmp_path / "out/sources/nodes/pack")
    assert spares.tree_of(folder) == as_built is not None
    (folder / "run.sh").chmod(0o600)
    assert spares.tree_of(folder) != as_built


def test_the_members(folder: Path) -> None:
    members = _members(spares.tar(spares.of_folder(folder)))
    names = [
        ".hidden",
        "a.d/x.txt",
        "a.py",
        "a/z.py",
        "b.py",
        "empty",
        "folder link",
        "link",
        "run.sh",
        "sub/\u00e9.txt",
    ]
    assert list(members) == names
    assert {m.mtime for m in members.values()} == {EPOCH}
    assert {(m.uid, m.gid, m.uname, m.gname) for m in members.values()} == {(0, 0, "", "")}
    assert {name: oct(m.mode) for name, m in members.items() if m.isreg() and m.mode != 0o644} == {"run.sh": "0o755"}
    assert {name: m.linkname for name, m in members.items() if m.issym()} == {"link": "a.py", "folder link": "a"}


def test_the_bytes_are_stable() -> None:
    """Golden: another archive layout changes a layer of every image."""
    members = [(spares._info("b", 1, executable=True), b"b"), (spares._info("a", 2), b"aa")]
    digest = hashlib.sha256(spares.tar(members)).hexdigest()
    assert digest == "87f53ddded0f686740330c2a65f0655957d797eaf98dd8c0ba477c3ab6228727"


def test_times_order_owner_and_umask_do_not_matter(folder: Path, tmp_path: Path) -> None:
    first = spares.tar(spares.of_folder(folder))
    other = tmp_path / "other"
    for path in sorted(folder.rglob("*"), reverse=True):
        copy = other / path.relative_to(folder)
        if path.is_symlink():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(path.readlink())
        elif path.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
            copy.chmod(0o777 if path.stat().st_mode & 0o100 else 0o600)
            os.utime(copy, (5, 5))
    (other / "empty folder").mkdir()
    assert spares.tar(spares.of_folder(other)) == first
    (other / "b.py").chmod(0o700)
    assert spares.tar(spares.of_folder(other)) != first


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / os.fsdecode(b"a\xff")).touch()
    assert list(_members(spares.tar(spares.of_folder(folder)))) == ["a\udcff"]


def test_the_spares_of_an_image(folder: Path, tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs"
    (rootfs / "usr/local/bin").mkdir(parents=True)
    (rootfs / "usr/local/bin/entrypoint.sh").write_text("#!/bin/sh\n")
    (rootfs / "usr/local/bin/entrypoint.sh").chmod(0o755)
    own = {"opt/gesso/constraints.txt": "a==1\n", "opt/gesso/workflows/w.json": "{}"}
    nodes = {"two": folder / "sub", "one": folder / "a"}
    made = spares.make(folder, nodes, frozenset({"two"}), own, rootfs, tmp_path / "cache")
    assert [(s.name, s.target, s.path, s.loose) for s in made] == [
        ("ComfyUI", "/opt/ComfyUI", "spare/ComfyUI.tar.xz", False),
        ("one", "/opt/ComfyUI/custom_nodes/one", "spare/one.tar.xz", False),
        ("two", "/opt/ComfyUI/custom_nodes/two", "spare/two.tar.xz", True),
        ("gesso", "/", "arch/spare/gesso.tar.xz", False),
    ]
    digests = [hashlib.sha256(s.content).hexdigest() for s in made]
    assert [s.as_record() for s in made][1:3] == [
        {"sha256": digests[1], "target": "/opt/ComfyUI/custom_nodes/one"},
        {"sha256": digests[2], "target": "/opt/ComfyUI/custom_nodes/two", "loose": True},
    ]
    members = _members(made[-1].content)
    assert set(members) == {*own, "usr/local/bin/entrypoint.sh"}
    assert members["usr/local/bin/entrypoint.sh"].mode == 0o755


def test_a_spare_contains_the_same_files_as_the_context(folder: Path, tmp_path: Path) -> None:
    """The image's files and the spare that heal compares them with are the same, including modes."""
    images = tmp_path / "images"
    for name in ("build", "rootfs"):
        (images / name).mkdir(parents=True)
    (images / "Dockerfile.j2").write_text("FROM x\n")
    context.write_context(
        Plan((), {}, {"gesso/x": ""}, trial=False), Inputs(folder, {}, Wheel("w", b"")), images, tmp_path / "out"
    )
    placed = tmp_path / "out/sources/ComfyUI"
    assert spares.tar(spares.of_folder(placed)) == spares.tar(spares.of_folder(folder))
    names = {str(p.relative_to(placed)) for p in placed.rglob("*") if p.is_symlink() or p.is_file()}
    assert names == set(_members(spares.tar(spares.of_folder(folder))))


# --- the cache


def test_the_second_run_uses_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    first = spares._compressed(b"data" * 999, cache)
    assert lzma.decompress(first) == b"data" * 999
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(lzma, "compress", None)
    assert spares._compressed(b"data" * 999, cache) == first


@pytest.mark.parametrize("how", ["altered", "cut", "empty"])
def test_a_damaged_cache_is_ignored(tmp_path: Path, how: str) -> None:
    cache = tmp_path / "cache"
    first = spares._compressed(b"data" * 999, cache)
    (cached,) = cache.iterdir()
    cached.write_bytes({"altered": first[:-1] + b"?", "cut": first[:-4], "empty": b""}[how])
    assert spares._compressed(b"data" * 999, cache) == first
    assert cached.read_bytes() == first


def test_the_record_of_a_spare() -> None:
    assert Spare("a", "/a", b"").as_record() == {"sha256": hashlib.sha256(b"").hexdigest(), "target": "/a"}
