"""The programs that run on an instance without gesso, run here by the Pythons and shells of this machine."""

from __future__ import annotations

import ast
import base64
import functools
import hashlib
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from gesso.builder.remote import bundle, heal, payload
from gesso.builder.remote.heal import marked_lines, parse_python

OLDEST, NEWEST = 8, 14  # minor versions of Python 3 that instances have
PROGRAMS = ("describe_python.py", "receive.py", "keep.py")


@functools.cache
def _interpreters() -> dict[int, str]:
    """Find the Pythons of this machine, on PATH or of pyenv, by their minor version."""
    found = {sys.version_info[1]: sys.executable}
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for minor in range(OLDEST, NEWEST + 1):
        for path in (shutil.which(f"python3.{minor}"), *map(str, versions.glob(f"3.{minor}.*/bin/python3.{minor}"))):
            if minor not in found and path and subprocess.run([path, "-c", ""], check=False).returncode == 0:
                found[minor] = path
    return found


@pytest.fixture(params=range(OLDEST, NEWEST + 1), ids=lambda minor: f"3.{minor}")
def interpreter(request: pytest.FixtureRequest) -> str:
    """Each Python that an instance may have and this machine has."""
    if request.param not in _interpreters():
        pytest.skip(f"this machine has no Python 3.{request.param}")
    return _interpreters()[request.param]


def _python(
    source: str, *arguments: str, by: str = sys.executable, env: dict[str, str] | None = None, **more: Any
) -> Any:
    argv = [by, "-I", "-c", source, *arguments]
    return subprocess.run(argv, capture_output=True, env={**os.environ, **(env or {})}, check=False, **more)


def test_a_python_describes_itself(interpreter: str) -> None:
    (line,) = marked_lines(_python(payload.text("describe_python.py"), by=interpreter).stdout.decode(), payload.MARK)
    found = parse_python(line)
    assert found is not None
    assert found.version[1] in _interpreters()
    assert Path(found.path).samefile(interpreter)
    assert found.machine == os.uname().machine
    assert found.glibc > 16


