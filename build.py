#!/usr/bin/env python3
"""Build gesso images with nothing but Python: create .venv on first use, check for an engine, then run invoke.

python3 build.py --arch sdxl --trial     build (or any invoke task: test, lock, check, ...)
python3 build.py --list                  list the tasks
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
    """Create .venv where needed, then run invoke."""
    if sys.version_info < (3, 11):
        print(f"gesso: Python {sys.version.split()[0]} is too old; 3.11 or newer is required", file=sys.stderr)
        print("  next: run this with a newer Python, such as python3.13 build.py", file=sys.stderr)
        return 2
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        arguments = ["--list"]
    elif arguments[0].startswith("-") and arguments[0] not in ("-l", "--list", "-V", "--version"):
        arguments = ["build", *arguments]
    try:
        make_venv()
        os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        on_an_image = any(argument.startswith(("--arch", "-a", "--registry")) for argument in arguments)
        if arguments[0] == "build" or (arguments[0] == "test" and on_an_image):
            done = subprocess.run([BIN / "python", "-m", "gesso.builder.image.bring_up"], cwd=ROOT, check=False)
            if done.returncode:
                return done.returncode
        return subprocess.run([BIN / "invoke", *arguments], cwd=ROOT, check=False).returncode
    except KeyboardInterrupt:
        return 130


def make_venv() -> None:
    """Install manifests/locks/builder.lock.txt into .venv, again after each change of it."""
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
            print(f"gesso: .venv could not be prepared: {' '.join(map(str, step[:5]))} exited with {done.returncode}",
                  file=sys.stderr)  # fmt: skip
            print("  next: check network and proxy (PIP_INDEX_URL, UV_DEFAULT_INDEX, SSL_CERT_FILE), then retry;",
                  "on Debian, install the package python3-venv", file=sys.stderr)  # fmt: skip
            sys.exit(6)
    STAMP.write_text(digest)


if __name__ == "__main__":
    sys.exit(main())
