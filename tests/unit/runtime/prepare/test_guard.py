"""The guard: SQLAlchemy matches the lock byte for byte, or is restored offline, or ComfyUI is not started."""

from __future__ import annotations

import base64
import hashlib
import shutil
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.errors import CheckError
from gesso.runtime.prepare import guard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gesso.runtime.layout import Layout, Record

LOCKED = "2.0.58"
PINS = {"sqlalchemy": LOCKED, "torch": "2.13.0+cu130", "huggingface-hub": "1.2"}
FILES = {
    # The guard must not import what it checks.
    "sqlalchemy/__init__.py": b"raise SystemExit('imported')\n",
    "sqlalchemy/orm/__init__.py": b"mapped_column = 1\n",
}


def _row(name: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}"


def _install(site: Path, version: str = LOCKED, *, spelled: str = "sqlalchemy") -> Path:
    """Install a SQLAlchemy as pip does."""
    for name, content in FILES.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    info = site / f"{spelled}-{version}.dist-info"
    info.mkdir()
    rows = [_row(name, content) for name, content in FILES.items()]
    rows += ["sqlalchemy/__pycache__/x.cpython-313.pyc,,", f"{info.name}/RECORD,,", "../../../bin/tool,sha256=AAAA,1"]
    (info / "RECORD").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return info


@pytest.fixture
def site(layout: Layout) -> Path:
    """A venv's site-packages that matches the lock."""
    folder = layout.venv / "lib/python3.13/site-packages"
    folder.mkdir(parents=True)
    _install(folder)
    for name in ("torch-2.13.0+cu130.dist-info", "huggingface_hub-1.2.dist-info", "not_locked-9.dist-info"):
        (folder / name).mkdir()
    (folder / "torch").mkdir()
    (folder / "README-1.txt").touch()
    return folder


@pytest.fixture
def found(layout: Layout, site: Path, record: Callable[..., Record]) -> Callable[[], list[guard.Finding]]:
    return lambda: guard.check(layout, record(pins=PINS))


def test_as_locked(found: Callable[[], list[guard.Finding]]) -> None:
    before = set(sys.modules)
    assert found() == []
    assert not [name for name in set(sys.modules) - before if name.startswith("sqlalchemy")]


@pytest.mark.parametrize("version", ["1.4.54", "2.0.57", "2.0.580"])
def test_another_version(site: Path, found: Callable[[], list[guard.Finding]], version: str) -> None:
    shutil.rmtree(site / f"sqlalchemy-{LOCKED}.dist-info")
    _install(site, version)
    (finding,) = found()
    assert finding.broken
    assert str(finding) == f"sqlalchemy is {version}, the lock says {LOCKED}"


@pytest.mark.parametrize(("version", "spelled"), [("1.4.54", "SQLAlchemy"), (LOCKED, "SQLAlchemy")])
def test_two_at_once(site: Path, found: Callable[[], list[guard.Finding]], version: str, spelled: str) -> None:
    """A broken downgrade leaves both; which one Python reports is arbitrary."""
    _install(site, version, spelled=spelled)
    (finding,) = found()
    assert finding.broken
    assert finding.found == " and ".join(sorted([version, LOCKED]))


def test_missing(site: Path, found: Callable[[], list[guard.Finding]]) -> None:
    shutil.rmtree(site / f"sqlalchemy-{LOCKED}.dist-info")
    (finding,) = found()
    assert (finding.found, finding.broken) == ("missing", True)


@pytest.mark.parametrize("name", list(FILES))
def test_an_altered_file(site: Path, found: Callable[[], list[guard.Finding]], name: str) -> None:
    content = bytearray(FILES[name])
    content[-2] ^= 1
    (site / name).write_bytes(content)
    (finding,) = found()
    assert finding.broken
    assert finding.found == f"{LOCKED} with {name} altered"


