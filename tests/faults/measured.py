"""Run a fetch, or a full check, in its own process and print its peak memory in kB."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gesso.manifest.schema import Model
from gesso.models.download import transfer
from gesso.models.fetch import Options, fetch
from gesso.models.folder import Folder
from gesso.models.net import limits
from gesso.models.verify import audit


def main(what: str, root: str, listed: str) -> None:
    """Run it and print the peak."""
    models = [Model.model_validate(entry) for entry in json.loads(listed)]
    folder = Folder.at(Path(root))
    if what == "fetch":
        vars(transfer)["FIRST"] = limits.MOST  # all connections from the start
        outcomes = fetch(models, folder, env={}, options=Options())
        assert all(outcome.state == "fetched" for outcome in outcomes), outcomes
    else:
        assert all(verdict.ok and verdict.by == "hash" for verdict in audit(models, folder, "full"))
    status = Path("/proc/self/status").read_text(encoding="ascii")
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    print(peak)  # noqa: T201 - the answer


if __name__ == "__main__":
    main(*sys.argv[1:])
