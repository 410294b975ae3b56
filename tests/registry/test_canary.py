"""A token that is passed to build and publish is nowhere afterwards: every place is searched for it."""

from __future__ import annotations

import base64
import json
import os
import tarfile
from typing import TYPE_CHECKING

from .conftest import vouch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import docker
    import pytest

    from .conftest import Person
    from .server import Server

CANARY = "hf_CanaryInTheMineNeverToBeSeen0123"
SHAPES = (CANARY.encode(), base64.b64encode(CANARY.encode())[:40], CANARY[::-1].encode())


def has(content: bytes) -> bool:
    return any(shape in content for shape in SHAPES)


def test_the_search_finds_the_token() -> None:
    """Control experiment: the searches below would find it."""
    assert has(f"x={CANARY};".encode())
    assert has(base64.b64encode(f"{CANARY}".encode()))
    assert not has(b"nothing")


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file of a saved image, those in its layers as well, in overlapping pieces."""
    with tarfile.open(archive) as outer:
        for member in outer:
            file = outer.extractfile(member)
            if file is None:
                continue
            rest = b""
            while piece := file.read(1 << 20):
                yield member.name, rest + piece
                rest = piece[-200:]


def test_a_token_is_nowhere(
    person: Person, server: Server, build: Callable[..., str], client: docker.DockerClient, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    tokens = {"HF_TOKEN": CANARY, "CIVITAI_TOKEN": CANARY}
    for name, value in tokens.items():
        monkeypatch.setenv(name, value)
    name = build("sdxl", "canary", env=dict(os.environ), anew=True)  # every step runs, with the token
    build_output = "".join(capfd.readouterr())
    vouch(person, "sdxl", name)
    person.more |= tokens
    arguments = person.publish(server, "sdxl", "--sign", str(person.key), "--no-tlog", image=name)
    dry_run = person.invoke(*arguments, "--dry-run", "--json").expect()
    done = person.invoke(*arguments).expect()
    checked = person.invoke(
        "verify", f"{server.repository}:sdxl-trial", "--key", str(person.public), "--no-tlog"
    ).expect()
    for what, text in {"build": build_output, "dry run": dry_run.out + dry_run.err, "publish": done.out + done.err,
                       "verify": checked.out + checked.err, "registry": server.log}.items():  # fmt: skip
        assert not has(text.encode()), f"in the output: {what}"
    saved = tmp_path / "image.tar"
    with saved.open("wb") as file:
        for chunk in client.images.get(name).save():
            file.write(chunk)
    searched = 0
    for where, content in members(saved):
        searched += len(content)
        assert not has(content), f"in the image: {where}"
    assert searched > 250_000_000, "the layers were not searched"
    assert not has(json.dumps(client.images.get(name).history()).encode())
    attested = 0
    # Manifests, configs, attestations; layers were searched unpacked.
    for path in (server.folder / "data").rglob("data"):
        content = path.read_bytes()
        assert not has(content), path
        for line in content.splitlines() if len(content) < 4 << 20 and content.startswith(b"{") else ():
            bundle = json.loads(line) if line.startswith(b'{"mediaType":"application/vnd.dev.sigstore.bundle') else {}
            if payload := bundle.get("dsseEnvelope", {}).get("payload"):
                attested += 1
                assert not has(base64.b64decode(payload)), path
    assert attested == 2, "bill of materials and provenance were not searched"
    for report in (person.home / "cache" / "reports").rglob("*"):
        assert report.is_dir() or not has(report.read_bytes()), report
