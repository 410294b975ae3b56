"""Source code by commit, from local repositories: exactly what was committed, fetched once, then offline."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest

from gesso.builder.lock import sources
from gesso.builder.lock.sources import SourceCache
from gesso.errors import FetchError, VerifyError
from gesso.manifest.lock import LockedSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = {
    "requirements.txt": b"numpy\n",
    "run.sh": b"#!/bin/sh\n",
    "lib/unix.txt": b"a\nb\n",
    "lib/dos.txt": b"a\r\nb\r\n",
    "lib/mixed.txt": b"a\r\nb\n$Id$\n",
    "lib/zero.bin": bytes(range(256)),
    "latest -> lib/unix.txt": b"",
}


@pytest.fixture
def upstream(repository: Callable[[str, dict[str, bytes]], Path]) -> Path:
    return repository("pack", FILES)


@pytest.fixture
def cache(tmp_path: Path) -> SourceCache:
    return SourceCache(tmp_path / "cache")


def _source(upstream: Path, ref: str = "main", commit: str | None = None, tree: str | None = None) -> LockedSource:
    return LockedSource(git=f"file://{upstream}", ref=ref, commit=commit, tree=tree)


def _locked(upstream: Path, git: Callable[..., str]) -> LockedSource:
    commit, tree = git(upstream, "rev-parse", "HEAD", "HEAD^{tree}").split()
    return _source(upstream, commit, commit, tree)


def _content(folder: Path) -> dict[str, tuple[str, bytes]]:
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_symlink() or p.is_file()):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()).encode())
        else:
            found[name] = ("program" if path.stat().st_mode & 0o100 else "file", path.read_bytes())
    return found


EXPECTED = {
    name.partition(" -> ")[0]: (
        "link" if " -> " in name else "program" if name.endswith(".sh") else "file",
        name.partition(" -> ")[2].encode() if " -> " in name else content,
    )
    for name, content in FILES.items()
}


# --- peek


def test_peek_by_commit_branch_and_tags(upstream: Path, git: Callable[..., str], cache: SourceCache) -> None:
    first, tree = git(upstream, "rev-parse", "HEAD", "HEAD^{tree}").split()
    git(upstream, "tag", "light")
    git(upstream, "tag", "--annotate", "--message=x", "heavy")
    git(upstream, "branch", "release/1.0")
    (upstream / "requirements.txt").write_text("torch\n")
    git(upstream, "commit", "--quiet", "--all", "--message=two")
    second = git(upstream, "rev-parse", "HEAD")
    for ref in (first, "light", "heavy", "release/1.0"):
        assert cache.peek(_source(upstream, ref), "requirements.txt") == sources.Peek(first, tree, "numpy\n"), ref
    latest = cache.peek(_source(upstream, "main"), "requirements.txt")
    assert (latest.commit, latest.requirements) == (second, "torch\n")
    assert latest.tree != tree
    # The commit in the lock decides; the ref may have moved.
    assert cache.peek(_source(upstream, "main", first), "requirements.txt").commit == first


def test_a_tag_precedes_a_branch_of_its_name(upstream: Path, git: Callable[..., str], cache: SourceCache) -> None:
    first = git(upstream, "rev-parse", "HEAD")
    git(upstream, "tag", "v1")
    git(upstream, "checkout", "--quiet", "-b", "v1")
    git(upstream, "commit", "--quiet", "--allow-empty", "--message=two")
    assert cache.peek(_source(upstream, "v1"), None).commit == first


def test_peek_without_requirements(upstream: Path, cache: SourceCache) -> None:
    assert cache.peek(_source(upstream), None).requirements is None
    assert cache.peek(_source(upstream), "no/such.txt").requirements is None
    assert cache.peek(_source(upstream), "lib/unix.txt").requirements == "a\nb\n"


@pytest.mark.parametrize("ref", ["nope", "v1.0", "abc1234"])
def test_an_unknown_ref_is_named(upstream: Path, cache: SourceCache, ref: str) -> None:
    with pytest.raises(FetchError, match=f"has no tag or branch `{ref}`") as raised:
        cache.peek(_source(upstream, ref), None)
    assert (raised.value.exit_code, raised.value.next_step) == (4, "correct `ref` in the manifest")


def test_an_unknown_commit_is_named(upstream: Path, cache: SourceCache) -> None:
    with pytest.raises(FetchError, match="commit 111111111111 cannot be fetched"):
        cache.peek(_source(upstream, "1" * 40), None)


def test_peek_leaves_nothing_behind(upstream: Path, cache: SourceCache, tmp_path: Path) -> None:
    cache.peek(_source(upstream), "requirements.txt")
    assert list((tmp_path / "cache/git").iterdir()) == []


# --- tree


def test_a_tree_is_exactly_what_was_committed(upstream: Path, git: Callable[..., str], cache: SourceCache) -> None:
    folder = cache.tree(_locked(upstream, git), name="pack")
    assert _content(folder) == EXPECTED


def test_neither_settings_nor_attributes_change_a_byte(
    repository: Callable[[str, dict[str, bytes]], Path],
    git: Callable[..., str],
    cache: SourceCache,
    git_config: Path,
) -> None:
    upstream = repository("plain", FILES)
    # Add the attributes without letting git change what is committed.
    (upstream / ".gitattributes").write_text("* text=auto eol=crlf ident\n*.bin filter=shout\n")
    git(upstream, "add", ".gitattributes")
    git(upstream, "commit", "--quiet", "--message=attributes")
    git_config.write_text(
        '[core]\n\tautocrlf = true\n\teol = crlf\n[filter "shout"]\n\tsmudge = tr a-z A-Z\n\trequired = true\n'
    )
    folder = cache.tree(_locked(upstream, git), name="plain")
    found = _content(folder)
    del found[".gitattributes"]
    assert found == EXPECTED


def test_the_second_call_needs_no_network(upstream: Path, git: Callable[..., str], tmp_path: Path) -> None:
    source = _locked(upstream, git)
    folder = SourceCache(tmp_path / "cache").tree(source, name="pack")
    shutil.rmtree(upstream)
    second = SourceCache(tmp_path / "cache")
    assert second.tree(source, name="pack") == folder
    assert _content(folder) == EXPECTED


def test_a_commit_that_its_branch_has_left_behind(upstream: Path, git: Callable[..., str], cache: SourceCache) -> None:
    source = _locked(upstream, git).model_copy(update={"ref": "main"})
    git(upstream, "commit", "--quiet", "--allow-empty", "--message=two")
    assert _content(cache.tree(source, name="pack")) == EXPECTED


@pytest.mark.parametrize("cached", [False, True], ids=["fresh", "in the cache"])
def test_another_tree_than_in_the_lock(
    upstream: Path, git: Callable[..., str], cache: SourceCache, cached: bool, tmp_path: Path
) -> None:
    source = _locked(upstream, git)
    if cached:
        cache.tree(source, name="pack")
    with pytest.raises(VerifyError, match=f"^pack: commit .* holds tree .* the lock says {'2' * 12}") as raised:
        cache.tree(source.model_copy(update={"tree": "2" * 40}), name="pack")
    assert raised.value.exit_code == 5
    assert raised.value.next_step
    assert len([p for p in (tmp_path / "cache/sources").iterdir() if p.is_dir()]) == cached


def test_a_source_that_is_not_locked(upstream: Path, cache: SourceCache) -> None:
    with pytest.raises(FetchError, match="pack: not locked to a commit") as raised:
        cache.tree(_source(upstream), name="pack")
    assert raised.value.next_step == "run `invoke lock`"
    with pytest.raises(FetchError, match="is a folder of this project"):
        cache.peek(LockedSource(path="images/x"), None)


@pytest.mark.parametrize("how", ["peek", "tree"])
def test_a_repository_out_of_reach(tmp_path: Path, cache: SourceCache, how: str) -> None:
    source = _source(tmp_path / "nowhere", "main", "3" * 40 if how == "tree" else None)
    with pytest.raises(FetchError, match="nowhere") as raised:
        cache.peek(source, None) if how == "peek" else cache.tree(source, name="pack")
    assert raised.value.exit_code == 4
    assert f"insteadOf file://{tmp_path}/nowhere" in raised.value.next_step
    assert "--trial" in raised.value.next_step


def test_a_host_that_does_not_respond(
    upstream: Path, cache: SourceCache, program: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_LS_REMOTE_TIMEOUT", 0.2)
    program("git", "exec sleep 30")
    with pytest.raises(FetchError, match=r"pack: no response within 0\.2 s") as raised:
        cache.peek(_source(upstream), None)
    assert "insteadOf" in raised.value.next_step


def test_git_never_asks_for_a_password(upstream: Path, cache: SourceCache, program: Callable[[str, str], Path]) -> None:
    log = program("git", 'echo "$GIT_TERMINAL_PROMPT $LC_ALL" >"$LOG/env"; exit 1')
    with pytest.raises(FetchError):
        cache.peek(_source(upstream), None)
    assert (log / "env").read_text() == "0 C\n"


def test_mirrors_by_instead_of(upstream: Path, git: Callable[..., str], cache: SourceCache, git_config: Path) -> None:
    public = "https://git.invalid/somebody/pack"
    git_config.write_text(f'[url "file://{upstream}"]\n\tinsteadOf = {public}\n')
    source = _locked(upstream, git).model_copy(update={"git": public})
    assert cache.peek(source, "requirements.txt").requirements == "numpy\n"
    assert _content(cache.tree(source, name="pack")) == EXPECTED


# --- interrupted, and at once


def _failing_git(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    real = sources._git

    def fake(repository: Path, *args: str, **options: Any) -> Any:
        result = real(repository, *args, **options)
        if word in args:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(sources, "_git", fake)


@pytest.mark.parametrize("word", ["init", "rev-parse", "read-tree", "checkout-index"])
def test_an_interrupted_checkout_is_repeated(
    upstream: Path, git: Callable[..., str], cache: SourceCache, word: str, tmp_path: Path
) -> None:
    source = _locked(upstream, git)
    with pytest.MonkeyPatch.context() as patch:
        _failing_git(patch, word)
        with pytest.raises(KeyboardInterrupt):
            cache.tree(source, name="pack")
    assert not [p for p in (tmp_path / "cache/sources").iterdir() if p.is_dir()]
    assert _content(cache.tree(source, name="pack")) == EXPECTED


def test_leftovers_of_a_killed_run_are_not_used(
    upstream: Path, git: Callable[..., str], cache: SourceCache, tmp_path: Path
) -> None:
    """A killed run leaves an incomplete scratch folder, and a repository without the commit's objects."""
    source = _locked(upstream, git)
    folder = cache.tree(source, name="pack")
    half = tmp_path / "cache/sources/tmp-killed/tree"
    half.mkdir(parents=True)
    (half / "requirements.txt").write_text("nu")
    shutil.rmtree(folder)
    (cached,) = (tmp_path / "cache/git").glob("*.git")
    shutil.rmtree(cached / "objects")
    (cached / "objects").mkdir()
    assert _content(cache.tree(source, name="pack")) == EXPECTED


def test_concurrent_calls_fetch_once(
    upstream: Path, git: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _locked(upstream, git)
    calls: list[str] = []
    real = sources._fetch

    def counted(*args: Any) -> None:
        calls.append("fetch")
        real(*args)

    monkeypatch.setattr(sources, "_fetch", counted)
    together = threading.Barrier(4)
    found: list[Path] = []

    def work() -> None:
        together.wait()
        found.append(SourceCache(tmp_path / "cache").tree(source, name="pack"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == ["fetch"]
    assert len(found) == 4
    assert len(set(found)) == 1
    assert _content(found[0]) == EXPECTED
