"""Start to a whole answer of /object_info: the image while it fetches gigabytes, and its ComfyUI started bare.

    GESSO_HEADERS=… [GESSO_REAL_OVERLAYS=…] invoke bench start [--arch sdxl] [--rounds 5]

Bare is what the image would be without gesso: its Python, its ComfyUI, the same arguments, nothing else. The models are
real headers and zeros (tests/real/overlay.py), more than 10 GB for sdxl, from an nginx on the container's own loopback
that gives each connection 8 MB/s. Interleaved in one run, another one first each time; what counts is the ratio. Needs
root (nginx goes into the container's network) and an engine on this machine.
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
GOAL = 1.1  # of the bare start's time, at most
RATE = 8_000_000  # bytes a second for each connection; the fetch uses up to 16
_WARM = 2 << 30  # bytes of each file that are in memory beforehand: more does not come within a start
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
# Prints when the last byte of the first good answer was there.
_WAIT = """
import http.client, time
end = time.time() + 300
while time.time() < end:
    try:
        asked = http.client.HTTPConnection("127.0.0.1", 18188, timeout=60)
        asked.request("GET", "/object_info")
        answer = asked.getresponse()
        size = len(answer.read())
        if answer.status == 200:
            print(time.time(), size)
            break
    except (OSError, http.client.HTTPException):
        time.sleep(0.02)
"""


@dataclass
class Found:
    """The seconds of each contender's starts, and how far the fetch was at the end of each of ours."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {"bare": [], "gesso": []})
    fetched: list[int] = field(default_factory=list)  # bytes
    rates: list[int] = field(default_factory=list)  # bytes a second, in the last moments
    total: int = 0

    @property
    def ratio(self) -> float:
        """Ours against the bare start."""
        return statistics.median(self.seconds["gesso"]) / statistics.median(self.seconds["bare"])


class Bench:
    """One image and its models; every start has containers, network and volume of its own."""

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
        self._words = {"bare": ["--entrypoint", "sh", image, "-c", bare], "gesso": [image]}

    def start(self, name: str) -> tuple[float, dict[str, Any]]:
        """Give the seconds from `docker run` to the answer, and what gesso says of itself then."""
        with ExitStack() as keep:
            network = _run(keep, "--entrypoint", "sleep", self._image, "infinity")
            beside = ("--network", f"container:{network}")
            self._serve(keep, network)
            watcher = _run(keep, *beside, "--entrypoint", "sleep", self._image, "infinity")
            words = ["docker", "exec", watcher, "/opt/gesso/venv/bin/python", "-c", _WAIT]
            waiting = keep.enter_context(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
            volume = _docker("volume", "create")
            keep.callback(_docker, "volume", "rm", "--force", volume)
            os.sync()  # what the last start has left to write is not this one's
            time.sleep(1)
            began = time.time()
            started = _run(keep, *beside, "--volume", f"{volume}:/workspace", *self._words[name])
            said = waiting.communicate(timeout=330)[0].split()
            if not said:
                raise RuntimeError(f"{name}: no answer in 300 s: {_docker('logs', '--tail', '20', started)}")
            told = _docker("exec", started, "gesso", "status", "--json", check=False) if name == "gesso" else "{}"
            return float(said[0]) - began, json.loads(told or "{}")

    def _serve(self, keep: ExitStack, network: str) -> None:
        pid = _docker("inspect", "--format", "{{.State.Pid}}", network)
        (self._scratch / "nginx.pid").unlink(missing_ok=True)
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        error = str(self._scratch / "error.log")
        words = [
            "nsenter", f"--net=/proc/{pid}/ns/net", "nice", "-n", "10",
            nginx, "-c", str(self._scratch / "nginx.conf"), "-p", str(self._scratch), "-e", error,
        ]  # fmt: skip
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
        keep.callback(process.wait)
        keep.callback(process.terminate)
        until = time.monotonic() + 10
        while not (self._scratch / "nginx.pid").is_file():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("nginx did not start in the container's network")
            time.sleep(0.02)


def _docker(*words: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *words], check=check, capture_output=True, text=True)
    return done.stdout.strip()


def _run(keep: ExitStack, *words: str) -> str:
    made = _docker("run", "--detach", *words)
    keep.callback(_docker, "rm", "--force", "--volumes", made)
    return made


def _warm(files: Path) -> None:
    """Have the beginnings in memory: a disk, or a sparse file's holes, would be measured else."""
    for path in files.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.tell() < _WARM and file.read(16 << 20):
                    pass


def measure(bench: Bench, rounds: int) -> Found:
    """Start each once a round; the first two starts only warm up, and do not count."""
    found = Found()
    for name in found.seconds:
        bench.start(name)
    for turn in range(rounds):
        for name in list(found.seconds)[:: 1 if turn % 2 else -1]:
            seconds, said = bench.start(name)
            found.seconds[name].append(seconds)
            note = ""
            if name == "gesso":
                totals = said["totals"]
                found.fetched.append(totals["done"])
                found.rates.append(totals["rate"])
                found.total = totals["size"]
                if said["state"] != "fetching":
                    raise RuntimeError(f"nothing is measured: it is {said['state']}, not fetching")
                note = f", {totals['done'] / 1e9:.1f} of {totals['size'] / 1e9:.1f} GB there"
            print(f"round {turn + 1}: {name} answers after {seconds:.2f} s{note}", file=sys.stderr)
    return found


def write(arch: str, found: Found, rounds: int) -> None:
    """Print, and write bench/results/start.{json,md,svg}."""
    RESULTS.mkdir(exist_ok=True)
    median = {name: statistics.median(values) for name, values in found.seconds.items()}
    data = {
        "arch": arch, "seconds": found.seconds, "median": median, "ratio": round(found.ratio, 3), "goal": GOAL,
        "bytes_to_fetch": found.total, "bytes_there": found.fetched, "bytes_a_second": found.rates,
    }  # fmt: skip
    verdict = "reached" if found.ratio <= GOAL else "**missed**"
    lines = [
        f"# Start to `/object_info`: the {arch} image while it fetches, and the same ComfyUI bare",
        "",
        (
            f"Made by `invoke bench start`: {rounds} interleaved rounds in one session, medians (min to max), from"
            f" `docker run` to the last byte of the first answer, no GPU, an empty volume. While gesso's image starts,"
            f" it fetches {found.total / 1e9:.1f} GB from an nginx on the same machine that gives each connection"
            f" {RATE / 1e6:.0f}"
            f" MB/s. {_machine()}."
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
        "Server, fetch, hash and ComfyUI share these cores: on a rented machine the server is somewhere else.",
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
    """Build the image where it is not built, measure, and write."""
    if os.geteuid() != 0 or shutil.which("nsenter") is None:
        raise SystemExit("bench start: nginx has to go into the container's network: that takes root and nsenter")
    headers = os.environ.get("GESSO_HEADERS")
    if not headers:
        raise SystemExit("bench start: GESSO_HEADERS is not set (docs/maintainer.md, The real image)")
    image = overlay.build(arch, [*overlay.beneath(os.environ), *overlays], Path(headers))
    files = overlay.place(arch) / "files"
    _warm(files)
    with tempfile.TemporaryDirectory(prefix="gesso-bench-") as scratch:
        write(arch, measure(Bench(image, files, Path(scratch)), rounds), rounds)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), [Path(word) for word in sys.argv[3:]])
