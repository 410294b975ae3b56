"""Hugging Face's own library as the fallback, against a mirror like their hub: its results are not trusted."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from mirror import Mirror, behaviour

from gesso.models.download import hub
from gesso.models.download.model_download import Stopped
from gesso.models.faults import ContentError

from .fetching import LARGE, OTHER, PATH, Bench, model_of, options, sockets_to

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("huggingface_hub")

FRONT = "/acme/models/resolve/*"
REVISION = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_veryverysecret"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "models")


def front(mirror: Mirror, *what: Any, data: bytes = LARGE, **options: Any) -> str:
    """Serve the file like the hub, and reject our own requests so that the library is worth a try."""
    mirror.hub("acme/models", {"vae.safetensors": data}, **options)
    mirror.behave(FRONT, *what or [behaviour("agent-blocked", agent="gesso")], also=True)
    return f"https://huggingface.co{PATH}"


def env(mirror: Mirror, **more: str) -> dict[str, str]:
    return {"HF_ENDPOINT": mirror.url(""), **more}


def by_the_library(mirror: Mirror) -> list[Any]:
    return [record for record in mirror.requests if "hf_hub" in record.headers.get("user-agent", "")]


def test_it_fetches_what_plain_http_cannot(mirror: Mirror, bench: Bench) -> None:
    model = model_of(LARGE, front(mirror, behaviour("healthy")))
    mirror.behave("/cdn/*", behaviour("gzip", times=1))
    outcome = bench.fetch(model, options(30), env=env(mirror, HF_TOKEN=TOKEN))
    bench.assert_fetched(outcome, LARGE)
    assert (outcome.source, outcome.received) == ("huggingface.co", len(LARGE))
    assert by_the_library(mirror)
    assert any("huggingface_hub" in event.message for event in bench.of("retrying"))
    # Only the library sends the token, and only to the hub.
    seen = {(r.headers["host"], r.headers.get("authorization", "")) for r in by_the_library(mirror)}
    assert seen == {(f"127.0.0.1:{mirror.port}", f"Bearer {TOKEN}"), (f"localhost:{mirror.port}", "")}
    assert TOKEN not in repr(bench.events) + repr(outcome)
    assert sockets_to(mirror.port) == 0


def test_wrong_bytes_from_the_library_are_rejected(mirror: Mirror, bench: Bench) -> None:
    """Of the right size: the library considers that a success."""
    model = model_of(LARGE, front(mirror))
    mirror.behave("/cdn/*", "flip")
    bench.assert_failed(bench.fetch(model, options(30), env=env(mirror)), "wrong-hash")
    assert by_the_library(mirror)
    assert bench.leftovers() == []


def test_another_file_from_the_library_is_rejected(mirror: Mirror, bench: Bench) -> None:
    model = model_of(LARGE, front(mirror, data=OTHER[: 3 * 1024]), mirror.url("/second"))
    mirror.files["/second"] = LARGE
    bench.assert_fetched(bench.fetch(model, options(30), env=env(mirror)), LARGE)
    [switched] = bench.of("switched")
    assert "3,072 bytes" in switched.message
    assert by_the_library(mirror)


def test_its_error_is_reported_and_the_next_source_is_used(mirror: Mirror, bench: Bench) -> None:
    model = model_of(LARGE, front(mirror, behaviour("400")), mirror.url("/second"))
    bench.assert_failed(bench.fetch(model, options(30), env=env(mirror, HF_TOKEN=TOKEN)), "not-found", "hub")
    mirror.files["/second"] = LARGE
    outcome = bench.fetch(model, options(30), env=env(mirror, HF_TOKEN=TOKEN))
    bench.assert_fetched(outcome, LARGE)
    assert TOKEN not in repr(bench.events) + repr(outcome)


@pytest.mark.parametrize("name", ["401-gated", "404-entry", "410"])
def test_it_is_not_used_for_missing_or_gated_files(mirror: Mirror, bench: Bench, name: str) -> None:
    model = model_of(LARGE, front(mirror, behaviour(name)))
    bench.assert_failed(bench.fetch(model, env=env(mirror)), "gated", "not-found", "gone")
    assert not by_the_library(mirror)


def test_it_is_not_used_for_other_hosts(mirror: Mirror, bench: Bench) -> None:
    front(mirror)
    bench.assert_failed(bench.fetch(model_of(LARGE, mirror.url(PATH))), "forbidden")
    assert not by_the_library(mirror)


def test_it_can_be_stopped(mirror: Mirror, bench: Bench) -> None:
    model = model_of(LARGE, front(mirror))
    mirror.behave("/cdn/*", behaviour("slow", rate=20_000))
    stop = threading.Event()

    def watch() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and not any(r.path.startswith("/cdn/") for r in mirror.requests):
            time.sleep(0.05)
        stop.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    with pytest.raises(Stopped):
        bench.fetch(model, options(60), env=env(mirror), stop=stop)
    watcher.join()
    assert by_the_library(mirror)
    assert not list(bench.folder.root.rglob(".gesso-hub-*"))


def test_an_address_that_leads_out_of_its_folder(mirror: Mirror, bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"precious")
    url = "https://huggingface.co/acme/models/resolve/main/..%2F..%2F..%2Ftheirs"
    mirror.behave("*", "403")
    error = bench.assert_failed(bench.fetch(model_of(LARGE, url), env=env(mirror)), "hub")
    assert "out of its folder" in error.message
    assert (tmp_path / "theirs").read_bytes() == b"precious"


def test_a_revision(mirror: Mirror, bench: Bench) -> None:
    prefix = mirror.hub("acme/models", {"sub/vae.safetensors": LARGE}, revision=REVISION)
    mirror.behave(FRONT, behaviour("agent-blocked", agent="gesso"), also=True)
    model = model_of(LARGE, f"https://huggingface.co{prefix}sub/vae.safetensors")
    bench.assert_fetched(bench.fetch(model, options(30), env=env(mirror)), LARGE)
    assert hub.serves(model.sources[0], env(mirror))


@pytest.mark.parametrize("hint", [1, len(LARGE) - 1, 2 * len(LARGE)])
def test_a_size_that_no_host_confirmed_refuses_nothing_that_it_brings(
    mirror: Mirror, bench: Bench, monkeypatch: pytest.MonkeyPatch, hint: int
) -> None:
    monkeypatch.setattr(hub, "_SLACK", -10 * len(LARGE))
    model = model_of(LARGE, front(mirror), size=hint, size_confirmed=False)
    outcome = bench.fetch(model, options(30), env=env(mirror))
    bench.assert_fetched(outcome, LARGE)
    assert by_the_library(mirror)
    assert outcome.note.startswith(f"{hint:,} bytes said by the lock (unconfirmed)")
    with pytest.raises(ContentError, match="bytes and more, the lock says"):  # the same, and confirmed
        hub._Watch(hint, 10, lambda _: None, lambda: None).on_line("5")


def test_wrong_bytes_that_it_brings_are_called_what_the_hint_makes_them(mirror: Mirror, bench: Bench) -> None:
    model = model_of(LARGE, front(mirror), size=2 * len(LARGE), size_confirmed=False)
    mirror.behave("/cdn/*", "flip")
    error = bench.assert_failed(bench.fetch(model, options(30), env=env(mirror)), "truncated")
    assert f"the lock says {2 * len(LARGE):,} (unconfirmed)" in error.message
    assert by_the_library(mirror)
