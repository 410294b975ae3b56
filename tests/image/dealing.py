"""How the contract is dealt out to pytest-xdist's workers, and which of it is the same on every architecture.

Most of these tests wait for a container. Those of a module share one that they damage and heal, so that they go to one
worker, in their order; where each test has a container of its own, each is dealt by itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from collections.abc import Iterable

# What takes longest comes first, so that no worker begins it when the others are done.
FIRST = ("test_chaos_fetch", "test_chaos", "test_heal", "test_launch", "test_heal_page", "test_serving")
# Each test of these has containers of its own.
SINGLE = {"test_chaos_fetch"}
# About the gate, the page, the boot, the heal's machinery: nothing in them reads what an architecture brings with it.
ANY_ARCH = {
    "test_chaos", "test_chaos_fetch", "test_gate", "test_heal_foreign", "test_heal_page", "test_hostile_packs",
    "test_launch", "test_page", "test_spares",
}  # fmt: skip


def module_of(nodeid: str) -> str:
    """Give the module's name: test_gate. Pure."""
    return nodeid.partition("::")[0].rpartition("/")[2].removesuffix(".py")


def group_of(nodeid: str) -> str:
    """Give what is dealt as one: a module, one launch mode of test_launch, or a single test. Pure."""
    module = module_of(nodeid)
    if module in SINGLE:
        return nodeid
    mode = re.search(r"\[(args|ssh|jupyter)\]\Z", nodeid) if module == "test_launch" else None
    return f"{module} {mode[1]}" if mode else module


def in_order(nodeids: Iterable[str]) -> list[str]:
    """Sort by module, the longest first; within a module as they stand. Pure."""
    rank = {name: number for number, name in enumerate(FIRST)}
    return sorted(nodeids, key=lambda nodeid: rank.get(module_of(nodeid), len(rank)))


class Dealer(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Deals out these groups, in this order."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Dealer:
    return Dealer(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put them in order, and where only a part is asked for, leave out the others: pytest counts them as deselected."""
    by_id = {item.nodeid: item for item in items}
    items[:] = [by_id[nodeid] for nodeid in in_order(by_id)]
    if not config.getoption("--gesso-part"):
        return
    left_out = [item for item in items if module_of(item.nodeid) in ANY_ARCH]
    items[:] = [item for item in items if module_of(item.nodeid) not in ANY_ARCH]
    config.hook.pytest_deselected(items=left_out)
