"""Subprocesses: output, timeouts and interrupts."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gesso import proc
from gesso.errors import GessoError

if TYPE_CHECKING:
    from collections.abc import Callable


def has_ended(pid: int) -> bool:
    """Check for up to two seconds whether a process has ended (zombies count as ended)."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}:
                return True
        time.sleep(0.02)
    return False


def test_run_returns_output_and_code() -> None:
    result = proc.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (result.code, result.ok) == (3, False)
    assert result.stdout == "out\n"
    assert result.output == "out\nerr\n"
    assert result.command.endswith("sh -c 'echo out; echo err >&2; exit 3'")
    assert proc.run(["true"]).ok


def test_run_passes_stdin_or_none() -> None:
    assert proc.run(["cat"], stdin="a\nb").stdout == "a\nb"
    assert proc.run(["cat"], timeout=5).stdout == ""  # it does not wait for the terminal


def test_run_adds_to_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GESSO_OURS", "kept")
    result = proc.run(["sh", "-c", "echo $GESSO_OURS $GESSO_MORE; pwd"], env={"GESSO_MORE": "added"}, cwd=tmp_path)
    assert result.stdout == f"kept added\n{tmp_path.resolve()}\n"
    assert "GESSO_MORE" not in os.environ


def test_run_accepts_any_bytes() -> None:
    assert proc.run(["printf", r"a\377b"]).stdout == "a\N{REPLACEMENT CHARACTER}b"


def test_a_missing_program_is_named_with_a_next_step() -> None:
    for how in ("run", "stream"):
        with pytest.raises(proc.MissingProgramError, match="gesso-no-such: not found on PATH") as raised:
            proc.run(["gesso-no-such"]) if how == "run" else proc.stream(["gesso-no-such"], lambda _: None)
        assert raised.value.next_step.startswith("install gesso-no-such")
        assert raised.value.exit_code == 6


def test_a_timeout_ends_the_whole_group(tmp_path: Path) -> None:
    """A shell's background job ignores SIGINT and outlives the shell, but must be ended too."""
    pids = tmp_path / "pids"
    script = f"echo $$ > {pids}; sleep 60 & echo $! >> {pids}; wait"
    started = time.monotonic()
    with pytest.raises(proc.TimedOutError, match=r"timed out after 0\.3 s"):
        proc.run(["sh", "-c", script], timeout=0.3)
    assert time.monotonic() - started < 4
    shell, job = map(int, pids.read_text().split())
    assert has_ended(shell)
    assert has_ended(job)


def test_stream_passes_on_lines_as_they_arrive(tmp_path: Path) -> None:
    """The program waits for a file that is created when its first line has arrived."""
    flag = tmp_path / "flag"
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        flag.touch()

    wait = f"n=0; while [ ! -e {flag} ]; do sleep 0.02; n=$((n+1)); [ $n -lt 200 ] || exit 9; done"
    script = f"echo one; {wait}; echo two >&2; exit 4"
    result = proc.stream(["sh", "-c", script], on_line)
    assert lines == ["one", "two"]
    assert (result.code, result.output) == (4, "one\ntwo\n")


def test_stream_adds_to_the_environment(tmp_path: Path) -> None:
    lines: list[str] = []
    assert proc.stream(["sh", "-c", "echo $GESSO_MORE; pwd"], lines.append, env={"GESSO_MORE": "x"}, cwd=tmp_path).ok
    assert lines == ["x", str(tmp_path.resolve())]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_in_on_line_ends_the_program(error: type[BaseException]) -> None:
    pids: list[int] = []

    def on_line(line: str) -> None:
        pids.append(int(line))
        if len(pids) == 2:
            raise error

    with pytest.raises(error):
        proc.stream(["sh", "-c", "echo $$; sleep 60 & echo $!; wait"], on_line)
    assert [has_ended(pid) for pid in pids] == [True, True]


