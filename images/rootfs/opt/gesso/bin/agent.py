"""Ask the agent on its socket, with what Python has built in: imports would cost more than the question."""

import _socket
import os


def folders():
    """Return where the run folder may be: the supervisor names it; a HEALTHCHECK has to look."""
    return [os.environ.get("GESSO_RUN") or "/run/gesso", f"/dev/shm/gesso-{os.geteuid()}"]  # noqa: S108 - the rule of layout.find_layout


def connect(timeout):
    """Return a connection to the agent. Raises OSError."""
    for folder in folders():
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
        connection.settimeout(timeout)
        try:
            connection.connect(f"{folder}/agent.sock")
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            continue
        return connection
    raise FileNotFoundError("agent.sock")


def ask(path, timeout):
    """Return the status and the body of the answer; 0 and nothing if there is none within `timeout` seconds."""
    try:
        connection = connect(timeout)
        try:
            connection.send(b"GET %s HTTP/1.0\r\nHost: agent\r\n\r\n" % path.encode())
            answer = b""
            while part := connection.recv(65536):
                answer += part
        finally:
            connection.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(None, 2)[1]), body.decode("utf-8", "replace")
    except (OSError, ValueError, IndexError):
        return 0, ""
