"""Fetch source code by commit into a content-addressed cache, with git: its mirrors and credentials work."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from gesso import proc
from gesso.errors import FetchError, VerifyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gesso.manifest.lock import LockedSource

_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_GIT_ENV = {"GIT_TERMINAL_PROMPT": "0", "GIT_ADVICE": "0", "LC_ALL": "C"}
_NO_CONVERSION = "* -text -eol -crlf -ident -filter -working-tree-encoding\n"
_LS_REMOTE_TIMEOUT = 8.0  # seconds


@dataclass(frozen=True)
class Peek:
    """What a lock records of a source: its commit, the tree of that commit, one file of it."""

    commit: str
    tree: str
    requirements: str | None


class SourceCache:
    """Checked-out trees by commit under `root`/sources, and their bare repositories under `root`/git."""

    def __init__(self, root: Path) -> None:
        self._trees = root / "sources"
        self._repositories = root / "git"

    def peek(self, source: LockedSource, requirements: str | None) -> Peek:
        """Resolve a ref and read one file at it; fetch no more than that where the server supports it.

        Raises FetchError.
        """
        url, ref = _address(source)
        commit = source.commit or self._resolve_ref(url, ref)
        self._repositories.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._repositories, prefix="peek-") as scratch:
            repository = Path(scratch)
            _git(repository, "init", "--quiet", "--bare")
            _git(repository, "remote", "add", "origin", url)
            _git(repository, "config", "remote.origin.promisor", "true")
            _fetch(repository, url, commit, ref, "--filter=blob:none")
            tree = _git(repository, "rev-parse", f"{commit}^{{tree}}").stdout.strip()
            text = None
            if requirements is not None:
                names = _git(repository, "ls-tree", "--name-only", commit, "--", requirements).stdout
                text = _git(repository, "show", f"{commit}:{requirements}").stdout if names.strip() else None
        return Peek(commit, tree, text)

    def tree(self, source: LockedSource, *, name: str) -> Path:
        """Return the folder that holds the source exactly as committed.

        The first call fetches; later ones need no network. Raises FetchError, or VerifyError for another tree than
        the locked one.
        """
        if source.commit is None:
            raise FetchError(f"{name}: not locked to a commit", "run `invoke lock`")
        target = self._trees / "-".join(filter(None, (source.commit, source.tree)))
        if target.is_dir():
            return target
        self._trees.mkdir(parents=True, exist_ok=True)
        with FileLock(self._trees / f"{source.commit}.lock"), _scratch(self._trees) as scratch:
            if not target.is_dir():
                self._check_out(source, source.commit, scratch / "tree", name)
                (scratch / "tree").rename(target)
        return target

    def _check_out(self, source: LockedSource, commit: str, target: Path, name: str) -> None:
        url, ref = _address(source)
        repository = self._repositories / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.git"
        repository.mkdir(parents=True, exist_ok=True)
        with FileLock(repository.with_suffix(".lock")):  # two commits of one repository at once
            if not (repository / "HEAD").is_file():
                _git(repository, "init", "--quiet", "--bare")
            if not _has_commit(repository, commit):
                _fetch(repository, url, commit, ref)
        tree = _git(repository, "rev-parse", f"{commit}^{{tree}}").stdout.strip()
        if source.tree is not None and tree != source.tree:
            raise VerifyError(
                f"{name}: commit {commit[:12]} holds tree {tree[:12]}, the lock says {source.tree[:12]}",
                "do not build from it; find out who changed the lock",
            )
        # Neither the repository's attributes nor the user's settings may change a byte: no line endings, no filters.
        (repository / "info").mkdir(exist_ok=True)
        (repository / "info" / "attributes").write_text(_NO_CONVERSION, encoding="utf-8")
        index = {"GIT_INDEX_FILE": str(target.with_suffix(".index"))}
        target.mkdir()
        _git(repository, "read-tree", commit, env=index)
        index["GIT_WORK_TREE"] = str(target)
        _git(repository, "-c", "core.autocrlf=false", "checkout-index", "--all", "--force", env=index)

    def _resolve_ref(self, url: str, ref: str) -> str:
        if _COMMIT.match(ref):
            return ref
        names = (f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/heads/{ref}")
        result = _ls_remote(url, *names)
        pairs = (line.split("\t", 1) for line in result.stdout.splitlines() if "\t" in line)
        found = {name: commit for commit, name in pairs}
        for name in names:
            if name in found:
                return found[name]
        raise FetchError(f"{url}: has no tag or branch `{ref}`", "correct `ref` in the manifest")


def _address(source: LockedSource) -> tuple[str, str]:
    if source.git is None or source.ref is None:
        raise FetchError(f"{source.path}: is a folder of this project, not a repository", "nothing to fetch")
    return source.git, source.ref


def _git(repository: Path, *args: str, env: dict[str, str] | None = None) -> proc.Result:
    """Run git in a bare repository. A failure means a broken cache or repository, not the network."""
    result = proc.run(["git", f"--git-dir={repository}", *args], env={**_GIT_ENV, **(env or {})})
    if not result.ok:
        raise FetchError(f"git {' '.join(args)[:80]} failed: {result.tail()}", f"remove {repository}, then retry")
    return result


def _has_commit(repository: Path, commit: str) -> bool:
    """Check whether the commit and all its objects exist (an interrupted fetch leaves neither)."""
    args = ["git", f"--git-dir={repository}", "rev-list", "--objects", "--quiet", "-1", commit]
    return proc.run(args, env=_GIT_ENV).ok


def _ls_remote(url: str, *patterns: str) -> proc.Result:
    """List refs of the remote; a host that does not respond is reported within seconds."""
    try:
        result = proc.run(["git", "ls-remote", url, *(patterns or ("HEAD",))], env=_GIT_ENV, timeout=_LS_REMOTE_TIMEOUT)
    except proc.TimedOutError:
        raise FetchError(f"{url}: no response within {_LS_REMOTE_TIMEOUT:g} s", _mirror_hint(url)) from None
    if not result.ok:
        raise FetchError(f"{url}: {result.tail(2)}", _mirror_hint(url))
    return result


def _fetch(repository: Path, url: str, commit: str, ref: str, *options: str) -> None:
    """Fetch one commit without its history, by its ref where the host does not serve commits by id."""
    _ls_remote(url)
    address = "origin" if options else url
    command = [
        "git",
        f"--git-dir={repository}",
        "fetch",
        "--quiet",
        "--depth=1",
        "--no-tags",
        *options,
        address,
    ]
    result = proc.run([*command, commit], env=_GIT_ENV)
    if not result.ok and ref != commit:
        result = proc.run([*command, ref], env=_GIT_ENV)
    if not result.ok:
        raise FetchError(f"{url}: commit {commit[:12]} cannot be fetched: {result.tail(2)}", _mirror_hint(url))


def _mirror_hint(url: str) -> str:
    return (
        "check the network, or set a mirror with `git config --global url.<mirror>.insteadOf "
        f"{url}`; without GitHub, `--trial` builds"
    )


@contextmanager
def _scratch(beside: Path) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir=beside, prefix="tmp-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
