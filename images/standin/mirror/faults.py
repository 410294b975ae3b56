"""Faults in what is said: pages instead of files, refusals, and answers to ranges that do not fit the question."""

from __future__ import annotations

import gzip
import json
import struct
from dataclasses import fields

from .content import Content
from .exchange import Exchange
from .wire import Body, Reply

HTML = "text/html; charset=utf-8"
LOGIN = """<!DOCTYPE html>
<html lang="en"><head><title>Sign in</title></head>
<body><h1>Sign in to continue</h1><form action="/login" method="post"><input name="user"></form></body></html>
"""
# Enough of a family's tensors for a reader of headers to recognise it.
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
    """Make the header of a safetensors file (half floats) of `size` bytes; one more tensor takes what is left over."""
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
    """A page (a login page, if nothing else is given) instead of the file, whatever range is asked for."""
    x.say(status, body, kind)


def same_size_page(x: Exchange, *, kind: str = HTML) -> None:
    """An HTML page, padded to exactly the size that is expected; ranges work too."""
    if x.content is not None:
        x.become(LOGIN.encode()[: x.content.size], size=x.content.size, kind=kind, filler=b" ")


def lfs_pointer(x: Exchange) -> None:
    """The Git-LFS pointer of the file."""
    if x.content is not None:
        oid, size = x.content.sha256(), x.content.size
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"
        x.become(text.encode(), kind="text/plain; charset=utf-8")


def stub(x: Exchange, *, size: int = 710_000) -> None:
    """Garbage of another size, that says it is a file."""
    x.become(b"", size=size, filler=bytes(range(7, 249, 11)))


