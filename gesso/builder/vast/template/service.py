"""Templates at Vast.ai: look for them, make one, remove one.

PUT is not used: Vast.ai's documents and its client disagree about it, and each edit makes a new hash (docs/adr/0040).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gesso.builder.vast.api import LATER, Api
from gesso.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gesso.builder.vast.template.model import Template

_PATH = "/api/v0/template/"
_APART = 3.0  # seconds: Vast.ai refuses what comes sooner
_NONE = "no templates found"
IN_USE = "still using it"


@dataclass(frozen=True)
class Row:
    """A template as Vast.ai has it; `fields` is all that it says."""

    number: int
    hash_id: str
    creator: int | None
    fields: dict[str, Any]


@dataclass
class Templates(Api):
    """The client. Everything raises PublishError; UnansweredError where a change may have been made."""

    def named(self, names: Sequence[str]) -> list[Row]:
        """Find every template of these names that this key may see: also other people's."""
        given = {"name": {"eq": names[0]} if len(names) == 1 else {"in": list(names)}}
        query = {"select_cols": '["*"]', "select_filters": json.dumps(given)}
        what = f"templates named {' or '.join(map(repr, names))}"
        with self.paced(_PATH, _APART):
            answer = self.ask("GET", _PATH, what=what, query=query)
        listed = answer.get("templates")
        if answer.get("success") is not True:
            if _NONE in str(answer.get("msg", "")).lower():
                return []
            raise self.refused(answer, what)
        if not isinstance(listed, list):
            raise PublishError(f"{what}: Vast.ai's answer has no list of them", LATER)
        found = [_row(entry) for entry in listed if isinstance(entry, dict) and entry.get("name") in names]
        return sorted((row for row in found if row), key=lambda row: row.number)

    def create(self, template: Template) -> int | None:
        """Make one; give its number where the answer has it. An equal one may be what answers, also another's."""
        what = f"template {template.name!r}"
        with self.paced(_PATH, _APART):
            answer = self.ask("POST", _PATH, template.body(), what=what)
        made = answer.get("template")
        if answer.get("success") is not True and not isinstance(made, dict):
            raise self.refused(answer, what)
        number = made.get("id") if isinstance(made, dict) else None
        return number if isinstance(number, int) else None

    def remove(self, number: int) -> None:
        """Remove one of one's own."""
        with self.paced(_PATH, _APART):
            self.change(_PATH, {"template_id": number}, f"template {number}: remove", "DELETE")

    def myself(self) -> int:
        """Give the number of the account that the key belongs to."""
        answer = self.ask("GET", "/api/v0/users/current/", what="the key's account")
        number = answer.get("id")
        if not isinstance(number, int) or isinstance(number, bool):
            raise PublishError("the key's account: Vast.ai does not say which it is", LATER)
        return number


def _row(entry: dict[str, Any]) -> Row | None:
    number, creator = entry.get("id"), entry.get("creator_id")
    if not isinstance(number, int):
        return None
    return Row(number, str(entry.get("hash_id") or ""), creator if isinstance(creator, int) else None, entry)
