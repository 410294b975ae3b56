"""The user of ComfyUI: which folders it is given, what is never given, and when ComfyUI stays root."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from gesso import proc
from gesso.errors import CheckError
from gesso.runtime.layout import COMFY_USER
from gesso.runtime.services import unprivileged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def home(layout: Layout) -> Layout:
    """An instance whose workspace is laid out, by root."""
    for folder in (layout.run, layout.state, layout.models / "vae", layout.models / ".gesso", layout.comfyui_temporary):
        folder.mkdir(parents=True)
    for name in ("input", "output", "user/default"):
        (layout.workspace / name).mkdir(parents=True)
    return layout


def _owner(path: Path) -> int:
    return path.lstat().st_uid


@as_root
def test_its_own_folders_are_given_to_it(home: Layout, record: Callable[..., Record]) -> None:
    deep, token = home.user / "default/comfy.settings.json", home.state / "token"
    for path in (deep, token):
        path.touch()
    pack = home.comfyui / "custom_nodes/comfyui_controlnet_aux"
    pack.mkdir(parents=True)
    unprivileged.hand_over(home, record(raw={"nodes": {pack.name: {}, "absent": {}}}))
    given = (home.user, deep, home.workspace / "input", home.workspace / "output", home.home, home.comfyui_temporary)
    assert {_owner(path) for path in (*given, pack / "ckpts")} == {COMFY_USER}
    assert {_owner(path) for path in (home.workspace, home.state, token, home.run, home.models, pack)} == {0}
    assert not (pack / "config.yaml").exists()
    assert not (pack.parent / "absent").exists()


@as_root
def test_it_may_add_models_and_touch_no_other(home: Layout, record: Callable[..., Record]) -> None:
    (home.models / "vae/x.safetensors").touch()
    unprivileged.hand_over(home, record())
    for folder in (home.models, home.models / "vae"):
        found = folder.stat()
        assert (found.st_uid, found.st_gid) == (0, COMFY_USER)
        assert found.st_mode & 0o1070 == 0o1070, "the sticky bit protects what root fetched"
    assert (home.models / ".gesso").stat().st_gid == 0
    assert (home.models / "vae/x.safetensors").stat().st_gid == 0


@as_root
def test_files_of_other_users_stay_theirs(home: Layout, record: Callable[..., Record]) -> None:
    theirs = home.workspace / "output/theirs"
    theirs.touch()
    os.chown(theirs, 1000, 1000)
    os.chown(home.models / "vae", 1000, 1000)
    unprivileged.hand_over(home, record())
    assert _owner(theirs) == 1000
    assert (home.models / "vae").stat().st_gid == 1000


@as_root
def test_links_of_its_user_are_not_followed(home: Layout, record: Callable[..., Record], tmp_path: Path) -> None:
    """It owns these folders, and may put a link to /etc in their place before the next start."""
    outside = tmp_path / "etc"
    (outside / "below").mkdir(parents=True)
    shadow = outside / "shadow"
    shadow.touch()
    links = [home.workspace / "output/link", home.workspace / "input", home.models / "loras", home.user / "hard"]
    links[1].rmdir()
    for link in links[:3]:
        link.symlink_to(outside)
        os.lchown(link, COMFY_USER, COMFY_USER)
    links[3].hardlink_to(shadow)
    unprivileged.hand_over(home, record())
    assert {_owner(path) for path in (outside, outside / "below", shadow)} == {0}
    assert outside.stat().st_gid == 0


@as_root
def test_a_link_of_root_is_followed(home: Layout, record: Callable[..., Record], tmp_path: Path) -> None:
    """As people put their outputs on another disk."""
    disk = tmp_path / "disk"
    disk.mkdir()
    (home.workspace / "output").rmdir()
    (home.workspace / "output").symlink_to(disk)
    unprivileged.hand_over(home, record())
    assert _owner(disk) == COMFY_USER


@as_root
def test_an_open_workspace_gets_the_sticky_bit(home: Layout, record: Callable[..., Record]) -> None:
    home.workspace.chmod(0o777)
    unprivileged.hand_over(home, record())
    assert stat.S_IMODE(home.workspace.stat().st_mode) == 0o1777
    home.workspace.chmod(0o755)
    unprivileged.hand_over(home, record())
    assert stat.S_IMODE(home.workspace.stat().st_mode) == 0o755


def _switch(layout: Layout, made: Record, env: dict[str, str]) -> tuple[list[str], list[str]]:
    messages: list[str] = []
    return unprivileged.switch(layout, made, env, messages.append), messages


@pytest.fixture
def possible(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A container in which root may change the user; returns the probes."""
    probes: list[Any] = []

    def run(argv: list[str], **_: Any) -> proc.Result:
        probes.append(argv)
        return proc.Result(command="", code=0, stdout="", output="")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(proc, "run", run)
    monkeypatch.setattr(unprivileged, "_may_kill", lambda: True)
    monkeypatch.setattr(unprivileged, "_gpu_devices", list)
    return probes


