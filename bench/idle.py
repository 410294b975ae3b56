"""Benchmark an idle instance: CPU time and resident memory, beside the same ComfyUI alone.

    invoke bench idle [--arch sdxl] [--rounds 5]

`--rounds`: minutes. All containers run side by side for the same minutes, after one minute to settle. CPU time is that
of the container's control group, with the health checks, as the engine counts it; by program it is the kernel's, which
leaves out processes that ended. "Bare" is the image's ComfyUI with the same arguments, and nothing else.
`GESSO_IDLE_BEFORE=IMAGE` adds an older image.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker

from gesso.runtime.layout import Layout
from gesso.runtime.services import comfyui as comfy

if TYPE_CHECKING:
    from docker.models.containers import Container

RESULTS = Path(__file__).resolve().parent / "results"
GOAL_CORE, GOAL_MB = 0.3, 120.0  # percent of a core and MB (10^6 bytes), both without ComfyUI
SETTLE = 60.0  # seconds
_BARE = "mkdir -p {folders} && cd {comfyui} && exec {command}"
_PROGRAMS = """
import os, pathlib, json
rows, names = {}, ("main.py", "gesso agent", "supervisord", "caddy", "watchdog", "mirror")
for entry in pathlib.Path("/proc").iterdir():
    if entry.name.isdigit() and int(entry.name) != os.getpid():
        try:
            words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split(chr(0))
            times = (entry / "stat").read_text().rpartition(")")[2].split()
            memory = (entry / "status").read_text().partition("VmRSS:")[2].split()
        except OSError:
            continue
        if memory:
            line = " ".join(words)
            name = next((n for n in names if n in line), words[0])
            rows[name] = [sum(map(int, times[11:15])) / os.sysconf("SC_CLK_TCK"), int(memory[0]) * 1024]
print(json.dumps(rows))
"""


def _programs(container: Container) -> dict[str, list[float]]:
    done: Any = container.exec_run(["/usr/bin/python3", "-c", _PROGRAMS])
    found: dict[str, list[float]] = json.loads(done.output)
    return found


def _cpu(container: Container) -> float:
    stats: Any = container.stats(stream=False, one_shot=True)
    return float(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9


def _bare() -> list[str]:
    layout = Layout()
    command = comfy.command(layout, {}, gpu=False)
    folders = " ".join(str(layout.workspace / name) for name in ("models", "user", "input", "output"))
    text = _BARE.format(folders=f"{folders} {layout.run}", comfyui=layout.comfyui, command=" ".join(command))
    return ["sh", "-c", text]


def main(arch: str, minutes: int) -> int:
    """Measure, and write bench/results/idle.json and idle.md."""
    client = docker.from_env()
    image = f"gesso:{arch}-trial"
    options: dict[str, Any] = {"detach": True}
    started: dict[str, Container] = {"bare": client.containers.run(image, entrypoint=_bare(), **options,
                                                                   healthcheck={"test": ["NONE"]})}  # fmt: skip
    if before := os.environ.get("GESSO_IDLE_BEFORE"):
        started["before"] = client.containers.run(before, **options)
    started["gesso"] = client.containers.run(image, **options)
    try:
        time.sleep(SETTLE)
        first = {name: (_cpu(c), _programs(c)) for name, c in started.items()}
        begun = time.monotonic()
        time.sleep(60 * minutes)
        last = {name: (_cpu(c), _programs(c)) for name, c in started.items()}
        seconds = time.monotonic() - begun
    finally:
        for container in started.values():
            container.remove(force=True, v=True)
    rows = {name: _row(first[name], last[name], seconds) for name in started}
    RESULTS.joinpath("idle.json").write_text(json.dumps(rows, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    RESULTS.joinpath("idle.md").write_text(_report(rows, minutes, arch), encoding="utf-8")
    return 0


def _row(first: tuple[float, Any], last: tuple[float, Any], seconds: float) -> dict[str, Any]:
    """Return seconds of CPU per minute and resident bytes, by program."""
    programs = {
        name: {"cpu": round((values[0] - first[1][name][0]) * 60 / seconds, 4), "rss": values[1]}
        for name, values in last[1].items()
        if name in first[1]
    }
    return {"cpu": round((last[0] - first[0]) * 60 / seconds, 4), "programs": programs}


_SERVING = ("gesso agent", "supervisord", "caddy", "watchdog")


def _report(rows: dict[str, dict[str, Any]], minutes: int, arch: str) -> str:
    about = (
        f"Made by `invoke bench idle`: {minutes} minutes, all side by side, after one to settle. The trial's ComfyUI "
        "is the stand-in. Seconds of CPU per minute (0.18 s are 0.3 % of a core); resident MB (10^6 bytes), "
        "shared pages counted in each."
    )
    title = f"# An idle instance: the {arch} trial, and its ComfyUI alone"
    lines = [title, "", about, "", "| | " + " | ".join(rows) + " |", "|---|" + "---|" * len(rows)]
    names = list(dict.fromkeys(name for row in rows.values() for name in row["programs"]))
    lines += [f"| {n} | " + " | ".join(_cell(row["programs"].get(n)) for row in rows.values()) + " |" for n in names]
    whole = " | ".join(f"{row['cpu']:.2f} s" for row in rows.values())
    lines.append(f"| **whole container, with health checks** | {whole} |")
    ours = {name: [row["programs"][n] for n in _SERVING if n in row["programs"]] for name, row in rows.items()}
    sums = [(sum(p["cpu"] for p in own), sum(p["rss"] for p in own) / 1e6) for own in ours.values()]
    total = " | ".join(f"{cpu:.2f} s, {memory:.0f} MB" for cpu, memory in sums)
    lines.append(f"| **agent, gate, supervisor, watchdog** | {total} |")
    cpu, memory = sums[-1]
    reached = cpu / 0.6 <= GOAL_CORE and memory <= GOAL_MB
    goal = f"Goal: at most {GOAL_CORE} % of a core and {GOAL_MB:.0f} MB"
    lines += ["", f"{goal}: {'reached' if reached else 'missed'} ({cpu / 0.6:.2f} %, {memory:.0f} MB)."]
    return "\n".join(lines) + "\n"


def _cell(program: dict[str, float] | None) -> str:
    return "" if program is None else f"{program['cpu']:.3f} s, {program['rss'] / 1e6:.0f} MB"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
