#!/usr/bin/env python3
"""Build gesso images with nothing but Python: makes .venv on first use, sees that an engine is there, then runs invoke.

python3 build.py --arch sdxl --trial     build (any invoke task may stand first: test, lock, check, ...)
python3 build.py --list                  name the tasks
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
LOCKS = ROOT / "manifests" / "locks"
STAMP = VENV / "gesso-stamp"


def main() -> int:
    """Prepare what is missing, then hand over."""
    if sys.version_info < (3, 11):
        print(f"gesso: Python {sys.version.split()[0]} is too old; 3.11 or newer is needed", file=sys.stderr)
        print("  next: run this with a newer Python, such as python3.13 build.py", file=sys.stderr)
        return 2
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        words = ["--list"]
    elif words[0].startswith("-") and words[0] not in ("-l", "--list", "-V", "--version"):
        words = ["build", *words]
    try:
        make_venv()
        os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        on_an_image = any(w.startswith(("--arch", "-a", "--registry")) for w in words)
        if words[0] == "build" or (words[0] == "test" and on_an_image):
            done = subprocess.run([BIN / "python", "-m", "gesso.builder.image.bring_up"], cwd=ROOT, check=False)
            if done.returncode:
                return done.returncode
        return subprocess.run([BIN / "invoke", *words], cwd=ROOT, check=False).returncode
    except KeyboardInterrupt:
        return 130


def make_venv() -> None:
    """Install exactly what manifests/locks/builder.lock.txt says, once for each state of it."""
    inputs = [LOCKS / "builder.lock.txt", LOCKS / "tools.lock.txt", ROOT / "pyproject.toml"]
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in inputs) + str(ROOT).encode()).hexdigest()
    if STAMP.is_file() and STAMP.read_text() == digest:
        return
    print("gesso: preparing .venv (once, about half a minute)", file=sys.stderr, flush=True)
    uv: list[str | Path] = [BIN / "python", "-m", "uv", "pip", "install", "--quiet"]
    steps: list[list[str | Path]] = [
        [sys.executable, "-m", "venv", VENV],
        [
            BIN / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--require-hashes",
            "-r",
            LOCKS / "tools.lock.txt",
        ],
        [*uv, "--require-hashes", "-r", LOCKS / "builder.lock.txt"],
        [*uv, "--no-deps", "--no-build-isolation", "--editable", ROOT],
    ]
    for step in steps:
        done = subprocess.run(
            step, cwd=ROOT, stdout=sys.stderr, check=False, env={**os.environ, "VIRTUAL_ENV": str(VENV)}
        )
        if done.returncode:
            print(f"gesso: .venv could not be prepared: {' '.join(map(str, step[:5]))} ended with {done.returncode}",
                  file=sys.stderr)  # fmt: skip
            print("  next: check network and proxy (PIP_INDEX_URL, UV_DEFAULT_INDEX, SSL_CERT_FILE), then again;",
                  "Debian keeps venv in the package python3-venv", file=sys.stderr)  # fmt: skip
            sys.exit(6)
    STAMP.write_text(digest)


if __name__ == "__main__":
    sys.exit(main())
