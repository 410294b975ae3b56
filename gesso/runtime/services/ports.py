"""Who listens on a TCP port of this network namespace, by the kernel's tables (proc_pid_net(5))."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from gesso.errors import GessoError
from gesso.proc import run

_PROC = Path("/proc")
_LISTEN = "0A"
_LIST_TIMEOUT = 5.0  # seconds
_SHOWN = 80  # characters of a command line


@dataclass(frozen=True)
class Listener:
    """A listening socket. `inode` identifies it, also among those that succeed each other on one port."""

    address: str
    inode: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect to it."""
        address = ipaddress.ip_address(self.address)
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback


def listeners(port: int, proc: Path = _PROC) -> tuple[Listener, ...]:
    """Return the sockets that listen on a port; none where the kernel's tables are not readable."""
    found = []
    for table in ("tcp", "tcp6"):
        try:
            rows = (proc / "self" / "net" / table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            words = row.split()
            address, _, number = words[1].partition(":")
            if words[3] == _LISTEN and int(number, 16) == port:
                found.append(Listener(_address(address), int(words[9])))
    return tuple(found)


def _address(text: str) -> str:
    """Parse an address as the kernel prints it: words of 32 bits, each in the machine's byte order."""
    words = [bytes.fromhex(text[at : at + 8]) for at in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(w[::-1] if sys.byteorder == "little" else w for w in words)))


def is_held_by(pid: int, listener: Listener, proc: Path = _PROC) -> bool:
    """Return whether a process holds a listening socket; False where nobody may know."""
    links = []
    try:
        for entry in list(os.scandir(proc / str(pid) / "fd")):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                links.append(str(Path(entry.path).readlink()))
    except FileNotFoundError:
        return False
    except OSError:
        links = _links_of_another_user(pid, proc)
    return f"socket:[{listener.inode}]" in links


def _links_of_another_user(pid: int, proc: Path) -> list[str]:
    """Return what the descriptors of another user's process lead to.

    Root in a container may not read them (ptrace(2): it lacks CAP_SYS_PTRACE), but may become that user.
    """
    folder = proc / str(pid)
    try:
        owner = folder.stat()
        command = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups"]
        listed = run([*command, "ls", "-l", str(folder / "fd")], timeout=_LIST_TIMEOUT)
    except (OSError, GessoError):
        return []
    return [line.rpartition(" -> ")[2] for line in listed.stdout.splitlines()]


def holder(port: int, proc: Path = _PROC) -> str:
    """Return the program that listens on a port, for people; empty where no program does."""
    found = listeners(port, proc)
    if not found:
        return ""
    for entry in proc.iterdir():
        if entry.name.isdigit() and any(is_held_by(int(entry.name), listener, proc) for listener in found):
            return f"{_command(entry)} (process {entry.name})"
    return "a program outside of this container, or of another user"


def _command(entry: Path) -> str:
    try:
        words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        words = ""
    shown = words if len(words) <= _SHOWN else f"{words[:_SHOWN]}..."
    return f"`{shown}`" if shown else "a program"
