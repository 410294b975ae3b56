"""Trees: every kind of difference is found, restored and quarantined; intact files are not touched."""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import random
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gesso.builder.image import spares as making
from gesso.errors import CheckError
from gesso.runtime import atomic
from gesso.runtime.heal import trees
from gesso.runtime.heal.trees import Difference
from gesso.runtime.layout import Layout, Spare

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = {
    "main.py": b"import server\n",
    "server.py": b"x = 1\n" * 400_000,  # more than one chunk
    "run.sh": b"#!/bin/sh\n",
    "empty": b"",
    "comfy/model.py": b"y = 2\n",
    "comfy/text/clip.py": b"z = 3\n",
    "comfy/text/b\xc3\xa9.json": b"{}",
    "custom_nodes/websocket.py": b"w\n",
    "models/put_models_here": b"",
    "input/example.png": b"png",
}
LINK = ("comfy/current.py", "model.py")


def fill(folder: Path, files: dict[str, bytes] = FILES) -> None:
    for name, content in files.items():
        path = folder / os.fsdecode(name.encode("latin-1"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if name.endswith(".sh") else 0o644)


def packed(layout: Layout, name: str, target: str, folder: Path) -> Spare:
    content = lzma.compress(making.tar(making.of_folder(folder)), preset=0)
    layout.spare.mkdir(exist_ok=True)
    (layout.spare / f"{name}.tar.xz").write_bytes(content)
    return Spare(name, hashlib.sha256(content).hexdigest(), target)


@pytest.fixture
def comfyui(layout: Layout) -> Spare:
    """ComfyUI as it was built in, and in place."""
    fill(layout.comfyui)
    (layout.comfyui / LINK[0]).symlink_to(LINK[1])
    return packed(layout, "ComfyUI", "/opt/ComfyUI", layout.comfyui)


@pytest.fixture
def quarantine(tmp_path: Path) -> Path:
    return tmp_path / "quarantine"


def found(layout: Layout, spare: Spare) -> set[str]:
    return {f"{d.path} {d.how}" for d in trees.differences(layout, spare)}


def healed(layout: Layout, spare: Spare, quarantine: Path) -> list[str]:
    lines: list[str] = []
    trees.restore(layout, spare, trees.differences(layout, spare), quarantine, lines.append)
    assert trees.differences(layout, spare) == ()
    assert not hidden(layout.comfyui, quarantine)
    return lines


def hidden(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in folder.rglob(f"{atomic.TEMP_PREFIX}*")]


def state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return inode, time and mode of every file: a change shows which were touched."""
    stats = {str(p.relative_to(folder)): p.lstat() for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()}
    return {name: (s.st_ino, s.st_mtime_ns, s.st_mode) for name, s in stats.items()}


def test_as_built_in(layout: Layout, comfyui: Spare, quarantine: Path) -> None:
    before = state(layout.comfyui)
    assert trees.differences(layout, comfyui) == ()
    assert healed(layout, comfyui, quarantine) == []
    assert state(layout.comfyui) == before
    assert not quarantine.exists()


@pytest.mark.parametrize(
    ("damage", "expected", "quarantined"),
    [
        ("rm main.py", {"main.py gone"}, {}),
        ("echo no >main.py", {"main.py changed"}, {"main.py": b"no\n"}),
        ("echo more >>server.py", {"server.py changed"}, {"server.py": FILES["server.py"] + b"more\n"}),
        ("printf x | dd of=server.py bs=1 seek=2399990 conv=notrunc status=none", {"server.py changed"}, {}),
        ("echo x >empty", {"empty changed"}, {"empty": b"x\n"}),
        ("chmod -x run.sh", {"run.sh changed"}, {"run.sh": FILES["run.sh"]}),
        ("chmod +x main.py", {"main.py changed"}, {"main.py": FILES["main.py"]}),
        ("rm main.py; mkdir main.py; echo a >main.py/a", {"main.py changed"}, {"main.py/a": b"a\n"}),
        ("rm main.py; mkdir -p main.py/__pycache__; echo a >main.py/__pycache__/a", {"main.py changed"}, {}),
        ("rm main.py; mkdir main.py", {"main.py changed"}, {}),
        ("rm main.py; mkfifo main.py", {"main.py changed"}, {}),
        ("rm main.py; ln -s server.py main.py", {"main.py changed"}, {}),
        ("rm main.py; ln -s nowhere main.py", {"main.py changed"}, {}),
        ("ln -sf other.py comfy/current.py", {"comfy/current.py changed"}, {}),
        ("rm comfy/current.py; echo a >comfy/current.py", {"comfy/current.py changed"}, {"comfy/current.py": b"a\n"}),
        ("rm comfy/current.py", {"comfy/current.py gone"}, {}),
        ("rm -r comfy/text", {"comfy/text/clip.py gone", "comfy/text/b\u00e9.json gone"}, {}),
        (
            "rm -r comfy/text; echo a >comfy/text",
            {"comfy/text changed", "comfy/text/clip.py gone", "comfy/text/b\u00e9.json gone"},
            {"comfy/text": b"a\n"},
        ),
        ("echo a >sqlalchemy.py", {"sqlalchemy.py extra"}, {"sqlalchemy.py": b"a\n"}),
        ("echo a >main.pyc", {"main.pyc extra"}, {"main.pyc": b"a\n"}),
        ("mkdir -p comfy/new/er; echo a >comfy/new/er/a", {"comfy/new/er/a extra"}, {"comfy/new/er/a": b"a\n"}),
        ("ln -s /etc comfy/etc", {"comfy/etc extra"}, {}),
        ("mkfifo comfy/pipe", {"comfy/pipe extra"}, {}),
        ("touch \"$(printf 'a\\377')\"", {"a\udcff extra"}, {"a\udcff": b""}),
        ("echo x >custom_nodes/websocket.py", {"custom_nodes/websocket.py changed"}, {}),
    ],
)  # fmt: skip
def test_each_difference(
    layout: Layout, comfyui: Spare, quarantine: Path, damage: str, expected: set[str], quarantined: dict[str, bytes]
) -> None:
    before = state(layout.comfyui)
    assert os.system(f"cd {layout.comfyui} && {damage}") == 0
    assert found(layout, comfyui) == expected
    (line,) = healed(layout, comfyui, quarantine)
    assert line.startswith(f"ComfyUI: {len([e for e in expected if e != 'comfy/text changed'])} file")
    assert line.endswith(f"the previous ones are in {quarantine}")
    for name, content in quarantined.items():
        assert (quarantine / "ComfyUI" / name).read_bytes() == content
    after = state(layout.comfyui)
    assert after.keys() == before.keys()
    touched = {name for name in before if before[name] != after[name]}
    assert touched <= {entry.rpartition(" ")[0] for entry in expected}
    assert not (layout.comfyui / "comfy/new").exists()


def test_user_data_is_not_touched(layout: Layout, comfyui: Spare, quarantine: Path) -> None:
    damage = """
        mkdir -p custom_nodes/mine comfy/__pycache__ .git user temp
        for f in custom_nodes/mine/a.py custom_nodes/b.py comfy/__pycache__/model.cpython-313.pyc .git/x models/m \
            input/i output user/u temp/t extra_model_paths.yaml; do echo mine >$f; done
        rm models/put_models_here; rm -r input; ln -s /elsewhere input
    """
    assert os.system(f"cd {layout.comfyui} && {damage}") == 0
    before = state(layout.comfyui)
    assert trees.differences(layout, comfyui) == ()
    (layout.comfyui / "main.py").unlink()
    healed(layout, comfyui, quarantine)
    after = state(layout.comfyui)
    del after["main.py"], before["main.py"]
    assert after == before


@pytest.mark.parametrize(("name", "at"), [("main.py", "outside.py"), ("comfy", "outside"), ("comfy/text", "outside")])
def test_nothing_is_written_through_a_link(
    layout: Layout, comfyui: Spare, quarantine: Path, tmp_path: Path, name: str, at: str
) -> None:
    outside = tmp_path / at
    path = layout.comfyui / name
    path.rename(outside)
    if outside.is_file():
        outside.write_bytes(b"theirs")
    else:
        (outside / "theirs").write_bytes(b"theirs")
    path.symlink_to(outside)
    before = state(tmp_path / at) if outside.is_dir() else outside.read_bytes()
    assert f"{name} changed" in found(layout, comfyui)
    healed(layout, comfyui, quarantine)
    assert not path.is_symlink()
    assert (state(tmp_path / at) if outside.is_dir() else outside.read_bytes()) == before
    assert (quarantine / "ComfyUI" / name).readlink() == outside


@pytest.fixture
def pack(layout: Layout, comfyui: Spare) -> Spare:
    folder = layout.comfyui / "custom_nodes" / "comfyui_controlnet_aux"
    fill(folder, {"__init__.py": b"p\n", "src/a.py": b"q\n"})
    return packed(layout, folder.name, f"/opt/ComfyUI/custom_nodes/{folder.name}", folder)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("rm -r P", {"__init__.py gone", "src/a.py gone"}),
        ("rm -r ../custom_nodes", {"__init__.py gone", "src/a.py gone"}),
        ("mv P ../../mine; ln -s ../../mine P", {". changed", "__init__.py gone", "src/a.py gone"}),
        ("rm -r P; echo a >P", {". changed", "__init__.py gone", "src/a.py gone"}),
        ("mv ../custom_nodes ../../mine; ln -s ../mine L", {". changed", "__init__.py gone", "src/a.py gone"}),
        ("rm P/src/a.py; rmdir P/src; ln -s . P/src", {"src changed", "src/a.py gone"}),
        ("echo x >P/new; mkdir P/ckpts; echo x >P/ckpts/a.pth; echo x >P/src/ckpts", {"new extra", "src/ckpts extra"}),
        ("rm -r ../../comfyui", {"__init__.py gone", "src/a.py gone"}),
    ],
)  # fmt: skip
def test_a_pack(layout: Layout, pack: Spare, quarantine: Path, damage: str, expected: set[str]) -> None:
    script = damage.replace("P", pack.name).replace("L", f"{layout.comfyui}/custom_nodes")
    assert os.system(f"cd {layout.comfyui}/custom_nodes && {script}") == 0
    assert found(layout, pack) == expected
    healed(layout, pack, quarantine)
    folder = layout.comfyui / "custom_nodes" / pack.name
    assert not folder.is_symlink()
    assert (folder / "src/a.py").read_bytes() == b"q\n"
    if "mkdir P/ckpts" in damage:
        assert (folder / "ckpts/a.pth").read_bytes() == b"x\n"
    if damage.startswith("mv P"):
        assert (quarantine / pack.name / pack.name).is_symlink()


def test_a_pack_whose_install_script_adds_files(layout: Layout, pack: Spare) -> None:
    loose = replace(pack, loose=True)
    folder = layout.comfyui / "custom_nodes" / pack.name
    (folder / "made.so").touch()
    (folder / "__init__.py").unlink()
    assert found(layout, loose) == {"__init__.py gone"}
    assert found(layout, pack) == {"__init__.py gone", "made.so extra"}


@pytest.fixture
def own(layout: Layout, tmp_path: Path) -> Spare:
    """gesso's own files, in folders with other files."""
    files = {
        "opt/gesso/constraints.txt": b"a==1\n",
        "opt/gesso/workflows/a.json": b"{}",
        "usr/local/bin/entry.sh": b"#!",
    }
    source = tmp_path / "source"
    fill(source, files)
    for name, content in files.items():
        base, below = layout.locate(f"/{name}")
        (base / below).parent.mkdir(parents=True, exist_ok=True)
        (base / below).write_bytes(content)
        (base / below).chmod((source / name).stat().st_mode)
    (layout.gesso / "build.json").write_text("{}")
    return packed(layout, "gesso", "/", source)


def test_gessos_own(layout: Layout, own: Spare, quarantine: Path) -> None:
    assert trees.differences(layout, own) == ()
    (layout.gesso / "workflows/extra.json").touch()
    (layout.root / "usr/local/bin/other").touch()
    (layout.gesso / "constraints.txt").write_text("a==2\n")
    (layout.root / "usr/local/bin/entry.sh").unlink()
    assert found(layout, own) == {"opt/gesso/constraints.txt changed", "usr/local/bin/entry.sh gone"}
    healed(layout, own, quarantine)
    assert (layout.root / "usr/local/bin/entry.sh").stat().st_mode & 0o777 == 0o755
    assert (layout.root / "usr/local/bin/other").exists()
    assert (quarantine / "gesso/constraints.txt").read_text() == "a==2\n"


def test_a_folder_of_the_system_may_be_a_link(layout: Layout, own: Spare, quarantine: Path, tmp_path: Path) -> None:
    """Such as /usr/local: whoever links it elsewhere has a reason."""
    (layout.root / "usr/local").rename(tmp_path / "local")
    (layout.root / "usr/local").symlink_to(tmp_path / "local")
    (tmp_path / "local/bin/entry.sh").unlink()
    (layout.gesso / "workflows").rename(tmp_path / "flows")
    (layout.gesso / "workflows").symlink_to(tmp_path / "flows")
    assert found(layout, own) == {
        "usr/local/bin/entry.sh gone", "opt/gesso/workflows changed", "opt/gesso/workflows/a.json gone",
    }  # fmt: skip
    healed(layout, own, quarantine)
    assert (tmp_path / "local/bin/entry.sh").exists()
    assert (layout.root / "usr/local").is_symlink()


# --- the archive


@pytest.mark.parametrize("how", ["gone", "a byte", "cut", "empty"])
def test_a_damaged_archive_restores_nothing(layout: Layout, comfyui: Spare, quarantine: Path, how: str) -> None:
    path = layout.spare / "ComfyUI.tar.xz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"a byte": bytes(content), "cut": bytes(content[:-9]), "empty": b"", "gone": b""}[how])
    if how == "gone":
        path.unlink()
    (layout.comfyui / "main.py").write_bytes(b"no")
    before = state(layout.comfyui)
    wrong = [Difference("main.py", "changed")]
    for attempt in (
        lambda: trees.differences(layout, comfyui),
        lambda: trees.restore(layout, comfyui, wrong, quarantine, print),
    ):
        with pytest.raises(CheckError, match=r"ComfyUI\.tar\.xz: ") as raised:
            attempt()
        assert raised.value.next_step == "start a fresh instance of this image"
    assert state(layout.comfyui) == before


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x"])
def test_an_archive_that_leads_outside(layout: Layout, name: str) -> None:
    content = lzma.compress(making.tar([(making._info(name, 1), b"x")]))
    layout.spare.mkdir()
    (layout.spare / "ComfyUI.tar.xz").write_bytes(content)
    with pytest.raises(CheckError, match=r"contains an unsafe path: .*x"):
        trees.differences(layout, Spare("ComfyUI", hashlib.sha256(content).hexdigest(), "/opt/ComfyUI"))


# --- files that cannot be written


class _Full:
    """An os.write that fails with a full disk after so many bytes."""

    def __init__(self, room: int) -> None:
        self.room, self.real = room, os.write

    def __call__(self, handle: int, data: Any) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = self.real(handle, memoryview(data)[: self.room])
        self.room -= done
        return done


@pytest.mark.parametrize("room", [0, 1, 5, 100, 1_000_000, 2_400_003])
def test_a_full_disk(
    layout: Layout, comfyui: Spare, quarantine: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    (layout.comfyui / "comfy/model.py").write_bytes(b"bad\n")
    (layout.comfyui / "server.py").write_bytes(b"worse\n" * 400_000)
    before = {path: path.read_bytes() for path in layout.comfyui.rglob("*.py") if not path.is_symlink()}
    wrong = trees.differences(layout, comfyui)
    monkeypatch.setattr(os, "write", _Full(room))
    with pytest.raises(CheckError) as raised:
        trees.restore(layout, comfyui, wrong, quarantine, lambda _: None)
    monkeypatch.undo()
    named = "comfy/model.py" if room < 10 else "server.py"  # 4 bytes in the quarantine and 6 in place
    assert raised.value.message.startswith(f"{layout.comfyui}/{named}: ")
    assert raised.value.message.endswith(": No space left on device")
    assert raised.value.next_step == "make room on that disk, then run the heal again; nothing was lost"
    for path, content in before.items():
        intact = FILES.get(str(path.relative_to(layout.comfyui)))
        assert path.read_bytes() in {content, intact}
    assert (layout.comfyui / "server.py").read_bytes() == before[layout.comfyui / "server.py"]
    assert not hidden(layout.comfyui, quarantine)
    healed(layout, comfyui, quarantine)


def test_a_file_that_cannot_be_replaced_does_not_stop_the_others(
    layout: Layout, comfyui: Spare, quarantine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("comfy/model.py", "main.py", "extra.py"):
        (layout.comfyui / name).write_bytes(b"bad\n")
    real = Path.replace

    def immutable(self: Path, target: Path) -> Path:
        if target == layout.comfyui / "comfy/model.py":
            raise PermissionError(errno.EPERM, "Operation not permitted", str(self), str(target))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", immutable)
    with pytest.raises(CheckError) as raised:
        trees.restore(layout, comfyui, trees.differences(layout, comfyui), quarantine, lambda _: None)
    assert raised.value.message == f"{layout.comfyui}/comfy/model.py: Operation not permitted"
    assert "chattr -i" in raised.value.next_step
    assert found(layout, comfyui) == {"comfy/model.py changed"}
    assert (layout.comfyui / "comfy/model.py").read_bytes() == b"bad\n"
    assert not hidden(layout.comfyui)


def test_several_heals_keep_all_quarantined_files(layout: Layout, comfyui: Spare, quarantine: Path) -> None:
    for content in (b"1", b"2", b"3"):
        (layout.comfyui / "main.py").write_bytes(content)
        healed(layout, comfyui, quarantine)
    names = ("ComfyUI", "ComfyUI-2", "ComfyUI-3")
    assert [(quarantine / name / "main.py").read_bytes() for name in names] == [b"1", b"2", b"3"]


def test_a_quarantined_file_keeps_mode_and_time(layout: Layout, comfyui: Spare, quarantine: Path) -> None:
    path = layout.comfyui / "main.py"
    path.write_bytes(b"bad")
    path.chmod(0o640)
    os.utime(path, (1, 2))
    healed(layout, comfyui, quarantine)
    quarantined = (quarantine / "ComfyUI/main.py").stat()
    assert (quarantined.st_mode & 0o777, quarantined.st_mtime) == (0o640, 2)
    assert path.stat().st_mode & 0o777 == 0o644


def test_bytecode_of_a_replaced_file_is_removed(layout: Layout, comfyui: Spare, quarantine: Path) -> None:
    cache = layout.comfyui / "comfy/__pycache__"
    cache.mkdir()
    for name in ("model.cpython-313.pyc", "model.cpython-313.opt-1.pyc", "model_base.cpython-313.pyc"):
        (cache / name).touch()
    (layout.comfyui / "comfy/model.py").write_bytes(b"y = 9\n")
    healed(layout, comfyui, quarantine)
    assert [path.name for path in cache.iterdir()] == ["model_base.cpython-313.pyc"]


def test_leftovers_of_a_kill_are_removed(layout: Layout, comfyui: Spare, quarantine: Path) -> None:
    for folder in ("", "comfy/", "comfy/text/"):
        (layout.comfyui / f"{folder}{atomic.TEMP_PREFIX}0123").write_bytes(b"half")
    assert trees.differences(layout, comfyui) == ()
    (layout.comfyui / "main.py").unlink()
    healed(layout, comfyui, quarantine)


# --- properties

DAMAGES = ("remove", "write", "append", "mode", "folder", "link out", "link in", "pipe", "same size", "add beside")


def spoil(root: Path, name: str, how: str, outside: Path) -> None:
    path = root / name
    if not os.path.lexists(path.parent) or not path.parent.is_dir() or path.parent.resolve() != path.parent:
        return
    if how == "add beside":
        (path.parent / f"added_{path.name}").write_bytes(b"added")
        return
    if not path.is_file() or path.is_symlink():
        return
    if how == "mode":
        path.chmod(path.stat().st_mode ^ 0o111)
    elif how in {"write", "append", "same size"}:
        old = path.read_bytes()
        new = {"write": b"else", "append": old + b"+", "same size": bytes(len(old))}[how]
        if new != old:
            path.write_bytes(new)
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()
            (path / "inside").write_bytes(b"inside")
        elif how == "pipe":
            os.mkfifo(path)
        elif how.startswith("link"):
            path.symlink_to(outside if how == "link out" else "main.py")


def contents(folder: Path) -> dict[str, bytes | str]:
    return {
        str(p.relative_to(folder)): str(p.readlink()) if p.is_symlink() else p.read_bytes()
        for p in folder.rglob("*")
        if p.is_symlink() or p.is_file()
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(sorted(set(FILES) - {"server.py"})), st.sampled_from(DAMAGES)), max_size=12))
def test_any_damage_is_healed_and_quarantined(damages: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch).resolve()
        layout = Layout(**{name: base / name for name in ("gesso", "comfyui", "root")})
        layout.gesso.mkdir()
        small = {name: content[:50] for name, content in FILES.items()}
        fill(layout.comfyui, small)
        spare = packed(layout, "ComfyUI", "/opt/ComfyUI", layout.comfyui)
        (base / "outside").write_bytes(b"theirs")
        intact, before = contents(layout.comfyui), state(layout.comfyui)
        for name, how in damages:
            spoil(layout.comfyui, name, how, base / "outside")
        spoiled, touched = contents(layout.comfyui), state(layout.comfyui)
        differences = trees.differences(layout, spare)
        trees.restore(layout, spare, differences, base / "quarantine", lambda _: None)
        assert trees.differences(layout, spare) == ()
        named = {d.path for d in differences}
        after = state(layout.comfyui)
        for name, stats in touched.items():
            if name not in named and not any(name.startswith(f"{path}/") for path in named):
                assert after[name] == stats
        quarantined = contents(base / "quarantine") if (base / "quarantine").exists() else {}
        compared = [n for n in before if not n.startswith(("models/", "input/"))]
        now = contents(layout.comfyui)
        assert {n: now[n] for n in compared} == {n: intact[n] for n in compared}
        for name, content in spoiled.items():
            if now.get(name) != content:
                assert quarantined[f"ComfyUI/{name}"] == content
        assert (base / "outside").read_bytes() == b"theirs"
        assert not hidden(base)


@pytest.mark.no_cover  # at random moments
def test_killed_at_any_moment(layout: Layout, comfyui: Spare, quarantine: Path) -> None:
    """Each file is either the old or the restored one, whenever it is killed; the next heal completes."""
    chance = random.Random(6)
    bad = {"main.py": b"bad\n", "server.py": b"worse\n" * 400_000, "comfy/model.py": b"", "more.py": b"more\n"}
    kills = 0
    for round_ in range(60):
        fill(layout.comfyui, bad)
        wrong = trees.differences(layout, comfyui)
        here = quarantine / str(round_)
        child = os.fork()
        if child == 0:
            _die_after(chance.randrange(1, 45))
            trees.restore(layout, comfyui, wrong, here, lambda _: None)
            os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        kills += killed
        for name, content in bad.items():
            path = layout.comfyui / name
            now = path.read_bytes() if path.exists() else None
            if name in FILES:
                assert now in {content, FILES[name]}, name
            else:
                assert now in {content, None}
            if now != content:
                assert (here / "ComfyUI" / name).read_bytes() == content
        healed(layout, comfyui, quarantine / f"{round_}-next")
    assert kills > 40


def _die_after(calls: int) -> None:
    """Kill this process after that many calls that change the disk."""
    left = [calls]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in ("open", "write", "fchmod", "fsync", "close"):
        setattr(os, name, counted(getattr(os, name)))
    for name in ("replace", "unlink", "mkdir", "rmdir"):
        setattr(Path, name, counted(getattr(Path, name)))
