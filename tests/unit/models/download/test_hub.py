"""Hugging Face's own library, in a process of its own: watched, ended when it hangs, and never believed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gesso import proc
from gesso.models.download import hub
from gesso.models.faults import ContentError, SourceError
from gesso.models.folder import Folder
from gesso.models.net import hosts
from gesso.models.net.client import Client
from gesso.models.verify import check
from tests.unit.models.making import NAME, VAE, wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

URL = "https://huggingface.co/org/repo/resolve/abc123/sub%20folder/file.safetensors"


class Child:
    """Stands in for the child process: what each start of it is to do, and what it was started with."""

    def __init__(self, *does: Callable[[Path, Callable[[str], None]], int]) -> None:
        self.does = list(does)
        self.commands: list[list[str]] = []
        self.envs: list[dict[str, str]] = []

    def stream(self, command: Sequence[str], on_line: Callable[[str], None], *, env: dict[str, str]) -> proc.Result:
        self.commands.append(list(command))
        self.envs.append(env)
        said: list[str] = []

        def on_progress(line: str) -> None:
            said.append(line)
            on_line(line)

        code = self.does.pop(0)(Path(command[-1]), on_progress)
        text = "\n".join(said)
        return proc.Result(command="child", code=code, stdout=text, output=text)


def gives(folder: Path, on_progress: Callable[[str], None]) -> int:
    path = folder / "sub folder" / "file.safetensors"
    path.parent.mkdir()
    path.write_bytes(VAE)
    for count in (0, 4096, 4096, len(VAE)):
        on_progress(str(count))
    return 0


def fails(_: Path, on_progress: Callable[[str], None]) -> int:
    on_progress("512")
    on_progress("GatedRepoError: 403 Client Error https://user:secret@huggingface.co/x")
    return 1


@pytest.fixture
def download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Download into tmp_path/target by a stand-in child; give the progress that was told."""

    def download(child: Child, stall: float = 30, url: str = URL) -> list[int]:
        monkeypatch.setattr(proc, "stream", child.stream)
        told: list[int] = []
        hub.download(url, wanted(), tmp_path / "target", stall, told.append)
        return told

    return download


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir())


def test_the_file_is_put_at_the_target_and_nothing_else_is_left(
    tmp_path: Path, download: Callable[..., list[int]]
) -> None:
    child = Child(gives)
    assert download(child) == [0, 4096, len(VAE)]
    assert (tmp_path / "target").read_bytes() == VAE
    assert left(tmp_path) == ["target"]
    command = child.commands[0]
    assert command[:3] == [sys.executable, "-m", "gesso.models.download.hub"]
    assert command[3:6] == ["org/repo", "sub folder/file.safetensors", "abc123"]
    assert Path(command[6]).parent == tmp_path  # on the same disk: a rename is enough
    assert "HF_HUB_DISABLE_XET" not in child.envs[0]
    assert not any("secret" in word.lower() for word in command)


def test_where_xet_fails_it_is_tried_without(tmp_path: Path, download: Callable[..., list[int]]) -> None:
    child = Child(fails, gives)
    download(child)
    assert (tmp_path / "target").read_bytes() == VAE
    assert [env.get("HF_HUB_DISABLE_XET") for env in child.envs] == [None, "1"]


def test_where_both_fail_its_own_words_are_said_without_a_password(
    tmp_path: Path, download: Callable[..., list[int]]
) -> None:
    with pytest.raises(SourceError, match="huggingface_hub: GatedRepoError") as caught:
        download(Child(fails, fails))
    assert (caught.value.why, caught.value.transient) == ("hub", False)
    assert "HF_TOKEN" in caught.value.next_step
    assert "secret" not in str(caught.value)
    assert left(tmp_path) == []


def test_a_child_that_ends_without_a_word_is_said_too(download: Callable[..., list[int]]) -> None:
    with pytest.raises(SourceError, match="no file"):
        download(Child(lambda *_: 1, lambda *_: -9))


