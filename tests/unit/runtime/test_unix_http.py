"""HTTP over a Unix socket: only its owner may connect, and a socket file left behind does not matter."""

from __future__ import annotations

import os
import stat
import threading
import time
from typing import TYPE_CHECKING

import pytest

from gesso.runtime.unix_http import UnixConnection, listen

if TYPE_CHECKING:
    import socket
    from pathlib import Path


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_only_the_owner_may_connect(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with listen(tmp_path / "s"):
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
        assert os.umask(umask) == umask, "it is as before"
    finally:
        os.umask(before)


def test_the_umask_is_restored_after_an_error(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with pytest.raises(OSError, match="No such file"), listen(tmp_path / "missing/s"):
            pass
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_a_stale_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("not a socket")
    with listen(path):
        pass
    assert stat.S_ISSOCK(path.stat().st_mode), "what a killed agent leaves"
    with listen(path) as listener:
        _exchange(path, listener)


def test_the_socket_is_closed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listen(path):
        pass
    connection = UnixConnection(path, 1.0)
    with pytest.raises(ConnectionRefusedError):
        connection.connect()
    connection.close()


def _exchange(path: Path, listener: socket.socket) -> None:
    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(9999).startswith(b"GET /state HTTP/1.1\r\nHost: localhost\r\n")
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    thread = threading.Thread(target=serve)
    thread.start()
    connection = UnixConnection(path, 10.0)
    connection.request("GET", "/state")
    assert connection.getresponse().read() == b"{}"
    connection.close()
    thread.join()


def test_a_silent_server_is_a_timeout(tmp_path: Path) -> None:
    with listen(tmp_path / "s"):
        connection = UnixConnection(tmp_path / "s", 0.05)
        connection.request("GET", "/state")
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            connection.getresponse()
        assert time.monotonic() - started < 1
        connection.close()
