"""Benchmark the start up to a complete response of /object_info: the image during a fetch, and its ComfyUI alone.

    GESSO_HEADERS=… [GESSO_REAL_OVERLAYS=…] invoke bench start [--arch sdxl] [--rounds 5]

"Bare" is the image without gesso: its Python, its ComfyUI, the same arguments, nothing else. The models are real
headers and zeros (tests/real/overlay.py), more than 10 GB for sdxl, from an nginx on the container's own loopback that
limits each connection to 8 MB/s. Starts are interleaved, in alternating order; compare the ratio. Needs root (nginx
runs in the container's network) and an engine on this machine.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.plot import OTHER, OURS, Bar, bars, spread
from gesso.builder.image.trial import MIRROR
from gesso.runtime.layout import Layout
from gesso.runtime.services import comfyui as comfy
from tests.real import overlay

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).resolve().parent / "results"
GOAL = 1.1  # the time divided by the bare start's, at most
RATE = 8_000_000  # bytes a second for each connection; the fetch uses up to 16
_WARM = 2 << 30  # bytes of each file to read into the page cache beforehand: a start fetches no more
_BARE = "mkdir -p {folders} && cd {comfyui} && exec {command}"
_CONF = """\
{user}daemon off;
pid {scratch}/nginx.pid;
error_log {scratch}/error.log;
events {{ worker_connections 256; }}
http {{
  sendfile on; tcp_nopush on; access_log off; types {{ }} default_type application/octet-stream;
  client_body_temp_path {scratch}/t1; proxy_temp_path {scratch}/t2; fastcgi_temp_path {scratch}/t3;
  uwsgi_temp_path {scratch}/t4; scgi_temp_path {scratch}/t5;
  server {{ listen {listen}; root {root}; limit_rate {rate}; }}
}}
"""
# Prints when the last byte of the first successful response arrived.
_WAIT = """
import http.client, time
end = time.time() + 300
while time.time() < end:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", 18188, timeout=60)
        connection.request("GET", "/object_info")
        response = connection.getresponse()
        size = len(response.read())
        if response.status == 200:
            print(time.time(), size)
            break
    except (OSError, http.client.HTTPException):
        time.sleep(0.02)
"""


@dataclass
class Results:
    """The seconds of each contender's starts, and the fetch's progress at the end of each of ours."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {"bare": [], "gesso": []})
    fetched: list[int] = field(default_factory=list)  # bytes
    rates: list[int] = field(default_factory=list)  # bytes a second, in the last moments
    total: int = 0

    @property
    def ratio(self) -> float:
        """The median time divided by the bare start's."""
        return statistics.median(self.seconds["gesso"]) / statistics.median(self.seconds["bare"])


class Bench:
    """One image and its models; every start has its own containers, network and volume."""

    def __init__(self, image: str, files: Path, scratch: Path) -> None:
        self._image, self._scratch = image, scratch
        (scratch / "nginx.conf").write_text(_CONF.format(
            user="user root;\n", scratch=scratch, listen=MIRROR.removeprefix("http://"), root=files, rate=RATE,
        ))  # fmt: skip
        layout = Layout()
        folders = [layout.models, layout.user, layout.workspace / "input", layout.workspace / "output", layout.run]
        bare = _BARE.format(
            folders=" ".join(map(str, folders)), comfyui=layout.comfyui,
            command=" ".join(comfy.command(layout, {}, gpu=False)),
        )  # fmt: skip
        self._arguments = {"bare": ["--entrypoint", "sh", image, "-c", bare], "gesso": [image]}

    def start(self, name: str) -> tuple[float, dict[str, Any]]:
        """Return the seconds from `docker run` to the response, and gesso's status then."""
        with ExitStack() as stack:
            network = _run(stack, "--entrypoint", "sleep", self._image, "infinity")
            shared = ("--network", f"container:{network}")
            self._serve(stack, network)
            watcher = _run(stack, *shared, "--entrypoint", "sleep", self._image, "infinity")
            command = ["docker", "exec", watcher, "/opt/gesso/venv/bin/python", "-c", _WAIT]
            waiting = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            volume = _docker("volume", "create")
            stack.callback(_docker, "volume", "rm", "--force", volume)
            os.sync()  # the last start's pending writes must not slow this one
            time.sleep(1)
            began = time.time()
            started = _run(stack, *shared, "--volume", f"{volume}:/workspace", *self._arguments[name])
            output = waiting.communicate(timeout=330)[0].split()
            if not output:
                raise RuntimeError(f"{name}: no response in 300 s: {_docker('logs', '--tail', '20', started)}")
            status = _docker("exec", started, "gesso", "status", "--json", check=False) if name == "gesso" else "{}"
            return float(output[0]) - began, json.loads(status or "{}")

    def _serve(self, stack: ExitStack, network: str) -> None:
        pid = _docker("inspect", "--format", "{{.State.Pid}}", network)
        (self._scratch / "nginx.pid").unlink(missing_ok=True)
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        error = str(self._scratch / "error.log")
        command = [
            "nsenter", f"--net=/proc/{pid}/ns/net", "nice", "-n", "10",
            nginx, "-c", str(self._scratch / "nginx.conf"), "-p", str(self._scratch), "-e", error,
        ]  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        until = time.monotonic() + 10
        while not (self._scratch / "nginx.pid").is_file():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("nginx did not start in the container's network")
            time.sleep(0.02)


