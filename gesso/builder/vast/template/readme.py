"""The README of a template: what strangers read before they rent. Rendered from the manifest and its lock. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gesso.builder.lock.python_pins import GUARDED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gesso.builder.lock.lock_files import Locked
    from gesso.builder.publish.published import Published
    from gesso.builder.vast.template.derive import Needs
    from gesso.manifest.lock import LockedSource
    from gesso.manifest.schema import Manifest, Model

_WHEN = {"required": "at the first start", "recommended": "at the first start", "optional": "where the disk has room"}
_SHOWN = ("torch", GUARDED)

_WHAT = """\
ComfyUI that serves the [Krita AI Diffusion](https://github.com/Acly/krita-ai-diffusion) plugin: pinned to the byte, and
closed to everybody without the token."""
_OPEN = """\
2. Press **Open**. The page shows what is being fetched, and when it is ready, the address for Krita."""
_NO_SSH = """\
Without SSH in this mode, the page is the way in: press **Open**."""
_SSH = """\
Over SSH, `gesso url` prints the address, `gesso status` says what is going on, and `gesso heal` repairs."""


def render(manifest: Manifest, models: Sequence[Model], locked: Locked, image: Published, needs: Needs) -> str:
    """Give the README as Markdown; `models` with the lock's sizes."""
    optional = sum(model.tier == "optional" for model in models)
    parts = [
        f"# {manifest.title}",
        f"{_WHAT} It is locked to one model family, {manifest.family}.",
        _connect(manifest),
        _costs(image, needs, optional),
        _content(manifest, locked, image, needs),
        _models(models),
        _settings(models),
        (manifest.vast.readme or "").strip(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _connect(manifest: Manifest) -> str:
    way = _NO_SSH if manifest.vast.launch == "args" else _SSH
    return f"""\
## Connect Krita

1. Rent an instance with this template; the disk that it recommends has room for everything below.
{_OPEN}
3. In Krita: Settings, Dockers, AI Image Generation; in its own settings choose *Custom Server* and paste the address:
   `http://IP:PORT/TOKEN`. The workflows are in its Graph tab by themselves.

{way}

Who has the address has the server: show it to nobody. It is plain HTTP; where that matters, use an SSH tunnel to port
8188, or give a certificate (`GESSO_TLS_CERT`, `GESSO_TLS_KEY`)."""


def _costs(image: Published, needs: Needs, optional: int) -> str:
    pulled, fetched = image.compressed, needs.required
    minutes = (pulled + fetched) * 8 / (needs.inet_down_mbps * 1e6) / 60
    more = f" {optional} more are optional." if optional else ""
    speed, cost = needs.inet_down_mbps, max(1, round(minutes))
    guess = f" ({len(needs.unsized)} of unknown size: guessed)" if needs.unsized else ""
    pull = f"{_gb(pulled)} to pull (a host that has its layers already pulls little)"
    if not pulled:  # nothing has been pushed yet: only a dry run shows this
        pull = "as much to pull as is compressed when it is pushed"
    return f"""\
## What it costs before it paints

| | |
|---|---|
| image | {pull}, {_gb(image.unpacked)} on disk |
| models that it needs | {_gb(fetched)} to fetch{guess}, each verified by its SHA-256 before it is used |
| all of it on disk | {_gb(image.unpacked + needs.kept)}; the recommended disk is {needs.disk_gb} GB.{more} |
| time | about {cost} minutes of download at {speed} Mbit/s, and 2 to unpack and start |
| GPU | {needs.gpu_mb / 1000:g} GB of memory, a driver for CUDA {needs.cuda} |"""


def _content(manifest: Manifest, locked: Locked, image: Published, needs: Needs) -> str:
    lock = locked.lock
    pins = {pin.name: pin.version for pin in locked.pins}
    rows = [f"| ComfyUI | {_source(lock.comfyui)} |"]
    rows += [f"| {name} | {_source(source)} |" for name, source in sorted(lock.nodes.items())]
    rows += [f"| {name} | {pins[name]} |" for name in _SHOWN if name in pins]
    rows += [f"| Python, CUDA | {manifest.python.version}, {needs.cuda} |"]
    rows += [f"| workflows | {', '.join(manifest.workflows)} |"]
    made = f"Image: `{image.reference}`, made from the lock `{lock.sha256[:16]}`."
    return "\n".join(["## What is in it", "", "| | |", "|---|---|", *rows, "", made])


def _source(source: LockedSource) -> str:
    """Name a source; one that strangers cannot open (a folder of the builder's) leads nowhere."""
    if source.commit and source.git:
        short = source.commit[:12]
        return f"[{short}]({source.git}/tree/{source.commit})" if source.git.startswith("https://") else short
    return source.path or "?"


def _models(models: Sequence[Model]) -> str:
    rows = [
        f"| {model.name} | {_gb(model.size) if model.size is not None else 'unknown'} | {model.license} "
        f"| {'needs HF_TOKEN' if model.gated else _WHEN[model.tier]} |"
        for model in models
    ]
    closed = sorted({model.license for model in models if not model.redistribute})
    note = f"\n\n{', '.join(closed)}: not for every use; read the licence on the model's page." if closed else ""
    return "\n".join(["## Models and their licences", "", "| model | size | licence | fetched |", "|---|---|---|---|",
                      *rows]) + note  # fmt: skip


def _settings(models: Sequence[Model]) -> str:
    gated = " Gated models want `HF_TOKEN`." if any(model.gated for model in models) else ""
    return f"""\
## Settings

`GESSO_TOKEN` (a token of your own, 16 to 128 letters, digits, `-`, `_`), `GESSO_COMFY_ARGS` (more for ComfyUI's
command line), `HF_TOKEN`, `CIVITAI_TOKEN`.{gated} Set them in your account at Vast.ai, not in a copy of this template
that others can see. What you make is in `/workspace`."""


def _gb(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 50_000_000 else f"{size / 1e6:,.1f} MB"
