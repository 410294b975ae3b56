"""`invoke vast`: offers that fit an image, or the template of a pushed image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gesso import report
from gesso.builder.image import build, buildx
from gesso.builder.publish.published import Published
from gesso.builder.registry import remote_image
from gesso.builder.registry.client import Registry
from gesso.builder.registry.reference import parse
from gesso.builder.vast import offers
from gesso.builder.vast.api import Api
from gesso.builder.vast.template import command, records
from gesso.builder.vast.template.render import ESTIMATE, filters, needs_of
from gesso.dotenv import with_tokens
from gesso.errors import CheckError, GessoError, PublishError
from gesso.settings import select

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gesso.builder.lock.lock_files import Locked
    from gesso.builder.vast.request import VastRequest
    from gesso.builder.vast.template.records import Record
    from gesso.manifest.schema import Manifest
    from gesso.settings import Project

_DEFAULT_LIMIT = 20
_UNPACKED_RATIO = 2.0  # of the compressed size, where the size on disk is unknown


def run(project: Project, request: VastRequest, env: Mapping[str, str], on_progress: Callable[[str], None]) -> None:
    """Run the requested action.

    Raises GessoError of every kind.
    """
    request.validated()
    selection = select(project, request.arch, request.overlays)
    tokens = with_tokens(project.root, env)
    manifest, locked = build.prepare(selection)
    path = records.path_of(selection)
    record = records.read(path)
    image = published_image(request.image, manifest, locked, env, record) if request.image else None
    if request.what == "template":
        assert image is not None
        outcome = command.publish((manifest, locked), image, tokens, on_progress, path, dry_run=request.dry_run)
        report.result_json(outcome.as_json()) if request.as_json else report.result(outcome.as_text())
        return
    _offers((manifest, locked), image, record, request, Api.of(tokens, on_progress))


def published_image(
    name: str, manifest: Manifest, locked: Locked, env: Mapping[str, str], record: Record | None = None
) -> Published:
    """Read an image from its registry; check that it is this architecture's, of this lock, and no trial.

    No registry knows the size on disk: it is the record's, where that is of the same image.

    Raises ManifestError for a malformed name, CheckError for another image, PublishError.
    """
    reference = parse(name)
    found = remote_image.read(Registry.of(reference, env), reference)
    if found is None:
        raise PublishError(f"{reference}: the registry has no such image", "push it first: `invoke publish`")
    expected = {"dev.gesso.arch": manifest.arch, "dev.gesso.lock": locked.lock.sha256, "dev.gesso.trial": "false"}
    if wrong := [f"{label} is {found.labels.get(label) or 'missing'}, not {value}"
                 for label, value in expected.items() if found.labels.get(label) != value]:  # fmt: skip
        raise CheckError(
            f"{found.reference}: is not the image of this manifest and lock: {'; '.join(wrong)}",
            "build, test and publish it again, or check out the commit that it was built from",
        )
    tags = (reference.tag,) if reference.tag else ()
    exact = str(found.reference)
    size = record.unpacked if record and record.image == exact else unpacked_size(exact, found.compressed)
    return Published(reference.repository, found.digest, tags, found.compressed, size)


def unpacked_size(reference: str, compressed: int) -> int:
    """Return an image's bytes on disk: the engine's value where it has the image, else an estimate."""
    try:
        return buildx.inspect(reference, None).size
    except GessoError:
        return round(compressed * _UNPACKED_RATIO)


def _offers(
    prepared: tuple[Manifest, Locked], image: Published | None, record: Record | None, request: VastRequest, api: Api
) -> None:
    manifest, locked = prepared
    exact = image is not None or record is not None
    if image is None:
        image = ESTIMATE
        if record is not None:
            repository, _, digest = record.image.partition("@")
            image = Published(repository, digest, (), record.compressed, record.unpacked)
    needs = needs_of(manifest, locked, image)
    load = offers.Load(image.compressed, image.unpacked, needs.required, exact)
    search = offers.query(filters(manifest, needs), needs.disk_gb, int(request.limit or _DEFAULT_LIMIT))
    found, unreadable = offers.search(api, search, load)
    if unreadable:
        api.on_progress(f"vast: left out {unreadable} offers without a price or a bandwidth")
    if request.as_json:
        report.result_json({"arch": manifest.arch, "asked": search, "assumed": offers.assumptions(load),
                            "offers": [offer.as_json() for offer in found]})  # fmt: skip
    elif found:
        report.result(offers.table(found, load))
    else:
        conditions = ", ".join(f"{name} {condition}" for name, condition in needs.filters().items())
        report.result(f"no offer fits now; required: {conditions}, and the conditions in `vast.filters`")
