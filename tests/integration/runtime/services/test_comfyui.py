"""ComfyUI: its command line, and its responses, valid or not."""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError
from gesso.runtime.prepare import guard
from gesso.runtime.services import comfyui, unprivileged

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record

    Serving = Callable[[dict[str, tuple[int, bytes]]], AbstractContextManager[int]]


NOTE = guard.Finding("torch", "1", "2", broken=False)


def _option(argv: list[str], name: str) -> str:
    return argv[argv.index(name) + 1]


def test_the_command_line(layout: Layout) -> None:
    argv = comfyui.command(layout, {}, gpu=True)
    assert argv[:2] == [str(layout.venv / "bin/python"), str(layout.comfyui / "main.py")]
    assert _option(argv, "--listen") == "127.0.0.1"  # the gate alone reaches it
    assert _option(argv, "--port") == "18188"
    assert _option(argv, "--models-directory") == str(layout.models)
    assert _option(argv, "--user-directory") == str(layout.user)
    assert _option(argv, "--input-directory") == str(layout.workspace / "input")
    assert _option(argv, "--output-directory") == str(layout.workspace / "output")
    assert _option(argv, "--temp-directory") == str(layout.run / "comfyui")
    assert _option(argv, "--database-url") == f"sqlite:///{layout.user}/comfyui.db"
    assert "--disable-auto-launch" in argv
    assert "--cpu" not in argv


def test_without_a_gpu_it_runs_on_the_cpu(layout: Layout) -> None:
    assert comfyui.command(layout, {}, gpu=False).count("--cpu") == 1
    assert comfyui.command(layout, {"GESSO_COMFY_ARGS": "--cpu"}, gpu=False).count("--cpu") == 1
    assert comfyui.command(layout, {"GESSO_COMFY_ARGS": "--cpu"}, gpu=True).count("--cpu") == 1


def test_more_arguments_come_last_and_as_in_a_shell(layout: Layout) -> None:
    argv = comfyui.command(layout, {"GESSO_COMFY_ARGS": "--lowvram  --extra-model-paths-config '/a b'"}, gpu=True)
    assert argv[-3:] == ["--lowvram", "--extra-model-paths-config", "/a b"]
    assert comfyui.command(layout, {"GESSO_COMFY_ARGS": " "}, gpu=True) == comfyui.command(layout, {}, gpu=True)


@pytest.mark.parametrize(
    "value",
    [
        "--listen", "--listen 0.0.0.0", "--listen=::", "--lis", "--port 1", "--port=18188", "--tls-keyfile k",
        "--tls-c c", "--enable-cors-header", "--database-url sqlite:///x", "--output-directory /o", "--base-dir /b",
        "--models-d /m", "--lowvram --user-directory /u", "--temp-directory=/t", "--input-directory /i",
    ],
)  # fmt: skip
def test_arguments_that_would_open_comfyui_or_move_its_data(layout: Layout, value: str) -> None:
    with pytest.raises(CheckError, match=r"^GESSO_COMFY_ARGS: --[a-z-]+: gesso sets that itself") as raised:
        comfyui.command(layout, {"GESSO_COMFY_ARGS": value}, gpu=True)
    (word,) = [word for word in value.replace("=", " ").split() if word.startswith("--") and word != "--lowvram"]
    assert f" {word}: " in raised.value.message


@pytest.mark.parametrize(
    "value", ["--lowvram", "--", "-", "--max-upload-size 50", "--preview-method auto", "--listening x"]
)
def test_arguments_that_are_a_persons_own(layout: Layout, value: str) -> None:
    assert comfyui.command(layout, {"GESSO_COMFY_ARGS": value}, gpu=True)[-len(value.split()) :] == value.split()


def test_a_large_canvas_may_be_uploaded(layout: Layout) -> None:
    assert _option(comfyui.command(layout, {}, gpu=True), "--max-upload-size") == "1024"


@pytest.mark.parametrize("value", ["--a 'never closed", '"', "ends in \\"])
def test_arguments_that_cannot_be_split(layout: Layout, value: str) -> None:
    with pytest.raises(CheckError, match=r"^GESSO_COMFY_ARGS: No ") as raised:
        comfyui.command(layout, {"GESSO_COMFY_ARGS": value}, gpu=True)
    assert raised.value.next_step == "quote it as in a shell"


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ([], False),
        (["nvidia0"], True),
        (["nvidia7", "nvidiactl"], True),
        (["nvidiactl", "nvidia-uvm", "nvidia-caps", "nvidia"], False),
        (["dri", "kfd"], False),
    ],
)
def test_has_gpu(tmp_path: Path, devices: list[str], expected: bool) -> None:
    for name in devices:
        (tmp_path / name).touch()
    assert comfyui.has_gpu(tmp_path) is expected


