"""Check that the bytecode that Python would run instead of a source is that source's. Run by the image's own Python.

    python3 -I -S -X pycache_prefix=/nowhere bytecode.py FOLDER...

prints a line for each that differs, and one with the number of checked files. Debian's checksums prove that Python
(checks/debian.py); it is used because only the same Python compiles to the same, and runs without its own bytecode.
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
    """Return whether Python would run it unchecked: if time or size differ, Python recompiles the source."""
    if header[:4] != importlib.util.MAGIC_NUMBER:
        return False
    if int.from_bytes(header[4:8], "little") & 1:
        return True
    current = (int(source.st_mtime) & 0xFFFFFFFF, source.st_size & 0xFFFFFFFF)
    return (int.from_bytes(header[8:12], "little"), int.from_bytes(header[12:], "little")) == current


def same(one: Any, other: Any) -> bool:
    """Compare code objects, or their constants, by everything that runs: their file names are not compared."""
    if isinstance(one, CodeType) and isinstance(other, CodeType):
        return one == other or (
            len(one.co_consts) == len(other.co_consts)
            and one.replace(co_consts=()) == other.replace(co_consts=())
            and all(map(same, one.co_consts, other.co_consts))
        )
    return type(one) is type(other) and repr(one) == repr(other)  # NaN equals nothing


def fault(cached: Path) -> str:
    """Return what is wrong with one file of bytecode; "" if it is its source's, or would not be run."""
    try:
        path = Path(importlib.util.source_from_cache(str(cached)))
        source, bytecode = path.read_bytes(), cached.read_bytes()
        if not used(bytecode[:_HEADER], path.stat()):
            return ""
        level = int(cached.stem.rpartition(".opt-")[2]) if ".opt-" in cached.stem else 0
        compiled = compile(source, str(path), "exec", dont_inherit=True, optimize=level)
        return "" if same(marshal.loads(bytecode[_HEADER:]), compiled) else f"{cached}: its source compiles differently"
    except (OSError, ValueError, EOFError, TypeError, SyntaxError, RecursionError) as error:
        return f"{cached}: {type(error).__name__}: {error}"


def main(folders: list[str]) -> None:
    """Check all bytecode below these folders."""
    warnings.simplefilter("ignore")  # compilers warn about other people's code
    found = sorted(path for folder in folders for path in Path(folder).rglob("*.pyc"))
    with Pool() as pool:
        lines = [line for line in pool.imap(fault, found, chunksize=64) if line]
    sys.stdout.write("\n".join([*lines, f"{len(found)} checked"]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
