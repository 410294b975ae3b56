"""For all tests: Ctrl-C is Ctrl-C, coverage counts what was tested on purpose, and `GESSO_JUNIT` names a folder for
reports in JUnit's format.

Whoever starts the tests in the background of a script has SIGINT ignored, and every child of theirs inherits that: then
nothing that ends, or is ended, by it would.
"""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from coverage import Coverage

if TYPE_CHECKING:
    from collections.abc import Generator

signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Name the report after what was asked for: one run of the project's own tests has several."""
    folder = os.environ.get("GESSO_JUNIT")
    if folder and not config.option.xmlpath:
        asked = [Path(word.split("::")[0]).stem for word in config.args]
        config.option.xmlpath = str(Path(folder) / f"{'-'.join(asked)[:80] or 'tests'}.xml")


def _measuring() -> Coverage | None:
    """Measure a worker of `invoke test`, which names the folder for it; from here on: other conftests import gesso.

    (Under xdist, pytest-cov measures what `no_cover` should leave out: it starts twice, and stops once.)
    """
    folder = os.environ.get("GESSO_COVERAGE")
    if not folder or "PYTEST_XDIST_WORKER" not in os.environ:
        return None
    found = Coverage(data_file=f"{folder}/.coverage", data_suffix=True)
    found.start()
    return found


MEASURING = _measuring()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Leave made-up inputs out of the coverage: a line that only they reach has no test that says what it should do.

    (Measuring thousands of them takes three times as long as running them.)
    """
    made_up = item.get_closest_marker("no_cover") or getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    if MEASURING is None or not made_up:
        return (yield)
    MEASURING.stop()
    try:
        return (yield)
    finally:
        MEASURING.start()


def pytest_collection_finish() -> None:
    """Leave what was collected out of the search for garbage: it stays to the end, and is thousands of tests."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    if MEASURING is not None:
        MEASURING.stop()
        MEASURING.save()
