"""A heal over a fake `ssh` that runs everything here; only ComfyUI and gesso are fakes."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gesso.builder.remote import bundle, heal
from gesso.builder.remote.heal import HealOptions
from gesso.builder.remote.ssh import Connection, Target
from gesso.errors import CheckError, ManifestError, PublishError
from gesso.settings import Project, Selection

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[4]
CONNECTION = Connection(Target("h"))
SELECTION = Selection(Project(ROOT), "sdxl", (), trial=True)


@pytest.fixture(autouse=True)
def remote_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home directory on the instance, reached by a fake `ssh`."""
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho a banner\nfor last; do :; done\nexec sh -c "$last"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def _image(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Make the probe find a gesso image whose gesso is `script`."""
    (folder / "gesso").write_text(f"#!{sys.executable}\n{script}")
    (folder / "gesso").chmod(0o755)
    (folder / "python").symlink_to(sys.executable)
    monkeypatch.setattr(heal, "IMAGE", str(folder))
    monkeypatch.setattr(heal, "probe", lambda _: heal.Probe(True, ()))


def test_a_gesso_image_heals_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = "import sys; print(sys.argv[1:]); print('heal: \\x1b[2Jlooking', file=sys.stderr); sys.exit(4)"
    _image(monkeypatch, tmp_path, script)
    progress: list[str] = []
    assert heal.heal(CONNECTION, HealOptions(dry_run=True, events=True), {}, progress.append) == 4
    out, err = capsys.readouterr()
    assert out == "['heal', '--dry-run', '--events', '--by', 'ssh']\n", "the output of a login script is no result"
    assert err == "heal: [2Jlooking\n", "a terminal control character was passed on"
    assert progress == ["h: a gesso image"]


@pytest.mark.parametrize(
    "script",
    ["import sys; sys.exit(\"gesso: error: argument COMMAND: invalid choice: 'heal' (choose from boot)\")",
     "import sys; sys.exit(127)"],
)  # fmt: skip
def test_an_image_without_heal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    _image(monkeypatch, tmp_path, script)
    with pytest.raises(PublishError, match="does not work, or is too old to heal"):
        heal.heal(CONNECTION, HealOptions(), {}, lambda _: None)


def test_a_foreign_instance_needs_an_architecture_before_anything_is_sent(remote_home: Path) -> None:
    with pytest.raises(ManifestError, match="not a gesso image") as raised:
        heal.heal(CONNECTION, HealOptions(), {}, lambda _: None)
    assert "--arch" in raised.value.next_step
    assert list(remote_home.iterdir()) == []


def test_a_foreign_instance_without_a_supported_python(monkeypatch: pytest.MonkeyPatch) -> None:
    old = bundle.Python("/usr/bin/python3", (3, 10, 12), "cpython", "x86_64", 35)
    monkeypatch.setattr(heal, "probe", lambda _: heal.Probe(False, (old,)))
    with pytest.raises(ManifestError, match=r"3\.11 or newer is required, found: /usr/bin/python3 \(cpython 3\.10\.12"):
        heal.heal(CONNECTION, HealOptions(selection=SELECTION), {}, lambda _: None)


def test_a_foreign_instance_without_comfyui(remote_home: Path) -> None:
    with pytest.raises(CheckError, match="/nowhere: there is no ComfyUI in it") as raised:
        heal.heal(CONNECTION, HealOptions(selection=SELECTION, comfyui="/nowhere"), {}, lambda _: None)
    assert "main.py" in raised.value.next_step
    assert list(remote_home.iterdir()) == []


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fake bundles with only a heal.py that prints its arguments; return their digests."""
    digests: list[str] = []

    def make(
        _: object, runner: bundle.Python, comfyui_python: bundle.Python, folder: Path, *__: object
    ) -> bundle.Bundle:
        folder.mkdir()
        (folder / "heal.py").write_text("import sys; print(sys.argv[1:], sys.flags.isolated); sys.exit(5)\n")
        digests.append(bundle.digest_of(folder))
        return bundle.Bundle(folder, digests[-1])

    monkeypatch.setattr(bundle, "build_bundle", make)
    return digests


def test_a_foreign_instance_gets_a_bundle_once(
    remote_home: Path, tmp_path: Path, built: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    comfyui = tmp_path / "ComfyUI"
    comfyui.mkdir()
    for name in ("main.py", "folder_paths.py", "nodes.py", "server.py"):
        (comfyui / name).touch()
    options = HealOptions(as_json=True, selection=SELECTION, comfyui=str(comfyui))
    progress: list[str] = []
    for _ in range(2):
        assert heal.heal(CONNECTION, options, {}, progress.append) == 5
        assert (
            capsys.readouterr().out.splitlines()[-1] == str(["--json", "--by", "ssh", "--comfyui", str(comfyui)]) + " 1"
        )
    assert [path.name for path in (remote_home / ".cache/gesso").iterdir()] == [f"heal-{built[0]}"]
    assert [line.split(":")[1].split()[0] for line in progress if line.startswith("bundle")] == ["sending", "exists"]
    assert "is not running" in progress[0]


def test_a_bundle_that_cannot_be_unpacked(remote_home: Path, tmp_path: Path, built: list[str]) -> None:
    (remote_home / ".cache").write_text("in the way")
    folder = tmp_path / "b"
    folder.mkdir()
    (folder / "x").touch()
    python = heal.describe_python(CONNECTION, sys.executable)
    why = r"the bundle could not be unpacked there: .*(File exists|Not a directory)"
    with pytest.raises(PublishError, match=why) as raised:
        heal.send_bundle(CONNECTION, python, bundle.Bundle(folder, "1"), tmp_path / "b.tar.gz", lambda _: None)
    assert "free disk space" in raised.value.next_step


@pytest.mark.parametrize(
    "answer",
    ["", "gesso-found", "gesso-found []", "gesso-found {}", 'gesso-found {"folder": 1}', "gesso-found nonsense"],
)
def test_an_invalid_response(monkeypatch: pytest.MonkeyPatch, answer: str, tmp_path: Path) -> None:
    find: Callable[[], Path] = lambda: tmp_path / "find.py"  # noqa: E731
    find().write_text(f"print({answer!r})")
    monkeypatch.setattr(heal, "DISCOVER", find())
    python = bundle.Python(sys.executable, (3, 11, 0), "cpython", "x86_64", 36)
    with pytest.raises(PublishError, match="h: could not be inspected"):
        heal.find_comfyui(CONNECTION, python, "")


def test_comfyuis_python_that_does_not_work() -> None:
    with pytest.raises(PublishError, match="h: /bin/false, which runs ComfyUI, does not work"):
        heal.describe_python(CONNECTION, "/bin/false")


def test_the_flags_of_the_heal_there() -> None:
    assert HealOptions().flags == ["--by", "ssh"]
    assert json.dumps(HealOptions(dry_run=True, as_json=True).flags) == '["--dry-run", "--json", "--by", "ssh"]'
