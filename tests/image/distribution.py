"""How the contract is distributed to pytest-xdist's workers, and which modules are the same on every architecture.

Most of these tests wait for a container. Those of a module share one that they damage and heal, so they run on one
worker, in order; tests with their own containers are distributed separately.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from collections.abc import Iterable

# The longest come first, so that no worker starts one when the others are done.
FIRST = (
    "test_chaos_fetch",
    "test_chaos",
    "test_damaged_state",
    "test_truth",
    "test_heal",
    "test_launch",
    "test_heal_page",
    "test_serving",
)
# Each of these tests has its own containers.
SINGLE = {"test_chaos_fetch"}
# Gate, page, boot, and the heal's machinery: nothing in them depends on the architecture.
ANY_ARCH = {
    "test_chaos", "test_chaos_fetch", "test_damaged_state", "test_gate", "test_hardened", "test_heal_foreign",
    "test_heal_page", "test_hostile_packs", "test_launch", "test_page", "test_page_states", "test_spares", "test_truth",
}  # fmt: skip


def module_of(nodeid: str) -> str:
    """Return the module's name: test_gate. Pure."""
    return nodeid.partition("::")[0].rpartition("/")[2].removesuffix(".py")


def group_of(nodeid: str) -> str:
    """Return the group of a test: a module, one launch mode of test_launch, or a single test. Pure."""
    module = module_of(nodeid)
    if module in SINGLE:
        return nodeid
    mode = re.search(r"\[((?:args|ssh|jupyter)[\w-]*)\]\Z", nodeid) if module == "test_launch" else None
    return f"{module} {mode[1]}" if mode else module


def in_order(nodeids: Iterable[str]) -> list[str]:
    """Sort by module, the longest first; keep the order within a module. Pure."""
    rank = {name: number for number, name in enumerate(FIRST)}
    return sorted(nodeids, key=lambda nodeid: rank.get(module_of(nodeid), len(rank)))


class DistributionScheduler(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Distributes these groups, in this order."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> DistributionScheduler:
    return DistributionScheduler(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the tests; with --gesso-part deselect those that are the same on every architecture."""
    by_id = {item.nodeid: item for item in items}
    items[:] = [by_id[nodeid] for nodeid in in_order(by_id)]
    if not config.getoption("--gesso-part"):
        return
    deselected = [item for item in items if module_of(item.nodeid) in ANY_ARCH]
    items[:] = [item for item in items if module_of(item.nodeid) not in ANY_ARCH]
    config.hook.pytest_deselected(items=deselected)
