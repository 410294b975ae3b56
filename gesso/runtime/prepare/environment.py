"""Variables for later SSH sessions, in /etc/environment: Docker's variables do not reach them otherwise.

An allowlist, not a blocklist: an unknown secret stays out. Everybody in the container, and every child of every
session, can read that file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FILE = Path("/etc/environment")
_ALLOWED = re.compile(
    r"LANG|PATH|VIRTUAL_ENV|MPLCONFIGDIR|(PIP|UV)_(CONSTRAINT|NO_CACHE|NO_CACHE_DIR|INDEX_URL|DEFAULT_INDEX)"
    r"|PUBLIC_IPADDR|VAST_TCP_PORT_\d+|VAST_CONTAINERLABEL|CONTAINER_ID|GPU_COUNT|DATA_DIRECTORY"
    r"|HF_ENDPOINT|HF_HOME|NVIDIA_\w+|CUDA_\w+|LD_LIBRARY_PATH|GESSO_COMFY_ARGS|GESSO_ADMIN_ORIGIN|GESSO_PUBLIC_URL"
)
_SECRET = re.compile(r"TOKEN|SECRET|PASS|CREDENTIAL|(?<!COMFY)_KEY\Z|\AKEY_", re.IGNORECASE)
_CREDENTIALS = re.compile(r"://[^/\s]*@")
_BEGIN, _END = "# gesso: begin", "# gesso: end"


def allowed(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a session may see; none that is or contains a secret."""
    return {
        name: value
        for name, value in sorted(env.items())
        if _ALLOWED.fullmatch(name)
        and not _SECRET.search(name)
        and not _CREDENTIALS.search(value)
        and not re.search(r"[\n\r\0\"']", value)
    }


def updated(before: str, env: Mapping[str, str]) -> str:
    """Return the file's new text: other lines stay, the gesso block is replaced."""
    rest = without_block(before)
    if rest and not rest.endswith("\n"):
        rest += "\n"
    lines = [f'{name}="{value}"\n' for name, value in allowed(env).items()]
    return f"{rest}{_BEGIN}\n{''.join(lines)}{_END}\n"


def without_block(before: str) -> str:
    """Return the text without the gesso block."""
    return re.sub(rf"^{_BEGIN}$.*?^{_END}$\n?", "", before, flags=re.MULTILINE | re.DOTALL)


def write(env: Mapping[str, str], on_progress: Callable[[str], None], path: Path = FILE) -> None:
    """Write the file. A failure is only reported: an instance works without it."""
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        text = updated(before, env)
        if text != before:
            new = path.with_name(f".{path.name}.gesso")
            new.write_text(text, encoding="utf-8")
            new.chmod(0o644)
            new.replace(path)
    except (OSError, UnicodeDecodeError) as error:
        on_progress(f"gesso: {path} not written: {error}")