def test_a_child_that_hangs_is_ended_and_tried_without_xet(
    tmp_path: Path, download: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def hangs(_: Path, on_progress: Callable[[str], None]) -> int:
        for second in (0, 20, 30, 31):
            now[0] = second
            on_progress("4096")
        raise AssertionError("it should have been ended")

    def slow(folder: Path, on_progress: Callable[[str], None]) -> int:
        for second in range(40, 400, 29):
            now[0] = second
            on_progress(str(second))
        return gives(folder, on_progress)

    child = Child(hangs, slow)
    download(child)
    assert (tmp_path / "target").read_bytes() == VAE
    with pytest.raises(SourceError, match="nothing came for 30 s") as caught:
        download(Child(hangs, hangs))
    assert (caught.value.why, caught.value.transient) == ("stalled", True)


def test_more_than_the_lock_says_ends_it_at_once(tmp_path: Path, download: Callable[..., list[int]]) -> None:
    def floods(folder: Path, on_progress: Callable[[str], None]) -> int:
        on_progress(str(len(VAE) + hub._SLACK))
        on_progress(str(len(VAE) + hub._SLACK + 1))
        raise AssertionError("it should have been ended")

    child = Child(floods)
    with pytest.raises(ContentError, match="the lock says") as caught:
        download(child)
    assert caught.value.why == "oversized"
    assert len(child.commands) == 1
    assert left(tmp_path) == []


def test_words_of_the_child_are_no_progress(download: Callable[..., list[int]]) -> None:
    def chatty(folder: Path, on_progress: Callable[[str], None]) -> int:
        for line in ("Fetching 1 file", "-5", "1.5", "", "12 files"):
            on_progress(line)
        return gives(folder, on_progress)

    assert download(Child(chatty)) == [0, 4096, len(VAE)]


@pytest.mark.parametrize("file", ["%2E%2E%2Ftheirs", "..%2Ftheirs", "sub/..%2F..%2Ftheirs", "{}"])
def test_an_address_cannot_make_it_take_a_file_from_elsewhere(
    tmp_path: Path, download: Callable[..., list[int]], file: str
) -> None:
    """The file's name is unquoted: `..` and a leading slash would lead out of the child's folder."""
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"precious")
    url = f"https://huggingface.co/org/repo/resolve/main/{file.format(str(theirs).replace('/', '%2F'))}"
    with pytest.raises((SourceError, OSError)):
        download(Child(lambda *_: 0, lambda *_: 0), url=url)
    assert theirs.read_bytes() == b"precious"


# ── whom it serves ──


@pytest.mark.parametrize(
    ("url", "endpoint", "served"),
    [
        (URL, None, True),
        (URL, "https://mirror.example", True),
        ("https://mirror.example/org/repo/resolve/main/f.sft", "https://mirror.example", True),
        ("https://mirror.example/org/repo/resolve/main/f.sft", None, False),
        ("https://huggingface.co/org/repo/raw/main/f.sft", None, False),
        ("https://civitai.com/api/download/models/1", None, False),
        ("https://huggingface.co.evil.example/org/repo/resolve/main/f.sft", None, False),
        ("https://huggingface.co/api/models/org/repo/resolve/main/f.sft", None, False),
    ],
)
def test_it_serves_hugging_face_and_its_mirror(url: str, endpoint: str | None, *, served: bool) -> None:
    pytest.importorskip("huggingface_hub")
    assert hub.serves(url, {"HF_ENDPOINT": endpoint} if endpoint else {}) is served


def test_without_the_library_it_serves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert not hub.serves(URL, {})


def test_a_missing_token_or_file_is_missing_there_too() -> None:
    assert {"refused-request", "forbidden"} <= hub.WORTH_A_TRY
    assert not hub.WORTH_A_TRY & {
        "needs-token",
        "bad-token",
        "gated",
        "not-found",
        "gone",
        "wrong-hash",
        "wrong-family",
    }


def test_the_pattern_knows_every_part_of_an_address() -> None:
    match = hosts.HF_PATH.match("/org/repo/resolve/abc/sub/f.sft")
    assert match is not None
    assert match.groupdict() == {"repo": "org/repo", "revision": "abc", "file": "sub/f.sft"}


# ── the child itself ──


