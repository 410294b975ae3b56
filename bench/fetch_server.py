"""The fetched file and its servers: nginx on loopback, at full speed, capped, and behind a thin link.

nginx caps each connection, not all of them together; so the thin link is a separate network namespace, whose loopback
device the kernel shapes. The addresses stay loopback, so the same code is measured.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CAP = 8_700_000  # bytes a second for each connection
THIN = 20_000_000  # bits a second for all
REPO = "gesso/bench"
_PIECE = 16 << 20
_COMMIT = "0123456789abcdef0123456789abcdef01234567"
_CONF = """\
{user}daemon off;
worker_processes {cores};
pid {scratch}/nginx.pid;
error_log {scratch}/error.log;
events {{ worker_connections 256; }}
http {{
  sendfile on; tcp_nopush on; access_log off; types {{ }} default_type application/octet-stream;
  client_body_temp_path {scratch}/t1; proxy_temp_path {scratch}/t2; fastcgi_temp_path {scratch}/t3;
  uwsgi_temp_path {scratch}/t4; scgi_temp_path {scratch}/t5;
  server {{ listen 127.0.0.1:{port}; root {root};
{fronts}
  }}
  server {{ listen 127.0.0.1:{capped}; root {root}; limit_rate {cap}; }}
}}
"""
# What huggingface_hub requires of a hub, for a file that is not in a Xet store.
_FRONT = """\
    location ~ ^/{repo}/resolve/[^/]+/{name}$ {{
      alias {root}/{name};
      add_header X-Repo-Commit {commit}; add_header X-Linked-Size {size}; add_header X-Linked-Etag '"{sha256}"';
    }}
"""


@dataclass(frozen=True)
class Source:
    """A served file."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Site:
    """One server; commands that fetch from it start with `prefix`."""

    base: str
    server: int  # its process id
    prefix: tuple[str, ...] = ()

    def url(self, source: Source) -> str:
        """Return the URL of a file."""
        return f"{self.base}/{source.name}"


@dataclass(frozen=True)
class Sites:
    """The three servers. `thin` is the reason if it is unavailable."""

    fast: Site
    capped: Site
    thin: Site | str


def make(folder: Path, name: str, size: int) -> Source:
    """Write a valid, incompressible safetensors file of `size` bytes."""
    count = size - 8 - 120
    header = json.dumps({"weights": {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}}).encode().ljust(120)
    digest = hashlib.sha256()
    left = count
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("wb") as file:
        piece = len(header).to_bytes(8, "little") + header
        while piece:
            digest.update(piece)
            file.write(piece)
            piece = os.urandom(min(left, _PIECE))
            left -= len(piece)
    return Source(name, size, digest.hexdigest())


def warm(path: Path) -> None:
    """Read a file once, so that it is in the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(_PIECE):
            pass


@contextmanager
def serve(root: Path, sources: list[Source], scratch: Path) -> Iterator[Sites]:
    """Serve the files in `root` until the block ends. Raises RuntimeError if nginx does not start."""
    with ExitStack() as stack:
        fast, capped = _free_ports()
        server = stack.enter_context(_nginx(root, sources, scratch / "nginx", (fast, capped), ()))
        thin: Site | str = _why_not_thin()
        if not thin:
            name = f"gesso-bench-{os.getpid()}"
            try:
                prefix = stack.enter_context(_namespace(name))
                other = stack.enter_context(_nginx(root, sources, scratch / "nginx-thin", (fast, capped), prefix))
                thin = Site(f"http://127.0.0.1:{fast}", other, prefix)
            except subprocess.CalledProcessError as error:
                thin = f"no thin link: {(error.stderr or '').strip() or error}"
        yield Sites(Site(f"http://127.0.0.1:{fast}", server), Site(f"http://127.0.0.1:{capped}", server), thin)


@contextmanager
def _nginx(
    root: Path, sources: list[Source], scratch: Path, ports: tuple[int, int], prefix: tuple[str, ...]
) -> Iterator[int]:
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        raise RuntimeError("nginx is not on PATH: install Debian's nginx-light")
    scratch.mkdir(parents=True)
    fronts = "".join(
        _FRONT.format(repo=REPO, root=root, name=s.name, commit=_COMMIT, size=s.size, sha256=s.sha256) for s in sources
    )
    text = _CONF.format(
        user="user root;\n" if os.geteuid() == 0 else "", cores=os.cpu_count(), scratch=scratch, port=ports[0],
        capped=ports[1], cap=CAP, root=root, fronts=fronts,
    )  # fmt: skip
    (scratch / "nginx.conf").write_text(text)
    command = [
        *prefix,
        program,
        "-c",
        str(scratch / "nginx.conf"),
        "-p",
        str(scratch),
        "-e",
        str(scratch / "error.log"),
    ]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        _wait_for(process, scratch)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _wait_for(process: subprocess.Popen[bytes], scratch: Path) -> None:
    """Wait until nginx has written its process id, which it does once it listens."""
    until = time.monotonic() + 10
    while not (scratch / "nginx.pid").is_file():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"nginx did not start: {(scratch / 'error.log').read_text()[-300:]}")
        time.sleep(0.02)


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def _why_not_thin() -> str:
    if os.geteuid() != 0:
        return "no thin link: a network namespace requires root"
    missing = [name for name in ("ip", "tc") if shutil.which(name) is None]
    return f"no thin link: {' and '.join(missing)} not on PATH (iproute2)" if missing else ""


@contextmanager
def _namespace(name: str) -> Iterator[tuple[str, ...]]:
    """Create a namespace whose loopback is limited to THIN, with usual packet sizes and 50 ms of queue."""

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, text=True)

    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "mtu", "1500", "up")
        run("tc", "-n", name, "qdisc", "add", "dev", "lo", "root", "tbf", "rate", f"{THIN}bit", "burst", "16kb",
            "latency", "50ms")  # fmt: skip
        yield ("ip", "netns", "exec", name)
    finally:
        with suppress(subprocess.CalledProcessError):
            run("ip", "netns", "del", name)