def test_a_program_has_time_to_clean_up(tmp_path: Path) -> None:
    """buildx cancels its build on SIGINT; a kill would leave it running in the engine."""
    script = "import signal, sys, time\nsignal.signal(2, lambda *_: sys.exit(open('cancelled', 'w').close()))\n"
    script += "print('up', flush=True)\ntime.sleep(60)"

    def on_line(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        proc.stream([sys.executable, "-c", script], on_line, cwd=tmp_path)
    assert (tmp_path / "cancelled").exists()


def test_detach_starts_a_daemon_with_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    pid = proc.detach(["sh", "-c", "echo $GESSO_MORE; exec sleep 60"], log, env={"GESSO_MORE": "hello"})
    try:
        for _ in range(100):
            if log.read_text() == "before\nhello\n":
                break
            time.sleep(0.02)
        assert log.read_text() == "before\nhello\n"
        assert os.getsid(pid) == pid  # a session of its own: it outlives this terminal
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_tail_hides_credentials() -> None:
    result = proc.Result(command="x", code=1, stdout="", output="a\n\n b \nfatal: https://me:pw@host/x\n")
    assert result.tail(2) == "b | fatal: https://***@host/x"


def test_errors_are_gesso_errors() -> None:
    assert issubclass(proc.MissingProgramError, GessoError)
    assert issubclass(proc.TimedOutError, GessoError)


# --- run_interactive


def test_run_interactive_writes_stdin_and_passes_on_both_outputs(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * 300_000)
    lines, errors = list[str](), list[str]()
    result = proc.run_interactive(
        ["sh", "-c", "wc -c; echo why >&2; exit 4"], lines.append, stdin=big, on_error=errors.append
    )
    assert (result.code, result.stdout.strip(), errors) == (4, "300000", ["why"])
    assert result.output == f"{result.stdout}why\n"
    assert lines == [result.stdout.rstrip()]


def test_run_interactive_accepts_a_program_that_reads_no_input(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * 3_000_000)
    assert proc.run_interactive(["sh", "-c", "exec <&-; exit 7"], lambda _: None, stdin=big).code == 7


STOPS_ON_REQUEST = """
import sys
print("started", flush=True)
for line in sys.stdin:
    if line == "stop\\n":
        print("stopped", flush=True)
        sys.exit(9)
"""


def _interrupting(lines: list[str], at: str) -> Callable[[str], None]:
    def on_line(line: str) -> None:
        lines.append(line)
        if line == at:
            os.kill(os.getpid(), signal.SIGINT)

    return on_line


def test_an_interrupt_is_written_to_stdin() -> None:
    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        proc.run_interactive(
            [sys.executable, "-c", STOPS_ON_REQUEST], _interrupting(lines, "started"), interrupt_input=b"stop\n"
        )
    assert lines == ["started", "stopped"]


def test_a_program_that_ignores_it_is_ended_after_the_grace_period(tmp_path: Path) -> None:
    lines: list[str] = []
    script = "echo $$; echo started; exec sleep 600"
    with pytest.raises(KeyboardInterrupt):
        proc.run_interactive(
            ["sh", "-c", script], _interrupting(lines, "started"), interrupt_input=b"stop\n", grace_period=0.2
        )
    assert has_ended(int(lines[0]))


def test_without_interrupt_input_an_interrupt_ends_the_program() -> None:
    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        proc.run_interactive(["sh", "-c", "echo $$; echo started; exec sleep 60"], _interrupting(lines, "started"))
    assert has_ended(int(lines[0]))


def test_a_daemon_with_its_own_environment(tmp_path: Path) -> None:
    log = tmp_path / "log"
    proc.detach(["sh", "-c", "env; pwd; echo end"], log, cwd=tmp_path, env={"MINE": "1"}, replace_env=True)
    deadline = time.monotonic() + 10
    while "end" not in (log.read_text() if log.exists() else "") and time.monotonic() < deadline:
        time.sleep(0.02)
    lines = log.read_text().splitlines()
    assert "MINE=1" in lines
    assert str(tmp_path.resolve()) in lines
    assert not [line for line in lines if line.startswith(("HOME=", "PATH="))]
