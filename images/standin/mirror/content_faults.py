"""Faults of the content: pages instead of files, error statuses, and wrong responses to ranges."""

from __future__ import annotations

import gzip
import json
import struct
from dataclasses import fields

from .content import Content, resolve_offset
from .exchange import Exchange
from .http1 import Body, Response

HTML = "text/html; charset=utf-8"
LOGIN = """<!DOCTYPE html>
<html lang="en"><head><title>Sign in</title></head>
<body><h1>Sign in to continue</h1><form action="/login" method="post"><input name="user"></form></body></html>
"""
# Enough of a family's tensors to detect it from the header.
FAMILIES: dict[str, dict[str, list[int]]] = {
    "flux": {
        "double_blocks.0.img_attn.norm.key_norm.scale": [128],
        "img_in.weight": [3072, 64],
        "txt_in.weight": [3072, 4096],
        "final_layer.linear.weight": [64, 3072],
    },
    "sd15": {
        "model.diffusion_model.input_blocks.0.0.weight": [320, 4, 3, 3],
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": [320, 768],
        "first_stage_model.decoder.conv_in.weight": [512, 4, 3, 3],
    },
    "vae4": {"decoder.conv_in.weight": [512, 4, 3, 3], "encoder.conv_out.weight": [8, 512, 3, 3]},
    "vae16": {"decoder.conv_in.weight": [512, 16, 3, 3], "encoder.conv_out.weight": [32, 512, 3, 3]},
}


def safetensors(tensors: dict[str, list[int]], size: int) -> bytes:
    """Return the header of a safetensors file (half floats) of `size` bytes; one more tensor fills the rest."""
    at, table = 0, {}
    for name, shape in tensors.items():
        length = 2
        for side in shape:
            length *= side
        table[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + length]}
        at += length
    for _ in range(4):  # the header's length depends on the numbers in it
        raw = json.dumps(table).encode()
        raw += b" " * (-len(raw) % 8)
        if (rest := size - 8 - len(raw) - at) > 0:
            table["rest"] = {"dtype": "U8", "shape": [rest], "data_offsets": [at, at + rest]}
    return struct.pack("<Q", len(raw)) + raw


def page(x: Exchange, *, kind: str = HTML, body: str = LOGIN, status: int = 200) -> None:
    """Send a page (by default a login page) instead of the file, whatever the requested range."""
    x.respond(status, body, kind)


def same_size_page(x: Exchange, *, kind: str = HTML) -> None:
    """Send an HTML page padded to exactly the file's size; ranges work too."""
    if x.content is not None:
        x.replace_content(LOGIN.encode()[: x.content.size], size=x.content.size, kind=kind, filler=b" ")


def lfs_pointer(x: Exchange) -> None:
    """Send the Git LFS pointer of the file."""
    if x.content is not None:
        oid, size = x.content.sha256(), x.content.size
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"
        x.replace_content(text.encode(), kind="text/plain; charset=utf-8")


def stub(x: Exchange, *, size: int = 710_000) -> None:
    """Send garbage of another size as the file."""
    x.replace_content(b"", size=size, filler=bytes(range(7, 249, 11)))


