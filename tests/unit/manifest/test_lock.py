"""The lock: which changes make it stale, and that it is written and read without loss."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gesso.errors import LockError
from gesso.manifest.load import load
from gesso.manifest.lock import (
    Lock,
    LockedBase,
    LockedModel,
    LockedPython,
    LockedSource,
    checksum,
    contradictions,
    inputs_of,
    read_lock,
    source_of,
    stale_inputs,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gesso.manifest.schema import Manifest

    Write = Callable[[str, str | bytes], Path]

INPUTS = [
    "base",
    "comfyui",
    "models checkpoints/desk.safetensors",
    "models upscale_models/lens.pth",
    "models vae/lamp.safetensors",
    "nodes tooling",
    "python",
]


@pytest.fixture(scope="module")
def good(examples: Path) -> Manifest:
    return load(examples / "good.yaml").manifest


@pytest.fixture
def changed(good: Manifest, write: Write, tmp_path: Path) -> Callable[[str], tuple[Manifest, Manifest]]:
    """Return the good manifest as it is, and with an overlay."""

    def changed(overlay: str) -> tuple[Manifest, Manifest]:
        return good, load(tmp_path / "good.yaml", [write("o.yaml", overlay)]).manifest

    return changed


def lock_of(manifest: Manifest, **more: Any) -> Lock:
    parts: dict[str, Any] = {
        "arch": manifest.arch,
        "inputs": inputs_of(manifest),
        "base": LockedBase(image=manifest.base.image, digest="sha256:" + "1" * 64),
        "comfyui": source_of(manifest.comfyui).model_copy(update={"commit": "2" * 40, "tree": "3" * 40}),
        "nodes": {node.name: source_of(node) for node in manifest.nodes},
        "python": LockedPython(file="python.lock.txt", sha256="4" * 64, sqlalchemy="2.0.1", resolved_from="5" * 16),
        "models": tuple(LockedModel(name=m.name, sources=m.sources, sha256=m.sha256) for m in manifest.models),
    }
    return Lock.model_validate(parts | more)


# -- stale inputs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overlay", "names"),
    [
        ("base: {image: 'debian:sid-slim'}", ["base"]),
        ("base: {image: null, bootstrap: trixie}", ["base"]),
        ("comfyui: {ref: v1.1}", ["comfyui"]),
        ("comfyui: {git: https://example.org/fork}", ["comfyui"]),
        ("nodes: [{name: tooling, ref: v2}]", ["nodes tooling"]),
        ("nodes: [{name: tooling, git: https://example.org/fork}]", ["nodes tooling"]),
        ("nodes: [{name: tooling, requirements: null}]", ["nodes tooling"]),
        ("python: {constraints: [numpy<3]}", ["python"]),
        ("python: {requirements: [numpy]}", ["python"]),
        ("python: {overrides: [numpy]}", ["python"]),
        ("python: {exclude: [numpy]}", ["python"]),
        ("python: {index: https://example.org/simple}", ["python"]),
        ("python: {version: 3.14}", ["python"]),
        (f"models: [{{name: vae/lamp.safetensors, sha256: {'a' * 64}}}]", ["models vae/lamp.safetensors"]),
        ("models: [{name: vae/lamp.safetensors, size: 5}]", ["models vae/lamp.safetensors"]),
        (
            "models: [{name: vae/lamp.safetensors, sources: [https://example.org/lamp]}]",
            ["models vae/lamp.safetensors"],
        ),
        ("models: [{name: upscale_models/lens.pth, remove: true}]", ["models upscale_models/lens.pth"]),
        ("nodes: [{name: easel, git: https://example.org/easel, ref: v1}]", ["nodes easel"]),
        ("comfyui: {ref: v2}\npython: {version: 3.14}", ["comfyui", "python"]),
        # these need no new lock
        ("title: Another title", []),
        ("hardware: {vram_gb: 99, cuda: 12.0}", []),
        ("workflows: [other]", []),
        ("classes: [Other]", []),
        ("apt: [git]", []),
        ("python: {layers: []}", []),
        ("nodes: [{name: tooling, install: install.py}]", []),
        ("models: [{name: vae/lamp.safetensors, license: GPL-3.0, note: better}]", []),
        ("models: [{name: upscale_models/lens.pth, tier: required, redistribute: false, gated: true}]", []),
    ],
)
def test_exactly_the_changed_inputs_are_stale(
    overlay: str, names: list[str], changed: Callable[[str], tuple[Manifest, Manifest]]
) -> None:
    before, after = changed(overlay)

    assert stale_inputs(lock_of(before), after) == names
    assert stale_inputs(lock_of(after), before) == names, "additions and removals are both reported"
    assert stale_inputs(lock_of(after), after) == []


def test_inputs_have_readable_names(tmp_path: Path, examples: Path) -> None:
    inputs = inputs_of(load(examples / "good.yaml").manifest)

    assert list(inputs) == INPUTS
    assert len(set(inputs.values())) == len(INPUTS)
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in inputs.values())


def test_order_of_models_and_nodes_does_not_count(examples: Path) -> None:
    manifest = load(examples / "good.yaml").manifest

    reversed_ = manifest.model_copy(update={"models": manifest.models[::-1]})

    assert inputs_of(reversed_) == inputs_of(manifest)


def test_order_of_sources_counts(examples: Path) -> None:
    manifest = load(examples / "good.yaml").manifest
    desk = manifest.models[0]
    reversed_ = desk.model_copy(update={"sources": desk.sources[::-1]})

    after = manifest.model_copy(update={"models": (reversed_, *manifest.models[1:])})

    assert stale_inputs(lock_of(manifest), after) == ["models checkpoints/desk.safetensors"]


def test_checksums_are_stable() -> None:
    """A changed checksum would make every committed lock stale."""
    assert (
        checksum({"b": [1, None, True], "a": "é"})
        == hashlib.sha256(b'{"a":"\\u00e9","b":[1,null,true]}').hexdigest()[:16]
    )


@pytest.mark.parametrize(("size", "unconfirmed", "named"), [(5, False, False), (None, False, True), (5, True, True)])
def test_a_size_is_not_confirmed_where_there_is_none_or_no_host_confirmed_the_file(
    examples: Path, size: int | None, unconfirmed: bool, named: bool
) -> None:
    manifest = load(examples / "good.yaml").manifest
    lamp = manifest.models[1].model_copy(update={"size": None})
    manifest = manifest.model_copy(update={"models": (manifest.models[0], lamp, *manifest.models[2:])})
    lock = lock_of(manifest, unconfirmed=(f"models {lamp.name}",) if unconfirmed else ())
    sure = lock.models[1].model_copy(update={"size": size, "size_confirmed": True})
    lock = lock.model_copy(update={"models": (lock.models[0], sure, *lock.models[2:])})
    assert (f"models {lamp.name}" in contradictions(lock, manifest)) == named


# -- writing and reading ------------------------------------------------------------------------------------


def test_lock_is_written_and_read_without_loss(examples: Path, tmp_path: Path) -> None:
    lock = lock_of(load(examples / "good.yaml").manifest, unconfirmed=("models vae/lamp.safetensors",))
    path = tmp_path / "good.lock.json"
    path.write_text(lock.dumps())

    loaded = read_lock(path)

    assert loaded == lock
    assert loaded.dumps() == lock.dumps()
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_lock_is_written_sorted_and_indented(examples: Path) -> None:
    text = lock_of(load(examples / "good.yaml").manifest).dumps()
    data = json.loads(text)

    assert text == json.dumps(data, indent=2, sort_keys=True) + "\n"
    assert data["format"] == 1
    assert "null" not in text


WORD = st.text("abc/.-_é", min_size=1, max_size=6)
SOURCES = st.builds(
    LockedSource, git=st.none() | WORD, ref=st.none() | WORD, path=st.none() | WORD, commit=st.none() | WORD
)
LOCKS = st.builds(
    Lock,
    arch=WORD,
    inputs=st.dictionaries(WORD, WORD, max_size=3),
    base=st.builds(LockedBase, image=st.none() | WORD, digest=st.none() | WORD, bootstrap=st.none() | WORD),
    comfyui=SOURCES,
    nodes=st.dictionaries(WORD, SOURCES, max_size=3),
    python=st.builds(LockedPython, file=WORD, sha256=WORD, sqlalchemy=WORD, resolved_from=WORD),
    models=st.lists(
        st.builds(
            LockedModel,
            name=WORD,
            sources=st.lists(WORD, max_size=2).map(tuple),
            sha256=WORD,
            size=st.none() | st.integers(0, 10**12),
            size_confirmed=st.booleans(),
        ),
        max_size=2,
    ).map(tuple),
    unconfirmed=st.lists(WORD, max_size=2).map(tuple),
)


@settings(max_examples=25, deadline=None)
@given(LOCKS)
def test_any_lock_reads_back(lock: Lock) -> None:
    loaded = Lock.model_validate_json(lock.dumps())

    assert loaded == lock
    assert loaded.sha256 == lock.sha256


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"\xff\xfe\x00",
        b"[]",
        b"{}",
        b'{"format": 1}',
        pytest.param("format 2", id="other format"),
        pytest.param("more", id="unknown key"),
    ],
)
def test_an_invalid_lock_is_reported_with_the_next_step(content: bytes | str, examples: Path, tmp_path: Path) -> None:
    path = tmp_path / "good.lock.json"
    if isinstance(content, str):
        data = json.loads(lock_of(load(examples / "good.yaml").manifest).dumps())
        data |= {"format": 2} if content == "format 2" else {"more": True}
        content = json.dumps(data).encode()
    path.write_bytes(content)

    with pytest.raises(LockError) as caught:
        read_lock(path)

    assert caught.value.exit_code == 3
    assert caught.value.message.startswith("good.lock.json: not a lock of format 1 (")
    assert len(caught.value.message.splitlines()) == 1
    assert "`invoke lock`" in caught.value.next_step


def test_a_missing_lock_is_reported_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(LockError) as caught:
        read_lock(tmp_path / "good.lock.json")

    assert caught.value.exit_code == 3
    assert caught.value.message == "good.lock.json: there is no such lock"
    assert caught.value.next_step == "make it with `invoke lock`"


def test_model_without_sha256_does_not_load(write: Write, findings: Callable[..., list[str]], tmp_path: Path) -> None:
    lines = (tmp_path / "good.yaml").read_text().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if "vae/lamp" in line and "name" in line)
    path = write("good.yaml", "".join(line for n, line in enumerate(lines) if n != at + 2))

    assert "sha256" in lines[at + 2]
    assert findings(path) == [f"good.yaml:{at + 1}: models[vae/lamp.safetensors].sha256: missing; it is required"]
