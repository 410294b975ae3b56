"""Hugging Face's own library as the second way to a file, against a front like theirs: nothing of it is believed."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from mirror import Mirror, behaviour

from gesso.models.download import hub
from gesso.models.download.model_download import Stopped

from .fetching import OTHER, PATH, SIX, Bench, options, sockets_to, wanted

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("huggingface_hub")

FRONT = "/acme/models/resolve/*"
REVISION = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_veryverysecret"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "models")


def front(mirror: Mirror, *what: Any, data: bytes = SIX, **options: Any) -> str:
    """Put the file behind a front that refuses our own requests in a way that is worth a try by the library."""
    mirror.hub("acme/models", {"vae.safetensors": data}, **options)
    mirror.behave(FRONT, *what or [behaviour("agent-blocked", agent="gesso")], also=True)
    return f"https://huggingface.co{PATH}"


def env(mirror: Mirror, **more: str) -> dict[str, str]:
    return {"HF_ENDPOINT": mirror.url(""), **more}


def by_the_library(mirror: Mirror) -> list[Any]:
    return [record for record in mirror.requests if "hf_hub" in record.headers.get("user-agent", "")]


def test_what_plain_http_does_not_serve_it_brings(mirror: Mirror, bench: Bench) -> None:
    model = wanted(SIX, front(mirror, behaviour("healthy")))
    mirror.behave("/cdn/*", behaviour("gzip", times=1))
    outcome = bench.fetch(model, options(30), env=env(mirror, HF_TOKEN=TOKEN))
    bench.fetched(outcome, SIX)
    assert (outcome.source, outcome.received) == ("huggingface.co", len(SIX))
    assert by_the_library(mirror)
    assert any("huggingface_hub" in event.message for event in bench.of("retrying"))
    # The token is the library's to send, and it sends it to the front alone.
    seen = {(r.headers["host"], r.headers.get("authorization", "")) for r in by_the_library(mirror)}
    assert seen == {(f"127.0.0.1:{mirror.port}", f"Bearer {TOKEN}"), (f"localhost:{mirror.port}", "")}
    assert TOKEN not in repr(bench.events) + repr(outcome)
    assert sockets_to(mirror.port) == 0


def test_wrong_bytes_that_it_brings_are_refused(mirror: Mirror, bench: Bench) -> None:
    """Of the right size: the library calls that a success."""
    model = wanted(SIX, front(mirror))
    mirror.behave("/cdn/*", "flip")
    bench.failed(bench.fetch(model, options(30), env=env(mirror)), "wrong-hash")
    assert by_the_library(mirror)
    assert bench.leftovers() == []


def test_another_file_that_it_brings_is_refused(mirror: Mirror, bench: Bench) -> None:
    model = wanted(SIX, front(mirror, data=OTHER[: 3 * 1024]), mirror.url("/second"))
    mirror.files["/second"] = SIX
    bench.fetched(bench.fetch(model, options(30), env=env(mirror)), SIX)
    [switched] = bench.of("switched")
    assert "3,072 bytes" in switched.message
    assert by_the_library(mirror)


def test_where_it_fails_its_own_words_are_said_and_the_next_source_is_asked(mirror: Mirror, bench: Bench) -> None:
    model = wanted(SIX, front(mirror, behaviour("400")), mirror.url("/second"))
    bench.failed(bench.fetch(model, options(30), env=env(mirror, HF_TOKEN=TOKEN)), "not-found", "hub")
    mirror.files["/second"] = SIX
    outcome = bench.fetch(model, options(30), env=env(mirror, HF_TOKEN=TOKEN))
    bench.fetched(outcome, SIX)
    assert TOKEN not in repr(bench.events) + repr(outcome)


@pytest.mark.parametrize("name", ["401-gated", "404-entry", "410"])
def test_it_is_not_asked_for_what_is_missing_there_too(mirror: Mirror, bench: Bench, name: str) -> None:
    model = wanted(SIX, front(mirror, behaviour(name)))
    bench.failed(bench.fetch(model, env=env(mirror)), "gated", "not-found", "gone")
    assert not by_the_library(mirror)


def test_it_is_not_asked_for_other_hosts(mirror: Mirror, bench: Bench) -> None:
    front(mirror)
    bench.failed(bench.fetch(wanted(SIX, mirror.url(PATH))), "forbidden")
    assert not by_the_library(mirror)


def test_it_stops_when_it_is_told_to(mirror: Mirror, bench: Bench) -> None:
    model = wanted(SIX, front(mirror))
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
    error = bench.failed(bench.fetch(wanted(SIX, url), env=env(mirror)), "hub")
    assert "out of its folder" in error.message
    assert (tmp_path / "theirs").read_bytes() == b"precious"


def test_it_knows_a_revision(mirror: Mirror, bench: Bench) -> None:
    prefix = mirror.hub("acme/models", {"sub/vae.safetensors": SIX}, revision=REVISION)
    mirror.behave(FRONT, behaviour("agent-blocked", agent="gesso"), also=True)
    model = wanted(SIX, f"https://huggingface.co{prefix}sub/vae.safetensors")
    bench.fetched(bench.fetch(model, options(30), env=env(mirror)), SIX)
    assert hub.serves(model.sources[0], env(mirror))
