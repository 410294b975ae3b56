"""Where results and errors become text: one place that knows exit codes, and that unexpected errors leave a report."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso import __version__
from gesso.errors import INTERRUPTED, UNEXPECTED, GessoError
from gesso.proc import redact

if TYPE_CHECKING:
    from collections.abc import Iterator


def say(line: str) -> None:
    """Say to the person at the terminal what is going on; results alone go to stdout."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def result(text: str) -> None:
    """Print a result to stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def result_json(data: Any) -> None:
    """Print a result to stdout for a script."""
    result(json.dumps(data, indent=2, sort_keys=True))


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn whatever ends the block into a message on stderr and the documented exit code."""
    try:
        yield
    except GessoError as error:
        say(f"gesso: {error}")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        say("gesso: interrupted; what was finished is kept")
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:  # the reader of our output went away: not an error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception as error:  # noqa: BLE001 - the one place for what nobody expected
        path = _leave_report(error)
        say(f"gesso: something unexpected happened: {type(error).__name__}: {redact(str(error))[:200]}")
        say(f"  next: please open an issue with the report in {path}")
        raise SystemExit(UNEXPECTED) from None


def _leave_report(error: Exception) -> Path:
    handle, name = tempfile.mkstemp(prefix="gesso-report-", suffix=".txt")
    lines = [
        f"gesso {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"command: {' '.join(sys.argv)}",
        "".join(traceback.format_exception(error)),
    ]
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(redact("\n".join(lines)))
    return Path(name)
