"""A real registry on this machine: Debian's docker-registry, optionally with TLS and a login; it can be killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError

import pytest

USER, PASSWORD = "painter", "canvas-and-gesso"
HTPASSWD = "painter:$2b$05$h6aWc83egqxAyxjwFIrBoOhaSfyeL0ayBMW65yk7NvmoCilHoPld.\n"
CERTIFICATES = Path("/etc/docker/certs.d")
_WRITES = re.compile(r'"(POST|PUT|PATCH|DELETE) (\S+) HTTP')


class Server:
    """The registry; its data and logs are in `folder`."""

    def __init__(self, program: Path, folder: Path, *, tls: bool = False) -> None:
        self.program = program
        self.folder = folder
        self.tls = tls
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{found.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        (folder / "data").mkdir()
        if tls:
            self._make_certificate()
        self._configure()

    @property
    def repository(self) -> str:
        return f"{self.host}/gesso"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def writes(self) -> list[str]:
        """Return the writing requests so far."""
        return [f"{method} {path}" for method, path in _WRITES.findall(self.log)]

    def blobs(self) -> dict[str, int]:
        """Return the stored blobs, by digest, with their sizes in bytes."""
        root = self.folder / "data/docker/registry/v2/blobs/sha256"
        return {f"sha256:{path.parent.name}": path.stat().st_size for path in root.glob("*/*/data")}

    def received(self) -> int:
        """Return the bytes that it has received so far, complete or not."""
        sizes = []
        for path in (self.folder / "data").rglob("data"):
            with suppress(FileNotFoundError):
                sizes.append(path.stat().st_size)
        return sum(sizes)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            arguments = [str(self.program), "serve", str(self.folder / "config.yml")]
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the registry does not start:\n{self.log[-2000:]}", pytrace=False)
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it, like a power failure."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        self.kill()
        if self.tls:
            shutil.rmtree(CERTIFICATES / self.host, ignore_errors=True)

    def _answers(self) -> bool:
        port = int(self.host.rpartition(":")[2])
        if self.tls:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False
        try:
            with urllib.request.urlopen(f"http://{self.host}/v2/", timeout=2):
                return True
        except HTTPError:
            return True
        except OSError:
            return False

    def _configure(self) -> None:
        lines = [
            "version: 0.1",
            "log: {level: warn}",
            f"storage: {{filesystem: {{rootdirectory: '{self.folder}/data'}}}}",
            "http:",
            f"  addr: '{self.host}'",
            "  secret: one-for-all-starts",
        ]
        if self.tls:
            (self.folder / "htpasswd").write_text(HTPASSWD)
            lines += [f"  tls: {{certificate: '{self.folder}/server.crt', key: '{self.folder}/server.key'}}"]
            lines += [f"auth: {{htpasswd: {{realm: gesso, path: '{self.folder}/htpasswd'}}}}"]
        (self.folder / "config.yml").write_text("\n".join(lines) + "\n")

    def _make_certificate(self) -> None:
        """Create a separate CA and a certificate by it, and make Docker trust it for this host."""
        if os.geteuid() != 0 or shutil.which("openssl") is None:
            pytest.skip("NOT RUN: a registry with TLS wants root (for /etc/docker/certs.d) and openssl")
        (self.folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
        for arguments in (
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=gesso-test-ca -keyout ca.key -out ca.crt",
            "req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout server.key -out server.csr",
            "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.crt",
        ):
            subprocess.run(["openssl", *arguments.split()], cwd=self.folder, check=True, capture_output=True)
        (CERTIFICATES / self.host).mkdir(parents=True)
        shutil.copy(self.ca, CERTIFICATES / self.host / "ca.crt")
