"""Build the bundle that heals a foreign instance: gesso with its libraries, and all data that it needs there.

The libraries are wheels for the Python that runs gesso, with the hashes of gesso's own lock; SQLAlchemy is a wheel for
the Python that runs ComfyUI, with the hash of the image's lock.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso import proc
from gesso.builder.image import build
from gesso.builder.image import spares as spare
from gesso.builder.image.own_package import copy_package
from gesso.builder.image.plan import build_record
from gesso.builder.lock.python_pins import GUARDED, pin_of, read_pins
from gesso.builder.lock.sources import SourceCache
from gesso.errors import BuildError, FetchError, ManifestError
from gesso.settings import cache_root

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gesso.settings import Selection

MINIMUM = (3, 11)  # pyproject.toml's requires-python
TOOLING = "comfyui-tooling-nodes"
# Of gesso's own requirements, without those of the page, the supervisor and the second route to Hugging Face.
_LIBRARIES = (
    "annotated-types", "filelock", "markdown-it-py", "mdurl", "pydantic", "pydantic-core", "pygments", "pyyaml", "rich",
    "typing-extensions", "typing-inspection",
)  # fmt: skip
_GLIBC = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)  # minor versions of 2.N that uv has platform names for
_WEB_PAGE = ("runtime/agent.py", "runtime/web", "runtime/gate/forward_auth.py")  # what serves the page of a gesso image
_LAUNCHER = """\
import sys
from pathlib import Path
here = Path(__file__).resolve().parent
sys.path.insert(0, str(here / "lib"))
from gesso.runtime.foreign.command import main
sys.exit(main(here, sys.argv[1:]))
"""


@dataclass(frozen=True)
class Python:
    """A Python on an instance; `glibc` is the minor version of 2.N, 0 for musl."""

    path: str
    version: tuple[int, int, int]
    implementation: str
    machine: str
    glibc: int

    def __str__(self) -> str:
        return f"{self.path} ({self.implementation} {'.'.join(map(str, self.version))}, {self.machine})"

    @property
    def short(self) -> str:
        """The version as package indexes use it, such as 3.13."""
        return f"{self.version[0]}.{self.version[1]}"

    @property
    def is_supported(self) -> bool:
        """True where gesso can run in it."""
        return self.implementation == "cpython" and self.version[:2] >= MINIMUM

    def platform(self) -> str:
        """Return uv's name of the platform."""
        if not self.glibc:
            return f"{self.machine}-unknown-linux-musl"
        newest = max((minor for minor in _GLIBC if minor <= self.glibc), default=17)
        return f"{self.machine}-manylinux_2_{newest}"

    def tags(self) -> list[str]:
        """Return pip's names of the platform: wheels for an older libc fit, too."""
        if not self.glibc:
            return [f"musllinux_1_{minor}_{self.machine}" for minor in (2, 1)]
        return [*(f"manylinux_2_{minor}_{self.machine}" for minor in range(self.glibc, 4, -1)),
                f"manylinux2014_{self.machine}"]  # fmt: skip


def choose(pythons: Sequence[Python]) -> Python:
    """Choose the Python that will run gesso: the first supported one.

    Raises ManifestError that lists those found.
    """
    for python in pythons:
        if python.is_supported:
            return python
    minimum = ".".join(map(str, MINIMUM))
    found = f"found: {', '.join(map(str, pythons))}" if pythons else "none was found"
    raise ManifestError(
        f"the instance has no Python that can run gesso: {minimum} or newer is required, {found}",
        f"install one next to ComfyUI's (Debian, Ubuntu: `apt-get install python3`; or `uv python install {minimum}`)",
    )


@dataclass(frozen=True)
class Bundle:
    """A folder that is ready to send, and the digest of its content."""

    folder: Path
    digest: str

    def pack(self, target: Path) -> int:
        """Write it as one file; return the size in bytes."""
        with tarfile.open(target, "w:gz", compresslevel=6) as archive:
            archive.add(self.folder, ".", filter=_without_owner)
        return target.stat().st_size


