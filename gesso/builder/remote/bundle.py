"""What heals a foreign instance, as one file: the program with its libraries, and all that it will need there.

The libraries are wheels for the Python that will run them, by the hashes of gesso's own lock; SQLAlchemy is a wheel for
the Python that runs ComfyUI, by the hash of the image's lock.
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
# Of gesso's own requirements: those of the page, of the supervisor, and of a second way to Hugging Face stay here.
_CARRIED = (
    "annotated-types", "filelock", "markdown-it-py", "mdurl", "pydantic", "pydantic-core", "pygments", "pyyaml", "rich",
    "typing-extensions", "typing-inspection",
)  # fmt: skip
_GLIBC = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)  # those that uv has names for, as 2.N
_OURS = ("__pycache__", "*.pyc", "image", "publish", "commands.py", "web")
_START = """\
import sys
from pathlib import Path
here = Path(__file__).resolve().parent
sys.path.insert(0, str(here / "lib"))
from gesso.runtime.foreign.command import main
sys.exit(main(here, sys.argv[1:]))
"""


@dataclass(frozen=True)
class Python:
    """A Python on an instance; `glibc` is the minor version of 2.N, 0 where it is musl."""

    path: str
    version: tuple[int, int, int]
    implementation: str
    machine: str
    glibc: int

    def __str__(self) -> str:
        return f"{self.path} ({self.implementation} {'.'.join(map(str, self.version))}, {self.machine})"

    @property
    def short(self) -> str:
        """As indexes name it."""
        return f"{self.version[0]}.{self.version[1]}"

    @property
    def fits(self) -> bool:
        """True where gesso can run in it."""
        return self.implementation == "cpython" and self.version[:2] >= MINIMUM

    def platform(self) -> str:
        """Give uv's name of it."""
        if not self.glibc:
            return f"{self.machine}-unknown-linux-musl"
        known = max((minor for minor in _GLIBC if minor <= self.glibc), default=17)
        return f"{self.machine}-manylinux_2_{known}"

    def tags(self) -> list[str]:
        """Give pip's names of it: a wheel for an older libc does, too."""
        if not self.glibc:
            return [f"musllinux_1_{minor}_{self.machine}" for minor in (2, 1)]
        return [*(f"manylinux_2_{minor}_{self.machine}" for minor in range(self.glibc, 4, -1)),
                f"manylinux2014_{self.machine}"]  # fmt: skip


def choose(pythons: Sequence[Python]) -> Python:
    """Choose the Python that will run gesso: the first that can.

    Raises ManifestError that names those which are there.
    """
    for python in pythons:
        if python.fits:
            return python
    minimum = ".".join(map(str, MINIMUM))
    there = f"it has {', '.join(map(str, pythons))}" if pythons else "it has none"
    raise ManifestError(
        f"the instance has no Python that gesso can run in: {minimum} or newer is needed, {there}",
        f"install one beside ComfyUI's (Debian, Ubuntu: `apt-get install python3`; or `uv python install {minimum}`)",
    )


@dataclass(frozen=True)
class Bundle:
    """A folder that is ready to be sent, and the digest of everything in it."""

    folder: Path
    digest: str

    def pack(self, target: Path) -> int:
        """Write it as one file; give its size in bytes."""
        with tarfile.open(target, "w:gz", compresslevel=6) as archive:
            archive.add(self.folder, ".", filter=_as_anybodys)
        return target.stat().st_size


def _as_anybodys(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def make(
    selection: Selection, runner: Python, comfyuis: Python, folder: Path, env: Mapping[str, str],
    say: Callable[[str], None],
) -> Bundle:  # fmt: skip
    """Fill an empty folder: for `runner`, which will run it, and `comfyuis`, which runs ComfyUI.

    Raises ManifestError, LockError, FetchError, VerifyError and BuildError.
    """
    manifest, locked = build.prepare(selection)
    source = locked.lock.nodes.get(TOOLING)
    if source is None:
        raise ManifestError(f"{selection.arch}: its manifest has no {TOOLING}", "add it to `nodes`")
    say(f"bundle: for {runner}" + (f", and ComfyUI's {comfyuis}" if comfyuis != runner else ""))
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
    (folder / "heal.py").write_text(_START, encoding="utf-8")
    (folder / "build.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    _libraries(build.read_text(project.locks / "gesso.lock.txt"), runner, folder / "lib")
    shutil.copytree(
        Path(__file__).resolve().parents[2], folder / "lib" / "gesso", ignore=shutil.ignore_patterns(*_OURS)
    )
    _wheel(pin_of(locked.pins, GUARDED).text, comfyuis, folder / "wheels")
    return Bundle(folder, digest_of(folder))


def digest_of(folder: Path) -> str:
    """Give what a bundle is: a digest of every path in it and its content, whatever the times are."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            whole.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return whole.hexdigest()[:16]


def _libraries(lock: str, python: Python, target: Path) -> None:
    """Unpack gesso's own requirements for that Python."""
    pins = [pin for pin in read_pins(lock) if pin.name in _CARRIED]
    wanted = target.with_name("requirements.txt")
    wanted.write_text("".join(f"{pin.text}\n" for pin in pins), encoding="utf-8")
    words = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", target, "--python-version",
             python.short, "--python-platform", python.platform(), "--no-deps", "--require-hashes", "--only-binary",
             ":all:", "--no-python-downloads", "--requirements", wanted]  # fmt: skip
    _run(words, f"gesso's own libraries for {python}")
    wanted.unlink()
    for each in (target / "bin", target / ".lock"):  # programs with this machine's Python in their first line
        shutil.rmtree(each) if each.is_dir() else each.unlink(missing_ok=True)
    for info in target.glob("*.dist-info"):
        for name in ("direct_url.json", "uv_cache.json", "REQUESTED", "RECORD"):  # they differ from time to time
            (info / name).unlink(missing_ok=True)


def _wheel(pin: str, python: Python, target: Path) -> None:
    """Have the wheel of one pin for that Python."""
    wanted = target.with_name("wanted.txt")
    wanted.write_text(f"{pin}\n", encoding="utf-8")
    tags = [word for tag in python.tags() for word in ("--platform", tag)]
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
             "--require-hashes", "--only-binary", ":all:", "--implementation", "cp", "--python-version", python.short,
             *tags, "--dest", target, "--requirement", wanted]  # fmt: skip
    _run(words, f"SQLAlchemy for {python}")
    wanted.unlink()


def _run(words: list[Any], what: str) -> None:
    result = proc.run(words, timeout=600)
    if result.ok:
        return
    if "No module named" in result.output:
        raise BuildError(f"{what}: {result.tail(1)}", "run this with the environment that `python3 build.py` makes")
    raise FetchError(
        f"{what} cannot be had: {result.tail(2)}",
        "check the network and the package index (UV_DEFAULT_INDEX, PIP_INDEX_URL); an unusual Python has no wheels",
    )
