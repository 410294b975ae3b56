"""Ask the agent on its socket, with what Python has built in: imports would cost more than the question.

For the HEALTHCHECK, the watchdog and the short commands; health.py is the client for everything else.
"""

import _socket
import os

TYPE_CHECKING = False  # as typing has it, which takes as long to import as all of this
if TYPE_CHECKING:
    from collections.abc import Iterator


def _sockets() -> "Iterator[str]":
    """Yield where the agent may listen: the supervisor names it; others have to look, as layout.find_layout does."""
    if run := os.environ.get("GESSO_RUN"):
        yield f"{run}/agent.sock"
    yield "/run/gesso/agent.sock"
    yield f"/dev/shm/gesso-{os.geteuid()}/agent.sock"  # noqa: S108 - in a folder that belongs to this user


def connect(timeout: float) -> "_socket.socket":
    """Return a connection to the agent, with a time limit in seconds for each step. Raises OSError."""
    for path in _sockets():
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
        connection.settimeout(timeout)
        try:
            connection.connect(path)
        except (FileNotFoundError, ConnectionRefusedError, PermissionError):
            connection.close()
            continue
        return connection
    raise FileNotFoundError("agent.sock")


def ask(path: str, timeout: float) -> tuple[int, str]:
    """Return the status and the body of an answer; 0 and nothing if there is none within `timeout` seconds."""
    try:
        connection = connect(timeout)
        try:
            connection.send(f"GET {path} HTTP/1.0\r\nHost: agent\r\n\r\n".encode())
            answer = b""
            while part := connection.recv(65536):
                answer += part
        finally:
            connection.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(None, 2)[1]), body.decode("utf-8", "replace")
    except (OSError, ValueError, IndexError):
        return 0, ""
