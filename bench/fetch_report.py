"""Report the results: as data, as tables with goals, and as a plot."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.fetch_audit import FILES, RECEIPTS, seconds_without_start
from bench.fetch_measure import QUIET
from bench.plot import OTHER, OURS, VERIFIED, Bar, bars, spread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.fetch_measure import Cost
    from bench.fetch_peers import Peer

RESULTS = Path(__file__).resolve().parent / "results"
_GOALS = {"curl": 1.1, "curl + openssl dgst": 0.8}  # gesso's time divided by theirs, at most
_PEER_GOAL = 0.45  # for all other verified fetches
_MEMORY_GOAL = 150e6
_TITLES = {"full-speed": "unlimited", "capped": "8.7 MB/s a connection", "thin": "20 Mbit/s link"}
_HEAD = ["| | size, MB | s | MB/s | compares sha256 | peak memory, MB | CPU, s | gesso's time / its | goal |",
         "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip

Costs = dict[str, "list[Cost]"]  # by contender


@dataclass(frozen=True)
class Report:
    """The results of one run: costs and bytes by table and contender, skipped contenders, all contenders."""

    costs: Mapping[str, Costs]
    sizes: Mapping[str, Mapping[str, int]]
    receipts: list[float]
    skipped: Mapping[str, str]
    peers: Mapping[str, Peer]

    def seconds(self, table: str, name: str) -> float:
        """Return the median time."""
        return statistics.median(cost.seconds for cost in self.costs[table][name])

    def rate(self, table: str, name: str) -> float:
        """Return MB/s at the median time."""
        return self.sizes[table][name] / self.seconds(table, name) / 1e6

    def memory(self, table: str, name: str) -> float:
        """Return the median peak memory in bytes."""
        return statistics.median(cost.memory for cost in self.costs[table][name])

    def ratio(self, table: str, name: str) -> float | None:
        """Return gesso's time divided by a contender's for the same bytes."""
        if "gesso" not in self.costs[table] or name == "gesso":
            return None
        return self.rate(table, name) / self.rate(table, "gesso")


def write(report: Report, *, keep: bool) -> None:
    """Print the tables; with `keep`, write bench/results/fetch.{json,md,svg} too."""
    text = "\n".join(_markdown(report)) + "\n"
    print(text)
    if keep:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "fetch.json").write_text(json.dumps(_data(report), indent=1, sort_keys=True) + "\n")
        (RESULTS / "fetch.md").write_text(text)
        (RESULTS / "fetch.svg").write_text(_plot(report))


def _markdown(report: Report) -> list[str]:
    lines = [
        "# gesso's fetch compared with the usual tools",
        "",
        (
            "Made by `invoke bench fetch`: the same file from the same nginx on loopback, in memory at the"
            " server's side, to the same disk; interleaved runs in one session, medians (min to max), whole processes,"
            " each with an empty target folder. gesso's time includes writing to disk (fsync), the others' does"
            f" not. Machine: {_machine_line()}."
        ),
        "",
    ]
    for table, title in _TITLES.items():
        if table in report.costs:
            lines += [f"## {title[0].upper()}{title[1:]}", "", *_HEAD]
            lines += [_row(report, table, name) for name in report.costs[table]]
            lines.append("")
    if "audit" in report.costs:
        lines += _audit(report)
    if "sizes" in report.costs:
        lines += _scaling(report)
    if report.skipped:
        lines += ["## Not measured", "", *(f"* {name}: {why}" for name, why in report.skipped.items()), ""]
    return [*lines, _quiet(report), "", "![bars](fetch.svg)"]


def _quiet(report: Report) -> str:
    """Report how undisturbed the runs were."""
    others = [cost.others for found in report.costs.values() for costs in found.values() for cost in costs]
    disturbed = sum(other > QUIET for other in others)
    return (
        f"{len(others)} runs counted; during {disturbed} of them other processes (or the kernel's writes) kept"
        f" more than {QUIET:g} of a core busy: such a run, if shorter than 10 s, was repeated, and the less disturbed"
        " one counts, whatever its time."
    )


def _row(report: Report, table: str, name: str) -> str:
    costs, ratio = report.costs[table][name], report.ratio(table, name)
    goal = _goal(report, table, name)
    return (
        f"| {'**gesso**' if name == 'gesso' else name} | {report.sizes[table][name] / 1e6:.0f} "
        f"| {spread([cost.seconds for cost in costs], 2)} | {report.rate(table, name):.{2 if table == 'thin' else 0}f} "
        f"| {'yes' if report.peers[name].verifies else 'no'} | {report.memory(table, name) / 1e6:.0f} "
        f"| {statistics.median(cost.cpu for cost in costs):.1f} | {'' if ratio is None else f'{ratio:.2f}'} | {goal} |"
    )


def _goal(report: Report, table: str, name: str) -> str:
    """Return the goal, and whether it was reached."""
    ratio = report.ratio(table, name)
    if name == "gesso":
        memory = _verdict("memory ≤ 150 MB", report.memory(table, name) <= _MEMORY_GOAL)
        if table != "capped":
            return memory
        return f"{_verdict('≥ 100 MB/s', report.rate(table, name) >= 100)}; {memory}"
    assert ratio is not None or "gesso" not in report.costs[table]
    if ratio is None:
        return ""
    if table == "full-speed":
        most = _GOALS.get(name, _PEER_GOAL)
        return _verdict(f"≤ {most:g}", ratio <= most) if report.peers[name].verifies or name in _GOALS else ""
    return _verdict("≤ 1.03", ratio <= 1.03) if table == "thin" else ""


def _verdict(goal: str, reached: bool) -> str:
    return f"{goal}: {'reached' if reached else '**missed**'}"


def _audit(report: Report) -> list[str]:
    milliseconds = [1000 * seconds for seconds in report.receipts]
    size = report.sizes["audit"]["gesso"] / FILES / 1e6
    goal = _verdict("goal ≤ 50 ms", statistics.median(milliseconds) <= 50)
    lines = [
        "## Audit",
        "",
        (
            f"Receipts of {RECEIPTS} models: {spread(milliseconds, 1)} ms;"
            f" {goal}. All bytes of {FILES} files of {size:.0f} MB"
            " (in memory), one process per core:"
        ),
        "",
        "| | s | MB/s | peak memory, MB | CPU, s | gesso's rate / its | goal |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, costs in report.costs["audit"].items():
        ratio = report.rate("audit", "gesso") / report.rate("audit", name)
        goal = _verdict("≥ 0.9", ratio >= 0.9) if name == "sha256sum" else ""
        lines.append(
            f"| {'**gesso**' if name == 'gesso' else name} | {spread([cost.seconds for cost in costs], 2)} "
            f"| {report.rate('audit', name):.0f} | {report.memory('audit', name) / 1e6:.0f} "
            f"| {statistics.median(cost.cpu for cost in costs):.1f} "
            f"| {'' if name == 'gesso' else f'{ratio:.2f}'} | {goal} |"
        )
    return [*lines, ""]


def _scaling(report: Report) -> list[str]:
    names = list(report.costs["sizes"])
    lines = [
        "## How it scales",
        "",
        "| gesso, unlimited | s | MB/s | peak memory, MB | CPU, s |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        costs = report.costs["sizes"][name]
        lines.append(
            f"| {name} | {spread([cost.seconds for cost in costs], 2)} | {report.rate('sizes', name):.0f} "
            f"| {report.memory('sizes', name) / 1e6:.0f} | {statistics.median(cost.cpu for cost in costs):.1f} |"
        )
    first, last = names[0], names[-1]
    factor = report.sizes["sizes"][last] / report.sizes["sizes"][first]
    longer = report.seconds("sizes", last) / report.seconds("sizes", first)
    memory = report.memory("sizes", last) / report.memory("sizes", first)
    most = max(report.memory("sizes", name) for name in names) / 1e6
    return [
        *lines,
        "",
        (
            f"{factor:.0f} times the bytes take {longer:.1f} times the time and {memory:.2f} times the memory (at most"
            f" {most:.0f} MB; {_verdict('goal ≤ 150 MB', most <= _MEMORY_GOAL / 1e6)})."
        ),
        "",
    ]


def _plot(report: Report) -> str:
    groups: list[tuple[str, list[Bar]]] = []
    for table, title in _TITLES.items():
        if report.costs.get(table):
            gigabytes = report.sizes[table].get("gesso", 0) / 1e9
            label = f"{title}: s for {gigabytes:g} GB (green: compares sha256, grey: does not)"
            same = [name for name in report.costs[table] if report.sizes[table][name] / 1e9 == gigabytes]
            groups.append((label, [_bar(report, table, name) for name in same]))
    if report.costs.get("audit"):
        label = f"whole audit: s for {FILES} files, {report.sizes['audit']['gesso'] / 1e9:g} GB"
        groups.append((label, [_bar(report, "audit", name) for name in report.costs["audit"]]))
    if report.costs.get("sizes"):
        groups.append(("gesso, s by size", [_bar(report, "sizes", name) for name in report.costs["sizes"]]))
        memory = [Bar(name, report.memory("sizes", name) / 1e6, OURS) for name in report.costs["sizes"]]
        groups.append(("gesso, MB of memory by size", memory))
    return bars(groups, names=216, width=736)


def _bar(report: Report, table: str, name: str) -> Bar:
    seconds = [cost.seconds for cost in report.costs[table][name]]
    ours = name == "gesso" or table == "sizes"
    verified = table == "audit" or (name in report.peers and report.peers[name].verifies)
    colour = OURS if ours else VERIFIED if verified else OTHER
    return Bar(name, statistics.median(seconds), colour, min(seconds), max(seconds))


def _data(report: Report) -> dict[str, Any]:
    tables = {
        table: {name: _numbers(report, table, name) for name in found} for table, found in report.costs.items()
    }  # fmt: skip
    return {
        "machine": _machine(),
        "tools": _tools(),
        "tables": tables,
        "receipts_seconds": report.receipts,
        "skipped": dict(report.skipped),
    }


def _numbers(report: Report, table: str, name: str) -> dict[str, Any]:
    costs = report.costs[table][name]
    numbers: dict[str, Any] = {
        "bytes": report.sizes[table][name],
        "seconds": [round(cost.seconds, 4) for cost in costs],
        "cpu_seconds": [round(cost.cpu, 3) for cost in costs],
        "peak_memory": [cost.memory for cost in costs],
        "cores_busy_with_others": [round(cost.others, 2) for cost in costs],
        "median_seconds": round(report.seconds(table, name), 4),
    }
    if name in report.peers:
        numbers["compares_sha256"] = report.peers[name].verifies
    if name == "gesso" or table == "sizes":
        numbers["seconds_without_start"] = [round(seconds_without_start(cost), 4) for cost in costs]
    if table not in {"sizes", "audit"} and (ratio := report.ratio(table, name)) is not None:
        numbers["gesso_time_ratio"] = round(ratio, 4)
    return numbers


def _machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), platform.machine())
    cores = len(os.sched_getaffinity(0))
    return {
        "cores": cores,
        "cpu": model,
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
    }


def _machine_line() -> str:
    machine = _machine()
    return f"{machine['cores']} cores, {machine['cpu']}, Linux {machine['kernel']}, Python {machine['python']}"


def _tools() -> dict[str, str]:
    """Return the version of each system program."""
    options = {
        "curl": "--version",
        "aria2c": "--version",
        "openssl": "version",
        "sha256sum": "--version",
        "nginx": "-v",
    }
    versions = {}
    for name, option in options.items():
        try:
            done = subprocess.run([name, option], capture_output=True, text=True, check=False)
        except OSError:
            continue
        versions[name] = (done.stdout or done.stderr).splitlines()[0]
    return versions
