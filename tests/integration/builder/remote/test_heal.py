"""The whole conversation with an instance, over a `ssh` that runs all of it here; only ComfyUI and gesso are played."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gesso.builder.remote import bundle, heal
from gesso.builder.remote.heal import Asked
from gesso.builder.remote.ssh import Door, Target
from gesso.errors import CheckError, ManifestError, PublishError
from gesso.settings import Project, Selection

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[4]
DOOR = Door(Target("h"))
SELECTION = Selection(Project(ROOT), "sdxl", (), trial=True)


@pytest.fixture(autouse=True)
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home far away, reached by a `ssh` of ours."""
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho a banner\nfor last; do :; done\nexec sh -c "$last"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def _image(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Have the probe find a gesso image, whose gesso is `script`."""
    (folder / "gesso").write_text(f"#!{sys.executable}\n{script}")
    (folder / "gesso").chmod(0o755)
    (folder / "python").symlink_to(sys.executable)
    monkeypatch.setattr(heal, "IMAGE", str(folder))
    monkeypatch.setattr(heal, "probe", lambda _: heal.Probed(True, ()))


def test_a_gesso_image_heals_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = "import sys; print(sys.argv[1:]); print('heal: \\x1b[2Jlooking', file=sys.stderr); sys.exit(4)"
    _image(monkeypatch, tmp_path, script)
    said: list[str] = []
    assert heal.heal(DOOR, Asked(dry_run=True, events=True), {}, said.append) == 4
    out, err = capsys.readouterr()
    assert out == "['heal', '--dry-run', '--events', '--by', 'ssh']\n", "a login script's words are no result"
    assert err == "heal: [2Jlooking\n", "what a terminal takes for a command was passed on"
    assert said == ["h: a gesso image"]


@pytest.mark.parametrize(
    "script",
    ["import sys; sys.exit(\"gesso: error: argument COMMAND: invalid choice: 'heal' (choose from boot)\")",
     "import sys; sys.exit(127)"],
)  # fmt: skip
def test_an_image_without_heal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    _image(monkeypatch, tmp_path, script)
    with pytest.raises(PublishError, match="does not work, or is from before there was heal"):
        heal.heal(DOOR, Asked(), {}, lambda _: None)


def test_a_foreign_one_wants_an_architecture_before_anything_is_sent(far: Path) -> None:
    with pytest.raises(ManifestError, match="is no gesso image") as raised:
        heal.heal(DOOR, Asked(), {}, lambda _: None)
    assert "--arch" in raised.value.next_step
    assert list(far.iterdir()) == []


def test_a_foreign_one_without_a_python_that_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    old = bundle.Python("/usr/bin/python3", (3, 10, 12), "cpython", "x86_64", 35)
    monkeypatch.setattr(heal, "probe", lambda _: heal.Probed(False, (old,)))
    with pytest.raises(ManifestError, match=r"3\.11 or newer is needed, it has /usr/bin/python3 \(cpython 3\.10\.12"):
        heal.heal(DOOR, Asked(selection=SELECTION), {}, lambda _: None)


def test_a_foreign_one_without_comfyui(far: Path) -> None:
    with pytest.raises(CheckError, match="/nowhere: there is no ComfyUI in it") as raised:
        heal.heal(DOOR, Asked(selection=SELECTION, comfyui="/nowhere"), {}, lambda _: None)
    assert "main.py" in raised.value.next_step
    assert list(far.iterdir()) == []


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A bundle that is only a heal.py which says how it was called; the list has the digests that were made."""
    digests: list[str] = []

    def make(_: object, runner: bundle.Python, comfyuis: bundle.Python, folder: Path, *__: object) -> bundle.Bundle:
        folder.mkdir()
        (folder / "heal.py").write_text("import sys; print(sys.argv[1:], sys.flags.isolated); sys.exit(5)\n")
        digests.append(bundle.digest_of(folder))
        return bundle.Bundle(folder, digests[-1])

    monkeypatch.setattr(bundle, "make", make)
    return digests


def test_a_foreign_one_gets_a_bundle_once(
    far: Path, tmp_path: Path, made: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    comfyui = tmp_path / "ComfyUI"
    comfyui.mkdir()
    for name in ("main.py", "folder_paths.py", "nodes.py", "server.py"):
        (comfyui / name).touch()
    asked = Asked(as_json=True, selection=SELECTION, comfyui=str(comfyui))
    said: list[str] = []
    for _ in range(2):
        assert heal.heal(DOOR, asked, {}, said.append) == 5
        assert (
            capsys.readouterr().out.splitlines()[-1] == str(["--json", "--by", "ssh", "--comfyui", str(comfyui)]) + " 1"
        )
    assert [path.name for path in (far / ".cache/gesso").iterdir()] == [f"heal-{made[0]}"]
    assert [line.split(":")[1].split()[0] for line in said if line.startswith("bundle")] == ["sending", "is"]
    assert "does not run" in said[0]


def test_a_full_disk_over_there(far: Path, tmp_path: Path, made: list[str]) -> None:
    (far / ".cache").write_text("in the way")
    folder = tmp_path / "b"
    folder.mkdir()
    (folder / "x").touch()
    python = heal.facts(DOOR, sys.executable)
    why = r"the bundle could not be put there: .*(File exists|Not a directory)"
    with pytest.raises(PublishError, match=why) as raised:
        heal.send(DOOR, python, bundle.Bundle(folder, "1"), tmp_path / "b.tar.gz", lambda _: None)
    assert "make room" in raised.value.next_step


@pytest.mark.parametrize(
    "answer",
    ["", "gesso-found", "gesso-found []", "gesso-found {}", 'gesso-found {"folder": 1}', "gesso-found nonsense"],
)
def test_an_answer_that_is_none(monkeypatch: pytest.MonkeyPatch, answer: str, tmp_path: Path) -> None:
    find: Callable[[], Path] = lambda: tmp_path / "find.py"  # noqa: E731
    find().write_text(f"print({answer!r})")
    monkeypatch.setattr(heal, "FIND", find())
    python = bundle.Python(sys.executable, (3, 11, 0), "cpython", "x86_64", 36)
    with pytest.raises(PublishError, match="h: cannot be looked at"):
        heal.find(DOOR, python, "")


def test_comfyuis_python_that_does_not_work() -> None:
    with pytest.raises(PublishError, match="h: /bin/false, which runs ComfyUI, does not work"):
        heal.facts(DOOR, "/bin/false")


def test_the_flags_of_the_other_end() -> None:
    assert Asked().flags == ["--by", "ssh"]
    assert json.dumps(Asked(dry_run=True, as_json=True).flags) == '["--dry-run", "--json", "--by", "ssh"]'
