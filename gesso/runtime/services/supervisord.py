"""supervisord asked and told over its socket: which programs run, since when, and that one should be started again.

Its own client would bring its whole package into the agent; the protocol is XML-RPC, which Python speaks.
"""

from __future__ import annotations

import http.client
import os
import socket
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.parsers.expat import ExpatError

from gesso.errors import CheckError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gesso.runtime.layout import Layout

_TIMEOUT = 5.0  # seconds
_MARKS = "SUPERVISOR_"  # what supervisord adds to the environment of its children
_NEXT = "restart the instance"


def unmarked(env: Mapping[str, str]) -> list[str]:
    """Give the words before a command that is to outlive the supervisor: a boot ends what has its marks."""
    return ["env", *(word for name in sorted(env) if name.startswith(_MARKS) for word in ("-u", name))]


@dataclass(frozen=True)
class Program:
    """One supervised program; `state` in supervisord's words, `start` in seconds since the epoch."""

    name: str
    state: str
    pid: int
    start: int
    said: str = ""

    @property
    def life(self) -> tuple[int, int]:
        """What tells one life of it from the next."""
        return self.pid, self.start


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def environment_of(layout: Layout, proc: Path = Path("/proc")) -> dict[str, str]:
    """Give the environment that the instance was started with: a later SSH session has another.

    Nothing where no supervisor runs, or where we may not know.
    """
    try:
        pid = (layout.run / "supervisord.pid").read_text(encoding="ascii").strip()
        raw = (proc / str(int(pid)) / "environ").read_bytes()
    except (OSError, ValueError):
        return {}
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if b"=" in entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


@dataclass(frozen=True)
class Supervisor:
    """The door to a supervisord."""

    path: Path

    def programs(self) -> dict[str, Program]:
        """Give every program by name.

        Raises CheckError where no supervisord answers.
        """
        return {
            row["name"]: Program(row["name"], row["statename"], row["pid"], row["start"], row["spawnerr"])
            for row in self._call("supervisor.getAllProcessInfo")
        }

    def start(self, name: str) -> None:
        """Start a program that was given up, without waiting for it.

        Raises CheckError where that is refused.
        """
        self._call("supervisor.startProcess", name, False)

    def stop(self, name: str) -> None:
        """Have a program stopped, without waiting for its end.

        Raises CheckError where that is refused.
        """
        self._call("supervisor.stopProcess", name, False)

    def end(self, name: str) -> None:
        """Ask a running program to end; it is started again at once.

        Raises CheckError where that is refused.
        """
        self._call("supervisor.signalProcess", name, "TERM")

    def _call(self, method: str, *words: Any) -> Any:
        connection = _Unix(self.path)
        try:
            connection.request("POST", "/RPC2", xmlrpc.client.dumps(words, method), {"Content-Type": "text/xml"})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != http.client.OK:
                raise CheckError(f"supervisord answers {answer.status}", _NEXT)
            found, _ = xmlrpc.client.loads(body.decode())
        except (OSError, http.client.HTTPException) as error:
            raise CheckError(f"supervisord does not answer: {error}", _NEXT) from None
        except (xmlrpc.client.Error, ExpatError, ValueError) as error:
            raise CheckError(f"supervisord: {error}", _NEXT) from None
        finally:
            connection.close()
        return found[0]
