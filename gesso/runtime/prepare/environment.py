"""What later SSH sessions should know, in /etc/environment: Docker's variables do not reach them by themselves.

Chosen by name, not left out by name: a secret that nobody thought of stays out. Everybody in the container, and every
child of every session, can read that file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FILE = Path("/etc/environment")
_NAMES = re.compile(
    r"LANG|PATH|VIRTUAL_ENV|MPLCONFIGDIR|(PIP|UV)_(CONSTRAINT|NO_CACHE|NO_CACHE_DIR|INDEX_URL|DEFAULT_INDEX)"
    r"|PUBLIC_IPADDR|VAST_TCP_PORT_\d+|VAST_CONTAINERLABEL|CONTAINER_ID|GPU_COUNT|DATA_DIRECTORY"
    r"|HF_ENDPOINT|HF_HOME|NVIDIA_\w+|CUDA_\w+|LD_LIBRARY_PATH|GESSO_COMFY_ARGS|GESSO_ADMIN_ORIGIN"
)
_SECRET = re.compile(r"TOKEN|SECRET|PASS|CREDENTIAL|(?<!COMFY)_KEY\Z|\AKEY_", re.IGNORECASE)
_CREDENTIALS = re.compile(r"://[^/\s]*@")
_BEGIN, _END = "# gesso: begin", "# gesso: end"


def chosen(env: Mapping[str, str]) -> dict[str, str]:
    """Give what a session may know; nothing that is a secret by its name or has one in it."""
    return {
        name: value
        for name, value in sorted(env.items())
        if _NAMES.fullmatch(name)
        and not _SECRET.search(name)
        and not _CREDENTIALS.search(value)
        and not re.search(r"[\n\r\0\"']", value)
    }


def written(before: str, env: Mapping[str, str]) -> str:
    """Give the file's new text: other people's lines stay, ours are made anew."""
    kept = without_ours(before)
    if kept and not kept.endswith("\n"):
        kept += "\n"
    lines = [f'{name}="{value}"\n' for name, value in chosen(env).items()]
    return f"{kept}{_BEGIN}\n{''.join(lines)}{_END}\n"


def without_ours(before: str) -> str:
    """Give the lines that are other people's."""
    return re.sub(rf"^{_BEGIN}$.*?^{_END}$\n?", "", before, flags=re.MULTILINE | re.DOTALL)


def keep(env: Mapping[str, str], say: Callable[[str], None], path: Path = FILE) -> None:
    """Write it. An instance works without: a failure is said, and is none."""
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        text = written(before, env)
        if text != before:
            new = path.with_name(f".{path.name}.gesso")
            new.write_text(text, encoding="utf-8")
            new.chmod(0o644)
            new.replace(path)
    except (OSError, UnicodeDecodeError) as error:
        say(f"gesso: {path} not written: {error}")
