"""Client for supervisord's socket: list, start, stop and signal programs.

supervisord's own client would load its whole package into the agent; the protocol is XML-RPC, in the standard library.
"""

from __future__ import annotations

import http.client
import xmlrpc.client
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.parsers.expat import ExpatError

from gesso.errors import CheckError
from gesso.runtime.unix_http import UnixConnection
from gesso.runtime.variables import MARKER_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TIMEOUT = 5.0  # seconds
_NEXT = "restart the instance"
GROUP = "instance"  # in supervisord.conf: its programs stop at the same time
GROUPED = frozenset({"agent", "gate", "comfyui", "log"})


def unset_markers(env: Mapping[str, str]) -> list[str]:
    """Return an `env -u …` prefix for a command that outlives the supervisor: a boot ends what has its variables."""
    return ["env", *(word for name in sorted(env) if name.startswith(MARKER_PREFIX) for word in ("-u", name))]


@dataclass(frozen=True)
class Program:
    """One supervised program; `state` as supervisord names it, `start` in seconds since the epoch."""

    name: str
    state: str
    pid: int
    start: int
    error: str = ""

    @property
    def run_id(self) -> tuple[int, int]:
        """Identifies one run of the program."""
        return self.pid, self.start


def _full_name(name: str) -> str:
    return f"{GROUP}:{name}" if name in GROUPED else name


@dataclass(frozen=True)
class Supervisor:
    """Client for a supervisord."""

    path: Path

    def programs(self) -> dict[str, Program]:
        """Return every program by name.

        Raises CheckError if supervisord does not answer.
        """
        return {
            row["name"]: Program(row["name"], row["statename"], row["pid"], row["start"], row["spawnerr"])
            for row in self._call("supervisor.getAllProcessInfo")
        }

    def start(self, name: str) -> None:
        """Start a stopped or failed program without waiting for it.

        Raises CheckError if supervisord refuses.
        """
        self._call("supervisor.startProcess", _full_name(name), False)

    def stop(self, name: str) -> None:
        """Stop a program without waiting for its end.

        Raises CheckError if supervisord refuses.
        """
        self._call("supervisor.stopProcess", _full_name(name), False)

    def terminate(self, name: str) -> None:
        """Send SIGTERM to a running program; supervisord restarts it at once.

        Raises CheckError if supervisord refuses.
        """
        self._call("supervisor.signalProcess", _full_name(name), "TERM")

    def kill(self, name: str) -> None:
        """Send SIGKILL to a running program that does not react; supervisord restarts it at once.

        Raises CheckError if supervisord refuses.
        """
        self._call("supervisor.signalProcess", _full_name(name), "KILL")

    def _call(self, method: str, *args: Any) -> Any:
        connection = UnixConnection(self.path, _TIMEOUT)
        try:
            connection.request("POST", "/RPC2", xmlrpc.client.dumps(args, method), {"Content-Type": "text/xml"})
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