def _without_owner(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def build_bundle(
    selection: Selection, runner: Python, comfyui_python: Python, folder: Path, env: Mapping[str, str],
    on_progress: Callable[[str], None],
) -> Bundle:  # fmt: skip
    """Fill an empty folder: for `runner`, which will run gesso, and `comfyui_python`, which runs ComfyUI.

    Raises ManifestError, LockError, FetchError, VerifyError and BuildError.
    """
    manifest, locked = build.prepare(selection)
    source = locked.lock.nodes.get(TOOLING)
    if source is None:
        raise ManifestError(f"{selection.arch}: its manifest has no {TOOLING}", "add it to `nodes`")
    on_progress(f"bundle: for {runner}" + (f", and ComfyUI's {comfyui_python}" if comfyui_python != runner else ""))
    project = selection.project
    tree = project.root / source.path if source.path else SourceCache(cache_root(env)).tree(source, name=TOOLING)
    spared = spare.of_pack(TOOLING, tree, cache_root(env) / "spares")
    workflows = build.read_workflows(project, manifest)
    record = build_record(manifest, locked, workflows, spares={TOOLING: spared.as_record()})
    for name in ("lib", "spare", "wheels", "workflows"):
        (folder / name).mkdir(parents=True)
    (folder / "spare" / f"{TOOLING}.tar.xz").write_bytes(spared.content)
    for name, text in workflows.items():
        (folder / "workflows" / name).write_text(text, encoding="utf-8")
    (folder / "heal.py").write_text(_LAUNCHER, encoding="utf-8")
    (folder / "build.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    _install_libraries(build.read_text(project.locks / "gesso.lock.txt"), runner, folder / "lib")
    copy_package(Path(__file__).resolve().parents[2], folder / "lib" / "gesso", without=_WEB_PAGE)
    _download_wheel(pin_of(locked.pins, GUARDED).text, comfyui_python, folder / "wheels")
    return Bundle(folder, digest_of(folder))


def digest_of(folder: Path) -> str:
    """Return the digest of every path and its content; timestamps do not count."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:16]


def _install_libraries(lock: str, python: Python, target: Path) -> None:
    """Install gesso's own requirements for that Python into a folder."""
    pins = [pin for pin in read_pins(lock) if pin.name in _LIBRARIES]
    requirements = target.with_name("requirements.txt")
    requirements.write_text("".join(f"{pin.text}\n" for pin in pins), encoding="utf-8")
    argv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", target, "--python-version",
            python.short, "--python-platform", python.platform(), "--no-deps", "--require-hashes", "--only-binary",
            ":all:", "--no-python-downloads", "--requirements", requirements]  # fmt: skip
    _run(argv, f"gesso's own libraries for {python}")
    requirements.unlink()
    for each in (target / "bin", target / ".lock"):  # scripts with this machine's Python in their first line
        shutil.rmtree(each) if each.is_dir() else each.unlink(missing_ok=True)
    for info in target.glob("*.dist-info"):
        for name in ("direct_url.json", "uv_cache.json", "REQUESTED", "RECORD"):  # not reproducible
            (info / name).unlink(missing_ok=True)


def _download_wheel(pin: str, python: Python, target: Path) -> None:
    """Download the wheel of one pin for that Python."""
    requirements = target.with_name("wheel.txt")
    requirements.write_text(f"{pin}\n", encoding="utf-8")
    tags = [option for tag in python.tags() for option in ("--platform", tag)]
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
            "--require-hashes", "--only-binary", ":all:", "--implementation", "cp", "--python-version", python.short,
            *tags, "--dest", target, "--requirement", requirements]  # fmt: skip
    _run(argv, f"SQLAlchemy for {python}")
    requirements.unlink()


def _run(argv: list[Any], what: str) -> None:
    result = proc.run(argv, timeout=600)
    if result.ok:
        return
    if "No module named" in result.output:
        raise BuildError(f"{what}: {result.tail(1)}", "run this in the environment that `python3 build.py` creates")
    raise FetchError(
        f"{what} cannot be downloaded: {result.tail(2)}",
        "check the network and the package index (UV_DEFAULT_INDEX, PIP_INDEX_URL); a rare Python may have no wheels",
    )
