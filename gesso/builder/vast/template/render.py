"""Render the template from manifest, lock and image. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from gesso.builder.publish.published import Published
from gesso.builder.vast.template import derive, readme
from gesso.builder.vast.template.model import Template, marker
from gesso.errors import ManifestError
from gesso.manifest.vast import ENTRYPOINT, docker_flags
from gesso.models.wanted import from_lock

if TYPE_CHECKING:
    from gesso.builder.lock.lock_files import Locked
    from gesso.builder.vast.template.derive import Needs
    from gesso.manifest.schema import Manifest

_WORKSPACE = "/workspace"
# Sizes of a real image, where nothing was pushed yet: rounded up, and reported as estimates.
ESTIMATE = Published("gesso", f"sha256:{'0' * 64}", (), compressed=3_600_000_000, unpacked=7_000_000_000)


def render(manifest: Manifest, locked: Locked, image: Published) -> Template:
    """Return the template of an image in a registry.

    Raises ManifestError for a trial, where manifest and lock disagree, and for values that Vast.ai refuses.
    """
    if manifest.trial:
        raise ManifestError("a trial image is never published", "build without --trial")
    vast = manifest.vast
    models = from_lock(manifest, locked.lock)
    needs = needs_of(manifest, locked, image)
    try:
        return Template(
            name=vast.name or f"gesso: {manifest.title}",
            image=image.reference,
            env=docker_flags(vast.ports, vast.env),
            extra_filters=filters(manifest, needs),
            recommended_disk_space=needs.disk_gb,
            readme=readme.render(manifest, models, locked, image, needs),
            readme_visible=vast.readme_visible,
            desc=f"{manifest.title}: ComfyUI protected by a token, pinned to exact versions. {marker(manifest.arch)}",
            private=vast.private,
            **_launch(vast.launch, vast.onstart),
        )
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ManifestError(f"the template is not valid: {problems}", "correct `vast` in the manifest") from None


def check(manifest: Manifest, locked: Locked) -> None:
    """Check that a template can be rendered; a trial has none. Raises ManifestError."""
    if not manifest.trial:
        render(manifest, locked, ESTIMATE)


def needs_of(manifest: Manifest, locked: Locked, image: Published) -> Needs:
    """Derive a host's requirements. Raises ManifestError."""
    return derive.needs(manifest, from_lock(manifest, locked.lock), locked.pins, image)


def filters(manifest: Manifest, needs: Needs) -> dict[str, dict[str, Any]]:
    """Return every condition on offers: those derived, and the manifest's own."""
    own = {name: found.plain() for name, found in manifest.vast.filters.items() if found is not None}
    return dict(sorted({**own, **needs.filters()}.items()))


def _launch(mode: str, onstart: str | None) -> dict[str, Any]:
    """Return the fields that control how an instance starts."""
    injected = mode != "args"
    return {
        "runtype": mode,
        "onstart": (onstart or ENTRYPOINT) if injected else "",  # args runs the image's entrypoint, and no onstart
        "use_ssh": injected,
        "ssh_direct": mode == "ssh",
        "jup_direct": mode == "jupyter",
        "use_jupyter_lab": mode == "jupyter",
        "jupyter_dir": _WORKSPACE if mode == "jupyter" else "",
    }
