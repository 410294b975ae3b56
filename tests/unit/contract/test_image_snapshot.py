"""Snapshots of an image: layers over each other, whiteouts, links, secrets across pieces; from a test archive."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.image.checks import dockerfile, secrets, sources
from tests.image.checks.image_snapshot import Entry, read_image, stack_layers
from tests.sabotage import catalogue

if TYPE_CHECKING:
    from collections.abc import Iterable


def tarred(members: Iterable[tuple[str, bytes | None, dict[str, Any]]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data, more in members:
            info = tarfile.TarInfo(name)
            info.size = len(data or b"")
            info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            info.mode = 0o755 if data is None else 0o644
            for key, value in more.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data) if data else None)
    return packed.getvalue()


def saved(*layers: bytes, packed: bool = False) -> list[bytes]:
    """Return the output of `docker save`, in small pieces."""
    blobs = {f"blobs/sha256/{n:064x}": gzip.compress(layer) if packed else layer for n, layer in enumerate(layers)}
    image = {"config": {"Env": []}, "history": [], "rootfs": {"diff_ids": []}}
    files = {**blobs, "blobs/sha256/cc": json.dumps(image).encode(),
             "manifest.json": json.dumps([{"Config": "blobs/sha256/cc", "Layers": list(blobs)}]).encode()}  # fmt: skip
    archive = tarred((name, data, {}) for name, data in files.items())
    return [archive[at : at + 777] for at in range(0, len(archive), 777)]


LOW = tarred([
    ("etc", None, {}),
    ("etc/a", b"one", {"mode": 0o600, "uid": 5}),
    ("./opt/ComfyUI/x.py", b"print()\n", {}),
    ("gone/deep/b", b"two", {}),
    ("hidden/c", b"three", {}),
])  # fmt: skip
HIGH = tarred([
    ("gone/.wh.deep", b"", {}),
    ("hidden/.wh..wh..opq", b"", {}),
    ("hidden/d", b"four", {}),
    ("link", b"", {"type": tarfile.SYMTYPE, "linkname": "etc/a"}),
])  # fmt: skip


@pytest.mark.parametrize("packed", [False, True])
def test_layers_are_stacked(packed: bool) -> None:
    snapshot = read_image(saved(LOW, HIGH, packed=packed))
    files = {path for path, entry in snapshot.files.items() if entry.kind != "folder"}
    assert files == {"etc/a", "opt/ComfyUI/x.py", "hidden/d", "link"}
    assert snapshot.files["etc/a"].mode == 0o600
    assert snapshot.files["etc/a"].owner == (5, 0)
    assert snapshot.files["etc/a"].sha256 == hashlib.sha256(b"one").hexdigest()
    assert snapshot.files["etc/a"].content == b"one", "what the checks read is kept"
    assert snapshot.files["hidden/d"].layer == 1
    assert snapshot.files["link"].target == "etc/a"
    assert "gone/deep/b" in snapshot.parts[0], "what a later layer removes is still in the image"
    assert snapshot.text("etc/a") == "one"
    assert snapshot.text("nothing") == ""
    assert snapshot.sizes == (3 + 8 + 3 + 5, 4)


def test_a_file_in_place_of_a_folder_removes_its_content() -> None:
    file, folder = Entry("file", 0o644), Entry("folder", 0o755)
    assert set(stack_layers([{"a": folder, "a/b": file}, {"a": file}])) == {"a"}


def test_cached_layers_are_not_read_again() -> None:
    seen: dict[str, Any] = {}
    read_image(saved(LOW), seen=seen)
    secret_values = dict(seen)
    snapshot = read_image(saved(LOW, HIGH), seen=seen)
    assert all(seen[name] is layer for name, layer in secret_values.items())
    assert "hidden/d" in snapshot.files


@pytest.mark.parametrize("before", [0, (1 << 20) - 10, (1 << 20) - 1])
def test_a_secret_is_found_anywhere(before: int) -> None:
    text = b"." * before + b" " + catalogue.CANARY.encode() + b" "
    snapshot = read_image(saved(tarred([("opt/t", text, {})]), tarred([("opt/.wh.t", b"", {})])), secrets.search({}))
    assert secrets.problems(snapshot, {}, ()) == ["layer 0: opt/t: a Hugging Face token"]


def test_a_secret_of_this_machine_is_found_in_a_public_file_too() -> None:
    secret_values = secrets.canaries({"HF_TOKEN": "of no form at all", "GH_TOKEN": "short"})
    assert list(secret_values) == ["HF_TOKEN"]
    snapshot = read_image(saved(tarred([("opt/t", b"of no form at all", {})])), secrets.search(secret_values))
    public = {entry.sha256 for entry in snapshot.files.values()}
    assert secrets.problems(snapshot, secret_values, public) == ["layer 0: opt/t: the value of HF_TOKEN"]


def test_an_example_in_a_published_file_is_no_secret() -> None:
    snapshot = read_image(saved(tarred([("opt/t", b"see " + catalogue.CANARY.encode(), {})])), secrets.search({}))
    assert secrets.problems(snapshot, {}, {snapshot.files["opt/t"].sha256}) == []


def test_tree_ids_are_gits(tmp_path: Path) -> None:
    """The id of a tree that git made of the same files: two, one of them executable, and a folder that sorts late."""
    for name, text in {"a": "x\n", "b/c": "y\n", "b.txt": "z\n"}.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(text)
    (tmp_path / "tree" / "a").chmod(0o755)
    assert sources.tree_of(sources.of_project(tmp_path / "tree")) == "1a6089d554e372e0570300908df62d40cb1cf138"


DOCKERFILE = """
FROM debian AS low
ENV A=1 B="two words"
RUN --mount=type=secret,id=ca \\
    first && \\
    second
