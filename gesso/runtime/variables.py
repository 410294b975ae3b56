"""Environment variables: which of an instance's programs get which.

Secrets do not reach ComfyUI, its node packs, Caddy and the supervisor: `gesso boot` writes the whole environment to a
file that only gesso's own commands read, and starts the supervisor without them (docs/adr/0052).
"""

from __future__ import annotations

import json
import os
import pwd
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gesso import small_files
from gesso.errors import CheckError
from gesso.redact import is_secret_variable
from gesso.runtime import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gesso.runtime.layout import Layout

RUN, LOGS = "GESSO_RUN", "GESSO_LOGS"  # what supervisord.conf names: set by the boot
PASSED = "GESSO_COMFY_ENV"  # names of secret variables that ComfyUI and its node packs get anyway
MARKER_PREFIX = "SUPERVISOR_"  # prefix of the variables that supervisord sets for its children
_NAME = re.compile(r"(?:^|.*_)(?:KEY|PASS|PAT|DSN)\Z", re.IGNORECASE)  # besides those that `redact` knows
_VALUE = re.compile(r"://[^/\s]*@|PRIVATE KEY-----")
_PROXY = re.compile(r"(?:HTTP|HTTPS|ALL|NO)_PROXY\Z", re.IGNORECASE)
_INSTALLER = re.compile(r"(?:PIP|UV)_|(?:HTTP|HTTPS|ALL|NO)_PROXY\Z", re.IGNORECASE)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_USER = "gesso"  # name of a user without an entry in /etc/passwd
_PROBE = bytes(4096)


def is_private(name: str, value: str) -> bool:
    """Return whether a variable is or contains a secret: by its name, as a URL with a password, or as a private key."""
    return is_secret_variable(name) or _NAME.match(name) is not None or _VALUE.search(value) is not None


def public(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are no secret. Pure."""
    return {name: value for name, value in env.items() if not is_private(name, value)}


def private_values(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of all secrets, for redaction. Pure."""
    return tuple(sorted({value for name, value in env.items() if value and is_private(name, value)}))


def store(layout: Layout, env: Mapping[str, str]) -> None:
    """Write the environment for gesso's own commands. Raises OSError."""
    atomic.write_bytes(layout.environment, json.dumps(dict(env)).encode(), 0o600)


def stored(layout: Layout) -> dict[str, str]:
    """Return the environment that the instance was started with: a later SSH session has a different one.

    Empty if there is none, or if it is not readable by this user.
    """
    try:
        found = small_files.read_json(layout.environment)
    except (OSError, ValueError, RecursionError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: value for name, value in pairs if isinstance(value, str)}


def full(layout: Layout, env: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with that of the instance below it. For use in memory only."""
    return {**stored(layout), **env}


def for_comfyui(layout: Layout, env: Mapping[str, str]) -> dict[str, str]:
    """Return ComfyUI's environment: no secrets, except those that GESSO_COMFY_ENV names."""
    every = full(layout, env)
    names = re.split(r"[\s,]+", every.get(PASSED, ""))
    return {**public(env), **{name: every[name] for name in names if name in every}}


def for_installer(env: Mapping[str, str]) -> dict[str, str]:
    """Return pip's environment: no secrets, except in its own settings and in those of the proxy. Pure."""
    return {**public(env), **{name: value for name, value in env.items() if _INSTALLER.match(name)}}


def for_boot(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a new boot, without what the last one and its supervisor added. Pure."""
    return {n: v for n, v in env.items() if not n.startswith(MARKER_PREFIX) and n not in {RUN, LOGS}}


def adopt_proxies(env: Mapping[str, str]) -> None:
    """Set the proxies of `env` for this process: Python's own functions read them from there."""
    for name, value in env.items():
        if _PROXY.match(name):
            os.environ.setdefault(name, value)


def completed(layout: Layout, env: Mapping[str, str]) -> dict[str, str]:
    """Add what programs rely on and a container may lack: PATH, a home, a user's name, a folder for temporary files.

    Raises CheckError if a folder for them cannot be created.
    """
    found = {"PATH": _PATH, **env, RUN: str(layout.run), LOGS: str(layout.logs)}
    try:
        if not _is_writable(found.get("HOME", "")):
            layout.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            found["HOME"] = str(layout.home)
        if not _has_space(found.get("TMPDIR", "/tmp")):  # noqa: S108 - the default of every program
            layout.temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
            found["TMPDIR"] = str(layout.temporary)
    except OSError as error:
        raise CheckError(f"{error.filename}: {error.strerror}", f"make room in {layout.workspace}") from None
    if not _has_name(os.geteuid()):
        found = {"USER": _USER, "LOGNAME": _USER, **found}
    return found


def _is_writable(folder: str) -> bool:
    return folder not in {"", "/"} and Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _has_space(folder: str) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(_PROBE)
    except OSError:
        return False
    return True


def _has_name(user: int) -> bool:
    try:
        pwd.getpwuid(user)
    except KeyError:
        return False
    return True