FAKE = """
import os, pathlib, time

def hf_hub_download(repo, file, *, revision, local_dir):
    assert (repo, revision) == ("org/repo", "abc123"), (repo, revision)
    if os.environ.get("FAKE_FAILS"):
        raise RuntimeError("the hub\\nsays no")
    path = pathlib.Path(local_dir, file)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 8192)
    time.sleep(0.1)
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a library of that name before the real one."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "huggingface_hub.py").write_text(FAKE)
    root = str(Path(proc.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'lib'}:{root}")
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_a_real_child_brings_the_file_and_counts(fake: Path) -> None:
    told: list[int] = []
    hub.download(URL, wanted(size=8192), fake / "target", 30, told.append)
    assert (fake / "target").read_bytes() == b"x" * 8192
    assert told
    assert left(fake) == ["target"]


def test_a_real_child_that_fails_says_why_in_one_line(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAILS", "1")
    with pytest.raises(SourceError, match="RuntimeError: the hub says no"):
        hub.download(URL, wanted(size=8192), fake / "target", 30, lambda _: None)
    assert left(fake) == []


def test_the_child_s_own_code(fake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Run here, where its lines are counted; without its thread, which never ends."""
    started: list[Any] = []

    class NoThread:
        def __init__(self, *, target: Callable[[], None], daemon: bool) -> None:
            assert daemon  # else the child would never end
            started.append(target)

        def start(self) -> None:
            return

    class Library:
        @staticmethod
        def hf_hub_download(repo: str, file: str, *, revision: str, local_dir: str) -> None:
            assert repo == "org/repo"
            if revision == "no":
                raise ValueError("not\n  there")
            Path(local_dir, file).write_bytes(b"x" * 8192)

    def once(_: float) -> None:
        raise StopIteration

    monkeypatch.setattr("threading.Thread", NoThread)
    monkeypatch.setitem(sys.modules, "huggingface_hub", Library)
    assert hub.main("org/repo", "f", "main", str(fake)) == 0
    monkeypatch.setattr("time.sleep", once)
    with pytest.raises(StopIteration):
        started[0]()
    assert capsys.readouterr().out == "8192\n"
    assert hub.main("org/repo", "f", "no", str(fake)) == 1
    assert capsys.readouterr().out == "ValueError: not there\n"


# ── brought, judged, hashed, put in place ──


@pytest.fixture
def bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Folder]:
    """Bring a model by a stand-in child that lays down these bytes."""

    def bring(data: bytes, look: Callable[[], None] = lambda: None) -> Folder:
        def lays(folder: Path, on_progress: Callable[[str], None]) -> int:
            gives(folder, on_progress)
            (folder / "sub folder" / "file.safetensors").write_bytes(data)
            return 0

        made = Folder.at(tmp_path / "models")
        made.path(NAME).parent.mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(proc, "stream", Child(lays, lays).stream)
        assert hub.bring(URL, wanted(), made, Client({}), lambda _: None, look) == len(VAE)
        return made

    return bring


def test_what_it_brings_is_hashed_by_us_and_gets_its_receipt(bring: Callable[..., Folder]) -> None:
    made = bring(VAE)
    assert check(wanted(), made).by == "receipt"
    assert [path.name for path in made.path(NAME).parent.iterdir()] == [made.path(NAME).name]


@pytest.mark.parametrize(
    ("data", "why"), [(VAE[:-1] + b"!", "wrong-hash"), (b"<html>", "html"), (VAE[:-9], "truncated")]
)
def test_what_it_brings_is_never_believed(tmp_path: Path, bring: Callable[..., Folder], data: bytes, why: str) -> None:
    with pytest.raises(ContentError) as caught:
        bring(data)
    assert caught.value.why == why
    assert list((tmp_path / "models" / "vae").iterdir()) == []


def test_who_is_asked_to_stop_ends_the_child(tmp_path: Path, bring: Callable[..., Folder]) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(VAE, stop)
    assert list((tmp_path / "models" / "vae").iterdir()) == []


def test_the_child_gets_token_and_mirror_of_the_fetch_and_nothing_else_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = Child(gives)
    monkeypatch.setattr(proc, "stream", child.stream)
    env = {"HF_TOKEN": "hf_secret", "HF_ENDPOINT": "https://mirror.example", "CIVITAI_TOKEN": "cv", "PATH": "/x"}
    hub.download(URL, wanted(), tmp_path / "target", 30, lambda _: None, env)
    (told,) = child.envs
    assert (told["HF_TOKEN"], told["HF_ENDPOINT"]) == ("hf_secret", "https://mirror.example")
    assert not {"CIVITAI_TOKEN", "PATH"} & told.keys()
    assert "hf_secret" not in " ".join(child.commands[0])
