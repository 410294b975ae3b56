"""`gesso status` and `gesso logs` on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import ManifestError
from gesso.runtime.state import log_files, status_view

if TYPE_CHECKING:
    from gesso.runtime.layout import Layout

STATUS: dict[str, Any] = {
    "state": "failed", "why": "vae/a is missing: no answer", "next": "check the network", "notes": ["a note"],
    "title": "SDXL", "trial": True, "comfyui": {"up": True, "process": "running", "starts": 2, "published": False},
    "problems": [
        {"cause": "it was changed", "count": 1, "names": [], "operator": "x", "next": "y"},
        {"cause": "HTTP 404 from h", "count": 2, "names": ["vae/a", "vae/c"], "operator": "x", "next": "correct it"},
    ],
    "models": [
        {"name": "vae/a", "stage": "failed", "size": 100, "done": 40, "trouble": {"why": "no answer"}, "message": ""},
        {"name": "vae/c", "stage": "failed", "size": 100, "done": 40, "trouble": {"why": "no answer"}, "message": ""},
        {"name": "vae/d", "stage": "fetching", "size": 100, "done": 40, "trouble": None, "message": "again"},
        {"name": "vae/b", "stage": "verified", "size": 1, "done": 1, "trouble": None, "message": ""},
    ],
    "totals": {"verified": 1, "rate": 2_000_000, "left": 61}, "disk": {"free": 5e9, "total": 9e9},
    "errors": [{"at": 1, "text": "vae/a: no answer"}],
}  # fmt: skip


def test_a_status_for_people() -> None:
    assert status_view.text(STATUS).splitlines() == [
        "failed: vae/a is missing: no answer",
        "  next: check the network",
        "  note: a note",
        "image    SDXL (a TRIAL)",
        "comfyui  answers, 2 starts, workflows not published yet",
        "models   1 of 4 verified, 2.0 MB/s, 1 min 1 s left",
        "  2 models: HTTP 404 from h",
        "    vae/a, vae/c",
        "    next: correct it",
        "  fetching 40 %  vae/d: again",
        "disk     5.0 GB of 9.0 GB free",
        "lately   vae/a: no answer",
    ]


def test_logs(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    layout.logs.mkdir()
    (layout.logs / "comfyui.log").write_text("".join(f"{n}\n" for n in range(200)))
    (layout.logs / "agent.log").write_text("hello\n")
    (layout.logs / "agent.log.1").write_text("old\n")
    printed: list[str] = []
    assert status_view.logs(log_files.find(layout, "comfyui"), follow=False, on_progress=printed.append) == 0
    assert printed[0].splitlines()[0] == "100"
    printed.clear()
    status_view.logs(log_files.find(layout, None), follow=False, on_progress=printed.append)
    assert printed[:2] == ["==> agent.log <==", "hello"]
    with pytest.raises(ManifestError, match="no log is named nothing") as raised:
        log_files.find(layout, "nothing")
    assert raised.value.next_step == "choose one of: agent, comfyui"
    executed: list[Any] = []
    monkeypatch.setattr("os.execvp", lambda *args: executed.append(args))
    status_view.logs(log_files.find(layout, "agent"), follow=True, on_progress=printed.append)
    assert executed[0][1][-2:] == ["-F", str(layout.logs / "agent.log")]


def test_health_is_its_problems() -> None:
    assert status_view.health(["failed: no network", "torch is 1"]) == "failed: no network\ntorch is 1"
    assert status_view.health([]) == "ok: Krita can work with this instance"
