"""`invoke diff REF1 REF2`: read two images, from a registry or the engine, and print the differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gesso import report
from gesso.builder.diff.delta import ComparedImage, Layer, compare
from gesso.builder.evidence import contents
from gesso.builder.registry import layer_files, local_image, reference, remote_image
from gesso.builder.registry.client import Registry
from gesso.errors import BuildError, PublishError

if TYPE_CHECKING:
    from collections.abc import Mapping


def diff(old: str, new: str, env: Mapping[str, str], *, as_json: bool) -> None:
    """Print what a host that has `old` must pull for `new`, and what changed.

    Raises PublishError and BuildError where an image does not exist, VerifyError for one that gesso did not make.
    """
    found = compare(look_up(old, env), look_up(new, env))
    if as_json:
        report.result_json(found.as_json())
    else:
        report.result("\n".join(found.lines()))


def look_up(name: str, env: Mapping[str, str]) -> ComparedImage:
    """Read an image: from a registry where its name has a host, else from the engine."""
    if not reference.is_remote(name):
        return _local(name, env)
    requested = reference.parse(name)
    registry = Registry.of(requested, env)
    found = remote_image.read(registry, requested)
    if found is None:
        raise PublishError(f"{requested}: the registry has no such image", "check its name and tag")
    layers = tuple(Layer(layer.diff_id, layer.size, layer.made_by) for layer in found.layers)
    return ComparedImage(name, found.digest, True, layers, layer_files.record(registry, found))


def _local(name: str, env: Mapping[str, str]) -> ComparedImage:
    with local_image.engine(env) as client:
        try:
            image = local_image.read(client, name)
        except BuildError as error:
            raise BuildError(error.message, "build it, or use one in a registry: HOST/NAME:TAG") from None
        files = local_image.files(client, image.image_id, [contents.RECORD])
    layers = tuple(Layer(layer.diff_id, layer.size, layer.made_by) for layer in image.layers)
    return ComparedImage(name, image.image_id, False, layers, local_image.record(files, contents.RECORD))
