"""SSH by the system's own `ssh`: a person's configuration, agent and known hosts count. Host keys are checked."""

from __future__ import annotations

import base64
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso import proc
from gesso.errors import ManifestError, PublishError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

FAILED = 255  # ssh's own failures
_TARGET = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]*)@)?"
    r"(?:\[(?P<six>[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9_.-]+)?)\]"
    r"|(?P<host>[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?))"
    r"(?::(?P<port>[0-9]{1,5}))?\Z",
    re.ASCII,
)
_HOW = "give USER@HOST:PORT, such as root@203.0.113.9:40022, or root@[2001:db8::9]:22"


@dataclass(frozen=True)
class Target:
    """Where to go. Without `user` or `port`, ssh's own configuration decides; `host` may be a name from it."""

    host: str
    user: str = ""
    port: int = 0

    def __str__(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{f'{self.user}@' * bool(self.user)}{shown}{f':{self.port}' * bool(self.port)}"

    @property
    def known_as(self) -> str:
        """How known_hosts calls it."""
        return f"[{self.host}]:{self.port}" if self.port not in {0, 22} else self.host


def parse(text: str) -> Target:
    """Read USER@HOST:PORT.

    Raises ManifestError (usage) for anything else; nothing that ssh could take for an option gets through.
    """
    match = _TARGET.match(text)
    port = int((match and match["port"]) or 0)
    if match is None or port >= 1 << 16 or (match["port"] and not port):
        shown = text if text.isprintable() and len(text) < 100 else repr(text[:100])
        raise ManifestError(f"--ssh {shown}: is no address", _HOW)
    return Target(match["six"] or match["host"], match["user"] or "", port)


def words(target: Target, command: str, *, accept_new: bool) -> list[str]:
    """Give ssh's command line for one remote command. Pure.

    Nothing of ours is forwarded to a machine that somebody else owns.
    """
    options = {
        "BatchMode": "yes",  # it never asks; the agent and keys without a passphrase answer
        "StrictHostKeyChecking": "accept-new" if accept_new else "yes",
        "ConnectTimeout": "15",
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ClearAllForwardings": "yes",
        "RequestTTY": "no",
        "RemoteCommand": "none",
        "ControlMaster": "no",  # a master of ours would outlive the command, and keep its pipes
        "LogLevel": "ERROR" if accept_new else "INFO",
    }
    where = [*(("-p", str(target.port)) if target.port else ()), *(("-l", target.user) if target.user else ())]
    return ["ssh", "-T", *(f"-o{key}={value}" for key, value in options.items()), *where, "--", target.host, command]


def python(interpreter: str, source: str, arguments: Sequence[str] = ()) -> str:
    """Give a remote command that runs `source` with a Python there, whatever shell reads it. Pure."""
    packed = base64.b64encode(source.encode()).decode()
    return shlex.join([interpreter, "-I", "-c", f"import base64;exec(base64.b64decode('{packed}'))", *arguments])


@dataclass(frozen=True)
class Door:
    """A way into one instance. What ssh itself cannot do is a PublishError with the next step."""

    target: Target
    accept_new: bool = False

    def run(
        self,
        command: str,
        *,
        stdin: bytes | Path = b"",
        goodbye: bytes | None = None,
        on_line: Callable[[str], None] = lambda _: None,
        on_error: Callable[[str], None] = lambda _: None,
    ) -> proc.Result:
        """Run a command there to its end; its exit code is the caller's to judge (`proc.converse` has the rest)."""
        line = words(self.target, command, accept_new=self.accept_new)
        try:
            result = proc.converse(line, on_line, stdin=stdin, goodbye=goodbye, on_error=on_error)
        except proc.MissingProgramError:
            raise PublishError(
                "there is no ssh on this machine", "install OpenSSH's client (Debian: openssh-client), then again"
            ) from None
        if result.code == FAILED:
            raise refused(self.target, result.output)
        return result


def refused(target: Target, output: str) -> PublishError:
    """Say why ssh could not, from what it printed. Pure."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    last = proc.redact(lines[-1][:200]) if lines else "it does not say why"
    for pattern, why, step in _REASONS:
        if re.search(pattern, output, re.IGNORECASE):
            return PublishError(f"{target}: {why.format(last=last)}", step.format(known=target.known_as, target=target))
    return PublishError(f"{target}: ssh failed: {last}", "see whether `ssh` alone gets there, then run this again")


_CHECK_ADDRESS = "check address and port (Vast.ai shows them under the instance's Connect button), and that it runs"
_CHANGED = "addresses are used again where machines are rented; if that is it: `ssh-keygen -R '{known}'`, then again"
_UNKNOWN = "compare it with the provider's (`ssh {target}` shows it), or trust it now with --accept-new-host-key"
_KEYS = "add your public key to the instance (Vast.ai: Keys, then the instance's SSH button); `ssh-add -l` shows yours"
_LOST = "what was begun there goes on by itself; run this again, which waits for it"
# What ssh prints (it is never translated), what it means, and what to do. The first that fits counts.
_REASONS = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is not the one that is known for this address: another machine, or somebody in between",
        _CHANGED,
    ),
    (r"Host key verification failed|No \S+ host key is known", "its host key is not known", _UNKNOWN),
    (
        r"Permission denied|Too many authentication fail|supported authentication",
        "it does not let us in: {last}",
        _KEYS,
    ),
    (r"Connection refused", "nothing listens there: connection refused", _CHECK_ADDRESS),
    (r"Could not resolve hostname", "no such host: {last}", "check the name"),
    (r"No route to host|Network is unreachable", "there is no way to it: {last}", _CHECK_ADDRESS),
    (r"kex_exchange|Connection closed by", "what listens there is no sshd, or hung up: {last}", _CHECK_ADDRESS),
    (
        r"Timeout, server .* not responding|Broken pipe|client_loop|closed by remote|Connection reset",
        "the connection was lost: {last}",
        _LOST,
    ),
    (r"timed? ?out", "it does not answer: {last}", _CHECK_ADDRESS),
    (r"Bad owner or permissions|Bad configuration option|terminating", "ssh's own configuration: {last}", "correct it"),
)