FROM elsewhere AS other
RUN never
FROM low AS image
COPY --link --from=other /x /y
EXPOSE 8188
HEALTHCHECK --interval=30s --timeout=10s --start-period=10m --retries=3 CMD ["gesso", "health"]
ENTRYPOINT ["entrypoint.sh"]
"""


def test_the_dockerfile_determines_config_and_history() -> None:
    steps = dockerfile.steps(DOCKERFILE)
    assert [step.as_history for step in steps if step.word in {"RUN", "COPY"}] == [
        "RUN /bin/sh -c first && second",
        "COPY /x /y",
    ]
    found = dockerfile.config_of(steps)
    assert found["Env"] == {"A": "1", "B": "two words"}
    assert found["Healthcheck"]["StartPeriod"] == 600 * 10**9
    assert found["ExposedPorts"] == {"8188/tcp": {}}
    assert found["Entrypoint"] == ["entrypoint.sh"]


def test_sabotage_edits_gessos_own_files() -> None:
    """A moved module would leave the image undamaged: its patterns must match this checkout."""
    edits = [
        re.fullmatch(rf"RUN sed -i 's/(.+?)/.*/' {catalogue.OWN}/(gesso/\S+\.py)", line)
        for one in catalogue.CATALOGUE.values()
        for line in one.lines
        if "sed " in line and f"{catalogue.OWN}/gesso/" in line
    ]
    assert len(edits) == 9
    for edit in edits:
        assert edit is not None
        source = (Path(catalogue.__file__).parents[2] / edit[2]).read_text(encoding="utf-8")
        assert any(re.search(edit[1].replace("{", r"\{").replace("(", r"\("), line) for line in source.splitlines())


def test_docs_have_the_sabotage_table() -> None:
    page = Path(catalogue.__file__).parents[2] / "docs" / "sabotage.md"
    assert page.read_text() == catalogue.page(), "run `python3 -m tests.sabotage.catalogue`"
    assert len(catalogue.CATALOGUE) >= 30
