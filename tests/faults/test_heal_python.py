"""ComfyUI's Python: differences are found per file, and repaired by a real pip, from an index that is a folder."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.errors import CheckError, FetchError, GessoError, VerifyError
from gesso.runtime.heal import hashing, python
from gesso.runtime.prepare import guard, wheels

if TYPE_CHECKING:
    from collections.abc import Callable

    from gesso.runtime.layout import Layout, Record

PINS = {"sqlalchemy": "2.0.58", "torch": "2.13.0+cu130", "huggingface-hub": "1.2", "six": "1.17"}
FILES: dict[str, dict[str, bytes]] = {
    "sqlalchemy": {"sqlalchemy/__init__.py": b"raise SystemExit\n", "sqlalchemy/ext/c.so": b"\x7fELF"},
    "torch": {"torch/__init__.py": b"t\n", "torch/lib/big.so": bytes(3 << 20), "shared/common.py": b"of torch\n"},
    "huggingface-hub": {"huggingface_hub/__init__.py": b"h\n", "shared/common.py": b"of the hub\n"},
    "six": {"six.py": b"six = 6\n"},
}


def _digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def make_wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    """Build a wheel; the same files give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    spelled = name.replace("-", "_")
    info = f"{spelled}-{version}.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{path},{_digest(content)},{len(content)}" for path, content in contents.items()]
    contents[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    path = folder / f"{spelled}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in contents.items():
            archive.writestr(zipfile.ZipInfo(entry), content)
    return path


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A package index: a folder of wheels."""
    folder = tmp_path / "index"
    for name, version in PINS.items():
        make_wheel(folder, name, version, FILES[name])
    return folder


@pytest.fixture
def env(index: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    constraints = layout.gesso / "constraints.txt"
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONSTRAINT": str(constraints)}


@pytest.fixture
def site(layout: Layout, index: Path) -> Path:
    """A newly built environment: the locked distributions, a pip, and the Python that runs these tests."""
    (layout.root).mkdir()
    for name in ("bin", "lib", "include"):  # but not share: Debian has a pip there
        (layout.root / "usr").mkdir(exist_ok=True)
        (layout.root / "usr" / name).symlink_to(Path(sys.base_prefix) / name)
    folder = layout.venv / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    folder.mkdir(parents=True)
    home = layout.root / "usr/bin"
    (layout.venv / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\nversion = 3\n")
    (layout.venv / "bin").mkdir()
    (layout.venv / "bin/python3").symlink_to(home / "python3")
    (layout.venv / "bin/python").symlink_to("python3")
    for name, version in PINS.items():
        assert wheels.unpack(index / f"{name.replace('-', '_')}-{version}-py3-none-any.whl", folder)
    spec = importlib.util.find_spec("pip")
    assert spec is not None
    assert spec.origin is not None
    (folder / "pip").symlink_to(Path(spec.origin).parent)
    (layout.gesso / "wheels").mkdir()
    shutil.copy(index / "sqlalchemy-2.0.58-py3-none-any.whl", layout.gesso / "wheels")
    lines = []
    for name, version in PINS.items():
        wheel = index / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        lines.append(f"{name}=={version} \\\n    --hash=sha256:{'0' * 64} \\\n"
                     f"    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")  # fmt: skip
    (layout.gesso / "requirements.txt").write_text("".join(lines))
    (layout.gesso / "constraints.txt").write_text("".join(f"{name}=={version}\n" for name, version in PINS.items()))
    return folder


@pytest.fixture
def found(layout: Layout, site: Path, record: Callable[..., Record]) -> Callable[[], list[python.Finding]]:
    return lambda: python.examine(layout, record(pins=PINS), lambda *_: None)


@pytest.fixture
def heal(
    layout: Layout, record: Callable[..., Record], found: Callable[[], list[python.Finding]], env: dict[str, str]
) -> Callable[[], list[str]]:
    def run() -> list[str]:
        lines: list[str] = []
        python.repair(layout, record(pins=PINS), found(), env, lines.append)
        return lines

    return run


def _others(folder: Path, *spoiled: str) -> dict[str, tuple[int, int]]:
    """Return inode and time of every file except those of damaged distributions, and bytecode."""
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and not path.relative_to(folder).parts[0].startswith((*spoiled, "shared"))
    }


def test_as_locked(layout: Layout, site: Path, record: Callable[..., Record]) -> None:
    progress: list[tuple[int, int]] = []
    assert python.examine(layout, record(pins=PINS), lambda done, total: progress.append((done, total))) == []
    assert progress[-1][0] == progress[-1][1] > 3 << 20
    assert python.unlocked(layout, record(pins=PINS)) == []


def test_an_additional_package_is_a_note(
    layout: Layout, site: Path, index: Path, record: Callable[..., Record], found: Callable[[], list[python.Finding]]
) -> None:
    wheel = make_wheel(index, "Mine.Own", "3", {"mine.py": b"m\n", "mine.pth": b"import mine\n"})
    assert wheels.unpack(wheel, site)
    assert found() == []
    assert python.unlocked(layout, record(pins=PINS)) == ["mine-own 3"]


TORCH = "torch-2.13.0+cu130.dist-info"
SIX = "six-1.17.dist-info"


@pytest.mark.parametrize(
    ("damage", "name", "text", "files"),
    [
        ("echo x >>torch/__init__.py", "torch", "2.13.0+cu130 with torch/__init__.py altered", ("torch/__init__.py",)),
        ("rm torch/lib/big.so", "torch", "2.13.0+cu130 with torch/lib/big.so altered", ("torch/lib/big.so",)),
        (
            "rm -r torch",
            "torch",
            "2.13.0+cu130 with torch/__init__.py and 1 more altered",
            ("torch/__init__.py", "torch/lib/big.so"),
        ),
        ("rm six.py; mkdir six.py", "six", "1.17 with six.py altered", ("six.py",)),
        ("rm six.py; mkfifo six.py", "six", "1.17 with six.py altered", ("six.py",)),
        ("rm six.py; ln -s nowhere six.py", "six", "1.17 with six.py altered", ("six.py",)),
        ("echo x >shared/common.py", "huggingface-hub", "1.2 with shared/common.py altered", ("shared/common.py",)),
        (f"rm -r {TORCH}", "torch", "missing", ()),
        (f"mv {TORCH} torch-2.12.0.dist-info", "torch", "2.12.0", ()),
        (f"cp -r {SIX} Six-1.1.dist-info", "six", "1.1 and 1.17", ()),
        (f"cp -r {SIX} six-2.dist-info", "six", "1.17 and 2", ()),
        (f"rm {SIX}/RECORD", "six", "1.17 with RECORD altered", ()),
        (f": >{SIX}/RECORD", "six", "1.17 with RECORD altered", ()),
        (f"printf '\\377\\376' >{SIX}/RECORD", "six", "1.17 with RECORD altered", ()),
        ("rm -r six*", "six", "missing", ()),
    ],
)
def test_a_distribution(
    site: Path,
    found: Callable[[], list[python.Finding]],
    heal: Callable[[], list[str]],
    damage: str,
    name: str,
    text: str,
    files: tuple[str, ...],
) -> None:
    assert os.system(f"cd {site} && {damage}") == 0
    (finding,) = found()
    assert finding == python.Finding(name, text, PINS[name], broken=False, offline=False, files=files)
    others = _others(site, name.replace("-", "_"), "Six")
    lines = heal()
    assert lines[0] == f"{name} {PINS[name]}: the image holds no copy; using the package index"
    assert lines[1] == f"{name} {PINS[name]}: reinstalled"
    assert found() == []
    assert _others(site, name.replace("-", "_"), "Six") == others
    assert (site / "shared/common.py").read_bytes() in {b"of torch\n", b"of the hub\n"}


def test_a_file_of_two_distributions_may_be_either_version(
    site: Path, found: Callable[[], list[python.Finding]]
) -> None:
    for content in (b"of torch\n", b"of the hub\n"):
        (site / "shared/common.py").write_bytes(content)
        assert found() == []


@pytest.mark.parametrize(
    "damage", ["echo x >>sqlalchemy/__init__.py", "rm -r sqlalchemy*", "mv sqlalchemy-2.0.58.dist-info x-1.4.dist-info"]
)
@pytest.mark.parametrize("pip", ["works", "is gone", "is broken", "has no python"])
def test_sqlalchemy_needs_no_network(
    layout: Layout,
    site: Path,
    found: Callable[[], list[python.Finding]],
    heal: Callable[[], list[str]],
    env: dict[str, str],
    damage: str,
    pip: str,
) -> None:
    damage = damage.replace("x-1.4", "SQLAlchemy-1.4.54")
    assert os.system(f"cd {site} && {damage}") == 0
    if pip != "works":
        (site / "pip").unlink()
    if pip == "is broken":
        (site / "pip.py").write_text("raise SystemExit(3)\n")
    if pip == "has no python":
        (layout.venv / "bin/python3").unlink()
    broken = [finding for finding in found() if finding.broken]
    assert [(f.name, f.offline) for f in broken] == [("sqlalchemy", True)]
    env["PIP_FIND_LINKS"] = "/nowhere"
    assert "sqlalchemy: restored from the image" in heal()
    assert found() == []
    info = site / "sqlalchemy-2.0.58.dist-info"
    assert (info / "INSTALLER").read_text().strip() in {"pip", "gesso"}
    listed = {row.path for row in hashing.rows(info / "RECORD")}
    assert {*FILES["sqlalchemy"], f"{info.name}/METADATA", f"{info.name}/INSTALLER"} <= listed


@pytest.mark.parametrize("name", ["six.py", "torch", "torch/lib", "sqlalchemy", "sqlalchemy/__init__.py"])
def test_nothing_is_written_through_a_link(
    layout: Layout, site: Path, found: Callable[[], list[python.Finding]], heal: Callable[[], list[str]], name: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    path, outside = site / name, tmp_path / "outside"
    path.rename(outside)
    changed = outside if outside.is_file() else min(p for p in outside.rglob("*") if p.is_file())
    changed.write_bytes(b"theirs")
    before = {p: p.read_bytes() for p in [outside, *outside.rglob("*")] if p.is_file()}
    path.symlink_to(outside)
    heal()
    assert found() == []
    assert not path.is_symlink()
    assert {p: p.read_bytes() for p in [outside, *outside.rglob("*")] if p.is_file()} == before
    assert (layout.state / "replaced/python" / name).readlink() == outside


def test_offline_repairs_succeed_without_a_network(
    site: Path, found: Callable[[], list[python.Finding]], heal: Callable[[], list[str]], env: dict[str, str]
) -> None:
    for name in ("sqlalchemy/__init__.py", "six.py", "torch/__init__.py"):
        (site / name).write_bytes(b"bad")
    (site / "sitecustomize.py").touch()
    del env["PIP_NO_INDEX"]
    env |= {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_FIND_LINKS": ""}
    with pytest.raises(FetchError) as raised:
        heal()
    assert raised.value.message == "six, torch: the package index is unreachable: Connection refused"
    assert "PIP_INDEX_URL" in raised.value.next_step
    assert [finding.name for finding in found()] == ["six", "torch"]
    assert (site / "six.py").read_bytes() == b"bad"


def test_a_file_that_does_not_match_the_lock_is_rejected(
    site: Path, index: Path, heal: Callable[[], list[str]], found: Callable[[], list[python.Finding]]
) -> None:
    make_wheel(index, "six", "1.17", {"six.py": b"evil\n"})
    for name in ("six.py", "torch/__init__.py"):
        (site / name).write_bytes(b"bad")
    with pytest.raises(VerifyError, match=r"six 1\.17: the package index serves a file that does not match the lock"):
        heal()
    assert (site / "six.py").read_bytes() == b"bad"
    assert [finding.name for finding in found()] == ["six"]  # torch was repaired nevertheless


def test_an_index_without_the_package(site: Path, index: Path, heal: Callable[[], list[str]]) -> None:
    (index / "six-1.17-py3-none-any.whl").unlink()
    shutil.rmtree(site / "six-1.17.dist-info")
    with pytest.raises(FetchError, match=r"six 1\.17: the package index does not have it"):
        heal()
    assert (site / "six.py").exists()


@pytest.mark.parametrize("lost", ["requirements.txt", "constraints.txt"])
def test_an_image_without_a_lock_file(layout: Layout, site: Path, heal: Callable[[], list[str]], lost: str) -> None:
    (site / "six.py").unlink()
    (layout.gesso / lost).unlink()
    if lost == "constraints.txt":
        assert heal()[-1].endswith("reinstalled")
        return
    with pytest.raises(CheckError, match=r"requirements\.txt: cannot be read"):
        heal()


def test_no_pip_at_all(
    layout: Layout, site: Path, heal: Callable[[], list[str]], found: Callable[[], list[python.Finding]]
) -> None:
    (site / "pip").unlink()
    for name in ("six.py", "sqlalchemy/__init__.py"):
        (site / name).unlink()
    with pytest.raises(CheckError, match=r"pip does not work in .*, and no other pip was found") as raised:
        heal()
    assert raised.value.next_step == "start a fresh instance of this image"
    assert [finding.name for finding in found()] == ["six"]


def test_debians_pip_where_the_environments_is_broken(
    layout: Layout, site: Path, heal: Callable[[], list[str]]
) -> None:
    """Debian has a wheel from which new environments get their pip; pip can run from it."""
    wheel = layout.root / "usr/share/python-wheels/pip-1-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    real = (site / "pip").resolve()
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in sorted(real.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, f"pip/{path.relative_to(real)}")
    (site / "pip").unlink()
    (site / "six.py").unlink()
    assert heal()[-1] == "six 1.17: reinstalled"


# --- what shadows the locked Python


@pytest.mark.parametrize(
    ("damage", "name", "text"),
    [
        ("echo import evil >evil.pth", "evil.pth", "is a .pth file that belongs to no distribution"),
        ("touch sitecustomize.py", "sitecustomize.py", "is code that Python runs at every start"),
        ("mkdir usercustomize", "usercustomize", "is code that Python runs at every start"),
        ("mkdir six; touch six/__init__.py", "six", "would be imported instead of six.py"),
        ("touch six.abi3.so", "six.abi3.so", "would be imported instead of six.py"),
        ("mkdir ./~ix-1.17.dist-info", "~ix-1.17.dist-info", "is a leftover of an interrupted pip"),
    ],
)  # fmt: skip
def test_a_shadow(
    layout: Layout,
    site: Path,
    found: Callable[[], list[python.Finding]],
    heal: Callable[[], list[str]],
    damage: str,
    name: str,
    text: str,
) -> None:
    assert os.system(f"cd {site} && {damage}") == 0
    others = _others(site)
    (finding,) = found()
    assert (str(finding), finding.offline, finding.broken) == (f"{name} {text}", True, False)
    heal()
    assert found() == []
    assert not os.path.lexists(site / name)
    assert {p: s for p, s in others.items() if Path(p).exists()} == _others(site)
    if not damage.startswith(("mkdir ./~", "mkdir user")):  # an empty folder
        assert (layout.state / "replaced/python" / name).exists()


@pytest.mark.parametrize(
    "harmless", ["touch mine.py", "mkdir six", "touch mine.so", "mkdir mine; touch mine/__init__.py"]
)
def test_no_shadow(site: Path, found: Callable[[], list[python.Finding]], harmless: str) -> None:
    assert os.system(f"cd {site} && {harmless}") == 0
    assert found() == []


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ("sed -i s/false/true/ pyvenv.cfg", "pyvenv.cfg allows packages from outside the environment"),
        ("sed -i /^include/d pyvenv.cfg", "pyvenv.cfg allows packages from outside the environment"),
        ("sed -i 's|^home.*|home = /elsewhere|' pyvenv.cfg", "pyvenv.cfg names /elsewhere as the home of Python, not "),
        ("rm pyvenv.cfg", "pyvenv.cfg names nothing as the home of Python, not "),
        ("rm bin/python", "bin/python is missing or a broken link"),
        ("rm bin/python3", "bin/python is missing or a broken link"),
        ("rm bin/python; mkdir bin/python; touch bin/python/a", "bin/python is missing or a broken link"),
        ("ln -sf /bin/true bin/python", "bin/python links to "),
        ("ln -sf /bin/true bin/python3", "bin/python links to "),
        (f"ln -sf {sys.base_prefix}/bin/python3-config bin/python3", "bin/python links to "),  # beside Python
    ],
)
def test_the_environment_itself(
    layout: Layout,
    found: Callable[[], list[python.Finding]],
    heal: Callable[[], list[str]],
    damage: str,
    text: str,
) -> None:
    assert os.system(f"cd {layout.venv} && {damage}") == 0
    (finding,) = found()
    assert str(finding).startswith(text)
    assert finding.offline
    heal()
    assert found() == []
    assert f"home = {layout.root}/usr/bin\n" in (layout.venv / "pyvenv.cfg").read_text()
    assert os.system(f"{layout.venv}/bin/python -c 'import six'") == 0


def test_two_pythons(layout: Layout, found: Callable[[], list[python.Finding]]) -> None:
    (layout.venv / "lib/python3.99/site-packages").mkdir(parents=True)
    with pytest.raises(CheckError, match="holds 2 Pythons"):
        found()


# --- the last resort


def _wheel(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["../out.py", "/out.py", "x-1.data/scripts/run", "a/../../out.py"])
def test_a_wheel_with_other_files_than_packages_is_not_unpacked(tmp_path: Path, name: str) -> None:
    site = tmp_path / "a/site"
    site.mkdir(parents=True)
    wheel = _wheel(tmp_path / "x.whl", **{"x.py": b"", name: b"", "x-1.dist-info/RECORD": b""})
    assert not wheels.unpack(wheel, site)
    assert list(site.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"PK", b"\0" * 99, None])
def test_an_invalid_wheel_is_not_unpacked(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.whl"
    if content is not None:
        path.write_bytes(content)
    assert not wheels.unpack(path, tmp_path)
    assert not wheels.unpack(_wheel(tmp_path / "y.whl", **{"x.py": b""}), tmp_path)


def test_a_damaged_wheel_is_rejected(layout: Layout, site: Path, record: Callable[..., Record]) -> None:
    """Its checksum fails before anything is touched."""
    wheel = layout.gesso / "wheels/sqlalchemy-2.0.58-py3-none-any.whl"
    data = wheel.read_bytes().replace(b"raise SystemExit", b"raise XystemExit", 1)
    wheel.write_bytes(data)
    (site / "sqlalchemy/__init__.py").write_bytes(b"old")
    with pytest.raises(GessoError, match="the SQLAlchemy wheel in the image is damaged"):
        guard.ensure(layout, record(pins=PINS), lambda _: None)
    assert (site / "sqlalchemy/__init__.py").read_bytes() == b"old"
    assert (site / "sqlalchemy-2.0.58.dist-info").is_dir()


def test_executable_files_stay_so(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as archive:
        for name, mode in (("x/tool", 0o755), ("x/data", 0o644), ("x-1.dist-info/RECORD", 0o644)):
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o100000 | mode) << 16
            archive.writestr(info, b"")
    assert wheels.unpack(tmp_path / "x.whl", site)
    assert [oct(path.stat().st_mode & 0o777) for path in sorted((site / "x").iterdir())] == ["0o644", "0o755"]


# --- hashing


def test_progress_grows_to_the_total(tmp_path: Path) -> None:
    sizes = {f"f{n}": n << 20 for n in range(1, 12)}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
    owned = {name: (hashing.Row(name, _digest(bytes(size)), size),) for name, size in sizes.items()}
    progress: list[tuple[int, int]] = []
    assert hashing.damaged(tmp_path, owned, lambda done, total: progress.append((done, total))) == {}
    total = sum(sizes.values())
    assert progress == sorted(progress)
    assert len(progress) > 2
    assert progress[-1] == (total, total)
    assert all(reported_total == total for _, reported_total in progress)


@pytest.mark.parametrize("kind", ["sha384", "sha512"])
def test_other_digests(tmp_path: Path, kind: str) -> None:
    (tmp_path / "f").write_bytes(b"x")
    written = base64.urlsafe_b64encode(hashlib.new(kind, b"x").digest()).rstrip(b"=").decode()
    for text, result in ((written, {}), (written[::-1], {"d": ["f"]})):
        assert hashing.damaged(tmp_path, {"d": (hashing.Row("f", f"{kind}={text}", 1),)}, lambda *_: None) == result


@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_garbage_in_a_record_never_raises(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("record")
    (folder / "RECORD").write_bytes(data + b"\nx\0y,sha256=AA,1\n")
    hashing.damaged(folder, {"d": hashing.rows(folder / "RECORD")}, lambda *_: None)
