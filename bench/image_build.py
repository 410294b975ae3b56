"""Benchmark gesso's image against a plain Dockerfile with the same contents: build time, size, start; interleaved runs.

Cold means an empty build cache (pruned before every build) on a warm engine that has the base image. Compare the
ratios: the machine and its network are noisy, but the same for both.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gesso.builder.image import build as image_build
from gesso.builder.image import buildx
from gesso.settings import Project, Selection, select

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
PLAIN = "gesso-bench:plain"
QUIET = image_build.Callbacks(lambda _: None, lambda _: None)
_WAIT = """
import time, urllib.request
while True:
    try:
        urllib.request.urlopen("http://127.0.0.1:18188/object_info").read(); break
    except OSError:
        time.sleep(0.05)
"""

Row = dict[str, list[float]]


def main(arch: str, overlays: tuple[str, ...], rounds: int) -> None:
    """Measure, and write bench/results/image_build.{json,md,svg}."""
    selection = select(Project(ROOT), arch, overlays)
    rows: dict[str, Row] = {"plain": {"build": [], "start": []}, "gesso": {"build": [], "start": []}}
    sizes: dict[str, int] = {}
    images: dict[str, str] = {"plain": PLAIN}
    for turn in range(rounds):
        for name, make in (("plain", _plain), ("gesso", _gesso)):
            subprocess.run(["docker", "builder", "prune", "--force"], check=True, stdout=subprocess.DEVNULL)
            seconds, size, image = make(selection)
            rows[name]["build"].append(seconds)
            sizes[name], images[name] = size, image
            print(f"round {turn + 1}: {name} built in {seconds:.1f} s, {size / 1e9:.2f} GB", file=sys.stderr)
    for turn in range(max(3, rounds)):
        for name in rows:
            rows[name]["start"].append(_start(images[name]))
            print(f"round {turn + 1}: {name} answers after {rows[name]['start'][-1]:.1f} s", file=sys.stderr)
    warm = _warm(selection)
    _write(arch, rows, sizes, warm)


def _plain(selection: Selection) -> tuple[float, int, str]:
    with tempfile.TemporaryDirectory() as scratch:
        context = Path(scratch) / "context"
        image_build.write_context(selection, context, os.environ, lambda _: None)
        locked = image_build.prepare(selection)[1]
        ca = os.environ.get("SSL_CERT_FILE")
        started = time.monotonic()
        command = [
            "docker", "buildx", "build", "--no-cache", "--load", "--provenance=false", "--progress=quiet",
            "--build-arg", f"BASE={image_build.base_reference(locked)}", "--tag", PLAIN,
            *(["--secret", f"id=ca,src={ca}"] if ca else []),
            "--file", str(ROOT / "bench" / "plain.Dockerfile"), str(context),
        ]  # fmt: skip
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - started, buildx.inspect(PLAIN, None).size, PLAIN


def _gesso(selection: Selection) -> tuple[float, int, str]:
    built = image_build.build(selection, os.environ, QUIET, caches=buildx.Caches(local=False))
    return built.seconds, built.image.size, built.tags[0]


def _warm(selection: Selection) -> float:
    return image_build.build(selection, os.environ, QUIET).seconds


def _start(image: str) -> float:
    """Return the seconds from `docker run` to a complete response of /object_info, requested in the container."""
    started = time.monotonic()
    done = subprocess.run(["docker", "run", "-d", image], check=True, capture_output=True, text=True)
    container = done.stdout.strip()
    try:
        subprocess.run(["docker", "exec", container, "python3", "-c", _WAIT], check=True, timeout=300)
        return time.monotonic() - started
    finally:
        subprocess.run(["docker", "rm", "-f", container], check=True, stdout=subprocess.DEVNULL)


def _write(arch: str, rows: dict[str, Row], sizes: dict[str, int], warm: float) -> None:
    RESULTS.mkdir(exist_ok=True)
    median = {name: {what: statistics.median(values) for what, values in row.items()} for name, row in rows.items()}
    data = {"arch": arch, "seconds": rows, "median": median, "bytes": sizes, "warm_seconds": warm}
    (RESULTS / "image_build.json").write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    ratio = {what: median["gesso"][what] / median["plain"][what] for what in ("build", "start")}
    size = {name: value / 1e9 for name, value in sizes.items()}
    table = [
        ("cold build, s", _spread(rows["plain"]["build"]), _spread(rows["gesso"]["build"]), ratio["build"]),
        ("unpacked, GB", f"{size['plain']:.2f}", f"{size['gesso']:.2f}", size["gesso"] / size["plain"]),
        (
            "start to `/object_info`, s",
            _spread(rows["plain"]["start"]),
            _spread(rows["gesso"]["start"]),
            ratio["start"],
        ),
    ]
    lines = [
        f"# The {arch} image compared with a plain Dockerfile with the same contents",
        "",
        "Made by `invoke bench`; medians of interleaved runs in one session (min to max), no GPU, ComfyUI on the CPU.",
        "",
        "| | plain | gesso | ratio |",
        "|---|---|---|---|",
        *(f"| {what} | {plain} | {gesso} | {quotient:.2f} |" for what, plain, gesso, quotient in table),
        f"| repeated build (warm cache), s | | {warm:.1f} | |",
        "",
        "![bars](image_build.svg)",
        "",
        "How it scales: the cold build is bound by unpacking the Python wheels (two thirds of them CUDA and torch) and",
        "by the engine's import of every layer; node packs and workflows cost milliseconds each.",
    ]
    (RESULTS / "image_build.md").write_text("\n".join(lines) + "\n")
    (RESULTS / "image_build.svg").write_text(_bars(median, size))
    print("\n".join(lines))


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _bars(median: dict[str, dict[str, float]], size: dict[str, float]) -> str:
    """Draw three pairs of bars, each scaled to its larger one."""
    groups = [
        ("cold build, s", median["plain"]["build"], median["gesso"]["build"]),
        ("unpacked, GB", size["plain"], size["gesso"]),
        ("start to answer, s", median["plain"]["start"], median["gesso"]["start"]),
    ]
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="560" height="220" font-family="sans-serif" font-size="13">',
        '<rect width="560" height="220" fill="white"/>',
    ]
    for row, (label, plain, gesso) in enumerate(groups):
        top = 14 + row * 68
        parts.append(f'<text x="10" y="{top + 12}">{label}</text>')
        for line, (name, value, colour) in enumerate((("plain", plain, "#999"), ("gesso", gesso, "#2a6f97"))):
            y, width = top + 18 + line * 20, 380 * value / max(plain, gesso)
            parts.append(f'<text x="10" y="{y + 13}" fill="#555">{name}</text>')
            parts.append(f'<rect x="60" y="{y}" width="{width:.0f}" height="16" fill="{colour}"/>')
            parts.append(f'<text x="{66 + width:.0f}" y="{y + 13}">{value:.1f}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    main(sys.argv[1], tuple(sys.argv[3:]), int(sys.argv[2]))
