"""Who listens on a port, by a made-up /proc, and by the real one for a socket of the test's own."""

from __future__ import annotations

import ipaddress
import os
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError
from gesso.runtime.services import ports
from gesso.runtime.services.ports import Listener

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LISTEN, ESTABLISHED = "0A", "01"


def _row(address: str, port: int, inode: int, state: str = LISTEN) -> str:
    remote = "0" * len(address) + ":0000"
    queues = "00000000:00000000 00:00000000 00000000"
    return (
        f"   0: {address}:{port:04X} {remote} {state} {queues}  1000        0 {inode} 1 0000000000000000 100 0 0 10 0\n"
    )


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "self/net").mkdir(parents=True)
    (tmp_path / "self/net/tcp").write_text(HEAD)
    (tmp_path / "self/net/tcp6").write_text(HEAD)
    return tmp_path


def _listening(proc: Path, *rows: str, table: str = "tcp") -> None:
    (proc / "self/net" / table).write_text(HEAD + "".join(rows))


def _process(proc: Path, pid: int, *links: str, command: bytes = b"nc\0-l\0") -> Path:
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    for number, link in enumerate(links):
        (folder / "fd" / str(number)).symlink_to(link)
    (folder / "cmdline").write_bytes(command)
    return folder


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "sys", SimpleNamespace(byteorder="little"))


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize(
    ("table", "text", "address", "loopback"),
    [
        ("tcp", "0100007F", "127.0.0.1", True),
        ("tcp", "0501007F", "127.0.1.5", True),
        ("tcp", "00000000", "0.0.0.0", False),
        ("tcp", "0A01A8C0", "192.168.1.10", False),
        ("tcp6", "00000000000000000000000001000000", "::1", True),
        ("tcp6", "00000000000000000000000000000000", "::", False),
        ("tcp6", "0000000000000000FFFF00000100007F", "::ffff:127.0.0.1", True),
        ("tcp6", "0000000000000000FFFF00000A01A8C0", "::ffff:192.168.1.10", False),
        ("tcp6", "B80D0120000000000000000001000000", "2001:db8::1", False),
    ],
)
def test_addresses(proc: Path, table: str, text: str, address: str, loopback: bool) -> None:
    _listening(proc, _row(text, 8188, 77), table=table)
    (found,) = ports.listeners(8188, proc)
    assert ipaddress.ip_address(found.address) == ipaddress.ip_address(address)
    assert (found.inode, found.is_loopback) == (77, loopback)


def test_another_byte_order(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "sys", SimpleNamespace(byteorder="big"))
    _listening(proc, _row("7F000001", 8188, 77))
    assert ports.listeners(8188, proc) == (Listener("127.0.0.1", 77),)


@pytest.mark.usefixtures("little")
def test_only_sockets_that_listen_on_that_port(proc: Path) -> None:
    _listening(
        proc, _row("0100007F", 8188, 1, ESTABLISHED), _row("0100007F", 8189, 2), _row("0100007F", 8188, 3),
        _row("0100007F", 18188, 4),
    )  # fmt: skip
    _listening(proc, _row("00000000000000000000000001000000", 8188, 5), table="tcp6")
    assert ports.listeners(8188, proc) == (Listener("127.0.0.1", 3), Listener("::1", 5))
    assert ports.listeners(18188, proc) == (Listener("127.0.0.1", 4),)
    assert ports.listeners(80, proc) == ()


@pytest.mark.usefixtures("little")
def test_without_one_of_the_tables(proc: Path) -> None:
    """A kernel without IPv6 has no tcp6."""
    _listening(proc, _row("0100007F", 8188, 3))
    (proc / "self/net/tcp6").unlink()
    assert ports.listeners(8188, proc) == (Listener("127.0.0.1", 3),)
    (proc / "self/net/tcp").rename(proc / "self/net/tcp6")
    assert ports.listeners(8188, proc) == (Listener("127.0.0.1", 3),)
    (proc / "self/net/tcp6").unlink()
    assert ports.listeners(8188, proc) == ()


