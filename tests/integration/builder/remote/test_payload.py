"""What runs on an instance before gesso is there: run here, by Pythons and shells of this machine."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from typing import TYPE_CHECKING, Any

import pytest

from gesso.builder.remote import bundle, heal, payload_text
from gesso.builder.remote.heal import marked, python_of

if TYPE_CHECKING:
    from pathlib import Path


def _python(source: str, *arguments: str, env: dict[str, str] | None = None, **more: Any) -> Any:
    words = [sys.executable, "-I", "-c", source, *arguments]
    return subprocess.run(words, capture_output=True, env={**os.environ, **(env or {})}, check=False, **more)


def test_what_a_python_says_of_itself() -> None:
    (line,) = marked(_python(payload_text.FACTS).stdout.decode(), payload_text.MARK)
    found = python_of(line)
    assert found is not None
    assert found.version == sys.version_info[:3]
    assert found.path == sys.executable
    assert found.machine == os.uname().machine
    assert found.glibc > 16


@pytest.mark.parametrize("shell", [shell for shell in ("sh", "bash", "dash", "zsh") if shutil.which(shell)])
def test_the_probe(shell: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [shell], input=f"FACTS='{payload_text.FACTS.replace(chr(39), chr(39) + chr(92) + chr(39) * 2)}'\n{payload_text.PROBE}",
        capture_output=True, text=True, check=True, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    found = [python_of(line) for line in marked(done.stdout, payload_text.MARK)]
    assert sys.version_info[:3] in {python.version for python in found if python is not None}


def _packed(files: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return whole.getvalue()


def _receive(home: Path, data: bytes, name: str = "heal-1", digest: str = "") -> Any:
    wanted = digest or hashlib.sha256(data).hexdigest()
    return _python(payload_text.RECEIVE, wanted, name, env={"HOME": str(home)}, input=data)


def test_a_bundle_arrives_in_a_private_folder_and_takes_the_old_ones_place(tmp_path: Path) -> None:
    kept = tmp_path / ".cache/gesso"
    (kept / "heal-0").mkdir(parents=True)
    (kept / ".new-cut-off").mkdir()
    (kept / "reports").mkdir()
    done = _receive(tmp_path, _packed({"heal.py": b"x", "lib/a.py": b"y"}))
    assert done.stdout.decode() == f"gesso-probe {kept}/heal-1\n"
    assert (kept / "heal-1/lib/a.py").read_bytes() == b"y"
    assert kept.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in kept.iterdir()) == ["heal-1", "reports"]


def test_while_a_heal_is_at_work_the_old_one_stays(tmp_path: Path) -> None:
    kept = tmp_path / ".cache/gesso"
    (kept / "heal-0").mkdir(parents=True)
    code = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(); sys.stdin.read()"
    words = [sys.executable, "-c", code, str(kept / "heal.lock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        _receive(tmp_path, _packed({"heal.py": b"x"}))
        assert (kept / "heal-0").is_dir()
        other.communicate()
    _receive(tmp_path, _packed({"heal.py": b"x"}), "heal-2")
    assert not (kept / "heal-0").exists()


@pytest.mark.parametrize("harm", ["cut", "other", "no archive", "out of it"])
def test_what_is_not_whole_is_not_taken(tmp_path: Path, harm: str) -> None:
    data = _packed(
        {"heal.py": b"x" * 5000, "../../outside": b"y"} if harm == "out of it" else {"heal.py": os.urandom(5000)}
    )
    digest = hashlib.sha256(data).hexdigest()
    sent = {"cut": data[:-100], "other": data[:-1] + b"x", "no archive": b"hello", "out of it": data}[harm]
    done = _receive(
        tmp_path, sent, digest=hashlib.sha256(sent).hexdigest() if harm in {"no archive", "out of it"} else digest
    )
    assert done.returncode != 0
    assert done.stderr.startswith(b"gesso-probe ")
    assert not (tmp_path / ".cache/gesso/heal-1").exists()
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("name", ["../../outside", "/outside", "link"])
def test_an_old_python_takes_nothing_from_outside_either(tmp_path: Path, name: str) -> None:
    """Debian 12's tarfile has no filters: its Python is 3.11.2."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = (tarfile.SYMTYPE, "/etc") if name == "link" else (tarfile.REGTYPE, "")
        archive.addfile(info, io.BytesIO())
    old = f"import tarfile; vars(tarfile).pop('data_filter', None)\n{payload_text.RECEIVE}"
    digest = hashlib.sha256(whole.getvalue()).hexdigest()
    done = _python(old, digest, "heal-1", env={"HOME": str(tmp_path)}, input=whole.getvalue())
    assert done.returncode != 0
    assert done.stderr.startswith(b"gesso-probe ")
    assert b"does not belong" in done.stderr
    assert not (tmp_path / "outside").exists()


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / ".cache").write_text("a file")
    done = _receive(tmp_path, _packed({"heal.py": b"x"}))
    assert done.returncode == 1
    assert b"gesso-probe " in done.stderr


