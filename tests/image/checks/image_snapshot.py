"""Snapshot of an image: its config, its layers, and every file, read from outside. Nothing in the image is run.

`docker save` writes an archive of layer archives, in either store's format. It is read as a stream, once; only the
content that the checks need is stored.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any

from gesso.builder.registry.tar_stream import TarStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_CHUNK = 1 << 20
_KEEP = 2 << 20  # bytes; the content of larger files is not stored
_KEPT = re.compile(
    r"(opt/gesso/(?!venv/|models/|mirror/files/).*|usr/local/.*|etc/.*|var/lib/dpkg/(status|info/.*\.(list|md5sums))"
    r"|var/lib/apt/extended_states|.*/pyvenv\.cfg|.*\.dist-info/(RECORD|METADATA)|.*\.pth)\Z"
)
_WHOLE = re.compile(r"opt/gesso/(spare|wheels)/.*\Z")
_GIT = "opt/ComfyUI/"  # files below get a git id, too
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


@dataclass(frozen=True)
class Entry:
    """One file, folder or link. `mode` has the permission bits; `content` is only set if a check reads it.

    `blob` is git's id of the content (only below ComfyUI); `target` is a link's target; `layer` is the index of its
    layer.
    """

    kind: str  # file, folder, link, or other
    mode: int
    owner: tuple[int, int] = (0, 0)
    size: int = 0
    sha256: str = ""
    md5: str = ""
    blob: str = ""
    target: str = ""
    content: bytes | None = None
    layer: int = 0


@dataclass(frozen=True)
class Finding:
    """A possible secret: its layer, its file, and its kind. Never the secret itself."""

    layer: int
    path: str
    what: str


@dataclass(frozen=True)
class ImageSnapshot:
    """A whole image. Paths are relative to /; `sizes` are the unpacked bytes of each layer."""

    config: Mapping[str, Any]
    files: Mapping[str, Entry]
    sizes: tuple[int, ...]
    secrets: tuple[Finding, ...] = ()
    parts: tuple[Mapping[str, Entry], ...] = field(default=(), repr=False)  # each layer's own entries

    def text(self, path: str) -> str:
        """Return a stored file's text; "" if it is missing."""
        found = self.files.get(path)
        return (found.content or b"").decode("utf-8", "replace") if found else ""

    def below(self, folder: str) -> Iterator[tuple[str, Entry]]:
        """Yield the entries below a folder, with their paths in it."""
        return ((path[len(folder) :], entry) for path, entry in self.files.items() if path.startswith(folder))


@dataclass
class _Layer:
    entries: dict[str, Entry]
    size: int
    secrets: list[tuple[str, str]]


def read_image(
    saved: Iterable[bytes],
    search: Callable[[bytes], Iterable[str]] = lambda _: (),
    seen: dict[str, _Layer] | None = None,
) -> ImageSnapshot:
    """Read the output of `docker save`; `search` names possible secrets in a piece of any file of any layer.

    `seen` caches layers by their digest, for several images that share them; new layers are added.
    """
    blobs: dict[str, _Layer] = seen if seen is not None else {}
    texts: dict[str, bytes] = {}
    with tarfile.open(fileobj=TarStream(saved), mode="r|") as outer:
        for member in outer:
            if not member.isfile() or member.name in blobs:
                continue
            source = outer.extractfile(member)
            assert source is not None
            head = _Peeked(source)
            if head.begins_with_json():
                texts[member.name] = head.read()
            elif (layer := _layer(head, search)) is not None:
                blobs[member.name] = layer
    manifest = json.loads(texts["manifest.json"])[0]
    config = json.loads(texts[manifest["Config"]])
    layers = [blobs[name] for name in manifest["Layers"]]
    secrets = [Finding(at, path, what) for at, layer in enumerate(layers) for path, what in layer.secrets]
    parts = tuple({p: replace(e, layer=at) for p, e in layer.entries.items()} for at, layer in enumerate(layers))
    return ImageSnapshot(config, stack_layers(parts), tuple(layer.size for layer in layers), tuple(secrets), parts)


def stack_layers(layers: Iterable[Mapping[str, Entry]]) -> dict[str, Entry]:
    """Apply layers over each other as an engine does: whiteouts remove lower entries."""
    files: dict[str, Entry] = {}
    for layer in layers:
        for path in layer:
            folder, _, name = path.rpartition("/")
            if name == _OPAQUE:
                _remove(files, f"{folder}/")
            elif name.startswith(_WHITEOUT):
                gone = f"{folder}/{name[len(_WHITEOUT) :]}".lstrip("/")
                files.pop(gone, None)
                _remove(files, f"{gone}/")
        for path, entry in layer.items():
            if not path.rpartition("/")[2].startswith(_WHITEOUT):
                if entry.kind != "folder" and files.get(path, entry).kind == "folder":
                    _remove(files, f"{path}/")
                files[path] = entry
    return files


def _remove(files: dict[str, Entry], prefix: str) -> None:
    for path in [path for path in files if path.startswith(prefix)]:
        del files[path]


def _layer(source: _Peeked, search: Callable[[bytes], Iterable[str]]) -> _Layer | None:
    """Read one layer's archive, compressed or not; return None if it is no archive."""
    layer = _Layer({}, 0, [])
    try:
        with tarfile.open(fileobj=source, mode="r|*") as archive:
            for member in archive:
                path = member.name.removeprefix("./").strip("/")
                if not path or path == ".":
                    continue
                content = archive.extractfile(member) if member.isreg() else None
                entry, found = _entry(path, member, content, search)
                if member.islnk():
                    entry = layer.entries.get(member.linkname.removeprefix("./").strip("/"), entry)
                layer.entries[path] = entry
                layer.size += member.size
                layer.secrets += [(path, what) for what in found]
    except tarfile.ReadError:
        return None
    return layer


def _entry(
    path: str, member: tarfile.TarInfo, content: IO[bytes] | None, search: Callable[[bytes], Iterable[str]]
) -> tuple[Entry, set[str]]:
    base = Entry("other", member.mode & 0o7777, (member.uid, member.gid))
    if member.isdir():
        return replace(base, kind="folder"), set()
    if member.issym():
        return replace(base, kind="link", target=member.linkname), set(search(member.linkname.encode()))
    if content is None:
        return base, set()
    sha256, md5, kept, found = hashlib.sha256(), hashlib.md5(usedforsecurity=False), bytearray(), set()
    blob = hashlib.sha1(b"blob %d\0" % member.size, usedforsecurity=False) if path.startswith(_GIT) else None
    keep = bool(_WHOLE.match(path)) or (member.size <= _KEEP and bool(_KEPT.match(path)))
    tail = b""
    while piece := content.read(_CHUNK):
        sha256.update(piece)
        md5.update(piece)
        if blob is not None:
            blob.update(piece)
        if keep:
            kept += piece
        found |= set(search(tail + piece))
        tail = piece[-256:]  # a secret may be split over two pieces
    entry = replace(base, kind="file", size=member.size, sha256=sha256.hexdigest(), md5=md5.hexdigest(),
                    blob=blob.hexdigest() if blob else "", content=bytes(kept) if keep else None)  # fmt: skip
    return entry, found


class _Peeked(io.RawIOBase):
    """A file whose first byte can be inspected before reading."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._head = source.read(1)

    def begins_with_json(self) -> bool:
        return self._head in {b"{", b"["}

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        head, self._head = self._head, b""
        if size < 0:
            return head + self._source.read()
        return head + self._source.read(size - len(head)) if head else self._source.read(size)