def test_a_real_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port, inode = server.getsockname()[1], os.fstat(server.fileno()).st_ino
        found = ports.listeners(port)
        assert found == (Listener("127.0.0.1", inode),)
        assert ports.is_held_by(os.getpid(), found[0])
        assert not ports.is_held_by(os.getppid(), found[0])
        assert f"(process {os.getpid()})" in ports.holder(port)
    assert ports.listeners(port) == ()
    assert ports.holder(port) == ""


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_a_real_socket_of_both_families() -> None:
    try:
        server = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    except OSError as error:
        pytest.skip(str(error))
    with server:
        (found,) = ports.listeners(server.getsockname()[1])
        assert (found.address, found.is_loopback) == ("::", False)


# --- who holds it

SOCKET = Listener("127.0.0.1", 77)


def test_a_process_holds_what_its_descriptors_lead_to(proc: Path) -> None:
    _process(proc, 7, "/dev/null", "socket:[77]")
    _process(proc, 8, "/dev/null", "socket:[770]", "pipe:[77]", "socket:[7]")
    _process(proc, 9)
    assert [pid for pid in (7, 8, 9, 10) if ports.is_held_by(pid, SOCKET, proc)] == [7]


def test_a_descriptor_that_is_closed_meanwhile(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _process(proc, 7, "/dev/null", "socket:[77]")
    entries = [SimpleNamespace(path=str(folder / "fd" / name)) for name in ("0", "closed", "1")]
    monkeypatch.setattr(os, "scandir", lambda _: entries)
    assert ports.is_held_by(7, SOCKET, proc)


def _of_another_user(proc: Path) -> None:
    folder = _process(proc, 7)
    if os.geteuid() == 0:
        os.chown(folder, 4242, 4343)
    (folder / "fd").rmdir()
    (folder / "fd").touch()  # cannot be listed, whoever the tests' user is


def test_root_becomes_another_user_to_read_its_descriptors(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _of_another_user(proc)
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        commands.append(command)
        line = "lrwx------ 1 comfyui comfyui 64 Jan  1 00:00"
        return SimpleNamespace(stdout=f"total 0\n{line} 0 -> /dev/null\n{line} 5 -> socket:[77]\n")

    monkeypatch.setattr(ports, "run", run)
    assert ports.is_held_by(7, SOCKET, proc)
    assert not ports.is_held_by(7, Listener("127.0.0.1", 78), proc)
    owner = (proc / "7").stat()
    assert commands[0] == [
        "setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups",
        "ls", "-l", str(proc / "7/fd"),
    ]  # fmt: skip


@pytest.mark.parametrize("error", [CheckError("setpriv is not installed"), OSError(11, "no processes left")])
def test_where_nobody_may_know(proc: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    _of_another_user(proc)

    def run(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(ports, "run", run)
    assert not ports.is_held_by(7, SOCKET, proc)


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize(
    ("command", "words"),
    [
        (b"nginx: master process\0", "`nginx: master process` (process 7)"),
        (b"python3\0-m\0http.server\0", "`python3 -m http.server` (process 7)"),
        (b"x" * 80, f"`{'x' * 80}` (process 7)"),
        (b"x" * 81, f"`{'x' * 80}...` (process 7)"),
        (b"\xff\0", "`\ufffd` (process 7)"),
        (b"", "a program (process 7)"),
    ],
)
def test_the_holder_in_words(proc: Path, command: bytes, words: str) -> None:
    _process(proc, 6, "socket:[76]")
    _process(proc, 7, "socket:[77]", command=command)
    _listening(proc, _row("0100007F", 8188, 77))
    assert ports.holder(8188, proc) == words
    assert ports.holder(8189, proc) == ""


@pytest.mark.usefixtures("little")
def test_a_holder_that_is_not_found(proc: Path) -> None:
    folder = _process(proc, 7, "socket:[77]")
    _listening(proc, _row("0100007F", 8188, 77))
    (folder / "cmdline").unlink()
    assert ports.holder(8188, proc) == "a program (process 7)"
    (folder / "fd/0").unlink()
    assert ports.holder(8188, proc) == "a program outside of this container, or of another user"
