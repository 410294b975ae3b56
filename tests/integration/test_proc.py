"""The one door to other programs: what comes back, what is ended, and what is never repeated."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso import proc
from gesso.errors import GessoError

if TYPE_CHECKING:
    from collections.abc import Callable


def _gone(pid: int) -> bool:
    """Tell within two seconds whether a process ended (one that nobody reaps yet has ended, too)."""
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


def test_run_gives_output_and_code() -> None:
    result = proc.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (result.code, result.ok) == (3, False)
    assert result.stdout == "out\n"
    assert result.output == "out\nerr\n"
    assert result.command.endswith("sh -c 'echo out; echo err >&2; exit 3'")
    assert proc.run(["true"]).ok


def test_run_gives_stdin_and_otherwise_none() -> None:
    assert proc.run(["cat"], stdin="a\nb").stdout == "a\nb"
    assert proc.run(["cat"], timeout=5).stdout == ""  # it does not wait for the terminal


def test_run_adds_to_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GESSO_OURS", "kept")
    result = proc.run(["sh", "-c", "echo $GESSO_OURS $GESSO_MORE; pwd"], env={"GESSO_MORE": "added"}, cwd=tmp_path)
    assert result.stdout == f"kept added\n{tmp_path.resolve()}\n"
    assert "GESSO_MORE" not in os.environ


def test_run_takes_any_bytes() -> None:
    assert proc.run(["printf", r"a\377b"]).stdout == "a\N{REPLACEMENT CHARACTER}b"


def test_a_missing_program_is_named_with_what_to_do() -> None:
    for how in ("run", "stream"):
        with pytest.raises(proc.MissingProgramError, match="gesso-no-such: not found on PATH") as raised:
            proc.run(["gesso-no-such"]) if how == "run" else proc.stream(["gesso-no-such"], lambda _: None)
        assert raised.value.next_step.startswith("install gesso-no-such")
        assert raised.value.exit_code == 6


def test_a_timeout_ends_the_whole_group(tmp_path: Path) -> None:
    """A shell's background job ignores the polite signal and outlives the shell: it must go all the same."""
    pids = tmp_path / "pids"
    script = f"echo $$ > {pids}; sleep 60 & echo $! >> {pids}; wait"
    started = time.monotonic()
    with pytest.raises(proc.TimedOutError, match=r"no answer in 0\.3 s"):
        proc.run(["sh", "-c", script], timeout=0.3)
    assert time.monotonic() - started < 4
    shell, job = map(int, pids.read_text().split())
    assert _gone(shell)
    assert _gone(job)


def test_stream_hands_over_lines_as_they_come(tmp_path: Path) -> None:
    """The program waits for a file that is made when its first line has come."""
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
    assert [_gone(pid) for pid in pids] == [True, True]


def test_a_program_has_time_to_finish_politely(tmp_path: Path) -> None:
    """buildx takes its build back on SIGINT; a kill would leave it running in the engine."""
    script = "import signal, sys, time\nsignal.signal(2, lambda *_: sys.exit(open('took-back', 'w').close()))\n"
    script += "print('up', flush=True)\ntime.sleep(60)"

    def on_line(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        proc.stream([sys.executable, "-c", script], on_line, cwd=tmp_path)
    assert (tmp_path / "took-back").exists()


def test_detach_leaves_a_daemon_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    pid = proc.detach(["sh", "-c", "echo $GESSO_MORE; exec sleep 60"], log, env={"GESSO_MORE": "hello"})
    try:
        for _ in range(100):
            if log.read_text() == "before\nhello\n":
                break
            time.sleep(0.02)
        assert log.read_text() == "before\nhello\n"
        assert os.getsid(pid) == pid  # the end of this terminal's session is not its end
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_tail_is_the_end_without_credentials() -> None:
    result = proc.Result(command="x", code=1, stdout="", output="a\n\n b \nfatal: https://me:pw@host/x\n")
    assert result.tail(2) == "b | fatal: https://***@host/x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:secret@host/simple", "https://***@host/simple"),
        ("https://token@host", "https://***@host"),
        ("https://user:p@ss@host/x", "https://***@host/x"),
        ("two https://a:b@c and http://d:e@f/g", "two https://***@c and http://***@f/g"),
        ("https://host/path@v1", "https://host/path@v1"),
        ("mail me@example.org", "mail me@example.org"),
        ("git@github.com:Acly/x", "git@github.com:Acly/x"),
        ("", ""),
    ],
)
def test_redact(text: str, expected: str) -> None:
    assert proc.redact(text) == expected


@given(st.text(st.characters(exclude_characters="/", exclude_categories=["Z", "C"]), min_size=1, max_size=30))
def test_no_password_is_left(password: str) -> None:
    text = proc.redact(f"fatal: 'https://user:<{password}>@host/x' not found")
    assert text == "fatal: 'https://***@host/x' not found"


def test_both_errors_are_ours() -> None:
    assert issubclass(proc.MissingProgramError, GessoError)
    assert issubclass(proc.TimedOutError, GessoError)


# --- a conversation


def test_converse_feeds_and_hands_over_both_outputs(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * 300_000)
    lines, errors = list[str](), list[str]()
    result = proc.converse(["sh", "-c", "wc -c; echo why >&2; exit 4"], lines.append, stdin=big, on_error=errors.append)
    assert (result.code, result.stdout.strip(), errors) == (4, "300000", ["why"])
    assert result.output == f"{result.stdout}why\n"
    assert lines == [result.stdout.rstrip()]


def test_converse_survives_a_program_that_wants_no_input(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * 3_000_000)
    assert proc.converse(["sh", "-c", "exec <&-; exit 7"], lambda _: None, stdin=big).code == 7


PUTS_DOWN = """
import sys
print("begun", flush=True)
for line in sys.stdin:
    if line == "stop\\n":
        print("put down", flush=True)
        sys.exit(9)
"""


def _interrupting(lines: list[str], at: str) -> Callable[[str], None]:
    def on_line(line: str) -> None:
        lines.append(line)
        if line == at:
            os.kill(os.getpid(), signal.SIGINT)

    return on_line


def test_a_goodbye_instead_of_an_end() -> None:
    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        proc.converse([sys.executable, "-c", PUTS_DOWN], _interrupting(lines, "begun"), goodbye=b"stop\n")
    assert lines == ["begun", "put down"]


def test_one_that_does_not_listen_is_ended_when_patience_ends(tmp_path: Path) -> None:
    lines: list[str] = []
    script = "echo $$; echo begun; exec sleep 600"
    with pytest.raises(KeyboardInterrupt):
        proc.converse(["sh", "-c", script], _interrupting(lines, "begun"), goodbye=b"stop\n", patience=0.2)
    assert _gone(int(lines[0]))


def test_without_a_goodbye_an_interrupt_ends_it() -> None:
    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        proc.converse(["sh", "-c", "echo $$; echo begun; exec sleep 60"], _interrupting(lines, "begun"))
    assert _gone(int(lines[0]))


def test_a_daemon_with_an_environment_of_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log"
    proc.detach(["sh", "-c", "env; pwd; echo end"], log, cwd=tmp_path, env={"MINE": "1"}, alone=True)
    deadline = time.monotonic() + 10
    while "end" not in (log.read_text() if log.exists() else "") and time.monotonic() < deadline:
        time.sleep(0.02)
    lines = log.read_text().splitlines()
    assert "MINE=1" in lines
    assert str(tmp_path.resolve()) in lines
    assert not [line for line in lines if line.startswith(("HOME=", "PATH="))]
