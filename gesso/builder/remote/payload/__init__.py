"""Programs that run on an instance without gesso: read here as text, and run there.

They run on any Python from 3.8 (probe.sh: any POSIX shell) with the standard library alone, and are never imported.
"""

from __future__ import annotations

from importlib.resources import files

MARK = "gesso-probe "  # prefix of every result line: login scripts may print others
BEGINS = "gesso-begins"  # the line after which keep.py forwards its program's output


def text(name: str) -> str:
    """Return the source of one program, such as "keep.py"."""
    return files(__name__).joinpath(name).read_text(encoding="utf-8")