def pickled(x: Exchange, *, same_size: bool = False) -> None:
    """Send a pickle that would run code."""
    size = x.content.size if x.content is not None and same_size else None
    x.replace_content(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.", size=size)


def header_only(x: Exchange, *, keep: int = 0) -> None:
    """Send a safetensors header and only `keep` bytes after it."""
    if x.content is not None:
        length = struct.unpack("<Q", x.content.body(0, 8).read())[0] if x.content.size >= 8 else 0
        x.alter(size=min(x.content.size, 8 + length + keep), etag='"header-only"')


def wrong_family(x: Exchange, *, family: str = "sd15") -> None:
    """Send a valid safetensors file of another family (flux, sd15, vae4, vae16), of the same size if large enough."""
    if x.content is not None:
        head = safetensors(FAMILIES[family], x.content.size)
        length = struct.unpack("<Q", head[:8])[0]
        needed = max(entry["data_offsets"][1] for entry in json.loads(head[8:]).values())
        x.replace_content(head, size=max(x.content.size, 8 + length + needed))


def other_file(x: Exchange, *, path: str = "") -> None:
    """Send another file of the mirror under this name."""
    if x.content is not None:
        if (other := x.mirror.find(path)) is None:
            raise KeyError(path)
        x.alter(**{entry.name: getattr(other, entry.name) for entry in fields(other)})


def flip(x: Exchange, *, at: float | list[int] = 0.5, same_etag: bool = True) -> None:
    """Invert the bytes at these offsets, keep the size (a fraction: of the file; < 0: from its end).

    The scope `covering` restricts it to responses with a given byte, so that every other connection is clean.
    """
    if x.content is not None and x.content.size:
        offsets = at if isinstance(at, list) else [resolve_offset(at, x.content.size)]
        x.alter(flips=tuple(offset % x.content.size for offset in offsets))
        if not same_etag:
            x.alter(etag='"flipped"')


def replaced(
    x: Exchange, *, keep: int = 1, grow: int = 0, mask: int = 0x55, etag: bool = True, new_validators: bool = True
) -> None:
    """After `keep` requests, send another file: other bytes, `grow` bytes longer, with `new_validators` or the old.

    A HEAD counts too, unless `method` excludes it. Without `etag` there never is one, only Last-Modified changes.
    """
    if x.content is not None:
        x.alter(etag=x.content.etag if etag else None)
        if x.nth >= keep:
            moved = x.content.modified + 60 if x.content.modified is not None and new_validators else x.content.modified
            new = '"replaced"' if etag and new_validators else x.content.etag
            x.alter(size=x.content.size + grow, mask=mask, modified=moved, etag=new)


def changing_validators(x: Exchange, *, etag: bool = True) -> None:
    """Send another ETag (or, without `etag`, another Last-Modified and no ETag) for every request; the bytes stay."""
    if x.content is not None:
        moved = x.content.modified + x.nth if x.content.modified is not None else None
        x.alter(etag=f'"version-{x.nth}"' if etag else None, modified=x.content.modified if etag else moved)


def refusal(x: Exchange, *, status: int, code: str = "", message: str = "", retry: float | None = None) -> None:
    """Send an error status; `code` and `message` are sent as X-Error-Code and X-Error-Message, as Hugging Face does."""
    x.respond(status, f"{message or f'error {status}'}\n")
    retry_after = "" if retry is None else f"{retry:g}"
    for name, value in (("X-Error-Code", code), ("X-Error-Message", message), ("Retry-After", retry_after)):
        if value:
            x.response.put(name, value)


def json_error(x: Exchange, *, status: int = 200) -> None:
    """Send an error message in JSON, with 200."""
    x.respond(status, json.dumps({"error": "Rate limit exceeded", "code": 429}), "application/json")


def empty(x: Exchange, *, status: int = 200) -> None:
    """Send an empty body, with 200 or 204."""
    x.respond(status, b"", "application/octet-stream")


def gzip_encoded(x: Exchange, *, compress: bool = True) -> None:
    """Send Content-Encoding: gzip, though identity was requested; without `compress` the body is not compressed."""

    def edit(response: Response) -> None:
        response.put("Content-Encoding", "gzip")
        if compress:
            response.body = Body.text(gzip.compress(response.body.read(), compresslevel=1, mtime=0))

    x.defer(edit)


def range_ignored(x: Exchange, *, announce: bool = True) -> None:
    """Send 200 and the whole file in response to a Range, although Accept-Ranges is announced."""
    x.alter(ranges=False)
    if announce:
        x.defer(lambda response: response.put("Accept-Ranges", "bytes"))


def part_with_200(x: Exchange) -> None:
    """Send 200 in response to a Range, with a body that is only the range."""
    if x.is_partial():
        x.response.status = 200
        x.response.drop("Content-Range")


def content_range(
    x: Exchange, *, start: int = 0, last: int = 0, total: int = 0, text: str | None = None, shift: int = 0
) -> None:
    """Send 206 with a Content-Range that is off by `start`, `last`, `total`, or is `text` ("": none).

    `shift`: the body's offset from the requested one.
    """
    if not x.is_partial() or x.content is None:
        return
    body: Body = x.response.body
    first = body.start + start
    computed = f"bytes {first}-{body.start + body.length - 1 + start + last}/{x.content.size + total}"
    x.response.put("Content-Range", computed if text is None else text)
    if text == "":
        x.response.drop("Content-Range")
    x.response.body = x.content.body(max(0, body.start + shift), body.length)


def longer(x: Exchange, *, extra: int = 100, announce: bool = True) -> None:
    """Send 206 with a body longer than requested; without `announce` it is chunked, so no Content-Length shows it."""
    if x.is_partial() and x.content is not None:
        x.response.body = x.content.body(x.response.body.start, x.response.body.length + extra)
        x.response.chunked = not announce


def multipart(x: Exchange) -> None:
    """Send 206 multipart/byteranges in response to a single range."""
    if not x.is_partial():
        return
    kind, content_range = x.response.get("Content-Type"), x.response.get("Content-Range")
    head = f"\r\n--THIS_SEPARATES\r\nContent-Type: {kind}\r\nContent-Range: {content_range}\r\n\r\n"
    data = head.encode() + x.response.body.read() + b"\r\n--THIS_SEPARATES--\r\n"
    x.response.put("Content-Type", "multipart/byteranges; boundary=THIS_SEPARATES")
    x.response.drop("Content-Range")
    x.response.body = Body.text(data)


def unrequested_range(x: Exchange, *, limit: int | None = None) -> None:
    """Send 206 to a request without Range: the whole file, or its first `limit` bytes."""
    if x.response.status == 200 and isinstance(x.content, Content):
        body = x.content.body(0, x.content.size if limit is None else min(limit, x.content.size))
        x.response.status, x.response.body = 206, body
        x.response.put("Content-Range", f"bytes 0-{body.length - 1}/{x.content.size}")
