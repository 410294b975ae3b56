"""The one door to other programs: every subprocess that gesso starts goes through here."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
from collections import deque
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from gesso.errors import GessoError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_TAIL_LINES = 400
_CREDENTIALS_IN_URL = re.compile(r"(?<=://)[^/\s]+@")  # up to the last @: passwords have them, unescaped


def redact(text: str) -> str:
    """Drop the user:password part of every URL in `text`: git and pip repeat URLs in their errors."""
    return _CREDENTIALS_IN_URL.sub("***@", text)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a finished program left behind; `output` is stdout and, after it, stderr."""

    command: str
    code: int
    stdout: str
    output: str

    @property
    def ok(self) -> bool:
        """True when the program said that it did what it was asked."""
        return self.code == 0

    def tail(self, lines: int = 3) -> str:
        """Give the last non-empty lines of the output: where programs say why they failed."""
        kept = [line.strip() for line in self.output.splitlines() if line.strip()]
        return redact(" | ".join(kept[-lines:]))


class MissingProgramError(GessoError):
    """A program that gesso drives is not installed."""

    exit_code = 6


class TimedOutError(GessoError):
    """A program did not answer in the time it was given; it has been ended."""

    exit_code = 6


class EndedError(GessoError):
    """A server that is needed meanwhile ended by itself."""

    exit_code = 6


def which(program: str) -> str:
    """Give the full path of `program`.

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
    """Run a program to its end and give back what it said; its exit code is the caller's to judge.

    `timeout` is in seconds; `env` is added to this process's own environment.
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
            raise TimedOutError(f"{shlex.join(argv)}: no answer in {timeout:g} s") from None
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
    started: Callable[[Callable[[], None]], None] = lambda _: None,
) -> Result:
    """Run a long program and hand each line of its output to `on_line` as it comes.

    On any exception (Ctrl-C is one) the program and its children are ended before it goes on upwards; `started` gets
    what ends them from another thread.
    """
    argv = _argv(command)
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    process = subprocess.Popen(
        argv, cwd=cwd, env=None if env is None else {**os.environ, **env}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    with process:
        try:
            started(lambda: _end(process))
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
def beside(command: Sequence[str | Path]) -> Iterator[str]:
    """Run a server for as long as the block lasts; give the first line that it prints, by which it says it is ready.

    Raises EndedError where it ends before that.
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
                _, said = process.communicate()
                last = redact(" ".join(said.strip().splitlines()[-1:]))
                raise EndedError(f"{shlex.join(argv[:3])} ended: {last}")
            yield line.rstrip("\n")
        finally:
            _end(process)


def converse(
    command: Sequence[str | Path],
    on_line: Callable[[str], None],
    *,
    stdin: bytes | Path = b"",
    goodbye: bytes | None = None,
    on_error: Callable[[str], None] = lambda _: None,
    patience: float = 60.0,
) -> Result:
    """Run a program that works elsewhere on our behalf (ssh): feed it, hand over each line of stdout and of stderr.

    With `goodbye` its stdin stays open, and a Ctrl-C says that to it instead of ending it: it has `patience` seconds to
    put its work down; a second Ctrl-C ends it at once. Either way the interrupt goes on upwards.
    """
    argv = _argv(command)
    said: deque[str] = deque(maxlen=_TAIL_LINES)
    errors: deque[str] = deque(maxlen=_TAIL_LINES)
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    feeding = threading.Thread(target=_feed, args=(process, stdin, goodbye is None), daemon=True)
    hearing = threading.Thread(target=_hear, args=(process.stderr, errors, on_error), daemon=True)
    with process:
        try:
            feeding.start()
            hearing.start()
            try:
                _hear(process.stdout, said, on_line)
                code = process.wait()
            except KeyboardInterrupt:
                if goodbye is None:
                    raise
                feeding.join(1)
                with contextlib.suppress(OSError, ValueError):
                    _stdin(process).write(goodbye)
                    _stdin(process).close()
                impatience = threading.Timer(patience, process.kill)
                impatience.start()
                try:
                    _hear(process.stdout, said, on_line)
                    process.wait()
                finally:
                    impatience.cancel()
                raise
        except BaseException:
            _end(process)
            raise
        finally:
            hearing.join(5)
            with contextlib.suppress(OSError, ValueError):  # what was never read is nobody's any more
                _stdin(process).close()
    stdout = "".join(said)
    return Result(command=shlex.join(argv[:3]), code=code, stdout=stdout, output=stdout + "".join(errors))


def _stdin(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin


def _feed(process: subprocess.Popen[bytes], given: bytes | Path, close: bool) -> None:
    """Give a program its input. One that does not want all of it says why elsewhere."""
    stdin = _stdin(process)
    with contextlib.suppress(OSError, ValueError):
        if isinstance(given, bytes):
            stdin.write(given)
        else:
            with given.open("rb") as file:
                shutil.copyfileobj(file, stdin, 1 << 18)
        stdin.flush()
        if close:
            stdin.close()


def _hear(pipe: IO[bytes] | None, kept: deque[str], tell: Callable[[str], None]) -> None:
    for line in pipe or ():
        text = line.decode("utf-8", "replace")
        kept.append(text)
        tell(text.rstrip("\r\n"))


def _argv(command: Sequence[str | Path]) -> list[str]:
    words = [str(word) for word in command]
    return [which(words[0]), *words[1:]]


def _end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """End the whole process group, politely first: buildx cancels its build on SIGINT.

    The second signal is for those who ignored the first, or outlived their leader: background jobs do.
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
    alone: bool = False,
) -> int:
    """Start a daemon that outlives this process, its output appended to `log`; give its process id.

    `alone`: `env` is its whole environment.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            _argv(command),
            cwd=cwd,
            env=None if env is None else {**({} if alone else os.environ), **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    # The daemon is not ours to wait for; without this, Python warns about it when the object goes away.
    process.returncode = 0
    return process.pid
