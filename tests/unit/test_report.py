"""Errors on the command line: the documented exit codes, and the report of an unexpected error."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gesso import errors, proc, report
from gesso.builder.vast import api
from gesso.models import faults
from gesso.models.identify import tensors
from gesso.workflow import graph

DOCUMENTED: dict[type[errors.GessoError], int] = {
    errors.CheckError: 1,
    errors.ManifestError: 2,
    errors.LockError: 3,
    errors.FetchError: 4,
    errors.VerifyError: 5,
    errors.BuildError: 6,
    errors.PublishError: 7,
    proc.MissingProgramError: 6,
    proc.TimedOutError: 6,
    proc.ServerExitedError: 6,
    tensors.HeaderError: 5,
    faults.SourceError: 4,
    faults.ContentError: 5,
    faults.LocalError: 4,
    graph.GraphError: 2,
    api.UnconfirmedError: 7,
}


def _subclasses(kind: type[errors.GessoError]) -> set[type[errors.GessoError]]:
    return {kind}.union(*(_subclasses(below) for below in kind.__subclasses__()))


def test_every_error_has_a_documented_code() -> None:
    package = Path(report.__file__).parent
    for path in package.rglob("*.py"):
        if path.stem == "__main__":  # importing it runs the program
            continue
        importlib.import_module(".".join(("gesso", *path.relative_to(package).with_suffix("").parts)))
    found = _subclasses(errors.GessoError) - {errors.GessoError}
    assert {kind: kind.exit_code for kind in found} == DOCUMENTED


# The first argument of these is a kind of failure; their codes are checked with the rest above.
KINDS = (tensors.HeaderError, faults.SourceError, faults.ContentError, faults.LocalError)
PLAIN = {kind: code for kind, code in DOCUMENTED.items() if kind not in KINDS}


@pytest.mark.parametrize(("kind", "code"), PLAIN.items())
def test_an_expected_error(kind: type[errors.GessoError], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, report.exit_codes():
        raise kind("sdxl.yaml:3: it is wrong", "fix it")
    assert ended.value.code == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "gesso: sdxl.yaml:3: it is wrong\n  next: fix it\n"


def test_an_error_without_a_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), report.exit_codes():
        raise errors.CheckError("no")
    assert capsys.readouterr().err == "gesso: no\n"


def test_without_an_error_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with report.exit_codes():
        pass
    with pytest.raises(SystemExit) as ended, report.exit_codes():
        raise SystemExit(9)
    assert ended.value.code == 9
    assert capsys.readouterr() == ("", "")


def test_an_interrupt_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, report.exit_codes():
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err.startswith("gesso: interrupted")


def test_an_unexpected_error_leaves_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["gesso", "build", "https://me:hunter2@host/x"])
    with pytest.raises(SystemExit) as ended, report.exit_codes():
        raise RuntimeError("no https://me:hunter2@host/simple")
    assert ended.value.code == 70
    err = capsys.readouterr().err
    (path,) = tmp_path.iterdir()
    assert f"report in {path}" in err
    text = path.read_text()
    assert "Traceback" in text
    assert "test_an_unexpected_error_leaves_a_report" in text
    assert "RuntimeError: no https://***@host/simple" in text
    assert "command: gesso build https://***@host/x" in text
    assert "hunter2" not in text + err
    assert path.stat().st_mode & 0o077 == 0


SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    "leak",
    [
        f"https://me:{SECRET}@host/x", f"https://host/x?token={SECRET}", f"Authorization: Bearer {SECRET}",
        f"HF_TOKEN={SECRET}", f"{{'Authorization': 'Basic {SECRET}'}}", f"--token {SECRET}", f"api_key={SECRET}",
        f"Cookie: gesso-1={SECRET}", f"GET /{SECRET}/object_info", f"x-api-key: {SECRET}", f"password='{SECRET}'",
    ],
)  # fmt: skip
def test_a_report_and_its_message_hold_no_secret(
    leak: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its form where it has one; else by its value, which the environment knows."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["gesso", leak])
    if leak.startswith("GET"):
        monkeypatch.setenv("GESSO_TOKEN", SECRET)
    with pytest.raises(SystemExit), report.exit_codes():
        raise RuntimeError(leak)
    (path,) = tmp_path.iterdir()
    assert SECRET not in path.read_text() + capsys.readouterr().err


def test_a_value_that_only_memory_holds_is_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(report, "_hidden", set())
    report.hide([SECRET])
    with pytest.raises(SystemExit), report.exit_codes():
        raise RuntimeError(f"GET /{SECRET}/object_info")
    (path,) = tmp_path.iterdir()
    assert SECRET not in path.read_text() + capsys.readouterr().err


@pytest.mark.parametrize("broken", ["missing", "full"])
def test_where_no_report_can_be_written_it_is_printed(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tmp"
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    if broken == "full":
        folder.mkdir()
        monkeypatch.setattr("os.fdopen", lambda *_, **__: Path("/dev/full").open("w"))  # noqa: SIM115 - as fdopen does
    with pytest.raises(SystemExit) as ended, report.exit_codes():
        raise RuntimeError(f"odd Authorization: Bearer {SECRET}")
    err = capsys.readouterr().err
    assert ended.value.code == 70
    assert "Traceback (most recent call last)" in err
    assert "report cannot be written: No " in err
    assert "please open an issue with the report above" in err
    assert SECRET not in err
    assert not folder.exists() or list(folder.iterdir()) == []


def test_a_closed_stdout_is_no_error() -> None:
    code = "from gesso import report\nwith report.exit_codes():\n  for n in range(99999): report.result('x' * 99)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(10) == 0


def test_only_results_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    report.progress("working")
    report.result_json({"b": 1, "a": [2]})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"a": [2], "b": 1}
    assert out.index('"a"') < out.index('"b"')
    assert err == "working\n"