@pytest.mark.parametrize("name", [*FILES, f"sqlalchemy-{LOCKED}.dist-info/RECORD"])
def test_a_missing_file(site: Path, found: Callable[[], list[guard.Finding]], name: str) -> None:
    (site / name).unlink()
    (finding,) = found()
    assert finding.broken
    assert finding.found == f"{LOCKED} with {'RECORD' if name.endswith('RECORD') else name} altered"


@pytest.mark.parametrize(
    "text",
    [b"", b"\n\n", b"nothing,,\n", b"\xff\xfe", b'"never closed', b"a" * 200_000, b"x\0y,sha256=AA,1\n"],
    ids=["empty", "blank", "no digest", "not UTF-8", "quote", "long", "nul"],
)
def test_a_record_without_usable_digests(site: Path, found: Callable[[], list[guard.Finding]], text: bytes) -> None:
    (site / f"sqlalchemy-{LOCKED}.dist-info/RECORD").write_bytes(text)
    (finding,) = found()
    assert finding.broken


def test_blank_lines_in_a_record_are_ignored(site: Path, found: Callable[[], list[guard.Finding]]) -> None:
    path = site / f"sqlalchemy-{LOCKED}.dist-info/RECORD"
    path.write_text("\n" + path.read_text() + "\n\n")
    assert found() == []


