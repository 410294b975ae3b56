"""gesso's verified fetch beside what people use instead: same file, same nginx on loopback, interleaved in one run.

    python -m bench.fetch [--size 2GB] [--rounds 5] [--only full-speed,gesso,curl] [--folder FOLDER]

What counts are the ratios: the machine is noisy, and the same for all. A run of all tables is kept in bench/results;
one of some of them is only printed. The folder takes about 11 times the size while it runs; afterwards only the peers'
environments are left in it.
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
_SLOW, _SLOW_ROUNDS = 25.0, 3  # seconds of a run that is slow, and so steady; and how many rounds are enough for it
_ONLY_CAPPED = "aria2c -x16"  # where nothing is capped it is no faster than with 8
_CAPPED = ("gesso", "aria2c -x8", _ONLY_CAPPED)
_SHARES = (0.125, 0.5, 1.0, 3.0)  # of the size, to see how it scales


@dataclass
class Bench:
    """One run: where it works, and what it has found."""

    work: Path
    peers: Peers
    size: int
    rounds: int
    found: dict[str, dict[str, list[Cost]]] = field(default_factory=dict)
    sizes: dict[str, dict[str, int]] = field(default_factory=dict)  # bytes fetched, by table and contender
    receipts: list[float] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """What contenders run in."""
        return environment(self.work / "home")

    def run(self, tables: Sequence[str]) -> None:
        """Measure the tables that are asked for."""
        (self.work / "home").mkdir(parents=True)
        www = self.work / "www"
        wanted = self._wanted(tables)
        sources = {size: fetch_server.make(www, f"m{size}.safetensors", size) for size in sorted(wanted)}
        with fetch_server.serve(www, list(sources.values()), self.work) as sites:
            for source in sources.values():
                fetch_server.warm(www / source.name)
            self._fetches(tables, sites, sources)
        shutil.rmtree(www)
        shutil.rmtree(self.work / "out", ignore_errors=True)
        if "audit" in tables:
            self.receipts = fetch_audit.receipts(self.work / "receipts", self.env, max(self.rounds, 5))
            size = self.size // 4
            self.found["audit"] = fetch_audit.full(self.work / "audit", self.env, self.rounds, size)
            self.sizes["audit"] = dict.fromkeys(self.found["audit"], size * fetch_audit.FILES)

    def _wanted(self, tables: Sequence[str]) -> set[int]:
        wanted = {self.size}
        if "capped" in tables:
            wanted.add(self._small)
        if "thin" in tables:
            wanted.add(self._thin)
        if "sizes" in tables:
            wanted |= {int(self.size * share) for share in _SHARES}
        free = shutil.disk_usage(self.work).free
        while sum(wanted) + max(wanted) * 2 > free and max(wanted) > self.size:
            self.skipped[f"{max(wanted) / 1e9:g} GB"] = "the disk is too small for it"
            wanted.remove(max(wanted))
        return wanted

    @property
    def _small(self) -> int:
        return self.size // 10

    @property
    def _thin(self) -> int:
        return max(15_000_000, self.size * 3 // 100)

    def _fetches(self, tables: Sequence[str], sites: Sites, sources: dict[int, Source]) -> None:
        slow, whole = min(self.rounds, _SLOW_ROUNDS), sources[self.size]
        every = self.peers.all
        if "full-speed" in tables:
            entries = [(peer.name, peer, whole) for peer in every.values() if peer.name != _ONLY_CAPPED]
            self._compete("full-speed", sites.fast, entries, self.rounds)
        if "capped" in tables:
            entries = [(name, every[name], whole) for name in _CAPPED if name in every]
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
        """Let each fetch once a round, another one first each time; who fails is out, and said to be."""
        found = self.found[table] = {name: [] for name, _, _ in entries}
        self.sizes[table] = {name: source.size for name, _, source in entries}
        for turn in range(rounds):
            first = turn % len(entries)
            for name, peer, source in entries[first:] + entries[:first]:
                if name not in found or (turn >= _SLOW_ROUNDS and found[name][-1].seconds > _SLOW):
                    continue
                cost, failure = self._once(site, peer, source, look=turn == 0)
                if failure:
                    self.skipped[f"{name} ({table})"] = failure
                    del found[name]
                    print(f"{table}: {name} is out: {failure}", file=sys.stderr)
                    continue
                found[name].append(cost)
                rate = source.size / cost.seconds / 1e6
                print(f"{table}, round {turn + 1}: {name} {cost.seconds:.2f} s, {rate:.0f} MB/s, "
                      f"{cost.memory / 1e6:.0f} MB, others {cost.others:.2f}", file=sys.stderr)  # fmt: skip

    def _once(self, site: Site, peer: Peer, source: Source, *, look: bool) -> tuple[Cost, str]:
        """Fetch into an empty folder, when the disk has nothing more to write."""
        target = self.work / "out" / "checkpoints" / source.name

        def prepare() -> None:
            shutil.rmtree(self.work / "out", ignore_errors=True)
            target.parent.mkdir(parents=True)
            os.sync()

        cost = measure(peer.command(site, source, target), self.env, self.work, site.server, prepare)
        if cost.code:
            return cost, f"exit code {cost.code}: {cost.said.strip()[-300:]}"
        if not target.is_file() or target.stat().st_size != source.size:
            return cost, "no file of the right size where it was to be"
        if look:
            with target.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != source.sha256:
                    return cost, "the file has the wrong bytes"
        return cost, ""


def size_of(text: str) -> int:
    """Read a size such as 2GB or 200MB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMG]?)B?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text}: not a size such as 2GB")
    return int(float(match[1]) * _UNITS[match[2]])


def main(words: Sequence[str] | None = None) -> None:
    """Measure, and write bench/results/fetch.{json,md,svg}."""
    parser = argparse.ArgumentParser(prog="python -m bench.fetch", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--size", type=size_of, default=size_of("2GB"), help="of the file (default: 2GB)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="of each table; three at most where one takes long (default: 5)"
    )
    parser.add_argument(
        "--only", default="", metavar="NAMES", help=f"tables ({', '.join(TABLES)}) and contenders, with commas between"
    )
    parser.add_argument("--folder", type=Path, help="on the disk to measure (default: gesso-bench in the user's cache)")
    parser.add_argument("--keep", action="store_true", help="write the results although they are of a part")
    asked = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended, and files go
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder: Path = (asked.folder or Path(cache) / "gesso-bench").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    names = {name.strip() for name in asked.only.split(",")} - {""}
    tables = [table for table in TABLES if table in names] or list(TABLES)
    with tempfile.TemporaryDirectory(prefix="run-", dir=folder) as scratch:
        Path(scratch).chmod(0o755)  # nginx's workers are another user where they are not root
        peers = Peers(folder / "peers", names - set(TABLES))
        bench = Bench(Path(scratch) / "work", peers, asked.size, asked.rounds, skipped=peers.skipped)
        bench.run(tables)
    report = fetch_report.Report(bench.found, bench.sizes, bench.receipts, bench.skipped, peers.all)
    fetch_report.write(report, keep=asked.keep or not names)


if __name__ == "__main__":
    main()
