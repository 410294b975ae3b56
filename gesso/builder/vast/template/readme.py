"""Render the README of a template, which strangers read before they rent. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gesso.builder.lock.python_pins import GUARDED
from gesso.manifest import connecting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gesso.builder.lock.lock_files import Locked
    from gesso.builder.publish.published import Published
    from gesso.builder.vast.template.derive import Needs
    from gesso.manifest.lock import LockedSource
    from gesso.manifest.schema import Manifest, Model

_FETCHED = {
    "required": "at the first start",
    "recommended": "at the first start",
    "optional": "if disk space allows",
}
_SHOWN_PACKAGES = ("torch", GUARDED)

_WHAT = """\
ComfyUI server for the [Krita AI Diffusion](https://github.com/Acly/krita-ai-diffusion) plugin. Software and models
are pinned to exact versions. Nobody can connect without the access token."""
_NO_SSH = """\
This launch mode has no SSH: click **Open** and use the page."""
_SSH = """\
Over SSH, `gesso url` prints the URL, `gesso status` shows the current state, and `gesso heal` repairs the instance."""


def render(manifest: Manifest, models: Sequence[Model], locked: Locked, image: Published, needs: Needs) -> str:
    """Return the README as Markdown; `models` with the lock's sizes."""
    optional = sum(model.tier == "optional" for model in models)
    parts = [
        f"# {manifest.title}",
        f"{_WHAT} It serves one model family: {manifest.family}.",
        _connect(manifest),
        _costs(image, needs, optional),
        _content(manifest, locked, image, needs),
        _models(models),
        _settings(models),
        (manifest.vast.readme or "").strip(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _connect(manifest: Manifest) -> str:
    access = _NO_SSH if manifest.vast.launch == "args" else _SSH
    return f"""\
## Connect Krita

Rent an instance with this template; the recommended disk is large enough for everything below. Click **Open**: the page
shows the download progress and, when the server is ready, the URL for Krita. Meanwhile, start with the first steps:

{connecting.markdown()}
{access}"""


def _costs(image: Published, needs: Needs, optional: int) -> str:
    pulled, fetched = image.compressed, needs.required
    speed = needs.inet_down_mbps
    minutes = max(1, round((pulled + fetched) * 8 / (speed * 1e6) / 60))
    more = f"; {optional} more models are optional" if optional else ""
    estimate = f" ({len(needs.unsized)} of unknown size: estimated)" if needs.unsized else ""
    pull = f"{_gb(pulled)} to pull (less on a host that has some of its layers)"
    if not pulled:  # nothing has been pushed yet: only a dry run shows this
        pull = "download size unknown until the image is pushed"
    return f"""\
## Download size and start time

| | |
|---|---|
| image | {pull}, {_gb(image.unpacked)} on disk |
| required models | {_gb(fetched)} to download{estimate}, each verified by its SHA-256 before use |
| total on disk | {_gb(image.unpacked + needs.models_on_disk)}; the recommended disk is {needs.disk_gb} GB{more} |
| time | about {minutes} minutes to download at {speed} Mbit/s, 2 more to unpack and start |
| GPU | {needs.gpu_mb / 1000:g} GB of memory, a driver for CUDA {needs.cuda} |"""


def _content(manifest: Manifest, locked: Locked, image: Published, needs: Needs) -> str:
    lock = locked.lock
    pins = {pin.name: pin.version for pin in locked.pins}
    rows = [f"| ComfyUI | {_source(lock.comfyui)} |"]
    rows += [f"| {name} | {_source(source)} |" for name, source in sorted(lock.nodes.items())]
    rows += [f"| {name} | {pins[name]} |" for name in _SHOWN_PACKAGES if name in pins]
    rows += [f"| Python, CUDA | {manifest.python.version}, {needs.cuda} |"]
    rows += [f"| workflows | {', '.join(each.shown_title for each in manifest.workflows)} |"]
    built = f"Image: `{image.reference}`, built from the lock `{lock.sha256[:16]}`."
    return "\n".join(["## Contents", "", "| | |", "|---|---|", *rows, "", built])


def _source(source: LockedSource) -> str:
    """Return a source's commit, with a link where strangers can open it (not to a folder of the builder's)."""
    if source.commit and source.git:
        short = source.commit[:12]
        return f"[{short}]({source.git}/tree/{source.commit})" if source.git.startswith("https://") else short
    return source.path or "?"


def _models(models: Sequence[Model]) -> str:
    rows = [
        f"| {model.name} | {_gb(model.size) if model.size is not None else 'unknown'} | {model.license} "
        f"| {'requires HF_TOKEN' if model.gated else _FETCHED[model.tier]} |"
        for model in models
    ]
    restricted = sorted({model.license for model in models if not model.redistribute})
    note = (
        f"\n\n{', '.join(restricted)}: use is restricted; read the licence on the model's page." if restricted else ""
    )
    return "\n".join(["## Models and licences", "", "| model | size | licence | downloaded |", "|---|---|---|---|",
                      *rows]) + note  # fmt: skip


def _settings(models: Sequence[Model]) -> str:
    gated = " Gated models require `HF_TOKEN`." if any(model.gated for model in models) else ""
    return f"""\
## Settings

`GESSO_TOKEN` (your own access token, 16 to 128 letters, digits, `-`, `_`), `GESSO_COMFY_ARGS` (additional command-line
arguments of ComfyUI), `HF_TOKEN`, `CIVITAI_TOKEN`.{gated} Set them in your Vast.ai account, not in a copy of this
template that others can see. Your files are in `/workspace`."""


def _gb(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 50_000_000 else f"{size / 1e6:,.1f} MB"