def _docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], check=check, capture_output=True, text=True)
    return done.stdout.strip()


def _run(stack: ExitStack, *arguments: str) -> str:
    container = _docker("run", "--detach", *arguments)
    stack.callback(_docker, "rm", "--force", "--volumes", container)
    return container


def _warm(files: Path) -> None:
    """Read the files' first bytes into the page cache, so as not to measure a disk, or a sparse file's holes."""
    for path in files.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.tell() < _WARM and file.read(16 << 20):
                    pass


def measure(bench: Bench, rounds: int) -> Results:
    """Start each once a round; the first two starts only warm up, and do not count."""
    found = Results()
    for name in found.seconds:
        bench.start(name)
    for turn in range(rounds):
        for name in list(found.seconds)[:: 1 if turn % 2 else -1]:
            seconds, status = bench.start(name)
            found.seconds[name].append(seconds)
            note = ""
            if name == "gesso":
                totals = status["totals"]
                found.fetched.append(totals["done"])
                found.rates.append(totals["rate"])
                found.total = totals["size"]
                if status["state"] != "fetching":
                    raise RuntimeError(f"nothing to measure: the state is {status['state']}, not fetching")
                note = f", {totals['done'] / 1e9:.1f} of {totals['size'] / 1e9:.1f} GB fetched"
            print(f"round {turn + 1}: {name} answers after {seconds:.2f} s{note}", file=sys.stderr)
    return found


def write(arch: str, found: Results, rounds: int) -> None:
    """Print, and write bench/results/start.{json,md,svg}."""
    RESULTS.mkdir(exist_ok=True)
    median = {name: statistics.median(values) for name, values in found.seconds.items()}
    data = {
        "arch": arch, "seconds": found.seconds, "median": median, "ratio": round(found.ratio, 3), "goal": GOAL,
        "bytes_to_fetch": found.total, "bytes_there": found.fetched, "bytes_a_second": found.rates,
    }  # fmt: skip
    verdict = "reached" if found.ratio <= GOAL else "**missed**"
    lines = [
        f"# Start to `/object_info`: the {arch} image during a fetch, and the same ComfyUI bare",
        "",
        (
            f"Made by `invoke bench start`: {rounds} interleaved rounds in one session, medians (min to max), from"
            f" `docker run` to the last byte of the first response, no GPU, an empty volume. While gesso's image"
            f" starts, it fetches {found.total / 1e9:.1f} GB from an nginx on the same machine that limits each"
            f" connection to {RATE / 1e6:.0f} MB/s. {_machine()}."
        ),
        "",
        "| | bare | gesso | ratio | goal |",
        "|---|---|---|---|---|",
        (
            f"| start to `/object_info`, s | {spread(found.seconds['bare'], 2)} | {spread(found.seconds['gesso'], 2)} |"
            f" {found.ratio:.2f} | ≤ {GOAL}: {verdict} |"
        ),
        f"| GB fetched by then | | {spread([count / 1e9 for count in found.fetched])} | | |",
        f"| MB/s by then | | {spread([rate / 1e6 for rate in found.rates], 0)} | | |",
        "",
        "Server, fetch, hash and ComfyUI share these cores: a rented machine does not run the server.",
        "",
        "![bars](start.svg)",
    ]
    (RESULTS / "start.json").write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    (RESULTS / "start.md").write_text("\n".join(lines) + "\n")
    group = [
        Bar(name, median[name], OURS if name == "gesso" else OTHER, min(values), max(values))
        for name, values in found.seconds.items()
    ]
    (RESULTS / "start.svg").write_text(bars([("start to /object_info, s", group)]))
    print("\n".join(lines))


def _machine() -> str:
    return f"Machine: {len(os.sched_getaffinity(0))} cores, Linux {os.uname().release.split('-')[0]}"


def main(arch: str, rounds: int, overlays: Sequence[Path]) -> None:
    """Build the image if necessary, measure, and write."""
    if os.geteuid() != 0 or shutil.which("nsenter") is None:
        raise SystemExit("bench start: running nginx in the container's network requires root and nsenter")
    headers = os.environ.get("GESSO_HEADERS")
    if not headers:
        raise SystemExit("bench start: GESSO_HEADERS is not set (docs/maintainer.md, The real image)")
    image = overlay.build(arch, [*overlay.beneath(os.environ), *overlays], Path(headers))
    files = overlay.place(arch) / "files"
    _warm(files)
    with tempfile.TemporaryDirectory(prefix="gesso-bench-") as scratch:
        write(arch, measure(Bench(image, files, Path(scratch)), rounds), rounds)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), [Path(overlay) for overlay in sys.argv[3:]])
