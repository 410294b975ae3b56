"""The contenders: gesso and the usual tools, each called as its users call it.

The Python peers are installed into their own environments: they are no dependencies of the project.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.fetch_server import REPO, Site, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

HUB, PYPDL, HELPER = "huggingface_hub==2.4.0", "pypdl==1.5.7", "comfyui-docker-helper==0.16.0"
XET = "hf_xet: not run, it only downloads from a Xet store (CAS), and there is none for loopback"
CURL = 'curl -q --fail --silent --show-error --noproxy \'*\' --output "$2" "$1"'

_GESSO = """
import os, sys, time
from pathlib import Path
from gesso.manifest.schema import Model
from gesso.models.fetch import fetch
from gesso.models.folder import Folder
url, target, sha256, size = sys.argv[1:5]
name = "checkpoints/" + Path(target).name
model = Model(name=name, sources=(url,), sha256=sha256, size=int(size), kind="checkpoint", family="sdxl",
              tier="required", license="MIT")
started = time.monotonic()
outcome, = fetch([model], Folder.at(Path(target).parent.parent), env=os.environ)
print("alone", time.monotonic() - started)
sys.exit(0 if outcome.state == "fetched" else f"{outcome.state}: {outcome.error}")
"""
_HUB = f"""
import sys
from huggingface_hub import hf_hub_download
name, folder = sys.argv[1:3]
hf_hub_download({REPO!r}, name, revision="main", local_dir=folder)
"""
_PYPDL = """
import sys
from pypdl import Pypdl
url, target, sha256 = sys.argv[1:4]
(_, file), = Pypdl().start(url, file_path=target, segments=8, display=False)
sys.exit(0 if file.validate_hash(sha256, "sha256") else "wrong sha256")
"""
_HELPER = """
import sys
from pathlib import Path
from comfyui_docker_helper.container.build.downloads import FileDownloadItem, FileDownloadPlan, process_file_downloads
from comfyui_docker_helper.container.transfer.aria2 import Aria2Downloader
from comfyui_docker_helper.container.transfer.core import (
    Aria2DownloadSettings, DownloaderSettings, HttpxDownloadSettings)
from comfyui_docker_helper.container.transfer.httpx import HttpxDownloader
kind, port, url, target, sha256 = sys.argv[1:6]
target = Path(target)
settings = DownloaderSettings(kind, Aria2DownloadSettings(int(port), 16, 16, "1M", True), HttpxDownloadSettings(60))
item = FileDownloadItem(url, target.name, target, True, kind, f"sha256:{sha256}")
plan = FileDownloadPlan(target.parent, settings, (item,), 1)
with Aria2Downloader() as aria2:
    process_file_downloads(plan, backends={"httpx": HttpxDownloader(), "aria2": aria2})
