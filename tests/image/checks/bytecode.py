"""Whether the bytecode that Python would run in a source's place is that source's. Run by the image's own Python.

    python3 -I -S -X pycache_prefix=/nowhere bytecode.py FOLDER...

prints a line for each that is not, and one with the number that was looked at. Debian's checksums vouch for that Python
(checks/debian.py); it is asked because only the same Python compiles the same, and without its own bytecode.
"""

from __future__ import annotations

import importlib.util
import marshal
import sys
import warnings
from multiprocessing import Pool
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os

_HEADER = 16  # bytes: magic, flags, then time and size of the source, or its hash (PEP 552)


def used(header: bytes, source: os.stat_result) -> bool:
    """Tell whether Python would run it unread: a time or a size that differ have it compile the source anew."""
    if header[:4] != importlib.util.MAGIC_NUMBER:
        return False
    if int.from_bytes(header[4:8], "little") & 1:
        return True
    said = (int(source.st_mtime) & 0xFFFFFFFF, source.st_size & 0xFFFFFFFF)
    return (int.from_bytes(header[8:12], "little"), int.from_bytes(header[12:], "little")) == said


def same(one: Any, other: Any) -> bool:
    """Compare code objects, or constants of such, by all that runs: the name of their file is not compared."""
    if isinstance(one, CodeType) and isinstance(other, CodeType):
        return one == other or (
            len(one.co_consts) == len(other.co_consts)
            and one.replace(co_consts=()) == other.replace(co_consts=())
            and all(map(same, one.co_consts, other.co_consts))
        )
    return type(one) is type(other) and repr(one) == repr(other)  # NaN equals nothing


def fault(cached: Path) -> str:
    """Say what is wrong with one file of bytecode; nothing where it is its source's, or would not be run."""
    try:
        path = Path(importlib.util.source_from_cache(str(cached)))
        source, whole = path.read_bytes(), cached.read_bytes()
        if not used(whole[:_HEADER], path.stat()):
            return ""
        level = int(cached.stem.rpartition(".opt-")[2]) if ".opt-" in cached.stem else 0
        made = compile(source, str(path), "exec", dont_inherit=True, optimize=level)
        return "" if same(marshal.loads(whole[_HEADER:]), made) else f"{cached}: is not what its source compiles to"
    except (OSError, ValueError, EOFError, TypeError, SyntaxError, RecursionError) as error:
        return f"{cached}: {type(error).__name__}: {error}"


def main(folders: list[str]) -> None:
    """Look at all that lies below these folders."""
    warnings.simplefilter("ignore")  # what a compiler says of other people's code
    found = sorted(path for folder in folders for path in Path(folder).rglob("*.pyc"))
    with Pool() as pool:
        lines = [line for line in pool.imap(fault, found, chunksize=64) if line]
    sys.stdout.write("\n".join([*lines, f"{len(found)} looked at"]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
