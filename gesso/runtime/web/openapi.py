"""The OpenAPI 3.1 description of the API: written by hand, checked against the application by tests (docs/adr/0023)."""

from __future__ import annotations

from typing import Any, get_args

from gesso import __version__
from gesso.runtime.heal.damage import Kind
from gesso.runtime.state.state import Name
from gesso.runtime.web.logs import DEFAULT_LINES, MAX_LINES

_ID = r"^\d{8}-\d{6}-[0-9a-f]{6}$"
_EXAMPLE = "20260714-093000-5f0c2a"
_KINDS, _STATES = list(get_args(Kind)), list(get_args(Name))
_TIME = {"type": ["number", "null"], "description": "Seconds since the epoch."}
_TEXT, _FLAG = {"type": "string"}, {"type": "boolean"}


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gesso",
            "version": __version__,
            "summary": "The state of an instance, its logs, and Self-Heal.",
            "description": "Everything is behind the gate: send the token as Bearer, or as the first part of the path."
            " 401, 403 and 503 may come from the gate itself.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [
            {"url": "/", "description": "with the token as Bearer"},
            {"url": "/{token}", "description": "with the token in the path",
             "variables": {"token": {"default": "TOKEN", "description": "The instance's token."}}},
        ],
        "security": [{"bearer": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "parameters": {"id": _path_id()},
            "responses": _refusals(),
            "schemas": _schemas(),
        },
    }  # fmt: skip


def _paths() -> dict[str, Any]:
    return {
        "/gesso/api/openapi.json": {
            "get": _get("openapi", "This document.", {"type": "object", "required": ["openapi", "paths"]}),
        },
        "/gesso/api/status": {"get": _get("status", "The state, as in status.json.", _of("Status"))},
        "/gesso/api/heal": {
            "get": _get("heal", "The running heal, else the last one.", {
                "oneOf": [_of("Heal"), {"type": "object", "required": ["state"], "additionalProperties": False,
                                        "properties": {"state": {"const": "none"}}}],
            }),
            "post": {
                "operationId": "startHeal",
                "summary": "Check everything and repair what is wrong; with dry_run only report what would be done.",
                "requestBody": {"required": False, "content": {"application/json": {"schema": _of("HealRequest")}}},
                "responses": {
                    "202": {
                        "description": "The heal was started.",
                        "headers": {"Location": {"description": "The URL of its report.", "schema": _TEXT}},
                        "content": {"application/json": {"schema": _of("Started")}},
                    },
                    "409": {
                        "description": "A heal is already running: id names it, if known.",
                        "content": {"application/json": {"schema": {"allOf": [
                            _of("Error"), {"required": ["id"], "properties": {"id": {"type": ["string", "null"]}}},
                        ]}}},
                    },
                    **_refused("400", "413", "415", "503"),
                },
            },
        },
        "/gesso/api/heal/{id}/events": {
            "parameters": [{"$ref": "#/components/parameters/id"}],
            "get": {
                "operationId": "events",
                "summary": "The events of a heal, from its beginning and live until its end, as server-sent events.",
                "description": "Each event's data is a line of the journal (an object with at and event), its id the"
                " position to resume from. The last event is named end and has {state} as data.",
                "parameters": [
                    {"name": "after", "in": "query", "description": "The id of the last event received.",
                     "schema": {"type": "integer", "minimum": 0, "maximum": 999999999999999}},
                    {"name": "Last-Event-ID", "in": "header", "description": "The same, as browsers send it.",
                     "schema": _TEXT},
                ],
                "responses": {
                    "200": {"description": "The events.", "content": {"text/event-stream": {"schema": _of("Event")}}},
                    **_refused("400", "404"),
                },
            },
        },
        "/gesso/api/reports": {
            "get": _get("reports", "The stored heals, latest first.", {
                "type": "object", "required": ["reports"],
                "properties": {"reports": {"type": "array", "items": _of("Heal")}},
            }),
        },
        "/gesso/api/reports/{id}": {
            "parameters": [{"$ref": "#/components/parameters/id"}],
            "get": _get("report", "A heal, with its report if it has ended.", _of("Heal"), "404"),
        },
        "/gesso/api/logs": {
            "get": _get("logs", "The names of the logs.", {
                "type": "object", "required": ["logs"], "additionalProperties": False,
                "properties": {"logs": {"type": "array", "items": _TEXT}},
            }),
        },
        "/gesso/api/logs/{name}": {
            "get": {
                **_get("log", "The last lines of a log, without secrets.", _of("Log"), "400", "404", "503"),
                "parameters": [
                    {"name": "name", "in": "path", "required": True, "example": "agent",
                     "schema": {"type": "string", "pattern": r"^[a-z][a-z0-9_-]{0,39}$"}},
                    {"name": "lines", "in": "query", "description": "How many lines, at most.",
                     "schema": {"type": "integer", "minimum": 1, "maximum": MAX_LINES, "default": DEFAULT_LINES}},
                ],
            },
        },
    }  # fmt: skip


