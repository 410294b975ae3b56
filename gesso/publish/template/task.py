"""`invoke vast`: offers that fit an image, or the template of one that was pushed already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso import report
from gesso.dotenv import with_tokens
from gesso.errors import CheckError, GessoError, ManifestError, PublishError
from gesso.image import build, buildx
from gesso.publish import remote_image
from gesso.publish.published import Published
from gesso.publish.reference import parse
from gesso.publish.registry import Registry
from gesso.publish.template import command, offers, records
from gesso.publish.template.render import filters, needs_of, render
from gesso.publish.vastapi import Api
from gesso.settings import select

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gesso.image.locking import Locked
    from gesso.manifest.schema import Manifest
    from gesso.settings import Project, Selection

WHAT = ("offers", "template")
_LIMIT = 20
# Bytes of the real image, for offers before anything was pushed: rounded up, and said to be guessed.
_GUESS = Published("gesso", "sha256:" + "0" * 64, (), compressed=3_600_000_000, unpacked=7_000_000_000)
_UNPACKED = 2.0  # times the compressed size, where nobody says how large an image is on disk


@dataclass(frozen=True)
class Wish:
    """The flags of `invoke vast`, as they were given."""

    what: str
    arch: str = "sdxl"
    image: str = ""
    overlays: tuple[str, ...] = ()
    limit: str = ""
    dry_run: bool = False
    as_json: bool = False

    def checked(self) -> Wish:
        """Give itself. Raises ManifestError (usage) for flags that do not belong together."""
        wrong = {
            f"vast {self.what[:40]}: no such thing": self.what not in WHAT,
            "vast template needs --image: what it is the template of": self.what == "template" and not self.image,
            "--dry-run is for `vast template`": self.what == "offers" and self.dry_run,
            "--limit is for `vast offers`": self.what == "template" and bool(self.limit),
            f"--limit {self.limit[:20]}: must be 1 to {offers.MOST}": bool(self.limit) and not (
                self.limit.isascii() and self.limit.isdigit() and 1 <= int(self.limit) <= offers.MOST),
        }  # fmt: skip
        if found := [text for text, holds in wrong.items() if holds]:
            raise ManifestError("; ".join(found), "invoke vast offers, or invoke vast template --image NAME@DIGEST")
        return self


def run(project: Project, wish: Wish, env: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Do what was asked for.

    Raises every kind of GessoError that it can end with.
    """
    wish.checked()
    selection = select(project, wish.arch, wish.overlays)
    tokens = with_tokens(project.root, env)
    manifest, locked = build.prepare(selection)
    image = pushed(wish.image, manifest, locked, env) if wish.image else None
    if wish.what == "template":
        assert image is not None
        record = records.path_of(selection)
        outcome = command.publish(manifest, locked, image, tokens, say, wish.dry_run, record=record)
        report.result_json(outcome.as_json()) if wish.as_json else report.result(command.describe(outcome))
        return
    _offers(selection, (manifest, locked), image, wish, Api.of(tokens, say))


def check(manifest: Manifest, locked: Locked) -> None:
    """See that a template could be made of what is there. Raises ManifestError."""
    render(manifest, locked, _GUESS)


def pushed(reference: str, manifest: Manifest, locked: Locked, env: Mapping[str, str]) -> Published:
    """Ask the registry for an image; see that it is this architecture's, of this lock, and no trial.

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
    return Published(asked.repository, found.digest, tags, found.compressed, unpacked(reference, found.compressed))


def unpacked(reference: str, compressed: int) -> int:
    """Give an image's bytes on disk: the engine's word where it has the image, else a guess from what is pulled."""
    try:
        return buildx.inspect(reference, None).size
    except GessoError:
        return round(compressed * _UNPACKED)


def _offers(
    selection: Selection, prepared: tuple[Manifest, Locked], image: Published | None, wish: Wish, api: Api
) -> None:
    manifest, locked = prepared
    known = records.read(records.path_of(selection))
    exact = image is not None or known is not None
    if image is None:
        image = _GUESS if known is None else Published(known.image.partition("@")[0], known.image.partition("@")[2], (),
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