@given(
    st.lists(st.text(max_size=12) | st.sampled_from(["sha256=", ",", "sqlalchemy/__init__.py", "..", "/"]), max_size=9)
)
def test_garbage_in_a_record_never_raises(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    assert isinstance(guard._damaged(tmp_path_factory.mktemp("site"), ",".join(parts)), str)


def test_the_wheel_is_trusted_before_the_installed_record(
    site: Path, layout: Layout, found: Callable[[], list[guard.Finding]]
) -> None:
    """An altered file with its new digest in RECORD is detected by the wheel's own RECORD."""
    info = f"sqlalchemy-{LOCKED}.dist-info"
    wheel = layout.gesso / "wheels" / f"sqlalchemy-{LOCKED}-py3-none-any.whl"
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{info}/RECORD", (site / info / "RECORD").read_text())
    assert found() == []
    altered = b"altered = True\n"
    (site / "sqlalchemy/__init__.py").write_bytes(altered)
    digest = base64.urlsafe_b64encode(hashlib.sha256(altered).digest()).rstrip(b"=").decode()
    (site / info / "RECORD").write_text(f"sqlalchemy/__init__.py,sha256={digest},{len(altered)}\n")
    (finding,) = found()
    assert finding.broken
    assert "sqlalchemy/__init__.py" in finding.found


def test_other_differences_are_notes(
    site: Path, found: Callable[[], list[guard.Finding]], layout: Layout, record: Callable[..., Record]
) -> None:
    (site / "torch-2.13.0+cu130.dist-info").rename(site / "torch-2.12.0.dist-info")
    (site / "huggingface_hub-1.2.dist-info").rmdir()
    assert {str(f): f.broken for f in found()} == {
        "torch is 2.12.0, the lock says 2.13.0+cu130": False,
        "huggingface-hub is missing, the lock says 1.2": False,
    }
    messages: list[str] = []
    assert len(guard.ensure(layout, record(pins=PINS), messages.append)) == 2
    assert all(line.startswith("guard: note: ") for line in messages)
    assert len(messages) == 2


def test_no_python_or_two(layout: Layout, site: Path, found: Callable[[], list[guard.Finding]]) -> None:
    (layout.venv / "lib/python3.14/site-packages").mkdir(parents=True)
    with pytest.raises(CheckError, match="holds 2 Pythons"):
        found()


# --- repair


@pytest.fixture
def pip(layout: Layout, site: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Put a wheel into the image, and a `python` into the venv whose pip runs a shell script.

    `$GOOD` is a site-packages as it should be, `$SITE` the one to repair. Returns the file with its arguments.
    """
    good = tmp_path / "good"
    good.mkdir()
    _install(good)
    (layout.gesso / "wheels").mkdir()
    (layout.gesso / "wheels" / "greenlet-3-py3-none-any.whl").touch()
    (layout.gesso / "wheels" / f"sqlalchemy-{LOCKED}-cp313-cp313-manylinux.whl").touch()
    python = layout.venv / "bin/python"
    python.parent.mkdir()

    def put(script: str) -> Path:
        argv = tmp_path / "argv"
        python.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >>{argv}\nGOOD={good} SITE={site}\n{script}\n")
        python.chmod(0o755)
        return argv

    return put


WORKS = 'cp -R "$GOOD/." "$SITE"'


def _damage(site: Path, how: str) -> None:
    info = site / f"sqlalchemy-{LOCKED}.dist-info"
    if how == "altered":
        (site / "sqlalchemy/__init__.py").write_bytes(b"x")
    elif how == "older":
        shutil.rmtree(info)
        _install(site, "1.4.54", spelled="SQLAlchemy")
    elif how == "two":
        _install(site, "1.4.54", spelled="SQLAlchemy")
    elif how == "no RECORD":
        (info / "RECORD").unlink()
    else:
        shutil.rmtree(info)
        shutil.rmtree(site / "sqlalchemy")


@pytest.mark.parametrize("how", ["altered", "older", "two", "no RECORD", "gone"])
def test_ensure_repairs(
    layout: Layout, record: Callable[..., Record], site: Path, pip: Callable[[str], Path], how: str
) -> None:
    _damage(site, how)
    # The real pip fails at a distribution without RECORD, and removes one of two: it must not see any.
    argv = pip(f'for d in "$SITE"/[sS][qQ][lL][aA]*.dist-info; do [ ! -e "$d" ] || exit 1; done; {WORKS}')
    messages: list[str] = []
    assert guard.ensure(layout, record(pins=PINS), messages.append) == []
    assert guard.check(layout, record(pins=PINS)) == []
    args = argv.read_text().splitlines()
    assert args[:3] == ["-m", "pip", "install"]
    assert {"--no-index", "--no-deps", "--force-reinstall"} <= set(args)
    assert args[-1] == str(layout.gesso / f"wheels/sqlalchemy-{LOCKED}-cp313-cp313-manylinux.whl")
    assert messages[0].startswith("guard: sqlalchemy is ")
    assert messages[-1] == "guard: restored"


def test_ensure_does_nothing_where_nothing_is_wrong(
    layout: Layout, record: Callable[..., Record], pip: Callable[[str], Path]
) -> None:
    argv = pip("exit 1")
    messages: list[str] = []
    assert guard.ensure(layout, record(pins=PINS), messages.append) == []
    assert messages == []
    assert not argv.exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 0", "guard: sqlalchemy is missing, the lock says 2.0.58, even after a repair"),
        ("echo 'ERROR: no room' >&2; exit 1", "SQLAlchemy could not be restored: ERROR: no room"),
    ],
)
def test_a_failed_repair_prevents_the_start(
    layout: Layout, record: Callable[..., Record], site: Path, pip: Callable[[str], Path], script: str, message: str
) -> None:
    pip(script)
    _damage(site, "altered")
    with pytest.raises(CheckError) as raised:
        guard.ensure(layout, record(pins=PINS), lambda _: None)
    assert raised.value.message == message
    assert raised.value.exit_code == 1
    assert raised.value.next_step == "start a fresh instance of this image"


def test_an_image_without_its_wheel(
    layout: Layout, record: Callable[..., Record], site: Path, pip: Callable[[str], Path]
) -> None:
    argv = pip(WORKS)
    _damage(site, "altered")
    next((layout.gesso / "wheels").glob("sqlalchemy*")).unlink()
    with pytest.raises(CheckError, match="wheel is missing from the image"):
        guard.ensure(layout, record(pins=PINS), lambda _: None)
    assert not argv.exists()
    assert (site / f"sqlalchemy-{LOCKED}.dist-info").is_dir()
