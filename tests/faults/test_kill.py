"""kill -9 at any moment: visible files are right, marked blocks are never requested again, the next run finishes."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest
from mirror import Mirror, behaviour

from .fetching import model_of, vae
from .harms import DAMAGES
from .rounds import Child, Forks, Target, start_forks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KILLS = int(os.environ.get("GESSO_KILLS", "200"))
SEED = int(os.environ.get("GESSO_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
BLOCK = 64 << 10  # smaller than the real one, so that more happens in a short time
CONNECTIONS = 4
FILE = "/vae.safetensors"


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with start_forks(tmp_path_factory.mktemp("forks")) as found:
        yield found


def place(mirror: Mirror, root: Path, size: int, seed: int = 1, block: int = BLOCK) -> Target:
    data = vae(size, seed=seed)
    mirror.files[FILE] = data
    return Target(root, model_of(data, mirror.url(FILE)), data, block)


def after_a_kill(at: Target, mirror: Mirror, child: Child, had: set[int]) -> set[int]:
    """Check the invariants after a run that started with the blocks `had`; return the blocks that are complete now."""
    exists = at.assert_never_wrong()
    assert at.repeated_requests(mirror.requests, had) == []
    if exists:
        assert child.received <= len(at.data) - at.bytes_of(had) + BLOCK
        return set()
    now = at.marked()
    assert now >= had
    # Received bytes that are not stored were in flight: at most one block of each connection, and the first one's.
    assert child.received - at.bytes_of(now - had) <= (CONNECTIONS + 1) * at.block
    return now


def test_killed_at_random_moments(forks: Forks, mirror: Mirror, tmp_path: Path) -> None:
    """A run takes about a fifth of a second and is killed at a random moment, repeatedly."""
    chance = random.Random(SEED)
    print(f"GESSO_SEED={SEED}")  # noqa: T201 - shown where it fails
    mirror.behave(FILE, behaviour("slow", rate=6_000_000))
    kills, completed, had = 0, 0, set[int]()
    at = place(mirror, tmp_path / "models", 3_000_000)
    while kills < KILLS:
        mirror.clear_log()
        [child] = children = forks.begin(at.job(connections=CONNECTIONS))
        time.sleep(chance.uniform(0, 0.15))
        child.kill()
        forks.wait(children)
        assert child.end in {0, -signal.SIGKILL}
        kills += child.end != 0
        had = after_a_kill(at, mirror, child, had)
        if child.end == 0:
            at.assert_complete()
            assert child.outcome["state"] in {"fetched", "there"}
            completed += 1
            at.clear()
            had = set()
            at = place(mirror, tmp_path / "models", chance.randrange(1_000_000, 3_000_000), seed=completed)
    mirror.forget()
    mirror.clear_log()
    [child] = forks.run(at.job())
    assert child.end == 0
    after_a_kill(at, mirror, child, had)
    at.assert_complete()
    at.clear()


def test_killed_before_each_change_to_the_disk(forks: Forks, mirror: Mirror, tmp_path: Path) -> None:
    """Every boundary between two changes (open, write, fsync, rename, receipt, …), one after the other."""
    at = place(mirror, tmp_path / "models", 5 * BLOCK + 1000)
    done: list[str] = []
    for step in range(1, 200):
        mirror.clear_log()
        [child] = forks.run(at.job(die_at=step, connections=2))
        had = after_a_kill(at, mirror, child, set())
        if child.end == 0:
            done = (child.out / "steps").read_text(encoding="utf-8").split()
            assert step == len(done) + 1
            break
        assert child.end == -signal.SIGKILL
        completed = at.assert_never_wrong()
        mirror.clear_log()
        [second] = forks.run(at.job(connections=2))
        assert second.end == 0
        after_a_kill(at, mirror, second, had)
        assert second.received <= (0 if completed else len(at.data) - at.bytes_of(had))
        at.assert_complete()
        at.clear()
    # The interrupted run made these changes, in this order.
    order = [name for name in done if name in {"fsync", "replace", "unlink"}]
    assert order[:5] == ["fsync", "replace", "fsync", "replace", "unlink"], done
    assert done.count("pwrite") >= 2 * 6


def test_killed_twice_in_the_recovery(forks: Forks, mirror: Mirror, tmp_path: Path) -> None:
    """A killed recovery is recovered from."""
    at = place(mirror, tmp_path / "models", 5 * BLOCK + 1000)
    chance = random.Random(SEED)
    for _ in range(10):
        had: set[int] = set()
        for _ in range(3):
            mirror.clear_log()
            [child] = forks.run(at.job(die_at=chance.randrange(1, 30)))
            assert child.end in {0, -signal.SIGKILL}
            had = after_a_kill(at, mirror, child, had)
        [child] = forks.run(at.job())
        assert child.end == 0
        at.assert_complete()
        at.clear()


def test_with_the_real_size_of_a_block(forks: Forks, mirror: Mirror, tmp_path: Path) -> None:
    at = place(mirror, tmp_path / "models", 12 * (512 << 10) + 77, block=512 << 10)
    mirror.behave(FILE, behaviour("slow", rate=4_000_000))
    had: set[int] = set()
    for _ in range(5):
        mirror.clear_log()
        [child] = children = forks.begin(at.job(connections=2))
        before = len(had)
        while not (len(at.marked()) > before + 1 or at.path.exists()):
            time.sleep(0.002)
        child.kill()
        forks.wait(children)
        assert at.repeated_requests(mirror.requests, had) == []
        if at.assert_never_wrong():
            break
        now = at.marked()
        assert child.received - at.bytes_of(now - had) <= 3 * at.block
        had = now
    mirror.forget()
    [child] = forks.run(at.job())
    assert child.end == 0
    at.assert_complete()


# ── everything combined ──

SOAK = int(os.environ.get("GESSO_SOAK", "20"))
MIRRORS = [
    "healthy", "healthy", "healthy", "no-ranges", "no-ranges-chunked", "weak-etag", "no-validators", "shorter-range",
    "redirect", "503-once", "cut-once", "reset-once", "flip-once", "cut", "flip", "404", "stub", "login-page",
    "replaced", "replaced-silently", "header-only", "range-other-part", "etag-changes", "endless",
]  # fmt: skip
BAD = b"<html>no</html>"


def _harm(at: Target, chance: random.Random) -> None:
    if at.partial.exists() and at.journal.exists() and at.partial.stat().st_size == len(at.data):
        DAMAGES[chance.choice(list(DAMAGES))](at)


def _put_bad(at: Target, _: random.Random) -> None:
    at.path.parent.mkdir(parents=True, exist_ok=True)
    at.path.write_bytes(BAD)


def _take_away(at: Target, _: random.Random) -> None:
    at.path.unlink(missing_ok=True)


def _spoil(at: Target, chance: random.Random) -> None:
    if at.path.exists():
        with at.path.open("r+b") as file:
            file.seek(chance.randrange(len(at.data)))
            file.write(b"spoilt")


def test_everything_combined(forks: Forks, mirror: Mirror, tmp_path: Path) -> None:
    """Kills, two processes, changing mirrors, torn journals, damaged files: never wrong, in the end right.

    The files that a fetch makes visible are right; those that the test has written may still exist.
    """
    chance = random.Random(SEED)
    print(f"GESSO_SEED={SEED}")  # noqa: T201 - shown where it fails
    for number in range(SOAK):
        data = vae(chance.randrange(3 * BLOCK, 9 * BLOCK), seed=number)
        names = [f"/{number}/{n}.safetensors" for n in range(chance.randrange(1, 4))]
        for name in names:
            mirror.files[name] = data
        at = Target(tmp_path / str(number), model_of(data, *map(mirror.url, names)), data, BLOCK)
        for _ in range(chance.randrange(2, 6)):
            chance.choice([_harm, _harm, _put_bad, _take_away, _spoil, lambda *_: None])(at, chance)
            ours = at.path.read_bytes() if at.path.exists() else None
            for name in names:
                mirror.behave(name, behaviour(chance.choice(MIRRORS)))
            jobs = [at.job(die_at=chance.choice([0, chance.randrange(1, 40)])) for _ in range(chance.choice([1, 1, 2]))]
            children = forks.run(*jobs)
            assert all(child.end in {0, 4, -signal.SIGKILL} for child in children), [c.end for c in children]
            found = at.path.read_bytes() if at.path.exists() else None
            assert found in {None, data, ours}
            for child in children:
                if child.end == 0:
                    assert child.outcome["state"] in {"there", "fetched"}
                    assert found == data
                elif child.end == 4:
                    assert child.outcome["why"]
        mirror.forget()
        [child] = forks.run(at.job())
        assert child.end == 0, child.outcome
        assert at.assert_never_wrong()
        assert [path.name for path in at.path.parent.iterdir()] == [at.path.name]
        at.clear()