@pytest.mark.parametrize("switch", [[], ["setpriv", "--reuid=18188"]])
def test_start_runs_the_guard_first_and_becomes_comfyui(
    layout: Layout, record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch, switch: list[str]
) -> None:
    done: list[Any] = []
    monkeypatch.setattr(unprivileged, "switch", lambda *_: switch)

    def ensure(*_: Any) -> list[guard.Finding]:
        done.append("guard")
        return [NOTE]

    monkeypatch.setattr(guard, "ensure", ensure)
    monkeypatch.setattr(comfyui, "has_gpu", lambda: False)
    monkeypatch.setattr("os.chdir", done.append)

    class Became(Exception):  # noqa: N818 - it is no error
        pass

    def execve(path: str, argv: list[str], env: dict[str, str]) -> None:
        done.append((path, argv, env))
        raise Became

    monkeypatch.setattr("os.execvpe", execve)
    messages: list[str] = []
    with pytest.raises(Became):
        comfyui.start(layout, record(), {"A": "b"}, messages.append)
    argv = [*switch, *comfyui.command(layout, {}, gpu=False)]
    assert done[:2] == ["guard", layout.comfyui]
    (path, args, env) = done[2]
    assert (path, args) == (argv[0], argv)
    assert env["A"] == "b"
    assert env.get("HOME") == (str(layout.home) if switch else None)
    assert len(messages) == 1
    assert "very slow" in messages[0]
    assert json.loads(comfyui.notes_file(layout).read_bytes()) == ["torch is 1, the lock says 2"]


def test_a_refused_start_leaves_its_reason_for_the_page(
    layout: Layout, record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise CheckError("guard: no", "start a fresh instance")

    monkeypatch.setattr(guard, "ensure", refuse)
    with pytest.raises(CheckError):
        comfyui.start(layout, record(), {}, lambda _: None)
    path = comfyui.fault_file(layout)
    assert json.loads(path.read_bytes()) == {"why": "guard: no", "next": "start a fresh instance"}
    monkeypatch.setattr(guard, "ensure", lambda *_: [])
    monkeypatch.setattr("os.chdir", lambda _: None)

    def became(*_: Any) -> None:
        assert not path.exists()
        raise InterruptedError

    monkeypatch.setattr("os.execve", became)
    with pytest.raises(InterruptedError):
        comfyui.start(layout, record(), {}, lambda _: None)


# --- get_json


def test_get_json(serving: Serving) -> None:
    with serving({"/system_stats": (200, b'{"a": [1]}')}) as port:
        assert comfyui.get_json("/system_stats", port=port) == {"a": [1]}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((500, b"{}"), "ComfyUI answers /x with 500"),
        ((404, b"{}"), "ComfyUI answers /x with 404"),
        ((204, b""), "ComfyUI answers /x with 204"),
        ((200, b"<html>"), "ComfyUI's response to /x is not JSON"),
        ((200, b""), "ComfyUI's response to /x is not JSON"),
        ((200, b"\xff\xfe\xfa"), "ComfyUI's response to /x is not JSON"),
    ],
)
def test_get_json_with_invalid_responses(serving: Serving, answer: tuple[int, bytes], message: str) -> None:
    with serving({"/x": answer}) as port, pytest.raises(CheckError) as raised:
        comfyui.get_json("/x", port=port)
    assert raised.value.message == message
    assert raised.value.next_step == "see ComfyUI's log: `gesso logs comfyui`"


def _raw(answer: bytes | None) -> tuple[socket.socket, int, threading.Thread]:
    """Start a server that sends these bytes once and closes; with None it sends nothing."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(9999)
            if answer is None:
                connection.recv(1)  # until the client gives up
            else:
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return listening, listening.getsockname()[1], thread


@pytest.mark.parametrize(
    "answer",
    [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", b"HTTP/1.1 200 OK\r\n" * 200, None],
    ids=["nothing", "garbage", "cut short", "too many headers", "silence"],
)
def test_get_json_from_a_broken_server(answer: bytes | None) -> None:
    listening, port, thread = _raw(answer)
    try:
        with pytest.raises(CheckError, match=r"^ComfyUI does not answer: ."):
            comfyui.get_json("/x", port=port, timeout=0.3)
    finally:
        thread.join()
        listening.close()


def test_get_json_without_a_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(CheckError, match=r"ComfyUI does not answer: .*refused"):
        comfyui.get_json("/x", port=port)


def test_missing_classes(serving: Serving) -> None:
    answers = {"/object_info/A": (200, b'{"A": {}}'), "/object_info/B": (200, b"{}")}
    with serving(answers) as port:
        assert comfyui.missing_classes(("A", "B"), port=port) == ("B",)
    with serving({}) as port, pytest.raises(CheckError, match="404"):
        comfyui.missing_classes(("A",), port=port)


@pytest.mark.parametrize(
    ("answer", "length"),
    [
        ({"exec_info": {"queue_remaining": 3}}, 3),
        ({"exec_info": {"queue_remaining": "x"}}, 0),
        ({"exec_info": {}}, 0),
        ({"exec_info": None}, 0),
        ([], 0),
        (None, 0),
    ],
)
def test_the_length_of_the_queue(answer: Any, length: int) -> None:
    assert comfyui.queue_length(answer) == length
