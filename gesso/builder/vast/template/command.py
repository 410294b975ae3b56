"""Publish the template of an image in a registry, or with `dry_run` report what would change."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gesso.builder.registry.reference import parse
from gesso.builder.vast import api_key
from gesso.builder.vast.template import exchange, records
from gesso.builder.vast.template.difference import change_lines, differing_fields
from gesso.builder.vast.template.render import render
from gesso.builder.vast.template.service import TemplateClient
from gesso.errors import ManifestError, PublishError
from gesso.manifest.vast import TOKEN_REQUEST
from gesso.redact import HIDDEN, redact, secret_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gesso.builder.lock.lock_files import Locked
    from gesso.builder.publish.published import Published
    from gesso.builder.vast.template.model import Template
    from gesso.builder.vast.template.records import Record
    from gesso.manifest.schema import Manifest

_MIN_SECRET = 8  # characters: shorter values occur by chance


@dataclass(frozen=True)
class Outcome:
    """What was done, or with `dry_run` would be; `template` as it is sent, without secrets."""

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
        """Return the documented keys of `--json`."""
        return {"state": self.state, "dry_run": self.dry_run, "hash_id": self.hash_id or None, "id": self.number,
                "removed": list(self.removed), "kept": list(self.kept), "difference": list(self.difference),
                "record": self.record or None, "template": self.template}  # fmt: skip

    def as_text(self) -> str:
        """Return the lines for a terminal."""
        would = "would be " if self.dry_run else ""
        states = {
            "unchanged": "up to date" + ("" if self.removed else f": nothing {would or 'was '}written"),
            "created": f"{would}created",
            "changed": f"{would}replaced by a new one, the older one removed",
            "unknown": "not compared: no key",
        }
        lines = [f"template  {self.template['name']}: {states[self.state]}"]
        if self.number is not None:
            lines += [f"id        {self.number}", f"hash      {self.hash_id}"]
        lines += [f"image     {self.template['image']}"]
        if self.removed:
            lines += [f"removed   {would}{', '.join(map(str, self.removed))}"]
        if self.kept:
            lines += [f"kept      {', '.join(map(str, self.kept))}: in use by others"]
        if self.record:
            lines += [f"record    {self.record}"]
        if self.dry_run:
            lines += ["", *_field_lines(self.template)]
        if self.difference:
            lines += ["", "what would change:", *(f"  {line}" for line in self.difference)]
        return "\n".join(lines)


def publish(
    prepared: tuple[Manifest, Locked],
    image: Published,
    env: Mapping[str, str],
    on_progress: Callable[[str], None],
    path: Path,
    *,
    dry_run: bool = False,
) -> Outcome:
    """Publish the template of an image at Vast.ai, from the manifest; its record is written to `path`.

    With `dry_run` nothing is written anywhere; without a key no request is sent, either. Raises ManifestError for an
    invalid template, LockError for an invalid record, PublishError where Vast.ai does not end up with the template.
    """
    manifest, locked = prepared
    template = render(manifest, locked, image)
    _check_no_secret(template, env)
    record = records.read(path)
    shown = _redacted(template, env)
    if dry_run:
        return _dry_run(manifest.arch, template, record, env, on_progress, shown)
    client = TemplateClient.of(env, on_progress)
    if parse(image.reference).is_loopback and client.base_url.startswith("https:"):
        raise ManifestError(f"{image.reference}: no host at Vast.ai can pull from this machine", "push it elsewhere")
    info = exchange.ImageInfo(manifest.arch, image.compressed, image.unpacked)
    state, found, removed = exchange.publish(
        client, template, info, record, lambda new: records.write(path, new), on_progress
    )
    return Outcome(state, False, shown, found.hash_id, found.id, removed, found.kept, record=path.name)


def _dry_run(
    arch: str, template: Template, record: Record | None, env: Mapping[str, str], on_progress: Callable[[str], None],
    shown: dict[str, Any],
) -> Outcome:  # fmt: skip
    try:
        client = TemplateClient.of(env, on_progress)
    except PublishError as error:
        if error.message != api_key.NO_KEY:
            raise
        on_progress("vast: no key, so no request was sent: it is unknown whether anything would change")
        return Outcome("unknown", True, shown)
    existing = exchange.classify(client.find(exchange.search_names(template, record)), template, arch, record)
    if existing.equal is not None:
        return Outcome("unchanged", True, shown, existing.equal.hash_id, existing.equal.number,
                       tuple(row.number for row in existing.older))  # fmt: skip
    if not existing.older:
        return Outcome("created", True, shown)
    last = existing.older[-1]
    lines = [
        line
        for name, (actual, expected) in differing_fields(last.fields, template.body()).items()
        for line in change_lines(name, _redacted_value(name, actual, env), _redacted_value(name, expected, env))
    ]
    return Outcome("changed", True, shown, removed=tuple(row.number for row in existing.older), difference=tuple(lines))


def _check_no_secret(template: Template, env: Mapping[str, str]) -> None:
    text = json.dumps(template.body(), ensure_ascii=False)
    if any(len(secret) >= _MIN_SECRET and secret in text for secret in secret_values(env)):
        raise ManifestError(
            "the template contains a token from the environment (it is not shown here)",
            "remove it from `vast` in the manifest: anyone who can see the template can read it",
        )


def _redacted(template: Template, env: Mapping[str, str]) -> dict[str, Any]:
    shown: dict[str, Any] = redact(template.body(), secret_values(env))
    name, value = TOKEN_REQUEST  # no token: the manifest accepts nothing but this 1
    return {**shown, "env": shown["env"].replace(f"{name}={HIDDEN}", f"{name}={value}")}


def _redacted_value(name: str, value: Any, env: Mapping[str, str]) -> Any:
    return redact({name: value}, secret_values(env))[name]


def _field_lines(template: Mapping[str, Any]) -> list[str]:
    """Return the whole template, one field per line; long texts and conditions below their name."""
    lines = []
    for name, value in template.items():
        if isinstance(value, dict):
            lines += [f"{name}:", *(f"  {key}: {json.dumps(condition)}" for key, condition in value.items())]
        elif isinstance(value, str) and "\n" in value:
            lines += [f"{name}:", *(f"  {line}".rstrip() for line in value.splitlines())]
        else:
            lines += [f"{name}: {(value or '-') if isinstance(value, str) else json.dumps(value)}"]
    return lines
