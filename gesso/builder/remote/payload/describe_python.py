"""Print what this Python is: its path, version, implementation, machine, and libc version ("" is musl)."""

from __future__ import annotations

import json
import os
import platform
import sys


def main() -> None:
    """Print one line."""
    libc = ""
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        pass
    described = {
        "python": sys.executable,
        "version": list(sys.version_info[:3]),
        "implementation": sys.implementation.name,
        "machine": platform.machine(),
        "libc": libc.split(" ")[-1],
    }
    print("gesso-probe " + json.dumps(described))


if __name__ == "__main__":
    main()
