"""A fake heal for tests: it writes a journal and a report as configured by a file (docs/adr/0022).

fake_heal.py WORKSPACE heal --id ID --by WHO [--dry-run]

WORKSPACE/gesso/fake-heal.json: `damages` that it finds (except in a dry run it removes the repairable ones from the
file), `hold`: the event before which it waits while fake-heal.hold exists (and before that at the event named in
fake-heal.hold, while it is named there), `die`: the event before which it ends.
It needs only Python, so it runs in any image.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any


class Heal:
    def __init__(self, state: Path, name: str) -> None:
        self.state, self.name = state, name
        self.plan: dict[str, Any] = {}
        with contextlib.suppress(OSError):
            self.plan = json.loads((state / "fake-heal.json").read_text())

    def emit(self, event: str, **facts: Any) -> None:
        while self._held(event):
            time.sleep(0.02)
        if self.plan.get("die") == event:
            os._exit(9)
        line = json.dumps({"at": round(time.time(), 3), "event": event, **facts})
        with (self.state / "reports" / f"{self.name}.jsonl").open("a") as file:
            file.write(f"{line}\n")

    def _held(self, event: str) -> bool:
        try:
            first = (self.state / "fake-heal.hold").read_text()
        except FileNotFoundError:
            return False
        return event in {self.plan.get("hold"), first}

    def run(self, by: str, *, dry_run: bool) -> int:
        begun = time.time()
        self.emit("begun", id=self.name, by=by, arch="sdxl", dry_run=dry_run)
        damages: list[dict[str, Any]] = self.plan.get("damages", [])
        for what in ("python", "code", "config", "workflows", "models"):
            self.emit("examining", what=what)
        self.emit("progress", what="models", done=500_000, size=1_000_000)
        for damage in damages:
            self.emit("found", damage=damage)
        todo = [d for d in damages if d.get("repairable", True)]
        fetch = sum(d.get("size") or 0 for d in todo)
        self.emit("planned", steps=todo, fetch_bytes=fetch)
        if not dry_run:
            for damage in todo:
                self._repair(damage)
            if any(d.get("restart") for d in todo):
                self.emit("restarting", what="ComfyUI", why="its code was repaired")
            left = [d for d in damages if d not in todo]
            (self.state / "fake-heal.json").write_text(json.dumps({**self.plan, "damages": left}))
        ok = len(todo) == len(damages) and (not dry_run or not damages)
        summary = "nothing is wrong" if not damages else f"{len(damages)} found"
        self.emit("ended", ok=ok, code=int(not ok), summary=summary)
        report = {
            "format": 1, "id": self.name, "by": by, "arch": "sdxl", "title": "A toy", "begun": begun,
            "ended": time.time(), "dry_run": dry_run, "ok": ok, "code": int(not ok), "summary": summary,
            "damages": [{**d, "outcome": _outcome(d, dry_run=dry_run), "why": "", "next": d.get("next_step", "")}
                        for d in damages],
            "restarted": not dry_run and any(d.get("restart") for d in todo), "fetched": 0 if dry_run else fetch,
            "seconds": round(time.time() - begun, 1), "notes": [],
        }  # fmt: skip
        new = self.state / "reports" / f".{self.name}.new"
        new.write_text(json.dumps(report))
        new.replace(self.state / "reports" / f"{self.name}.json")
        return int(not ok)

    def _repair(self, damage: dict[str, Any]) -> None:
        identity = {"kind": damage["kind"], "name": damage["name"]}
        self.emit("repairing", **identity, remedy=damage["remedy"])
        if damage["kind"] == "model":
            for part in range(1, 11):
                done = (damage.get("size") or 10) * part // 10
                self.emit("model", kind="progress", name=damage["name"], size=damage.get("size"), done=done)
        self.emit("repaired", **identity, said=damage["remedy"])


def _outcome(damage: dict[str, Any], *, dry_run: bool) -> str:
    if not damage.get("repairable", True):
        return "left"
    return "planned" if dry_run else "repaired"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("workspace", type=Path)
    parser.add_argument("command", choices=["heal"])
    parser.add_argument("--id", required=True)
    parser.add_argument("--by", required=True)
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    state = options.workspace / "gesso"
    (state / "reports").mkdir(parents=True, exist_ok=True)
    with (state / "heal.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return Heal(state, options.id).run(options.by, dry_run=options.dry_run)


if __name__ == "__main__":
    raise SystemExit(main())
