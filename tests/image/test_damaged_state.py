"""Files that gesso keeps are damaged in every way: the instance ends `ready`, or says what is wrong, and never crashes.

`GESSO_ROUNDS=200` runs more rounds than the contract has; `GESSO_SEED` chooses others.
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from docker.models.images import Image

    from .conftest import Instance, Instances

ROUNDS = int(os.environ.get("GESSO_ROUNDS", "10"))
SEED = int(os.environ.get("GESSO_SEED", "1"))
FIND = (
    "find /run/gesso /workspace/gesso /workspace/models/.gesso -xdev -type f"
    " -not -name '*.lock' -not -path '*/quarantine/*' -not -path '*/comfyui/*' -not -path '*/caddy/*'"
)
DAMAGES = {
    "empty": ": > {0}",
    "cut": "truncate -s $(($(stat -c %s {0}) / 2)) {0}",
    "binary": r"printf '\377\376\000{{\200' > {0}",
    "nested": "python3 -c \"open('{0}', 'w').write('[' * 100000)\"",
    "wrong JSON": "printf '{{\"a\": [1, null]}}' > {0}",
    "folder": "rm {0}; mkdir {0}",
    "gone": "rm {0}",
    "dangling link": "rm {0}; ln -s /nowhere/x {0}",
    "loop": "rm {0}; ln -s {0} {0}",
    "pipe": "rm {0}; mkfifo {0}",
}
CRASHES = ("Traceback", "unexpected error", "open an issue", "RecursionError")


@pytest.fixture(scope="module")
def mine(instances: Instances, image: Image) -> Instance:
    started = instances.start(image, env={"GESSO_TOKEN": ""})  # a token of its own, kept in a file
    started.wait_until_healthy()
    return started


def _outcome(mine: Instance) -> dict[str, Any]:
    """Wait until the state is settled; a start that is refused ends the container, with a sentence."""
    deadline = time.monotonic() + 90
    while True:
        mine.container.reload()
        if mine.container.status == "exited":
            return {"state": "ended", "why": mine.logs().strip().splitlines()[-1]}
        found = mine.status()
        if found.get("state") in {"ready", "degraded", "failed"}:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"neither ready nor failed: {found}\n{mine.logs()}", pytrace=False)
        time.sleep(0.3)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_it_ends_ready_or_honest(mine: Instance, number: int) -> None:
    dice = random.Random(f"{SEED} {number}")
    files = sorted(mine.run(FIND).stdout.split())
    path, kind = dice.choice(files), dice.choice(sorted(DAMAGES))
    assert mine.run(DAMAGES[kind].format(path)).rc == 0, (path, kind)
    said = ""
    for command in ("status", "url", "health", "heal"):
        done = mine.run(f"timeout 60 gesso {command}")
        assert done.rc in {0, 1, 2, 4, 5}, (path, kind, command, done.rc, done.stdout, done.stderr)
        said += done.stdout + done.stderr
    if dice.random() < 0.5:
        mine.container.restart(timeout=10)
    found = _outcome(mine)
    said += mine.run("gesso heal").stdout + mine.logs()
    assert not [word for word in CRASHES if word in said], (path, kind, said[-3000:])
    assert found["state"] in {"ready", "degraded"} or found["why"], (path, kind)
    if found["state"] in {"failed", "ended"}:  # it said so: the person follows
        mine.run(f"rm -rf {path}")
        mine.container.restart(timeout=10)
        mine.wait_until_healthy()