@as_root
@pytest.mark.parametrize("chosen", [{}, {"GESSO_COMFY_USER": ""}, {"GESSO_COMFY_USER": "comfyui"}])
def test_root_switches(
    home: Layout, record: Callable[..., Record], possible: list[Any], chosen: dict[str, str]
) -> None:
    command, messages = _switch(home, record(), chosen)
    assert command[:3] == ["setpriv", f"--reuid={COMFY_USER}", f"--regid={COMFY_USER}"]
    assert {"--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"} <= set(command)
    assert possible == [[*command, "true"]]
    assert messages == []


def test_another_user_stays_what_it_is(
    home: Layout, record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert _switch(home, record(), {}) == ([], [])


def test_a_person_may_choose_root(home: Layout, record: Callable[..., Record], possible: list[Any]) -> None:
    command, (message,) = _switch(home, record(), {"GESSO_COMFY_USER": "root"})
    assert command == possible == []
    assert "GESSO_COMFY_USER=root" in message


@pytest.mark.parametrize("value", ["1000", "Root", "x" * 99])
def test_another_choice_is_refused(home: Layout, record: Callable[..., Record], value: str) -> None:
    with pytest.raises(CheckError, match=r"^GESSO_COMFY_USER: .* is neither comfyui nor root") as raised:
        _switch(home, record(), {"GESSO_COMFY_USER": value})
    assert len(raised.value.message) < 99


@pytest.mark.parametrize("obstacle", ["gpu", "setpriv", "missing", "kill", "chown", "another user's output"])
def test_what_prevents_it_is_named(
    home: Layout, record: Callable[..., Record], possible: list[Any], monkeypatch: pytest.MonkeyPatch, obstacle: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    def fail(*_: Any, **__: Any) -> None:
        raise (
            proc.MissingProgramError("setpriv: not found")
            if obstacle == "missing"
            else OSError(1, "not permitted", "/w")
        )

    monkeypatch.setattr(unprivileged, "hand_over", lambda *_: home.home.mkdir())
    expected = {
        "kill": "no CAP_KILL",
        "missing": "not found",
        "chown": "/w: not permitted",
        "setpriv": "setgroups failed",
    }
    if obstacle == "gpu":
        device = tmp_path / "nvidia0"
        device.touch(0o600)
        monkeypatch.setattr(unprivileged, "_gpu_devices", lambda: [device])
        expected["gpu"] = f"{device} is open only to root"
    elif obstacle == "setpriv":
        failed = proc.Result(command="", code=1, stdout="", output="setpriv: setgroups failed\n")
        monkeypatch.setattr(proc, "run", lambda *_, **__: failed)
    elif obstacle == "missing":
        monkeypatch.setattr(proc, "run", fail)
    elif obstacle == "kill":
        monkeypatch.setattr(unprivileged, "_may_kill", lambda: False)
    elif obstacle == "chown":
        monkeypatch.setattr(unprivileged, "hand_over", fail)
    else:
        (home.workspace / "output").chmod(0o755)
        expected[obstacle] = f"belongs to user {os.getuid()}; start the container with `--user {os.getuid()}`"
    command, (message,) = _switch(home, record(), {})
    assert command == []
    assert message.startswith("comfyui: runs as root, and node packs can read the token: ")
    assert expected[obstacle] in message


def test_capabilities(tmp_path: Path) -> None:
    status = tmp_path / "status"
    for mask, expected in (("00000000a80425fb", True), ("0000000000000020", True), ("00000000a80425db", False)):
        status.write_text(f"Name:\tx\nCapEff:\t{mask}\n")
        assert unprivileged._may_kill(status) is expected
    status.write_text("Name:\tx\n")
    assert not unprivileged._may_kill(status)


def test_its_environment(layout: Layout) -> None:
    found = unprivileged.environment(layout, {"HOME": "/root", "A": "b"})
    assert found == {"HOME": str(layout.home), "USER": "comfyui", "LOGNAME": "comfyui", "A": "b"}