def _of(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _get(name: str, summary: str, schema: dict[str, Any], *refusals: str) -> dict[str, Any]:
    right = {"description": summary, "content": {"application/json": {"schema": schema}}}
    return {"operationId": name, "summary": summary, "responses": {"200": right, **_refused(*refusals)}}


def _refused(*codes: str) -> dict[str, Any]:
    return {code: {"$ref": f"#/components/responses/{code}"} for code in ("401", *codes, "405")}


def _path_id() -> dict[str, Any]:
    return {"name": "id", "in": "path", "required": True, "example": _EXAMPLE,
            "schema": {"type": "string", "pattern": _ID}}  # fmt: skip


def _refusals() -> dict[str, Any]:
    descriptions = {
        "400": "The request is invalid.", "401": "The gate requires the token.",
        "404": "Not found.", "405": "Method not allowed.", "413": "The body is too large.",
        "415": "The body is not declared as JSON.", "503": "It failed, or the agent is restarting.",
    }  # fmt: skip
    content = {"application/json": {"schema": _of("Error")}}
    return {code: {"description": text, "content": content} for code, text in descriptions.items()}


def _schemas() -> dict[str, Any]:
    return {
        "Error": {
            "type": "object", "required": ["error", "next"],
            "properties": {
                "error": {**_TEXT, "description": "What happened."}, "next": {**_TEXT, "description": "What to do."},
            },
        },
        "HealRequest": {"type": "object", "properties": {"dry_run": _FLAG}, "additionalProperties": False},
        "Started": {
            "type": "object", "required": ["id", "state", "dry_run", "by"],
            "properties": {
                "id": {**_TEXT, "pattern": _ID}, "state": {"const": "running"}, "dry_run": _FLAG, "by": _TEXT,
            },
        },
        "Event": {
            "type": "object",
            "required": ["data"],
            "properties": {
                "event": {"enum": ["message", "end"]},
                "id": {**_TEXT, "description": "The position to resume from."},
                "data": {**_TEXT, "contentMediaType": "application/json"},
            },
        },
        "Status": {
            "type": "object", "required": ["state", "why", "next", "models", "comfyui", "disk", "versions"],
            "properties": {
                "state": {"enum": _STATES}, "why": _TEXT, "next": _TEXT, "notes": {"type": "array", "items": _TEXT},
                "arch": _TEXT, "title": _TEXT, "trial": _FLAG,
                "url": {**_TEXT, "description": "The URL for Krita, with the token."},
                "models": {"type": "array", "items": {"type": "object", "required": ["name", "tier", "stage"]}},
                "problems": {"type": "array", "items": _of("Problem")},
                "progress": {**_of("Progress"), "description": "Of the required models, which Krita waits for."},
                "vast": {**_FLAG, "description": "Whether this is an instance at Vast.ai."},
                "cost": {**_TEXT, "description": "What it costs, for people."},
                "connect": {
                    "type": "array", "description": "How to connect Krita, step by step.",
                    "items": {"type": "object", "required": ["title", "text"],
                              "properties": {"title": _TEXT, "text": _TEXT}},
                },
                "plugin": {"type": "object", "properties": {"version": _TEXT, "url": _TEXT}},
            },
        },
        "Problem": {
            "type": "object", "required": ["cause", "count", "names", "artist", "operator", "next"],
            "properties": {
                "cause": _TEXT, "count": {"type": "integer"},
                "names": {"type": "array", "items": _TEXT, "description": "The affected models."},
                "artist": {**_TEXT, "description": "For the user of Krita."},
                "operator": {**_TEXT, "description": "What exactly happened."}, "next": _TEXT,
            },
        },
        "Progress": {
            "type": "object", "required": ["done", "size", "rate", "left", "percent"],
            "properties": {
                "done": {"type": "integer"}, "size": {"type": "integer"}, "rate": {"type": "integer"},
                "left": {"type": ["integer", "null"], "description": "Seconds."},
                "percent": {"type": ["integer", "null"]},
            },
        },
        "Log": {
            "type": "object", "required": ["name", "lines"], "additionalProperties": False,
            "properties": {"name": _TEXT, "lines": {"type": "array", "items": _TEXT, "maxItems": MAX_LINES}},
        },
        "Heal": {
            "type": "object",
            "required": ["id", "state", "by", "dry_run", "begun", "ended", "ok", "code", "summary"],
            "properties": {
                "id": {**_TEXT, "pattern": _ID},
                "state": {"enum": ["running", "done", "interrupted"]},
                "by": {"type": ["string", "null"], "description": "Who requested it."},
                "dry_run": {"type": ["boolean", "null"]}, "begun": _TIME, "ended": _TIME,
                "ok": {"type": ["boolean", "null"]}, "code": {"type": ["integer", "null"]},
                "summary": {"type": ["string", "null"]},
                "damages": {"type": "array", "items": _of("Damage")},
                "restarted": {"description": "Whether, or what, was restarted."},
                "fetched": {"type": "integer", "description": "Bytes."},
                "seconds": {"type": "number"}, "notes": {"type": "array", "items": _TEXT},
            },
        },
        "Damage": {
            "type": "object", "required": ["kind", "name", "found", "remedy", "outcome"],
            "properties": {
                "kind": {"enum": _KINDS}, "name": _TEXT, "found": _TEXT, "remedy": _TEXT,
                "outcome": {"enum": ["repaired", "failed", "planned", "left"]}, "why": _TEXT, "next": _TEXT,
                "restart": _FLAG, "offline": _FLAG, "repairable": _FLAG, "next_step": _TEXT,
                "size": {"type": ["integer", "null"], "description": "Bytes to fetch."},
            },
        },
    }  # fmt: skip
