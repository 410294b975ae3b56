"""For all tests: Ctrl-C is Ctrl-C, and a report in JUnit's format where `GESSO_JUNIT` names a folder for it.

Whoever starts the tests in the background of a script has SIGINT ignored, and every child of theirs inherits that: then
nothing that ends, or is ended, by it would.
"""

import os
import signal
from pathlib import Path

import pytest

signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Name the report after what was asked for: one run of the project's own tests has several."""
    folder = os.environ.get("GESSO_JUNIT")
    if folder and not config.option.xmlpath:
        asked = [Path(word.split("::")[0]).stem for word in config.args]
        config.option.xmlpath = str(Path(folder) / f"{'-'.join(asked)[:80] or 'tests'}.xml")
