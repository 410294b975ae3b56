"""An instance not created by gesso: plain Debian, a venv, the stand-in for ComfyUI, an sshd. No gesso, no gate."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from .options import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Instance

PYTHON = "/root/venv/bin/python"
COMFYUI = "/root/ComfyUI"
LOG = "/root/comfyui.log"
DOCKERFILE = """\
FROM {base}
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
 openssh-server python3 python3-venv && rm -rf /var/lib/apt/lists/*
COPY --from={trial} /opt/venv /root/venv
COPY --from={trial} /opt/ComfyUI /root/ComfyUI
COPY --from={trial} /opt/gesso/mirror /srv/mirror
COPY old.whl /srv/{wheel}
RUN rm -rf /root/ComfyUI/custom_nodes/comfyui-tooling-nodes && mkdir -p /root/ComfyUI/models/checkpoints \
 /root/ComfyUI/user && mkdir -p /run/sshd && touch /srv/marker
"""
# The mirror simulates the internet: the trial's models are fetched from there.
MIRROR = "python3 /srv/mirror/mirror --root /srv/mirror/files --port 18190"
ENTRY = f"/usr/sbin/sshd; {MIRROR} >/dev/null 2>&1 & exec sleep infinity"
NOHUP = f"cd {COMFYUI} && TOKEN_OF_MINE=kept nohup {PYTHON} main.py --port 8188 --cpu >> {LOG} 2>&1 &"


def old_sqlalchemy(folder: Path) -> Path:
    """Return a wheel of SQLAlchemy 1.4.54: the real one without its C code, or a fake if no index has it."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-binary", ":all:", "-w", str(folder)]
    subprocess.run(
        [*command, "sqlalchemy==1.4.54"], check=False, capture_output=True, env={**os.environ, "CC": "/bin/false"}
    )
    target = folder / "sqlalchemy-1.4.54-py3-none-any.whl"
    for built in folder.glob("*.whl"):
        return built.rename(target)
    info = "sqlalchemy-1.4.54.dist-info"
    files = {
        "sqlalchemy/__init__.py": "__version__ = '1.4.54'\n",
        "sqlalchemy/orm.py": "Session = None\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: sqlalchemy\nVersion: 1.4.54\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(target, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    return target


def context(base: str, trial: str, wheel: Path) -> io.BytesIO:
    """Return the build context of that instance."""
    text = DOCKERFILE.format(base=base, trial=trial, wheel=wheel.name).encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in (("Dockerfile", text), ("old.whl", wheel.read_bytes())):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    archive.seek(0)
    return archive


@dataclass
class Foreign:
    """A running instance, and `invoke heal` from outside, with its own key and known hosts."""

    instance: Instance
    folder: Path
    wheel: str
    environ: str = ""  # of the ComfyUI that was started manually

    @property
    def address(self) -> str:
        self.instance.container.reload()
        ports: dict[str, Any] = self.instance.container.ports
        return f"root@127.0.0.1:{ports['22/tcp'][0]['HostPort']}"

    def prepare(self) -> None:
        """Create a key, authorize it, and point `ssh` to its own settings."""
        key, config, program = (self.folder / name for name in ("key", "config", "bin/ssh"))
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        public = key.with_suffix(".pub").read_text().strip()
        self.instance.run(f"mkdir -p -m 700 /root/.ssh && echo '{public}' > /root/.ssh/authorized_keys")
        config.write_text(f"IdentityFile {key}\nIdentitiesOnly yes\nUserKnownHostsFile {self.folder}/known\n")
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {config} "$@"\n')
        program.chmod(0o755)

    def command(self, *flags: str) -> tuple[list[str], dict[str, str]]:
        command = [sys.executable, "-m", "invoke", "heal", "--ssh", self.address, *flags]
        return command, {**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}"}

    def heal(self, *flags: str) -> subprocess.CompletedProcess[str]:
        command, env = self.command("--arch", "sdxl", "--trial", *flags)
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600, check=False)

    def report(self, *flags: str) -> dict[str, Any]:
        """Heal, and return the report."""
        done = self.heal("--json", *flags)
        try:
            found: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            pytest.fail(f"{done.returncode}: {done.stdout}\n{done.stderr}", pytrace=False)
        assert found["code"] == done.returncode
        return found

    def start(self) -> None:
        """Start ComfyUI manually, and wait until it responds."""
        self.instance.run(NOHUP)
        deadline = time.monotonic() + 120
        while self.get_json("/system_stats") is None:
            if time.monotonic() > deadline:
                pytest.fail(f"no response of ComfyUI: {self.instance.run(f'cat {LOG}').stdout[-2000:]}", pytrace=False)
            time.sleep(0.2)
        self.environ = self.environ_now()

    def environ_now(self) -> str:
        return str(self.instance.run(f"tr '\\0' '\\n' < /proc/{self.pid()}/environ").stdout)

    def get_json(self, path: str) -> Any:
        code = (
            f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:8188{path}', timeout=20).read().decode())"
        )
        done = self.instance.host.run("python3 -c %s", code)
        with suppress(ValueError):
            return json.loads(done.stdout)
        return None

    def python(self, command: str) -> Any:
        return self.instance.run(f"{PYTHON} -m {command}")

    def pid(self) -> str:
        return str(self.instance.run("grep -l 'main[.]py' /proc/[0-9]*/cmdline | cut -d/ -f3 | head -1").stdout.strip())
