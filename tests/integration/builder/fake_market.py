"""Templates and offers as in Vast.ai's API: hashes of content, create-or-existing, two kinds of PUT.

From Vast.ai's API documentation and the source of its client; `creator_id`s, masks and texts are real ones.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

ME, OTHER = 698077, 711347
PATH, V1, USER, OFFERS = "/api/v0/template/", "/api/v1/template/", "/api/v0/users/current/", "/api/v0/bundles/"
LIMITS = {"name": 256, "image": 1024, "env": 1024, "onstart": 4048, "jupyter_dir": 256}
FIELDS = (
    "name", "image", "tag", "href", "repo", "env", "onstart", "args_str", "runtype", "use_ssh", "ssh_direct",
    "jup_direct", "use_jupyter_lab", "jupyter_dir", "docker_login_repo", "docker_login_user", "docker_login_pass",
    "extra_filters", "recommended_disk_space", "readme", "readme_visible", "desc", "private",
)  # fmt: skip
REQUIRED = ("docker_login_repo", "docker_login_user", "docker_login_pass")  # "" where there is none
_OPS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b, "neq": lambda a, b: a != b, "lt": lambda a, b: a < b, "lte": lambda a, b: a <= b,
    "gt": lambda a, b: a > b, "gte": lambda a, b: a >= b, "in": lambda a, b: a in b, "notin": lambda a, b: a not in b,
}  # fmt: skip

Response = tuple[int, str]


class DisconnectError(Exception):
    """The connection is closed without a response."""


class Market:
    """Templates and offers, and how the service behaves."""

    def __init__(self) -> None:
        self.templates: dict[int, dict[str, Any]] = {}
        self.next = 754853
        self.offers: list[Any] = []
        self.in_use: set[int] = set()  # by other accounts
        self.alter: Callable[[dict[str, Any]], dict[str, Any]] = lambda row: row  # changes what is stored
        self.loses_created = False  # reports success, and stores nothing
        self.existing_is_success = False
        self.disconnect: dict[str, str] = {}  # by method: `before` or `after` the change

    def handles(self, path: str) -> bool:
        return path in {PATH, V1, USER, OFFERS}

    def respond(self, method: str, target: str, body: Any) -> Response:
        parts = urlsplit(target)
        if self.disconnect.get(method) == "before":
            raise DisconnectError
        found = self._respond(method, parts.path, {k: v[0] for k, v in parse_qs(parts.query).items()}, body)
        if self.disconnect.get(method) == "after":
            raise DisconnectError
        return found

    def _respond(self, method: str, path: str, query: dict[str, str], body: Any) -> Response:  # noqa: PLR0911
        if (method, path) == ("GET", USER):
            return 200, json.dumps({"id": ME, "email": "someone@example.org", "api_key": "not-to-be-seen"})
        if (method, path) == ("POST", OFFERS):
            return 200, json.dumps({"offers": self.offers})
        if (method, path) == ("GET", PATH):
            return self._search(query)
        if (method, path) == ("POST", PATH):
            return self._create(body)
        if (method, path) == ("DELETE", PATH):
            return self._delete(body)
        if (method, path) == ("PUT", PATH):
            return self._change(body)
        if (method, path) == ("PUT", V1):
            return self._replace(body)
        return 405, "method not allowed"

    def _search(self, query: dict[str, str]) -> Response:
        try:
            filters = json.loads(query.get("select_filters", "{}"))
            json.loads(query.get("select_cols", '["*"]'))
            conditions = [
                (name, _OPS[op], value) for name, condition in filters.items() for op, value in condition.items()
            ]
        except (ValueError, KeyError, AttributeError):
            return refusal(400, "invalid_args", "malformed filters")
        rows = [
            as_listed(row)
            for row in self.templates.values()
            if (not row["private"] or row["creator_id"] == ME) and all(op(row.get(n), v) for n, op, v in conditions)
        ]
        if not rows:
            return 200, json.dumps({"success": False, "msg": "No templates found"})
        return 200, json.dumps({"success": True, "templates_found": len(rows), "templates": rows})

    def _create(self, body: Any) -> Response:
        if not isinstance(body, dict) or not body.get("name") or not body.get("image"):
            return refusal(400, "invalid_args", "Missing or invalid template name")
        if any(name not in body for name in REQUIRED):
            return refusal(400, "invalid_args", "invalid docker credentials")
        if long := [name for name, limit in LIMITS.items() if len(body.get(name) or "") > limit]:
            return refusal(400, "invalid_args", f"{long[0]} exceeds max length")
        if unknown := body.keys() - set(FIELDS):
            return refusal(400, "invalid_args", f"invalid column names: {sorted(unknown)}")
        row = self.alter({name: body.get(name) for name in FIELDS})
        if same := [each for each in self.templates.values() if each["hash_id"] == content_hash(row)]:
            message = f"Existing Template Found: {same[0]['id']}. User relationship added."
            return 200, json.dumps(
                {"success": self.existing_is_success, "msg": message, "template": as_listed(same[0])}
            )
        created = {**row, "id": self.next, "hash_id": content_hash(row), "creator_id": ME, "count_created": 0}
        self.next += 1
        if not self.loses_created:
            self.templates[created["id"]] = created
        message = f"Template Created Successfully! New Template ID: {created['id']}"
        return 200, json.dumps({"success": True, "msg": message, "template": as_listed(created)})

    def _delete(self, body: Any) -> Response:
        number = body.get("template_id") if isinstance(body, dict) else None
        row = self.templates.get(number) if isinstance(number, int) else None
        if row is None:
            return 400, json.dumps({"success": False, "msg": "Invalid Template ID or User ID"})
        if row["creator_id"] != ME:
            return 401, json.dumps({"success": False, "msg": "Templates can ONLY be Deleted by their Creator"})
        if number in self.in_use:
            return 400, json.dumps({"success": False, "msg": "Cannot Delete Template. Other Users are still using it."})
        del self.templates[row["id"]]
        return 200, json.dumps({"success": True, "msg": f"Template {number} Deleted Successfully"})

    def _change(self, body: Any) -> Response:
        """As documented: `hash_id` and the changed fields; the hash changes."""
        row = next((r for r in self.templates.values() if r["hash_id"] == (body or {}).get("hash_id")), None)
        if row is None or row["creator_id"] != ME:
            return refusal(400, "invalid_args", "no such template of yours")
        row.update({name: value for name, value in body.items() if name in FIELDS})
        row["hash_id"] = content_hash(row)
        return 200, json.dumps({"success": True, "template": as_listed(row)})

    def _replace(self, body: Any) -> Response:
        """As the client sends it: the full object with numeric `id` and `hash_id`; omitted fields are cleared."""
        row = self.templates.get((body or {}).get("id", -1))
        if row is None or row["hash_id"] != body.get("hash_id"):
            return refusal(400, "invalid_args", "id and hash_id must be those of one template")
        row.update({name: body.get(name) for name in FIELDS})
        row["hash_id"] = content_hash(row)
        return 200, json.dumps({"success": True, "template": as_listed(row)})

    def add_template(self, body: dict[str, Any], creator: int = ME, **changed: Any) -> int:
        """Add an existing template; return its number."""
        row = {**{name: body.get(name) for name in FIELDS}, **changed}
        number, self.next = self.next, self.next + 1
        self.templates[number] = {**row, "id": number, "hash_id": content_hash(row), "creator_id": creator}
        return number


def content_hash(row: dict[str, Any]) -> str:
    """Return a template's hash. It is of the content alone: two accounts can have the same."""
    text = json.dumps([row.get(name) for name in FIELDS], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def as_listed(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as the API lists it: conditions are text, a password is masked."""
    filters = row["extra_filters"]
    shown = json.dumps(filters) if isinstance(filters, dict) else filters
    return {**row, "extra_filters": shown, "docker_login_pass": "********" if row["docker_login_pass"] else None}


def refusal(status: int, error: str, msg: str) -> Response:
    return status, json.dumps({"success": False, "error": error, "msg": msg})


def offer(number: int, **changed: Any) -> dict[str, Any]:
    """Return an offer as the search lists it (the keys that matter)."""
    return {
        "id": number, "gpu_name": "RTX 4090", "gpu_ram": 24564, "cuda_max_good": 13.0, "geolocation": "Norway, NO",
        "inet_down": 800.0, "inet_down_cost": 0.002, "reliability2": 0.9987, "dph_total": 0.4, "disk_space": 200.0,
        **changed,
    }  # fmt: skip