@pytest.mark.parametrize("shell", [shell for shell in ("sh", "bash", "dash", "zsh") if shutil.which(shell)])
def test_the_probe(shell: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [shell], input=f"DESCRIBE_PYTHON={shlex.quote(payload.text('describe_python.py'))}\n{payload.text('probe.sh')}",
        capture_output=True, text=True, check=True, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    found = [parse_python(line) for line in marked_lines(done.stdout, payload.MARK)]
    assert sys.version_info[:3] in {python.version for python in found if python is not None}


def _packed(files: dict[str, bytes]) -> bytes:
    archive_bytes = io.BytesIO()
    with tarfile.open(fileobj=archive_bytes, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return archive_bytes.getvalue()


def _receive(home: Path, data: bytes, name: str = "heal-1", digest: str = "", by: str = sys.executable) -> Any:
    expected = digest or hashlib.sha256(data).hexdigest()
    return _python(payload.text("receive.py"), expected, name, by=by, env={"HOME": str(home)}, input=data)


def test_a_bundle_is_unpacked_into_a_private_folder_and_replaces_the_old_one(tmp_path: Path, interpreter: str) -> None:
    cache = tmp_path / ".cache/gesso"
    (cache / "heal-0").mkdir(parents=True)
    (cache / ".new-cut-off").mkdir()
    (cache / "reports").mkdir()
    done = _receive(tmp_path, _packed({"heal.py": b"x", "lib/a.py": b"y"}), by=interpreter)
    assert done.stdout.decode() == f"gesso-probe {cache}/heal-1\n"
    assert (cache / "heal-1/lib/a.py").read_bytes() == b"y"
    assert cache.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in cache.iterdir()) == ["heal-1", "reports"]


def test_during_a_heal_the_old_bundle_stays(tmp_path: Path) -> None:
    cache = tmp_path / ".cache/gesso"
    (cache / "heal-0").mkdir(parents=True)
    code = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(); sys.stdin.read()"
    argv = [sys.executable, "-c", code, str(cache / "heal.lock")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        _receive(tmp_path, _packed({"heal.py": b"x"}))
        assert (cache / "heal-0").is_dir()
        other.communicate()
    _receive(tmp_path, _packed({"heal.py": b"x"}), "heal-2")
    assert not (cache / "heal-0").exists()


@pytest.mark.parametrize("damage", ["cut", "other", "no archive", "outside"])
def test_a_damaged_bundle_is_refused(tmp_path: Path, damage: str) -> None:
    data = _packed(
        {"heal.py": b"x" * 5000, "../../outside": b"y"} if damage == "outside" else {"heal.py": os.urandom(5000)}
    )
    digest = hashlib.sha256(data).hexdigest()
    sent = {"cut": data[:-100], "other": data[:-1] + b"x", "no archive": b"hello", "outside": data}[damage]
    done = _receive(
        tmp_path, sent, digest=hashlib.sha256(sent).hexdigest() if damage in {"no archive", "outside"} else digest
    )
    assert done.returncode != 0
    assert done.stderr.startswith(b"gesso-probe ")
    assert not (tmp_path / ".cache/gesso/heal-1").exists()
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("name", ["../../outside", "/outside", "link"])
def test_an_old_python_unpacks_nothing_outside_either(tmp_path: Path, name: str) -> None:
    """Debian 12's tarfile has no filters: its Python is 3.11.2."""
    archive_bytes = io.BytesIO()
    with tarfile.open(fileobj=archive_bytes, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = (tarfile.SYMTYPE, "/etc") if name == "link" else (tarfile.REGTYPE, "")
        archive.addfile(info, io.BytesIO())
    source = payload.text("receive.py")
    old = source.replace("import tarfile\n", "import tarfile\nvars(tarfile).pop('data_filter', None)\n")
    assert old != source
    digest = hashlib.sha256(archive_bytes.getvalue()).hexdigest()
    done = _python(old, digest, "heal-1", env={"HOME": str(tmp_path)}, input=archive_bytes.getvalue())
    assert done.returncode != 0
    assert done.stderr.startswith(b"gesso-probe ")
    assert b"leads out of the bundle" in done.stderr
    assert not (tmp_path / "outside").exists()


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / ".cache").write_text("a file")
    done = _receive(tmp_path, _packed({"heal.py": b"x"}))
    assert done.returncode == 1
    assert b"gesso-probe " in done.stderr


def _keep(script: str, by: str = sys.executable) -> subprocess.Popen[bytes]:
    packed = base64.b64encode(payload.text("keep.py").encode()).decode()
    run = f"import base64;exec(base64.b64decode('{packed}'))"
    argv = [by, "-I", "-c", run, sys.executable, "-c", script]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_output_and_exit_code_are_forwarded(interpreter: str) -> None:
    with _keep("import sys; print('out'); print('err', file=sys.stderr); sys.exit(5)", interpreter) as keeper:
        assert keeper.communicate() == (b"gesso-begins\nout\n", b"err\n")
    assert keeper.returncode == 5


def test_a_signal_becomes_the_exit_code_of_a_shell() -> None:
    with _keep("import os, signal; os.kill(os.getpid(), signal.SIGKILL)") as keeper:
        keeper.communicate()
    assert keeper.returncode == 128 + signal.SIGKILL


WAITING = """
import sys, time, pathlib
try:
    print('begun', flush=True)  # its reader may stop this program at once
    time.sleep(60)
except KeyboardInterrupt:
    print('put down', flush=True)
    sys.exit(130)
"""


def test_stop_interrupts_like_ctrl_c() -> None:
    with _keep(WAITING) as keeper:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == f"{payload.BEGINS}\n".encode()
        assert keeper.stdout.readline() == b"begun\n"
        keeper.stdin.write(heal.STOP)
        keeper.stdin.flush()
        assert keeper.stdout.readline() == b"put down\n"
        keeper.communicate()
    assert keeper.returncode == 130


def test_the_program_survives_a_lost_connection(tmp_path: Path) -> None:
    """sshd closes the pipes, and may send a SIGHUP: the program runs to its end."""
    mark, go = tmp_path / "done", tmp_path / "go"
    script = f"""
import pathlib, time
print('begun', flush=True)
while not pathlib.Path({str(go)!r}).exists():
    time.sleep(0.02)
for _ in range(20000):
    print('more' * 5, flush=True)
print('end', flush=True)
pathlib.Path({str(mark)!r}).touch()
"""
    keeper = _keep(script)
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    assert keeper.stderr is not None
    assert keeper.stdout.readline() == f"{payload.BEGINS}\n".encode()
    assert keeper.stdout.readline() == b"begun\n"
    for pipe in (keeper.stdin, keeper.stdout, keeper.stderr):
        pipe.close()
    keeper.send_signal(signal.SIGHUP)
    go.touch()
    deadline = time.monotonic() + 20
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert mark.exists()
    keeper.wait(20)


def test_any_python_runs_discover_as_text(interpreter: str) -> None:
    """Its own file is sent; it runs isolated, without gesso on the path."""
    done = _python(heal.DISCOVER.read_text(), "/nowhere", by=interpreter)
    (line,) = marked_lines(done.stdout.decode(), "gesso-found ")
    assert "there is no ComfyUI in it" in json.loads(line)["error"]


@pytest.mark.parametrize("program", [*PROGRAMS, "discover.py"])
def test_the_oldest_python_can_parse_it(program: str) -> None:
    source = heal.DISCOVER.read_text() if program == "discover.py" else payload.text(program)
    ast.parse(source, feature_version=(3, OLDEST))


def test_a_payload_needs_nothing_but_the_standard_library() -> None:
    for program in PROGRAMS:
        nodes = ast.walk(ast.parse(payload.text(program)))
        modules = {n.module for n in nodes if isinstance(n, ast.ImportFrom)} | {
            alias.name
            for n in ast.walk(ast.parse(payload.text(program)))
            if isinstance(n, ast.Import)
            for alias in n.names
        }
        assert {str(module).split(".")[0] for module in modules} <= sys.stdlib_module_names


def test_marked_lines() -> None:
    text = "Welcome!\ngesso-probe image\nxx gesso-probe no\n gesso-probe no\ngesso-probe  {}\r\n"
    assert marked_lines(text, payload.MARK) == ["image", "{}"]


@pytest.mark.parametrize("line", ["", "image", "{}", "[]", "7", '{"version": [3], "libc": ""}', '{"version": "x"}'])
def test_other_lines_describe_no_python(line: str) -> None:
    assert parse_python(line) is None


def test_terminal_control_characters_are_dropped() -> None:
    line = json.dumps({"python": "/x\x1b]0;evil\x07", "version": [3, 12, 1], "implementation": "cpython",
                       "machine": "x86_64", "libc": "2.36"})  # fmt: skip
    found = parse_python(line)
    assert found == bundle.Python("/x]0;evil", (3, 12, 1), "cpython", "x86_64", 36)