def pickled(x: Exchange, *, same_size: bool = False) -> None:
    """A pickle that would run code."""
    size = x.content.size if x.content is not None and same_size else None
    x.become(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.", size=size)


def header_only(x: Exchange, *, keep: int = 0) -> None:
    """A safetensors header and nothing, or `keep` bytes, after it."""
    if x.content is not None:
        length = struct.unpack("<Q", x.content.body(0, 8).read())[0] if x.content.size >= 8 else 0
        x.alter(size=min(x.content.size, 8 + length + keep), etag='"header-only"')


def wrong_family(x: Exchange, *, family: str = "sd15") -> None:
    """A sound safetensors file of another family (flux, sd15, vae4, vae16), of the same size where that is enough."""
    if x.content is not None:
        head = safetensors(FAMILIES[family], x.content.size)
        length = struct.unpack("<Q", head[:8])[0]
        needed = max(entry["data_offsets"][1] for entry in json.loads(head[8:]).values())
        x.become(head, size=max(x.content.size, 8 + length + needed))


def other_file(x: Exchange, *, path: str = "") -> None:
    """Another file of the mirror under this name."""
    if x.content is not None:
        if (other := x.desk.find(path)) is None:
            raise KeyError(path)
        x.alter(**{entry.name: getattr(other, entry.name) for entry in fields(other)})


def flip(x: Exchange, *, at: float | list[int] = 0.5, same_etag: bool = True) -> None:
    """Right size, wrong bytes: those at these offsets are inverted (a fraction: of the file; < 0: from its end).

    Scopes as `covering` restrict it to the answer that has a given byte, so that every other connection is clean.
    """
    if x.content is not None and x.content.size:
        places = at if isinstance(at, list) else [place(at, x.content.size)]
        x.alter(flips=tuple(offset % x.content.size for offset in places))
        if not same_etag:
            x.alter(etag='"flipped"')


def place(at: float, size: int) -> int:
    """Read an offset: a number of bytes, a fraction of the size, or a negative one that counts from the end."""
    at = int(at * size) if abs(at) < 1 else int(at)
    return at if at >= 0 else max(0, size + at)


def replaced(
    x: Exchange, *, keep: int = 1, grow: int = 0, mask: int = 0x55, etag: bool = True, says: bool = True
) -> None:
    """After `keep` requests another file: other bytes, `grow` bytes longer, and another tag or date if it `says`.

    A HEAD counts too, unless `method` leaves it out. Without `etag` there never is one, only Last-Modified can tell.
    """
    if x.content is not None:
        x.alter(etag=x.content.etag if etag else None)
        if x.nth >= keep:
            moved = x.content.modified + 60 if x.content.modified is not None and says else x.content.modified
            new = '"replaced"' if etag and says else x.content.etag
            x.alter(size=x.content.size + grow, mask=mask, modified=moved, etag=new)


def restless_tag(x: Exchange, *, etag: bool = True) -> None:
    """Another ETag (or, without `etag`, another Last-Modified and no ETag) for every request; the bytes stay."""
    if x.content is not None:
        moved = x.content.modified + x.nth if x.content.modified is not None else None
        x.alter(etag=f'"version-{x.nth}"' if etag else None, modified=x.content.modified if etag else moved)


def refusal(x: Exchange, *, status: int, code: str = "", message: str = "", retry: float | None = None) -> None:
    """An error status; `code` and `message` go into X-Error-Code and X-Error-Message, as Hugging Face has it."""
    x.say(status, f"{message or f'error {status}'}\n")
    wait = "" if retry is None else f"{retry:g}"
    for name, value in (("X-Error-Code", code), ("X-Error-Message", message), ("Retry-After", wait)):
        if value:
            x.reply.put(name, value)


def json_error(x: Exchange, *, status: int = 200) -> None:
    """An error message in JSON, with 200."""
    x.say(status, json.dumps({"error": "Rate limit exceeded", "code": 429}), "application/json")


def bare(x: Exchange, *, status: int = 200) -> None:
    """An empty body, with 200 or 204."""
    x.say(status, b"", "application/octet-stream")


def gzipped(x: Exchange, *, really: bool = True) -> None:
    """Content-Encoding: gzip, though identity was asked for; if not `really`, the body is not even compressed."""

    def edit(reply: Reply) -> None:
        reply.put("Content-Encoding", "gzip")
        if really:
            reply.body = Body.text(gzip.compress(reply.body.read(), compresslevel=1, mtime=0))

    x.later(edit)


def whole(x: Exchange, *, announce: bool = True) -> None:
    """200 and the whole file in answer to a Range, though Accept-Ranges is announced."""
    x.alter(ranges=False)
    if announce:
        x.later(lambda reply: reply.put("Accept-Ranges", "bytes"))


def part_with_200(x: Exchange) -> None:
    """200 in answer to a Range, and a body that is only the range."""
    if x.ranged():
        x.reply.status = 200
        x.reply.drop("Content-Range")


def content_range(
    x: Exchange, *, start: int = 0, last: int = 0, total: int = 0, text: str | None = None, shift: int = 0
) -> None:
    """206 with a Content-Range that is off by `start`, `last`, `total`, or is `text` ("": none).

    `shift`: the body really is from there; otherwise it is what was asked for.
    """
    if not x.ranged() or x.content is None:
        return
    body: Body = x.reply.body
    first = body.start + start
    honest = f"bytes {first}-{body.start + body.length - 1 + start + last}/{x.content.size + total}"
    x.reply.put("Content-Range", honest if text is None else text)
    if text == "":
        x.reply.drop("Content-Range")
    x.reply.body = x.content.body(max(0, body.start + shift), body.length)


def longer(x: Exchange, *, extra: int = 100, announce: bool = True) -> None:
    """206 whose body is longer than asked for; Content-Length tells, unless not `announce`d (then it is chunked)."""
    if x.ranged() and x.content is not None:
        x.reply.body = x.content.body(x.reply.body.start, x.reply.body.length + extra)
        x.reply.chunked = not announce


def multipart(x: Exchange) -> None:
    """206 multipart/byteranges in answer to a single range."""
    if not x.ranged():
        return
    kind, where = x.reply.get("Content-Type"), x.reply.get("Content-Range")
    head = f"\r\n--THIS_SEPARATES\r\nContent-Type: {kind}\r\nContent-Range: {where}\r\n\r\n"
    data = head.encode() + x.reply.body.read() + b"\r\n--THIS_SEPARATES--\r\n"
    x.reply.put("Content-Type", "multipart/byteranges; boundary=THIS_SEPARATES")
    x.reply.drop("Content-Range")
    x.reply.body = Body.text(data)


def unasked(x: Exchange, *, most: int | None = None) -> None:
    """206 to a request without Range: the whole file, or its first `most` bytes."""
    if x.reply.status == 200 and isinstance(x.content, Content):
        body = x.content.body(0, x.content.size if most is None else min(most, x.content.size))
        x.reply.status, x.reply.body = 206, body
        x.reply.put("Content-Range", f"bytes 0-{body.length - 1}/{x.content.size}")
