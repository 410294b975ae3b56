"""Small things at the rim: what sessions may know, what was left over, and how it is shown on a terminal."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import ManifestError
from gesso.runtime.prepare import environment, node_packs, orphans
from gesso.runtime.state import status_view

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record

ENV = {
    "PATH": "/opt/venv/bin:/usr/bin", "PIP_CONSTRAINT": "/c.txt", "UV_CONSTRAINT": "/c.txt",
    "PUBLIC_IPADDR": "203.0.113.9", "VAST_TCP_PORT_8188": "40123",
    "CONTAINER_ID": "7", "GESSO_COMFY_ARGS": "--lowvram", "LANG": "C.UTF-8",
    "GESSO_ADMIN_ORIGIN": "https://admin.example",
}  # fmt: skip
SECRETS = {
    "GESSO_TOKEN": "a", "OPEN_BUTTON_TOKEN": "b", "JUPYTER_TOKEN": "c", "CONTAINER_API_KEY": "d", "HF_TOKEN": "e",
    "CIVITAI_TOKEN": "f", "GESSO_TLS_KEY": "g", "AWS_SECRET_ACCESS_KEY": "h", "MY_PASSWORD": "i", "VAST_API_KEY": "j",
    "PIP_INDEX_URL": "https://user:secret@mirror.example/simple", "NVIDIA_API_KEY": "k", "ANYTHING": "l",
}  # fmt: skip


def test_sessions_know_what_they_need_and_no_secret() -> None:
    assert environment.chosen({**ENV, **SECRETS}) == dict(sorted(ENV.items()))
    assert environment.chosen({"PIP_INDEX_URL": "https://mirror.example/simple"})


@pytest.mark.parametrize("value", ["a\nB=c", 'a"b', "a'b", "a\rb"])
def test_what_would_break_the_file_stays_out(value: str) -> None:
    assert environment.chosen({"GESSO_COMFY_ARGS": value}) == {}


def test_other_peoples_lines_stay_and_ours_are_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "environment"
    path.write_text("MINE=1")
    environment.keep(ENV, pytest.fail, path)
    first = path.read_text()
    assert first.startswith("MINE=1\n# gesso: begin\n")
    assert 'VAST_TCP_PORT_8188="40123"\n' in first
    environment.keep(ENV, pytest.fail, path)
    assert path.read_text() == first
    path.write_text(first + "YOURS=2\n")
    environment.keep({"LANG": "C"}, pytest.fail, path)
    assert path.read_text() == 'MINE=1\nYOURS=2\n# gesso: begin\nLANG="C"\n# gesso: end\n'
    assert [p.name for p in tmp_path.iterdir()] == ["environment"]


def test_where_it_cannot_be_written_that_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    environment.keep(ENV, said.append, tmp_path / "none" / "environment")
    assert "not written" in said[0]


# --- node packs


def test_a_folders_id_is_gits(tmp_path: Path) -> None:
    (tmp_path / "a-b").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "a" / "run.sh").write_text("x")
    (tmp_path / "a" / "run.sh").chmod(0o755)
    (tmp_path / "a-b" / "ä.py").write_bytes(b"")
    (tmp_path / "a.py").write_text("y")
    (tmp_path / "link").symlink_to("a.py")
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)
    written = subprocess.run(["git", "-C", str(tmp_path), "write-tree"], check=True, capture_output=True, text=True)
    (tmp_path / "a" / "__pycache__").mkdir()
    (tmp_path / "a" / "__pycache__" / "x.pyc").write_text("bytecode is no change")
    found = node_packs.tree_of(tmp_path)
    assert found is not None
    assert found.hex() == written.stdout.strip()


def test_a_pack_that_was_changed_is_named(layout: Layout, record: Callable[..., Record]) -> None:
    folder = layout.comfyui / "custom_nodes" / "comfyui_controlnet_aux"
    folder.mkdir(parents=True)
    (folder / "x.py").write_text("x")
    tree = node_packs.tree_of(folder)
    assert tree is not None
    made = record(raw={"nodes": {folder.name: {"tree": tree.hex()}}})
    assert node_packs.changed(layout, made) == ()
    (folder / "ckpts").mkdir()
    (folder / "ckpts" / "downloaded.pth").write_text("what the pack itself keeps there is no change")
    assert node_packs.changed(layout, made) == ()
    (folder / "x.py").write_text("y")
    assert node_packs.changed(layout, made) == (f"{folder.name}: is not as locked; somebody changed or added files",)
    assert node_packs.changed(layout, record(raw={"nodes": {"gone": {}}})) == ("gone: is not there or cannot be read",)


# --- what was left over


def test_what_an_earlier_supervisor_started_is_ended(layout: Layout) -> None:
    mark = {"SUPERVISOR_SERVER_URL": f"unix://{layout.run}/supervisor.sock"}
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", stubborn]
    ours = subprocess.Popen(words, env=mark, stdout=subprocess.PIPE)
    other = subprocess.Popen(words, env={"SUPERVISOR_SERVER_URL": "unix:///x"}, stdout=subprocess.PIPE)
    try:
        for process in (ours, other):
            assert process.stdout is not None
            process.stdout.readline()
        assert orphans.left_over(layout) == [ours.pid]
        said: list[str] = []
        orphans._PATIENCE, kept = 0.2, orphans._PATIENCE
        orphans.sweep(layout, said.append)
        orphans._PATIENCE = kept
        assert said == ["gesso: ending 1 processes that were left over from before"]
        assert ours.wait(10) == -9
        assert other.poll() is None
    finally:
        for process in (ours, other):
            process.kill()
            process.communicate()


def test_nothing_left_over_is_no_word(layout: Layout) -> None:
    orphans.sweep(layout, pytest.fail)


# --- on a terminal

STATUS: dict[str, Any] = {
    "state": "failed", "why": "vae/a is not here: no answer", "next": "check the network", "notes": ["a note"],
    "title": "SDXL", "trial": True, "comfyui": {"up": True, "process": "running", "starts": 2, "published": False},
    "models": [
        {"name": "vae/a", "stage": "failed", "size": 100, "done": 40, "trouble": {"why": "no answer"}, "message": ""},
        {"name": "vae/b", "stage": "verified", "size": 1, "done": 1, "trouble": None, "message": ""},
    ],
    "totals": {"verified": 1, "rate": 2_000_000, "left": 61}, "disk": {"free": 5e9, "total": 9e9},
    "errors": [{"at": 1, "text": "vae/a: no answer"}],
}  # fmt: skip


def test_a_status_for_people() -> None:
    assert status_view.text(STATUS).splitlines() == [
        "failed: vae/a is not here: no answer",
        "  next: check the network",
        "  note: a note",
        "image    SDXL (a TRIAL)",
        "comfyui  answers, 2 starts, workflows not published yet",
        "models   1 of 2 verified, 2.0 MB/s, 1 min 1 s left",
        "  failed 40 %  vae/a: no answer",
        "disk     5.0 GB of 9.0 GB free",
        "lately   vae/a: no answer",
    ]


def test_logs(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    layout.logs.mkdir()
    (layout.logs / "comfyui.log").write_text("".join(f"{n}\n" for n in range(200)))
    (layout.logs / "agent.log").write_text("hello\n")
    (layout.logs / "agent.log.1").write_text("old\n")
    said: list[str] = []
    assert status_view.logs(status_view.log_files(layout, "comfyui"), follow=False, say=said.append) == 0
    assert said[0].splitlines()[0] == "100"
    said.clear()
    status_view.logs(status_view.log_files(layout, None), follow=False, say=said.append)
    assert said[:2] == ["==> agent.log <==", "hello"]
    with pytest.raises(ManifestError, match="no log is called nothing") as raised:
        status_view.log_files(layout, "nothing")
    assert raised.value.next_step == "choose one of: agent, comfyui"
    became: list[Any] = []
    monkeypatch.setattr("os.execvp", lambda *words: became.append(words))
    status_view.logs(status_view.log_files(layout, "agent"), follow=True, say=said.append)
    assert became[0][1][-2:] == ["-F", str(layout.logs / "agent.log")]