"""


@dataclass(frozen=True)
class Peer:
    """A contender; `command` returns the command that fetches a source into a file. `verifies`: it compares sha256."""

    name: str
    verifies: bool
    command: Callable[[Site, Source, Path], list[str]]


class Peers:
    """The contenders that can run here; `skipped` has the others' reasons."""

    def __init__(self, cache: Path, only: Collection[str] = ()) -> None:
        self._cache, self._only = cache, only
        self.skipped: dict[str, str] = {"huggingface_hub with hf_xet": XET}
        self.all: dict[str, Peer] = {}
        self._add("gesso", True, _gesso)
        self._shell("curl", False, CURL, "curl")
        self._shell("curl + sha256sum", True, f'{CURL} && echo "$3  $2" | sha256sum --check --quiet', "curl sha256sum")
        self._shell(
            "curl + openssl dgst", True,
            f'{CURL} && test "$(openssl dgst -sha256 -r "$2" | cut -d" " -f1)" = "$3"', "curl openssl",
        )  # fmt: skip
        for name, options in (
            ("aria2c -x8", "-x8 -s8"),
            ("aria2c -x8 falloc", "-x8 -s8 --file-allocation=falloc"),
            ("aria2c -x16", "-x16 -s16"),
        ):
            script = (
                f'exec aria2c --no-conf --quiet {options} --checksum=sha-256="$3" '
                '-d "$(dirname "$2")" -o "$(basename "$2")" "$1"'
            )
            self._shell(name, True, script, "aria2c")
        self._python("huggingface_hub", False, "hub", (HUB, PYPDL), _hub)
        self._python("pypdl", True, "hub", (HUB, PYPDL), _pypdl)
        self._python("comfyui-docker-helper (httpx)", True, "helper", (HELPER,), _helper("httpx"))
        self._python("comfyui-docker-helper (aria2)", True, "helper", (HELPER,), _helper("aria2"))

    def _add(self, name: str, verifies: bool, command: Callable[[Site, Source, Path], list[str]]) -> None:
        if not self._only or name in self._only:
            self.all[name] = Peer(name, verifies, command)

    def _shell(self, name: str, verifies: bool, script: str, needs: str) -> None:
        missing = [program for program in needs.split() if shutil.which(program) is None]
        if missing:
            self.skipped[name] = f"{' and '.join(missing)}: not on PATH"
            return
        self._add(
            name,
            verifies,
            lambda site, source, target: [*site.prefix, "sh", "-c", script, "sh", site.url(source), str(target),
                                          source.sha256],
        )  # fmt: skip

    def _python(
        self, name: str, verifies: bool, env: str, packages: tuple[str, ...],
        command: Callable[[str], Callable[[Site, Source, Path], list[str]]],
    ) -> None:  # fmt: skip
        if self._only and name not in self._only:
            return
        if "aria2" in name and shutil.which("aria2c") is None:
            self.skipped[name] = "aria2c: not on PATH"
            return
        try:
            python = self._environment(env, packages)
        except (OSError, subprocess.CalledProcessError, LookupError) as error:
            output = getattr(error, "stderr", None) or str(error)
            self.skipped[name] = f"{' '.join(packages)} cannot be installed: {output.strip().splitlines()[-1]}"
            return
        self._add(name, verifies, command(python))

    def _environment(self, name: str, packages: tuple[str, ...]) -> str:
        """Return the Python of an environment with these packages; create it if necessary."""
        folder = self._cache / name
        python, stamp = folder / "bin" / "python", folder / "packages.txt"
        if not (stamp.is_file() and stamp.read_text() == "\n".join(packages)):
            base = _python_for_helper() if HELPER in packages else sys.executable
            print(f"installing {' '.join(packages)}", file=sys.stderr)
            for command in ([base, "-m", "venv", "--clear", str(folder)],
                            [str(python), "-m", "pip", "install", "--quiet", *packages]):  # fmt: skip
                subprocess.run(command, check=True, capture_output=True, text=True)
            stamp.write_text("\n".join(packages))
        return str(python)


def _python_for_helper() -> str:
    """Return a Python that comfyui-docker-helper supports. Raises LookupError."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    names = [f"python3.{minor}" for minor in (12, 13, 14)]
    found = [sys.executable, *filter(None, map(shutil.which, names))]
    found += [str(path) for path in sorted(pyenv.glob("versions/3.1[2-4].*/bin/python3"))]
    test = "import sys, venv; sys.exit(not (3, 12) <= sys.version_info < (3, 15))"
    for python in found:
        if subprocess.run([python, "-c", test], capture_output=True, check=False).returncode == 0:
            return python
    raise LookupError("it needs Python 3.12 to 3.14, and none is installed")


def _gesso(site: Site, source: Source, target: Path) -> list[str]:
    return [*site.prefix, sys.executable, "-c", _GESSO, site.url(source), str(target), source.sha256, str(source.size)]


def _hub(python: str) -> Callable[[Site, Source, Path], list[str]]:
    return lambda site, source, target: [
        *site.prefix, "env", f"HF_ENDPOINT={site.base}", python, "-c", _HUB, source.name, str(target.parent),
    ]  # fmt: skip


def _pypdl(python: str) -> Callable[[Site, Source, Path], list[str]]:
    return lambda site, source, target: [
        *site.prefix, python, "-c", _PYPDL, site.url(source), str(target), source.sha256,
    ]  # fmt: skip


def _helper(kind: str) -> Callable[[str], Callable[[Site, Source, Path], list[str]]]:
    def for_python(python: str) -> Callable[[Site, Source, Path], list[str]]:
        return lambda site, source, target: [
            *site.prefix, python, "-c", _HELPER, kind, str(_port()), site.url(source), str(target), source.sha256,
        ]  # fmt: skip

    return for_python


def _port() -> int:
    """Return a free port for the helper's aria2 daemon."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def environment(home: Path) -> dict[str, str]:
    """Return every contender's environment variables: no proxy, no token, no user's settings."""
    private = ("_proxy", "_token", "hf_", "huggingface", "xdg_", "python")
    inherited = {
        k: v for k, v in os.environ.items() if not k.lower().startswith(private) and not k.lower().endswith(private)
    }
    return inherited | {
        "HOME": str(home), "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
