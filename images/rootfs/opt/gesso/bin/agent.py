"""Ask the agent on its socket, with what Python has built in: imports would cost more than the question."""

import _socket

SOCKET = "/run/gesso/agent.sock"


def connect(timeout):
    """Return a connection to the agent. Raises OSError."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
    connection.settimeout(timeout)
    connection.connect(SOCKET)
    return connection


def ask(path, timeout):
    """Return the status and the body of the answer; 0 and nothing if there is none within `timeout` seconds."""
    try:
        connection = connect(timeout)
        connection.send(b"GET %s HTTP/1.0\r\nHost: agent\r\n\r\n" % path.encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
        connection.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(None, 2)[1]), body.decode("utf-8", "replace")
    except (OSError, ValueError, IndexError):
        return 0, ""
