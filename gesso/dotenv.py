"""Read the three tokens from the environment, else from the project's `.env`; other variables in it are ignored.

They are passed to the task that needs them and never put into this process's environment, which every subprocess
would inherit. Nothing in the file is expanded (docs/adr/0043).
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
_MAX_BYTES = 1 << 16  # bytes
_LINE = re.compile(
    r"""(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*
        (?: '(?P<single>[^']*)' | "(?P<double>[^"\\]*)" | (?P<bare>[^'"#\s][^\s'"]*)? )
        (?:[ \t]+\#.*)? [ \t]*""",
    re.VERBOSE,
)


def with_tokens(root: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with the tokens of a project's `.env` added; the environment takes precedence.

    Raises ManifestError for an invalid line, with its number and never its text.
    """
    tokens = {name: value for name, value in read(root / NAME).items() if name in TOKENS and value}
    return {**tokens, **{name: value for name, value in env.items() if value or name not in tokens}}


def read(path: Path) -> dict[str, str]:
    """Read a file of NAME=VALUE lines; return an empty mapping if it does not exist.

    Values may be quoted; `#` begins a comment; `export` is allowed. Raises ManifestError.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ManifestError(f"{path.name}: not a regular file", "replace it with a file")
        data = path.read_bytes()
        if len(data) > _MAX_BYTES:
            raise ManifestError(f"{path.name}: {len(data):,} bytes; at most {_MAX_BYTES:,}", "see .env.example")
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
            raise ManifestError(
                f"{path.name}:{number}: not NAME=VALUE (the line is not shown here)", "see .env.example"
            )
        if match["name"] in found:
            raise ManifestError(f"{path.name}:{number}: {match['name']} is set twice", "keep one of them")
        found[match["name"]] = match["single"] or match["double"] or match["bare"] or ""
    return found
