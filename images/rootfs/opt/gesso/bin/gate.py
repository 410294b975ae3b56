#!/opt/gesso/venv/bin/python -BESs
"""Become Caddy, unless another instance in this network namespace has the public port.

Caddy shares its port with every other Caddy (SO_REUSEPORT): two instances would each get every second request. An
abstract socket (unix(7)) belongs to the network namespace, and ends with the process that holds it.
"""

import _socket
import os
import sys

NAME = "\0gesso-gate-8188"


def hold(name):
    """Take the name for the life of this process; return False if another instance has it."""
    holder = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
    try:
        holder.bind(name)
    except OSError:
        return False
    os.set_inheritable(holder.detach(), True)  # Caddy holds it
    return True


def main(argv):
    """Become the program in `argv`."""
    if not hold(NAME):
        sys.exit("gate: another instance in this network namespace has port 8188")
    os.environ.pop("LC_CTYPE", None)  # Python's own addition (PEP 538)
    os.execvp(argv[0], argv)  # noqa: S606 - it becomes Caddy: signals reach it


if __name__ == "__main__":
    main(sys.argv[1:])
