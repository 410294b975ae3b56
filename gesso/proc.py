"""Run other programs: every subprocess that gesso starts is started here."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections import deque
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from gesso.errors import GessoError
from gesso.redact import redact_urls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_TAIL_LINES = 400


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a finished program; `output` is stdout followed by stderr."""

    command: str
    code: int
    stdout: str
    output: str

    @property
    def ok(self) -> bool:
        """Whether the program exited with 0."""
        return self.code == 0

    def tail(self, lines: int = 3) -> str:
        """Return the last non-empty lines of the output, which usually contain the reason of a failure."""
        found = [line.strip() for line in self.output.splitlines() if line.strip()]
        return redact_urls(" | ".join(found[-lines:]))


class MissingProgramError(GessoError):
    """A program that gesso needs is not installed."""

    exit_code = 6


class TimedOutError(GessoError):
    """A program exceeded its timeout and was ended."""

    exit_code = 6


class ServerExitedError(GessoError):
    """A background server exited before it was ready."""

    exit_code = 6


def which(program: str) -> str:
    """Return the full path of `program`.

    Raises MissingProgramError if it is not on PATH.
    """
    path = shutil.which(program)
    if path is None:
        raise MissingProgramError(f"{program}: not found on PATH", f"install {program}, then run this again")
    return path


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    stdin: str | None = None,
) -> Result:
    """Run a program to its end and return its output; the caller judges its exit code.

    `timeout` is in seconds; `env` is added to this process's environment.
    Raises MissingProgramError and TimedOutError.
    """
    argv = _argv(command)
    process = subprocess.Popen(
        argv,
        cwd=cwd,
        env=None if env is None else {**os.environ, **env},
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    with process:  # closes the pipes
        try:
            stdout, stderr = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            _end(process)
            raise TimedOutError(f"{shlex.join(argv)}: timed out after {timeout:g} s") from None
        except BaseException:
            _end(process)
            raise
    return Result(command=shlex.join(argv), code=process.returncode, stdout=stdout, output=stdout + stderr)


def stream(
    command: Sequence[str | Path],
    on_line: Callable[[str], None],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_start: Callable[[Callable[[], None]], None] = lambda _: None,
) -> Result:
    """Run a long program and call `on_line` for each line of its output as it arrives.

    On any exception (such as Ctrl-C) the program and its children are ended before it propagates; `on_start` receives a
    function that ends them from another thread.
    """
    argv = _argv(command)
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    process = subprocess.Popen(
        argv, cwd=cwd, env=None if env is None else {**os.environ, **env}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    with process:
        try:
            on_start(lambda: _end(process))
            for line in process.stdout or ():
                tail.append(line)
                on_line(line.rstrip("\n"))
            code = process.wait()
        except BaseException:
            _end(process)
            raise
    text = "".join(tail)
    return Result(command=shlex.join(argv), code=code, stdout=text, output=text)


@contextlib.contextmanager
def background_server(command: Sequence[str | Path]) -> Iterator[str]:
    """Run a server during the block; yield the first line that it prints, which means that it is ready.

    Raises ServerExitedError where it exits before that.
    """
    argv = _argv(command)
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        start_new_session=True,
    )  # fmt: skip
    with process:
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            if not line:
                _, errors = process.communicate()
                last = redact_urls(" ".join(errors.strip().splitlines()[-1:]))
                raise ServerExitedError(f"{shlex.join(argv[:3])} exited: {last}")
            yield line.rstrip("\n")
        finally:
            _end(process)


def run_interactive(
    command: Sequence[str | Path],
    on_line: Callable[[str], None],
    *,
    stdin: bytes | Path = b"",
    interrupt_input: bytes | None = None,
    on_error: Callable[[str], None] = lambda _: None,
    grace_period: float = 60.0,
) -> Result:
    """Run a program that works on another machine (ssh): send `stdin`, call back for each line of stdout and stderr.

    With `interrupt_input` its stdin stays open, and on Ctrl-C that is written to it instead of ending it: it has
    `grace_period` seconds to stop; a second Ctrl-C ends it at once. Either way KeyboardInterrupt propagates.
    """
    argv = _argv(command)
    lines: deque[str] = deque(maxlen=_TAIL_LINES)
    errors: deque[str] = deque(maxlen=_TAIL_LINES)
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    writer = threading.Thread(target=_write_stdin, args=(process, stdin, interrupt_input is None), daemon=True)
    reader = threading.Thread(target=_read_lines, args=(process.stderr, errors, on_error), daemon=True)
    with process:
        try:
            writer.start()
            reader.start()
            try:
                _read_lines(process.stdout, lines, on_line)
                code = process.wait()
            except KeyboardInterrupt:
                if interrupt_input is None:
                    raise
                writer.join(1)
                with contextlib.suppress(OSError, ValueError):
                    _stdin(process).write(interrupt_input)
                    _stdin(process).close()
                kill_timer = threading.Timer(grace_period, process.kill)
                kill_timer.start()
                try:
                    _read_lines(process.stdout, lines, on_line)
                    process.wait()
                finally:
                    kill_timer.cancel()
                raise
        except BaseException:
            _end(process)
            raise
        finally:
            reader.join(5)
            with contextlib.suppress(OSError, ValueError):  # the program may not have read all of it
                _stdin(process).close()
    stdout = "".join(lines)
    return Result(command=shlex.join(argv[:3]), code=code, stdout=stdout, output=stdout + "".join(errors))


def _stdin(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin


def _write_stdin(process: subprocess.Popen[bytes], data: bytes | Path, close: bool) -> None:
    """Write a program's input. If it does not read all of it, its exit code and stderr show why."""
    stdin = _stdin(process)
    with contextlib.suppress(OSError, ValueError):
        if isinstance(data, bytes):
            stdin.write(data)
        else:
            with data.open("rb") as file:
                shutil.copyfileobj(file, stdin, 1 << 18)
        stdin.flush()
        if close:
            stdin.close()


def _read_lines(pipe: IO[bytes] | None, tail: deque[str], on_line: Callable[[str], None]) -> None:
    for line in pipe or ():
        text = line.decode("utf-8", "replace")
        tail.append(text)
        on_line(text.rstrip("\r\n"))


def _argv(command: Sequence[str | Path]) -> list[str]:
    program, *args = map(str, command)
    return [which(program), *args]


def _end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """End the whole process group: first with SIGINT, on which buildx cancels its build.

    SIGKILL then ends those that ignore SIGINT or outlive their leader, as background jobs do.
    """
    for sig in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sig)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)


def detach(
    command: Sequence[str | Path],
    log: Path,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    replace_env: bool = False,
) -> int:
    """Start a daemon that outlives this process, its output appended to `log`; return its process id.

    With `replace_env`, `env` is its whole environment.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            _argv(command),
            cwd=cwd,
            env=None if env is None else {**({} if replace_env else os.environ), **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    # Nobody waits for the daemon; without this, Python warns when the object is destroyed.
    process.returncode = 0
    return process.pid
