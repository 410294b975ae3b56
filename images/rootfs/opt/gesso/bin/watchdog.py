#!/opt/gesso/venv/bin/python -BESs
"""End an agent that does not react, so that supervisord restarts it: a frozen one would delay every request for ever.

An event listener of supervisord (supervisord.org/events.html): READY, then an event every five seconds, each answered.
An agent that ended is not its business, nor one that is not up yet.
"""

import _socket
import os
import struct
import sys

sys.path.append(f"/opt/gesso/venv/lib/python3.{sys.version_info[1]}/site-packages")  # -S: without the rest of site

from gesso.runtime import agent_client

TIMEOUT = 4.0  # seconds
MAX_MISSED = 3  # answers in a row
SIGKILL = 9


def pid_of_agent(known):
    """Return the process that listens on the agent's socket; 0 if none does.

    A frozen process still accepts, until its queue is full; it is then still the `known` one.
    """
    try:
        connection = agent_client.connect(TIMEOUT)
        credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        connection.close()
        return struct.unpack("3i", credentials)[0]
    except BlockingIOError:
        return known
    except OSError:
        return 0


class Watchdog:
    """Counts the missed answers of the agent's current process."""

    def __init__(self):
        self.pid, self.missed = 0, 0

    def check(self, pid, answers):
        """Return the process to kill; 0 for none. `answers` asks the agent, and is called only if it listens."""
        if pid != self.pid:
            self.pid, self.missed = pid, 0
        if not pid or answers():
            self.missed = 0
            return 0
        self.missed += 1
        return pid if self.missed >= MAX_MISSED else 0


def main():
    """Handle events until supervisord ends."""
    watchdog = Watchdog()
    while True:
        sys.stdout.write("READY\n")
        sys.stdout.flush()
        header = sys.stdin.readline()
        if not header:
            return
        length = dict(word.split(":") for word in header.split())["len"]
        sys.stdin.read(int(length))
        pid = watchdog.check(pid_of_agent(watchdog.pid), lambda: agent_client.ask("/alive", TIMEOUT)[0] == 200)
        if pid:
            sys.stderr.write(f"watchdog: the agent (process {pid}) does not react; it is killed and restarted\n")
            sys.stderr.flush()
            os.kill(pid, SIGKILL)
            watchdog.missed = 0
        sys.stdout.write("RESULT 2\nOK")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
