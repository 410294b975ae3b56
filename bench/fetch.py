"""Benchmark gesso's verified fetch against the usual tools: same file, same nginx on loopback, interleaved runs.

    python -m bench.fetch [--size 2GB] [--rounds 5] [--only full-speed,gesso,curl] [--folder FOLDER]

Compare the ratios: the machine is noisy, but the same for all. A run of all tables is written to bench/results; a run
of some is only printed. The folder needs about 11 times the size during the run; afterwards only the peers'
environments stay in it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench import fetch_audit, fetch_report, fetch_server
from bench.fetch_measure import Cost, measure
from bench.fetch_peers import Peers, environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.fetch_peers import Peer
    from bench.fetch_server import Site, Sites, Source

TABLES = ("full-speed", "capped", "thin", "audit", "sizes")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_SLOW, _SLOW_ROUNDS = 25.0, 3  # seconds from which a run is slow, so its times vary little; rounds that suffice then
_ONLY_CAPPED = "aria2c -x16"  # without a cap it is no faster than with 8
_CAPPED = ("gesso", "aria2c -x8", _ONLY_CAPPED)
_SHARES = (0.125, 0.5, 1.0, 3.0)  # of the size, to see how it scales


@dataclass
class Bench:
    """One run: its folder, its options and its results."""

    work: Path
    peers: Peers
    size: int
    rounds: int
    costs: dict[str, dict[str, list[Cost]]] = field(default_factory=dict)  # by table and contender
    sizes: dict[str, dict[str, int]] = field(default_factory=dict)  # bytes fetched, by table and contender
    receipts: list[float] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """The contenders' environment variables."""
        return environment(self.work / "home")

    def run(self, tables: Sequence[str]) -> None:
        """Measure the given tables."""
        (self.work / "home").mkdir(parents=True)
        www = self.work / "www"
        sizes = self._file_sizes(tables)
        sources = {size: fetch_server.make(www, f"m{size}.safetensors", size) for size in sorted(sizes)}
        with fetch_server.serve(www, list(sources.values()), self.work) as sites:
            for source in sources.values():
                fetch_server.warm(www / source.name)
            self._fetches(tables, sites, sources)
        shutil.rmtree(www)
        shutil.rmtree(self.work / "out", ignore_errors=True)
        if "audit" in tables:
            self.receipts = fetch_audit.receipts(self.work / "receipts", self.env, max(self.rounds, 5))
            size = self.size // 4
            self.costs["audit"] = fetch_audit.full(self.work / "audit", self.env, self.rounds, size)
            self.sizes["audit"] = dict.fromkeys(self.costs["audit"], size * fetch_audit.FILES)

    def _file_sizes(self, tables: Sequence[str]) -> set[int]:
        sizes = {self.size}
        if "capped" in tables:
            sizes.add(self._small)
        if "thin" in tables:
            sizes.add(self._thin)
        if "sizes" in tables:
            sizes |= {int(self.size * share) for share in _SHARES}
        free = shutil.disk_usage(self.work).free
        while sum(sizes) + max(sizes) * 2 > free and max(sizes) > self.size:
            self.skipped[f"{max(sizes) / 1e9:g} GB"] = "not enough disk space"
            sizes.remove(max(sizes))
        return sizes

    @property
    def _small(self) -> int:
        return self.size // 10

    @property
    def _thin(self) -> int:
        return max(15_000_000, self.size * 3 // 100)

    def _fetches(self, tables: Sequence[str], sites: Sites, sources: dict[int, Source]) -> None:
        slow, full = min(self.rounds, _SLOW_ROUNDS), sources[self.size]
        every = self.peers.all
        if "full-speed" in tables:
            entries = [(peer.name, peer, full) for peer in every.values() if peer.name != _ONLY_CAPPED]
            self._compete("full-speed", sites.fast, entries, self.rounds)
        if "capped" in tables:
            entries = [(name, every[name], full) for name in _CAPPED if name in every]
            if "curl" in every:
                entries.append(("curl", every["curl"], sources[self._small]))
            self._compete("capped", sites.capped, entries, slow)
        if "thin" in tables and isinstance(sites.thin, str):
            self.skipped["20 Mbit/s link"] = sites.thin
        elif "thin" in tables and not isinstance(sites.thin, str):
            entries = [(name, every[name], sources[self._thin]) for name in ("curl", "gesso") if name in every]
            self._compete("thin", sites.thin, entries, slow)
        if "sizes" in tables and "gesso" in every:
            scaled = sorted(sources[size].size for size in {int(self.size * share) for share in _SHARES} & set(sources))
            entries = [(f"{size / 1e9:g} GB", every["gesso"], sources[size]) for size in scaled]
            self._compete("sizes", sites.fast, entries, slow)

    def _compete(self, table: str, site: Site, entries: list[tuple[str, Peer, Source]], rounds: int) -> None:
        """Run each contender once a round, in rotated order; a failing one is reported and left out."""
        costs = self.costs[table] = {name: [] for name, _, _ in entries}
        self.sizes[table] = {name: source.size for name, _, source in entries}
        for turn in range(rounds):
            first = turn % len(entries)
            for name, peer, source in entries[first:] + entries[:first]:
                if name not in costs or (turn >= _SLOW_ROUNDS and costs[name][-1].seconds > _SLOW):
                    continue
                cost, failure = self._once(site, peer, source, verify=turn == 0)
                if failure:
                    self.skipped[f"{name} ({table})"] = failure
                    del costs[name]
                    print(f"{table}: {name} failed: {failure}", file=sys.stderr)
                    continue
                costs[name].append(cost)
                rate = source.size / cost.seconds / 1e6
                print(f"{table}, round {turn + 1}: {name} {cost.seconds:.2f} s, {rate:.0f} MB/s, "
                      f"{cost.memory / 1e6:.0f} MB, others {cost.others:.2f}", file=sys.stderr)  # fmt: skip

    def _once(self, site: Site, peer: Peer, source: Source, *, verify: bool) -> tuple[Cost, str]:
        """Fetch into an empty folder, after the disk's pending writes; return the cost, and the failure or ""."""
        target = self.work / "out" / "checkpoints" / source.name

        def prepare() -> None:
            shutil.rmtree(self.work / "out", ignore_errors=True)
            target.parent.mkdir(parents=True)
            os.sync()

        cost = measure(peer.command(site, source, target), self.env, self.work, site.server, prepare)
        if cost.code:
            return cost, f"exit code {cost.code}: {cost.output.strip()[-300:]}"
        if not target.is_file() or target.stat().st_size != source.size:
            return cost, "no file of the right size at the target"
        if verify:
            with target.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != source.sha256:
                    return cost, "the file has the wrong bytes"
        return cost, ""


def size_of(text: str) -> int:
    """Parse a size such as 2GB or 200MB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMG]?)B?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text}: not a size such as 2GB")
    return int(float(match[1]) * _UNITS[match[2]])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write bench/results/fetch.{json,md,svg}."""
    parser = argparse.ArgumentParser(prog="python -m bench.fetch", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--size", type=size_of, default=size_of("2GB"), help="size of the file (default: 2GB)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds of each table; at most 3 if one takes long (default: 5)"
    )
    parser.add_argument(
        "--only", default="", metavar="NAMES", help=f"comma-separated tables ({', '.join(TABLES)}) and contenders"
    )
    parser.add_argument(
        "--folder", type=Path, help="folder on the disk to measure (default: gesso-bench in the user's cache)"
    )
    parser.add_argument("--keep", action="store_true", help="write the results of a partial run, too")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that child processes end and files are removed
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder: Path = (options.folder or Path(cache) / "gesso-bench").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    names = {name.strip() for name in options.only.split(",")} - {""}
    tables = [table for table in TABLES if table in names] or list(TABLES)
    with tempfile.TemporaryDirectory(prefix="run-", dir=folder) as scratch:
        Path(scratch).chmod(0o755)  # nginx's workers may be another user
        peers = Peers(folder / "peers", names - set(TABLES))
        bench = Bench(Path(scratch) / "work", peers, options.size, options.rounds, skipped=peers.skipped)
        bench.run(tables)
    report = fetch_report.Report(bench.costs, bench.sizes, bench.receipts, bench.skipped, peers.all)
    fetch_report.write(report, keep=options.keep or not names)


if __name__ == "__main__":
    main()
