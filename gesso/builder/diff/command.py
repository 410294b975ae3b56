"""`invoke diff REF1 REF2`: looks two images up, in a registry or in the engine, and prints what lies between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gesso import report
from gesso.builder.diff.delta import Part, Shape, between
from gesso.builder.evidence import contents
from gesso.builder.registry import layer_files, local_image, reference, remote_image
from gesso.builder.registry.client import Registry
from gesso.errors import BuildError, PublishError

if TYPE_CHECKING:
    from collections.abc import Mapping


def diff(old: str, new: str, env: Mapping[str, str], *, as_json: bool) -> None:
    """Print what a host that has `old` must pull for `new`, and what changed.

    Raises PublishError and BuildError where an image is not there, VerifyError for one that gesso did not make.
    """
    found = between(look_up(old, env), look_up(new, env))
    if as_json:
        report.result_json(found.as_json())
    else:
        report.result("\n".join(found.lines()))


def look_up(name: str, env: Mapping[str, str]) -> Shape:
    """Find an image: a name with a host leads to a registry, one without to the engine."""
    if not reference.is_remote(name):
        return _local(name, env)
    asked = reference.parse(name)
    registry = Registry.of(asked, env)
    found = remote_image.read(registry, asked)
    if found is None:
        raise PublishError(f"{asked}: the registry has no such image", "check its name and tag")
    parts = tuple(Part(layer.diff_id, layer.size, layer.made_by) for layer in found.layers)
    return Shape(name, found.digest, True, parts, layer_files.record(registry, found))


def _local(name: str, env: Mapping[str, str]) -> Shape:
    with local_image.engine(env) as client:
        try:
            image = local_image.read(client, name)
        except BuildError as error:
            raise BuildError(error.message, "build it, or name one in a registry: HOST/NAME:TAG") from None
        files = local_image.files(client, image.image_id, [contents.RECORD])
    parts = tuple(Part(layer.diff_id, layer.size, layer.made_by) for layer in image.layers)
    return Shape(name, image.image_id, False, parts, local_image.record(files, contents.RECORD))