def _kept(script: str) -> subprocess.Popen[bytes]:
    packed = base64.b64encode(payload_text.KEEP.encode()).decode()
    words = [
        sys.executable,
        "-I",
        "-c",
        f"import base64;exec(base64.b64decode('{packed}'))",
        sys.executable,
        "-c",
        script,
    ]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_output_and_code_pass_through() -> None:
    with _kept("import sys; print('out'); print('err', file=sys.stderr); sys.exit(5)") as keeper:
        assert keeper.communicate() == (b"gesso-begins\nout\n", b"err\n")
    assert keeper.returncode == 5


WAITING = """
import sys, time, pathlib
try:
    print('begun', flush=True)  # whoever reads it may stop us at once
    time.sleep(60)
except KeyboardInterrupt:
    print('put down', flush=True)
    sys.exit(130)
"""


def test_stop_is_a_ctrl_c_there() -> None:
    with _kept(WAITING) as keeper:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == f"{payload_text.BEGINS}\n".encode()
        assert keeper.stdout.readline() == b"begun\n"
        keeper.stdin.write(heal.STOP)
        keeper.stdin.flush()
        assert keeper.stdout.readline() == b"put down\n"
        keeper.communicate()
    assert keeper.returncode == 130


def test_a_lost_connection_ends_nothing(tmp_path: Path) -> None:
    """sshd closes the pipes, and may send a SIGHUP: what was begun goes on to its end."""
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
    keeper = _kept(script)
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    assert keeper.stderr is not None
    assert keeper.stdout.readline() == f"{payload_text.BEGINS}\n".encode()
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


def test_find_is_run_as_text_by_any_python() -> None:
    """Its own file is what is sent; isolated, with nothing of ours on the path."""
    done = _python(heal.FIND.read_text(), "/nowhere")
    (line,) = marked(done.stdout.decode(), "gesso-found ")
    assert "there is no ComfyUI in it" in json.loads(line)["error"]


def test_the_oldest_python_that_is_asked_can_read_it() -> None:
    import ast

    for source in (heal.FIND.read_text(), payload_text.FACTS, payload_text.RECEIVE, payload_text.KEEP):
        ast.parse(source, feature_version=(3, 8))


def test_lines_that_count() -> None:
    text = "Welcome!\ngesso-probe image\nxx gesso-probe no\n gesso-probe no\ngesso-probe  {}\r\n"
    assert marked(text, payload_text.MARK) == ["image", "{}"]


@pytest.mark.parametrize("line", ["", "image", "{}", "[]", "7", '{"version": [3], "libc": ""}', '{"version": "x"}'])
def test_what_is_no_python(line: str) -> None:
    assert python_of(line) is None


def test_a_terminal_is_told_nothing_by_a_stranger() -> None:
    line = json.dumps({"python": "/x\x1b]0;evil\x07", "version": [3, 12, 1], "implementation": "cpython",
                       "machine": "x86_64", "libc": "2.36"})  # fmt: skip
    found = python_of(line)
    assert found == bundle.Python("/x]0;evil", (3, 12, 1), "cpython", "x86_64", 36)
