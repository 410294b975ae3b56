"""The contents of an image: dpkg's status, its Python lock, gesso's own Python, the layers and their instructions."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest

from gesso.builder.evidence import contents, dpkg
from gesso.builder.evidence.dpkg import Package
from gesso.builder.registry import layer_files
from gesso.builder.registry.local_image import LocalLayer, pair
from gesso.builder.registry.tar_stream import TarStream
from gesso.errors import VerifyError

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc (2.41)
Version: 2.41-12
Description: GNU C Library
 Version: a line of the description, not a field

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.2.37-2
"""


def test_dpkg() -> None:
    assert dpkg.installed(STATUS) == (
        Package("bash", "5.2.37-2", "amd64"),
        Package("libc6", "2.41-12", "amd64", "glibc"),
    )
    assert dpkg.installed("") == ()


def test_the_release() -> None:
    assert dpkg.codename('NAME="Debian GNU/Linux"\nVERSION_CODENAME=trixie\n') == "trixie"
    assert dpkg.codename("NAME=x\n") == ""


def test_the_lock_with_its_hashes() -> None:
    one, two = "1" * 64, "2" * 64
    lock = f"SQLAlchemy==2.0.58 \\\n    --hash=sha256:{one} \\\n    --hash=sha256:{two}\n"
    (found,) = contents.distributions(lock)
    assert (found.name, found.version, found.hashes) == ("sqlalchemy", "2.0.58", (one, two))


def test_gessos_own_python() -> None:
    folder = "/opt/gesso/venv/lib/python3.13/site-packages"
    paths = [f"{folder}/huggingface_hub-2.4.0.dist-info", f"{folder}/PyYAML-6.0.3.dist-info/", f"{folder}/yaml",
             f"{folder}/x-1.0.dist-info/RECORD"]  # fmt: skip
    assert [(d.name, d.version) for d in contents.own_python(paths)] == [
        ("huggingface-hub", "2.4.0"),
        ("pyyaml", "6.0.3"),
    ]


HISTORY = [
    {"CreatedBy": 'ENTRYPOINT ["entrypoint.sh"]', "Size": 0},
    {"CreatedBy": "RUN /bin/sh -c --mount=type=secret,id=ca uv pip install x # buildkit", "Size": 22},
    {"CreatedBy": "WORKDIR /workspace", "Size": 0},
    {"CreatedBy": "ENV A=1", "Size": 0},
    {"CreatedBy": "", "Size": 79},
]


def test_layers_and_their_instructions() -> None:
    """A WORKDIR makes a layer although its size is 0."""
    assert pair(["a", "b", "c"], HISTORY) == (
        LocalLayer("a", 79, "base"), LocalLayer("b", 0, "WORKDIR /workspace"), LocalLayer("c", 22, "uv pip install x"),
    )  # fmt: skip


def test_where_the_numbers_differ_layers_have_no_instruction() -> None:
    assert pair(["a", "b"], HISTORY) == (LocalLayer("a", None, ""), LocalLayer("b", None, ""))


def _layer(files: dict[str, bytes], *, packed: bool = True) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(stream.getvalue()) if packed else stream.getvalue()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", ["opt/gesso/build.json", "./opt/gesso/build.json"])
def test_a_file_from_a_layer(packed: bool, name: str) -> None:
    layer = _layer({"opt/x": b"no", name: b"yes"}, packed=packed)
    assert layer_files.find(layer, "opt/gesso/build.json") == b"yes"
    assert layer_files.find(layer, "opt/gesso/other") is None


def test_a_layer_that_unpacks_to_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_files, "_MAX_UNPACKED", 10_000)
    with pytest.raises(VerifyError, match="unpacks to more than"):
        layer_files.find(gzip.compress(b"\0" * 100_000), "x")
    with pytest.raises(VerifyError, match="a layer is damaged"):
        layer_files.find(b"\x1f\x8bno gzip at all", "x")


@pytest.mark.parametrize("size", [1, 3, 512, 10_240, 100_000])
def test_chunks_of_any_size_make_a_file(size: int) -> None:
    data = _layer({"a": b"x" * 3000, "b": b"y"}, packed=False)
    chunks = iter([data[at : at + size] for at in range(0, len(data), size)])
    with tarfile.open(fileobj=TarStream(chunks), mode="r|") as archive:
        assert [(member.name, member.size) for member in archive] == [("a", 3000), ("b", 1)]
