"""Debian 13's own `docker-registry` and `cosign`: installed, or else unpacked without an installation."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gesso.builder.image.engine import debian_mirror
from gesso.settings import cache_root

SUITE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def folder(*names: str) -> Path:
    """Return a folder with these programs; skip, with a reason, if they are unavailable."""
    found = cache_root(os.environ) / "programs"
    found.mkdir(parents=True, exist_ok=True)
    missing = [name for name in names if not (found / name).exists()]
    for name in [name for name in missing if shutil.which(name)]:
        (found / name).symlink_to(str(shutil.which(name)))
        missing.remove(name)
    if missing and (result := _unpack(found, missing)):
        pytest.skip(f"NOT RUN, nothing is shown: no {' and '.join(missing)} here ({result}); install it, then again")
    return found


def _unpack(target: Path, names: list[str]) -> str:
    """Download Debian's packages of these names, verified by apt; return why not."""
    mirror = debian_mirror()
    if mirror is None or not KEYRING.is_file():
        return "this is no Debian"
    apt = target / "apt"
    for part in ("lists/partial", "archives/partial"):
        (apt / part).mkdir(parents=True, exist_ok=True)
    (apt / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror} {SUITE} main\n")
    options = {
        "Dir::Etc::sourcelist": apt / "sources.list", "Dir::Etc::sourceparts": "-", "Dir::State::Lists": apt / "lists",
        "Dir::State::status": "/dev/null", "Dir::Cache": apt, "APT::Sandbox::User": "root",
    }  # fmt: skip
    flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    for arguments in (["apt-get", *flags, "update", "-qq"], ["apt-get", *flags, "download", *names]):
        done = subprocess.run(arguments, cwd=apt, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["apt-get failed"])[-1]
    for package in apt.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(apt / "root")], check=True)
    for name in names:
        shutil.move(apt / "root" / "usr" / "bin" / name, target / name)
    shutil.rmtree(apt)
    return ""
