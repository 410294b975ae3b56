"""`invoke vast`: offers that fit an image, or the template of one that was pushed already."""

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
from gesso.builder.vast.template.render import GUESS, filters, needs_of
from gesso.dotenv import with_tokens
from gesso.errors import CheckError, GessoError, PublishError
from gesso.settings import select

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gesso.builder.lock.lock_files import Locked
    from gesso.builder.vast.request import Wish
    from gesso.builder.vast.template.records import Record
    from gesso.manifest.schema import Manifest
    from gesso.settings import Project

_LIMIT = 20
_UNPACKED = 2.0  # times the compressed size, where nobody says how large an image is on disk


def run(project: Project, wish: Wish, env: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Do what was asked for.

    Raises every kind of GessoError that it can end with.
    """
    wish.checked()
    selection = select(project, wish.arch, wish.overlays)
    tokens = with_tokens(project.root, env)
    manifest, locked = build.prepare(selection)
    known = records.read(records.path_of(selection))
    image = pushed(wish.image, manifest, locked, env, known) if wish.image else None
    if wish.what == "template":
        assert image is not None
        record = records.path_of(selection)
        outcome = command.make((manifest, locked), image, tokens, say, record, dry_run=wish.dry_run)
        report.result_json(outcome.as_json()) if wish.as_json else report.result(command.describe(outcome))
        return
    _offers((manifest, locked), image, known, wish, Api.of(tokens, say))


def pushed(
    reference: str, manifest: Manifest, locked: Locked, env: Mapping[str, str], known: Record | None = None
) -> Published:
    """Ask the registry for an image; see that it is this architecture's, of this lock, and no trial.

    What it takes on disk no registry says: `known`, the record of the publish, does where it is of the same image.

    Raises ManifestError for a name that is none, CheckError for another image, PublishError.
    """
    asked = parse(reference)
    found = remote_image.read(Registry.of(asked, env), asked)
    if found is None:
        raise PublishError(f"{asked}: the registry has no such image", "push it first: `invoke publish`")
    wanted = {"dev.gesso.arch": manifest.arch, "dev.gesso.lock": locked.lock.sha256, "dev.gesso.trial": "false"}
    if wrong := [f"{name} is {found.labels.get(name) or 'not there'}, not {value}"
                 for name, value in wanted.items() if found.labels.get(name) != value]:  # fmt: skip
        raise CheckError(
            f"{found.reference}: is not the image of this manifest and lock: {'; '.join(wrong)}",
            "build, test and publish it anew, or check out what it was made from",
        )
    tags = (asked.tag,) if asked.tag else ()
    reference = str(found.reference)
    size = known.unpacked if known and known.image == reference else unpacked(reference, found.compressed)
    return Published(asked.repository, found.digest, tags, found.compressed, size)


def unpacked(reference: str, compressed: int) -> int:
    """Give an image's bytes on disk: the engine's word where it has the image, else a guess from what is pulled."""
    try:
        return buildx.inspect(reference, None).size
    except GessoError:
        return round(compressed * _UNPACKED)


def _offers(
    prepared: tuple[Manifest, Locked], image: Published | None, known: Record | None, wish: Wish, api: Api
) -> None:
    manifest, locked = prepared
    exact = image is not None or known is not None
    if image is None:
        image = GUESS if known is None else Published(known.image.partition("@")[0], known.image.partition("@")[2], (),
                                                       known.compressed, known.unpacked)  # fmt: skip
    needs = needs_of(manifest, locked, image)
    load = offers.Load(image.compressed, image.unpacked, needs.required, exact)
    asked = offers.query(filters(manifest, needs), needs.disk_gb, int(wish.limit or _LIMIT))
    found, unreadable = offers.search(api, asked, load)
    if unreadable:
        api.say(f"vast: {unreadable} offers without a price or a speed are left out")
    if wish.as_json:
        report.result_json({"arch": manifest.arch, "asked": asked, "assumed": offers.assumed(load),
                            "offers": [offer.as_json() for offer in found]})  # fmt: skip
    elif found:
        report.result(offers.table(found, load))
    else:
        wants = ", ".join(f"{name} {condition}" for name, condition in needs.filters().items())
        report.result(f"no offer fits now; asked for: {wants}, and what `vast.filters` says")
