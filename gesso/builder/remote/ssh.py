"""Run commands over the system's `ssh`, with the user's configuration, agent and known hosts. Host keys are checked."""

from __future__ import annotations

import base64
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso import proc
from gesso.errors import ManifestError, PublishError
from gesso.redact import redact_urls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

FAILED = 255  # exit code of ssh's own failures
_TARGET = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]*)@)?"
    r"(?:\[(?P<six>[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9_.-]+)?)\]"
    r"|(?P<host>[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?))"
    r"(?::(?P<port>[0-9]{1,5}))?\Z",
    re.ASCII,
)
_FORMAT = "pass USER@HOST:PORT, such as root@203.0.113.9:40022, or root@[2001:db8::9]:22"


@dataclass(frozen=True)
class Target:
    """An SSH address. Without `user` or `port`, ssh's own configuration decides; `host` may be a name from it."""

    host: str
    user: str = ""
    port: int = 0

    def __str__(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{f'{self.user}@' * bool(self.user)}{shown}{f':{self.port}' * bool(self.port)}"

    @property
    def known_as(self) -> str:
        """Its name in known_hosts."""
        return f"[{self.host}]:{self.port}" if self.port not in {0, 22} else self.host


def parse(text: str) -> Target:
    """Parse USER@HOST:PORT.

    Raises ManifestError (usage) for anything else, also for what ssh could read as an option.
    """
    match = _TARGET.match(text)
    port = int((match and match["port"]) or 0)
    if match is None or port >= 1 << 16 or (match["port"] and not port):
        shown = text if text.isprintable() and len(text) < 100 else repr(text[:100])
        raise ManifestError(f"--ssh {shown}: not an SSH address", _FORMAT)
    return Target(match["six"] or match["host"], match["user"] or "", port)


def ssh_argv(target: Target, command: str, *, accept_new: bool) -> list[str]:
    """Return ssh's command line for one remote command. Pure.

    Nothing (agent, X11, ports) is forwarded to a machine that is not trusted.
    """
    options = {
        "BatchMode": "yes",  # never prompts: only the agent and keys without a passphrase are used
        "StrictHostKeyChecking": "accept-new" if accept_new else "yes",
        "ConnectTimeout": "15",
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ClearAllForwardings": "yes",
        "RequestTTY": "no",
        "RemoteCommand": "none",
        "ControlMaster": "no",  # a master would outlive the command, and keep its pipes open
        "LogLevel": "ERROR" if accept_new else "INFO",
    }
    where = [*(("-p", str(target.port)) if target.port else ()), *(("-l", target.user) if target.user else ())]
    return ["ssh", "-T", *(f"-o{key}={value}" for key, value in options.items()), *where, "--", target.host, command]


def python_command(interpreter: str, source: str, arguments: Sequence[str] = ()) -> str:
    """Return a remote command that runs `source` with a Python there, in any shell. Pure."""
    packed = base64.b64encode(source.encode()).decode()
    return shlex.join([interpreter, "-I", "-c", f"import base64;exec(base64.b64decode('{packed}'))", *arguments])


@dataclass(frozen=True)
class Connection:
    """An SSH connection to one instance. A failure of ssh itself is a PublishError with the next step."""

    target: Target
    accept_new: bool = False

    def run(
        self,
        command: str,
        *,
        stdin: bytes | Path = b"",
        interrupt_input: bytes | None = None,
        on_line: Callable[[str], None] = lambda _: None,
        on_error: Callable[[str], None] = lambda _: None,
    ) -> proc.Result:
        """Run a command there to its end; its exit code is the caller's to judge (see `proc.run_interactive`)."""
        line = ssh_argv(self.target, command, accept_new=self.accept_new)
        try:
            result = proc.run_interactive(
                line, on_line, stdin=stdin, interrupt_input=interrupt_input, on_error=on_error
            )
        except proc.MissingProgramError:
            raise PublishError(
                "ssh is not installed on this machine",
                "install the OpenSSH client (Debian: openssh-client), then run this again",
            ) from None
        if result.code == FAILED:
            raise connection_error(self.target, result.output)
        return result


def connection_error(target: Target, output: str) -> PublishError:
    """Return the error for a failure of ssh, from its output. Pure."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    last = redact_urls(lines[-1][:200]) if lines else "without a message"
    for pattern, why, step in _REASONS:
        if re.search(pattern, output, re.IGNORECASE):
            return PublishError(f"{target}: {why.format(last=last)}", step.format(known=target.known_as, target=target))
    return PublishError(f"{target}: ssh failed: {last}", "check whether plain `ssh` connects, then run this again")


_CHECK_ADDRESS = "check address and port (Vast.ai: the instance's Connect button), and that the instance is running"
_CHANGED = "rented machines reuse addresses; if that is the reason: `ssh-keygen -R '{known}'`, then run this again"
_UNKNOWN = "compare it with the provider's (`ssh {target}` shows it), or accept it with --accept-new-host-key"
_KEYS = "add your public key to the instance (Vast.ai: Keys, then the instance's SSH button); `ssh-add -l` shows yours"
_LOST = "the heal continues there by itself; run this again, which waits for it"
# A pattern of ssh's output (never translated), its meaning, and the next step. The first match counts.
_REASONS = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key has changed: another machine, or a man in the middle",
        _CHANGED,
    ),
    (r"Host key verification failed|No \S+ host key is known", "its host key is unknown", _UNKNOWN),
    (
        r"Permission denied|Too many authentication fail|supported authentication",
        "access denied: {last}",
        _KEYS,
    ),
    (r"Connection refused", "connection refused: no SSH server listens there", _CHECK_ADDRESS),
    (r"Could not resolve hostname", "no such host: {last}", "check the name"),
    (r"No route to host|Network is unreachable", "unreachable: {last}", _CHECK_ADDRESS),
    (r"kex_exchange|Connection closed by", "not an SSH server, or it closed the connection: {last}", _CHECK_ADDRESS),
    (
        r"Timeout, server .* not responding|Broken pipe|client_loop|closed by remote|Connection reset",
        "the connection was lost: {last}",
        _LOST,
    ),
    (r"timed? ?out", "no response: {last}", _CHECK_ADDRESS),
    (
        r"Bad owner or permissions|Bad configuration option|terminating",
        "error in ssh's configuration: {last}",
        "correct it",
    ),
)
