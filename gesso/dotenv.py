"""Tokens from the environment, else from the project's `.env`: these three, and nothing else that stands in it.

They are given to the one task that needs them and never put into this process's environment, which every program that
is started would inherit. The file is read as it stands: nothing in it is expanded (docs/adr/0043).
"""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING

from gesso.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME = ".env"
TOKENS = ("VAST_API_KEY", "HF_TOKEN", "CIVITAI_TOKEN")
_MOST = 1 << 16  # bytes
_LINE = re.compile(
    r"""(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*
        (?: '(?P<single>[^']*)' | "(?P<double>[^"\\]*)" | (?P<bare>[^'"#\s][^\s'"]*)? )
        (?:[ \t]+\#.*)? [ \t]*""",
    re.VERBOSE,
)


def with_tokens(root: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Give the environment with the tokens of a project's `.env`; what the environment sets itself counts first.

    Raises ManifestError, with the line and never with its value, for what cannot be read.
    """
    kept = {name: value for name, value in read(root / NAME).items() if name in TOKENS and value}
    return {**kept, **{name: value for name, value in env.items() if value or name not in kept}}


def read(path: Path) -> dict[str, str]:
    """Read a file of NAME=VALUE lines; a missing one is empty.

    Values may stand in quotes; `#` begins a comment; `export` is allowed. Raises ManifestError.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ManifestError(f"{path.name}: is no file", "remove it, or make it one")
        data = path.read_bytes()
        if len(data) > _MOST:
            raise ManifestError(f"{path.name}: {len(data):,} bytes are no settings", "see .env.example")
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ManifestError(f"{path.name}: {error.strerror}", "make it readable") from None
    except UnicodeDecodeError:
        raise ManifestError(f"{path.name}: not UTF-8", "save it as UTF-8") from None
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not (stripped := line.strip()) or stripped.startswith("#"):
            continue
        if (match := _LINE.fullmatch(stripped)) is None:
            raise ManifestError(f"{path.name}:{number}: is no NAME=VALUE (it is not shown here)", "see .env.example")
        if match["name"] in found:
            raise ManifestError(f"{path.name}:{number}: {match['name']} stands in it twice", "leave one of them")
        found[match["name"]] = match["single"] or match["double"] or match["bare"] or ""
    return found
