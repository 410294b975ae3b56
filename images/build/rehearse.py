"""Start ComfyUI once during the build: check that it and every node pack import, and compile their bytecode."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HOME = Path("/opt/ComfyUI")


def main() -> int:
    """Return 0 if everything imported; otherwise print what failed and return 1."""
    scratch = Path(tempfile.mkdtemp())
    folders = ("user", "temp", "input", "output", "models")
    options = [argument for name in folders for argument in (f"--{name}-directory", str(scratch / name))]
    for name in folders:
        (scratch / name).mkdir()
    command = [sys.executable, "main.py", "--cpu", "--quick-test-for-ci", "--disable-auto-launch", *options]
    # Packages write caches and identifiers to the home and temp folders: none of that belongs in an image.
    env = {**os.environ, "HOME": str(scratch), "TMPDIR": str(scratch), "XDG_CACHE_HOME": str(scratch)}
    done = subprocess.run(command, cwd=HOME, env=env, capture_output=True, text=True, errors="replace", check=False)
    shutil.rmtree(scratch)
    output = done.stdout + done.stderr
    failed = [line for line in output.splitlines() if "IMPORT FAILED" in line]
    if done.returncode == 0 and not failed:
        return 0
    print(output[-6000:])
    print("gesso: ComfyUI does not start in this image" if done.returncode else "gesso: node packs do not import:")
    print(*failed, sep="\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
