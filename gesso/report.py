"""Print results, progress and errors; map exceptions to exit codes; write a report of unexpected errors."""

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
from gesso.redact import redact, secret_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_hidden: set[str] = set()  # values that are in no environment variable of this process


def hide(values: Iterable[str]) -> None:
    """Hide these values in every later crash report."""
    _hidden.update(values)


def progress(line: str) -> None:
    """Print a progress line to stderr; only results go to stdout."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def result(text: str) -> None:
    """Print a result to stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def result_json(data: Any) -> None:
    """Print a result to stdout as JSON."""
    result(json.dumps(data, indent=2, sort_keys=True))


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn an exception of the block into a message on stderr and the documented exit code."""
    try:
        yield
    except GessoError as error:
        progress(f"gesso: {error}")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        progress("gesso: interrupted; finished work is kept")
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:  # the reader of stdout closed it: not an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception as error:  # noqa: BLE001 - the one place for unexpected errors
        text = _crash_report(error)
        progress(f"gesso: unexpected error: {type(error).__name__}: {_without_secrets(str(error))[:200]}")
        try:
            where = f"in {_write_crash_report(text)}"
        except OSError as unwritten:  # the disk is full or read-only: the text would be lost
            progress(f"{text}\ngesso: the report cannot be written: {unwritten.strerror or unwritten}")
            where = "above"
        progress(f"  next: please open an issue with the report {where}")
        raise SystemExit(UNEXPECTED) from None


def _crash_report(error: Exception) -> str:
    lines = [
        f"gesso {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"command: {' '.join(sys.argv)}",
        "".join(traceback.format_exception(error)),
    ]
    return _without_secrets("\n".join(lines))


def _write_crash_report(text: str) -> Path:
    handle, name = tempfile.mkstemp(prefix="gesso-report-", suffix=".txt")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _without_secrets(text: str) -> str:
    """Hide secrets by their form and by their value: those of this process's environment may stand anywhere."""
    return str(redact(text, (*secret_values(os.environ), *_hidden)))
