"""Publish the template of an image that lies in a registry, or say what would be done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gesso.builder.registry.reference import parse
from gesso.builder.vast import api_key
from gesso.builder.vast.template import exchange, records
from gesso.builder.vast.template.difference import differing, told
from gesso.builder.vast.template.render import render
from gesso.builder.vast.template.service import Templates
from gesso.errors import ManifestError, PublishError
from gesso.manifest.vast import ASK_FOR_TOKEN
from gesso.redact import HIDDEN, redact, secret_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gesso.builder.lock.lock_files import Locked
    from gesso.builder.publish.published import Published
    from gesso.builder.vast.template.model import Template
    from gesso.builder.vast.template.records import Record
    from gesso.manifest.schema import Manifest

_SECRET = 8  # characters: what is shorter is found in too much that is none


@dataclass(frozen=True)
class Outcome:
    """What was done, or with `dry_run` would be: the template as it was sent, without secrets."""

    state: str  # unchanged, created, changed; unknown: a dry run without a key
    dry_run: bool
    template: dict[str, Any]
    hash_id: str = ""
    number: int | None = None
    removed: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()
    difference: tuple[str, ...] = ()
    record: str = ""

    def as_json(self) -> dict[str, Any]:
        """Give the documented keys of `--json`."""
        return {"state": self.state, "dry_run": self.dry_run, "hash_id": self.hash_id or None, "id": self.number,
                "removed": list(self.removed), "kept": list(self.kept), "difference": list(self.difference),
                "record": self.record or None, "template": self.template}  # fmt: skip


def make(
    prepared: tuple[Manifest, Locked],
    image: Published,
    env: Mapping[str, str],
    say: Callable[[str], None],
    path: Path,
    *,
    dry_run: bool = False,
) -> Outcome:
    """Have the template of an image at Vast.ai, as the manifest says; `path` is where it is written down.

    With `dry_run` nothing is written anywhere; without a key nothing is asked, either. Raises ManifestError for what
    cannot be a template, LockError for a record that is none, PublishError where Vast.ai has not in the end what it
    should.
    """
    manifest, locked = prepared
    wanted = render(manifest, locked, image)
    _holds_no_secret(wanted, env)
    known = records.read(path)
    shown = _shown(wanted, env)
    if dry_run:
        return _dry(manifest.arch, wanted, known, env, say, shown)
    service = Templates.of(env, say)
    if parse(image.reference).is_loopback and service.base.startswith("https:"):
        raise ManifestError(f"{image.reference}: no host at Vast.ai can pull from this machine", "push it elsewhere")
    about = exchange.About(manifest.arch, image.compressed, image.unpacked)
    state, found, removed = exchange.exchange(service, wanted, about, known, lambda new: records.write(path, new), say)
    return Outcome(state, False, shown, found.hash_id, found.id, removed, found.kept, record=path.name)


def _dry(
    arch: str, wanted: Template, known: Record | None, env: Mapping[str, str], say: Callable[[str], None],
    shown: dict[str, Any],
) -> Outcome:  # fmt: skip
    try:
        service = Templates.of(env, say)
    except PublishError as error:
        if error.message != api_key.NONE:
            raise
        say("vast: there is no key, so nothing was asked: whether anything would change is not known")
        return Outcome("unknown", True, shown)
    view = exchange.sort_out(service.named(exchange.names(wanted, known)), wanted, arch, known)
    if view.equal is not None:
        return Outcome("unchanged", True, shown, view.equal.hash_id, view.equal.number,
                       tuple(row.number for row in view.older))  # fmt: skip
    if not view.older:
        return Outcome("created", True, shown)
    last = view.older[-1]
    lines = [
        line
        for name, (has, wants) in differing(last.fields, wanted.body()).items()
        for line in told(name, _hidden(name, has, env), _hidden(name, wants, env))
    ]
    return Outcome("changed", True, shown, removed=tuple(row.number for row in view.older), difference=tuple(lines))


def _holds_no_secret(wanted: Template, env: Mapping[str, str]) -> None:
    text = json.dumps(wanted.body(), ensure_ascii=False)
    if any(len(secret) >= _SECRET and secret in text for secret in secret_values(env)):
        raise ManifestError(
            "the template holds a token that stands in the environment (it is not shown here)",
            "take it out of `vast` in the manifest: whoever sees the template sees it",
        )


def _shown(wanted: Template, env: Mapping[str, str]) -> dict[str, Any]:
    shown: dict[str, Any] = redact(wanted.body(), secret_values(env))
    name, asks = ASK_FOR_TOKEN  # no token: the manifest takes nothing but this 1
    return {**shown, "env": shown["env"].replace(f"{name}={HIDDEN}", f"{name}={asks}")}


def _hidden(name: str, value: Any, env: Mapping[str, str]) -> Any:
    return redact({name: value}, secret_values(env))[name]


def describe(outcome: Outcome) -> str:
    """Say an outcome in lines, for people."""
    would = "would be " if outcome.dry_run else ""
    words = {
        "unchanged": "as wanted already" + ("" if outcome.removed else f": nothing {would or 'was '}written"),
        "created": f"{would}created",
        "changed": f"{would}made anew, and the older one removed",
        "unknown": "not compared: there is no key",
    }
    lines = [f"template  {outcome.template['name']}: {words[outcome.state]}"]
    if outcome.number is not None:
        lines += [f"id        {outcome.number}", f"hash      {outcome.hash_id}"]
    lines += [f"image     {outcome.template['image']}"]
    if outcome.removed:
        lines += [f"removed   {would}{', '.join(map(str, outcome.removed))}"]
    if outcome.kept:
        lines += [f"kept      {', '.join(map(str, outcome.kept))}: others use them"]
    if outcome.record:
        lines += [f"record    {outcome.record}"]
    if outcome.dry_run:
        lines += ["", *_whole(outcome.template)]
    if outcome.difference:
        lines += ["", "what would change:", *(f"  {line}" for line in outcome.difference)]
    return "\n".join(lines)


def _whole(template: Mapping[str, Any]) -> list[str]:
    """Give the whole template, a field a line; long texts and conditions below their name."""
    lines = []
    for name, value in template.items():
        if isinstance(value, dict):
            lines += [f"{name}:", *(f"  {key}: {json.dumps(condition)}" for key, condition in value.items())]
        elif isinstance(value, str) and "\n" in value:
            lines += [f"{name}:", *(f"  {line}".rstrip() for line in value.splitlines())]
        else:
            lines += [f"{name}: {(value or '-') if isinstance(value, str) else json.dumps(value)}"]
    return lines
