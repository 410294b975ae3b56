"""Client for Vast.ai templates: find, create, remove.

PUT is not used: Vast.ai's documentation and its client disagree about it, and each edit makes a new hash
(docs/adr/0040).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gesso.builder.vast.api import RETRY_LATER, Api
from gesso.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gesso.builder.vast.template.model import Template

_PATH = "/api/v0/template/"
_SPACING = 3.0  # seconds between requests: Vast.ai's rate limit
_NOT_FOUND = "no templates found"
IN_USE = "still using it"


@dataclass(frozen=True)
class TemplateRow:
    """A template as Vast.ai lists it; `fields` is the whole entry."""

    number: int
    hash_id: str
    creator: int | None
    fields: dict[str, Any]


@dataclass
class TemplateClient(Api):
    """The client. Everything raises PublishError; UnconfirmedError where a change may have been made."""

    def find(self, names: Sequence[str]) -> list[TemplateRow]:
        """Return every template with one of these names that is visible to this key, also other people's."""
        filters = {"name": {"eq": names[0]} if len(names) == 1 else {"in": list(names)}}
        query = {"select_cols": '["*"]', "select_filters": json.dumps(filters)}
        what = f"templates named {' or '.join(map(repr, names))}"
        with self.rate_limited(_PATH, _SPACING):
            response = self.request("GET", _PATH, what=what, query=query)
        listed = response.get("templates")
        if response.get("success") is not True:
            if _NOT_FOUND in str(response.get("msg", "")).lower():
                return []
            raise self.refusal_error(response, what)
        if not isinstance(listed, list):
            raise PublishError(f"{what}: Vast.ai's response has no list of them", RETRY_LATER)
        found = [_parse_row(entry) for entry in listed if isinstance(entry, dict) and entry.get("name") in names]
        return sorted((row for row in found if row), key=lambda row: row.number)

    def create(self, template: Template) -> int | None:
        """Create one; return its number where the response has it. It may be an equal one, also another account's."""
        what = f"template {template.name!r}"
        with self.rate_limited(_PATH, _SPACING):
            response = self.request("POST", _PATH, template.body(), what=what)
        created = response.get("template")
        if response.get("success") is not True and not isinstance(created, dict):
            raise self.refusal_error(response, what)
        number = created.get("id") if isinstance(created, dict) else None
        return number if isinstance(number, int) else None

    def remove(self, number: int) -> None:
        """Remove one of the account's own."""
        with self.rate_limited(_PATH, _SPACING):
            self.change(_PATH, {"template_id": number}, f"template {number}: remove", "DELETE")

    def account_id(self) -> int:
        """Return the number of the key's account."""
        response = self.request("GET", "/api/v0/users/current/", what="the key's account")
        number = response.get("id")
        if not isinstance(number, int) or isinstance(number, bool):
            raise PublishError("the key's account: Vast.ai's response has no id", RETRY_LATER)
        return number


def _parse_row(entry: dict[str, Any]) -> TemplateRow | None:
    number, creator = entry.get("id"), entry.get("creator_id")
    if not isinstance(number, int):
        return None
    return TemplateRow(number, str(entry.get("hash_id") or ""), creator if isinstance(creator, int) else None, entry)
