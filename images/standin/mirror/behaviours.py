"""All behaviours by name, and the requests that they apply to.

A name is a function with some parameters preset; the others can be passed when it is used. `kind` is what a client
must do:

    quirk      it must succeed without a retry
    transient  it must succeed after a retry: the mirror recovers
    fault      it must never accept wrong bytes; it must fail, or succeed if it can get the right bytes
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Literal

from . import content_faults, hub, quirks, transport_faults
from .exchange import Exchange

Kind = Literal["quirk", "transient", "fault"]
Act = Callable[..., None]

GATED = "Access to model is restricted. You must have access to it and be authenticated to access it."
PRIVATE = {
    "private": "http://10.0.0.1/model.safetensors",
    "metadata": "http://169.254.169.254/latest/meta-data/",
    "ipv6-loopback": "http://[::1]:1/model.safetensors",
    "mapped": "http://[::ffff:10.0.0.1]/model.safetensors",
    "decimal": "http://167772161/model.safetensors",
    "file": "file:///etc/passwd",
    "ftp": "ftp://127.0.0.1/model.safetensors",
    "data": "data:application/octet-stream;base64,AAAA",
    "dead-https": "https://127.0.0.1:1/model.safetensors",
    "userinfo": "http://huggingface.co@10.0.0.1/model.safetensors",
}

_QUIRKS: dict[str, Act] = {
    "healthy": quirks.healthy,
    "no-ranges": quirks.no_ranges,
    "no-ranges-chunked": partial(quirks.no_ranges, chunked=True),
    "chunked": quirks.chunked,
    "slow": quirks.slow,
    "late": quirks.late,
    "pause": quirks.pause,
    "weak-etag": partial(quirks.tag, weak=True),
    "no-etag": quirks.tag,
    "no-last-modified": quirks.no_last_modified,
    "no-validators": partial(quirks.tag, modified=False),
    "http10": quirks.http10,
    "close": quirks.close,
    "header-case-odd": quirks.header_case,
    "header-case-lower": partial(quirks.header_case, style="lower"),
    "header-case-upper": partial(quirks.header_case, style="upper"),
    "tiny-segments": quirks.tiny_segments,
    "many-headers": quirks.many_headers,
    "folded-headers": quirks.folded_headers,
    "total-star": quirks.total_star,
    "shorter-range": quirks.shorter_range,
    "early-hints": quirks.interim,
    "continue-first": partial(quirks.interim, status=100),
    "no-head": quirks.no_head,
    "no-head-401": partial(quirks.no_head, status=401),
    "no-head-403": partial(quirks.no_head, status=403),
    "agent-blocked": quirks.agent_blocked,
    "redirect": quirks.redirect,
    **{f"redirect-{status}": partial(quirks.redirect, status=status) for status in (301, 303, 307, 308)},
    "redirect-chain": quirks.redirect_chain,
    "redirect-elsewhere": quirks.redirect_to_other_host,
    "redirect-elsewhere-307": partial(quirks.redirect_to_other_host, status=307),
    "expiring": quirks.expiring,
    "connection-limit": quirks.connection_limit,
    "hub": hub.resolve,
}

_TRANSIENT: dict[str, Act] = {
    **{f"{status}-once": partial(quirks.unavailable, status=status) for status in (429, 500, 502, 503, 504)},
    "429-once-seconds": partial(quirks.unavailable, status=429, retry=1),
    "429-once-date": partial(quirks.unavailable, status=429, retry=1, as_date=True),
    "503-once-seconds": partial(quirks.unavailable, retry=1),
    "cut-once": transport_faults.cut,
    "reset-once": partial(transport_faults.cut, ending="reset"),
    "close-before-status-once": partial(transport_faults.no_response, ending="close"),
    "reset-before-status-once": partial(transport_faults.no_response, ending="reset"),
    "flip-once": content_faults.flip,
    "stall-once": partial(transport_faults.cut, ending="stall"),
    "login-page-once": content_faults.page,
    "429-once-page": partial(content_faults.page, status=429),
}

_FAULTS: dict[str, Act] = {
    "login-page": content_faults.page,
    "login-page-as-binary": partial(content_faults.page, kind="application/octet-stream"),
    "login-page-same-size": content_faults.same_size_page,
    "login-page-same-size-as-binary": partial(content_faults.same_size_page, kind="application/octet-stream"),
    "json-error": content_faults.json_error,
    "lfs-pointer": content_faults.lfs_pointer,
    "stub": content_faults.stub,
    "empty": content_faults.empty,
    "204": partial(content_faults.empty, status=204),
    "pickle": content_faults.pickled,
    "pickle-same-size": partial(content_faults.pickled, same_size=True),
    "header-only": content_faults.header_only,
    "wrong-family": content_faults.wrong_family,
    "other-file": content_faults.other_file,
    "flip": content_faults.flip,
    "flip-other-etag": partial(content_faults.flip, same_etag=False),
    **{str(status): partial(content_faults.refusal, status=status) for status in (400, 401, 403, 404, 410, 416, 451)},
    **{str(status): partial(content_faults.refusal, status=status) for status in (429, 500, 502, 503, 504)},
    "429-for-ever": partial(content_faults.refusal, status=429, retry=86_400, message="We had to rate limit you"),
    "503-for-ever": partial(content_faults.refusal, status=503, retry=86_400),
    "401-gated": partial(content_faults.refusal, status=401, code="GatedRepo", message=GATED),
    "403-gated": partial(content_faults.refusal, status=403, code="GatedRepo", message=GATED),
    "401-repo": partial(
        content_faults.refusal, status=401, code="RepoNotFound", message="Invalid username or password."
    ),
    "404-repo": partial(content_faults.refusal, status=404, code="RepoNotFound", message="Repository not found"),
    "404-revision": partial(content_faults.refusal, status=404, code="RevisionNotFound", message="Invalid rev id"),
    "404-entry": partial(content_faults.refusal, status=404, code="EntryNotFound", message="Entry not found"),
    "range-answered-whole": content_faults.range_ignored,
    "range-answered-200": content_faults.part_with_200,
    "range-wrong-start": partial(content_faults.content_range, start=1),
    "range-other-part": partial(content_faults.content_range, start=1, shift=1),
    "range-lies": partial(content_faults.content_range, shift=1),
    "range-wrong-last": partial(content_faults.content_range, last=1),
    "range-wrong-total": partial(content_faults.content_range, total=1),
    "range-no-header": partial(content_faults.content_range, text=""),
    "range-nonsense": partial(content_faults.content_range, text="bytes 0-x/y"),
    "range-other-unit": partial(content_faults.content_range, text="items 0-1/2"),
    "range-longer": content_faults.longer,
    "range-longer-chunked": partial(content_faults.longer, announce=False),
    "range-multipart": content_faults.multipart,
    "206-unrequested": content_faults.unrequested_range,
    "206-unrequested-part": partial(content_faults.unrequested_range, limit=100),
    "etag-changes": content_faults.changing_validators,
    "modified-changes": partial(content_faults.changing_validators, etag=False),
    "replaced": content_faults.replaced,
    "replaced-longer": partial(content_faults.replaced, grow=1000),
    "replaced-shorter": partial(content_faults.replaced, grow=-1),
    "replaced-no-etag": partial(content_faults.replaced, etag=False),
    "replaced-silently": partial(content_faults.replaced, new_validators=False),
    "gzip": content_faults.gzip_encoded,
    "gzip-header-only": partial(content_faults.gzip_encoded, compress=False),
    "cut": transport_faults.cut,
    "cut-reset": partial(transport_faults.cut, ending="reset"),
    "stall": partial(transport_faults.cut, ending="stall"),
    "stall-before-status": transport_faults.no_response,
    "close-before-status": partial(transport_faults.no_response, ending="close"),
    "reset-before-status": partial(transport_faults.no_response, ending="reset"),
    "trickle": transport_faults.trickle,
    "trickle-head": partial(transport_faults.trickle, head=True),
    "refuse": transport_faults.refuse,
    "length-missing": partial(transport_faults.length, value=""),
    "length-low": partial(transport_faults.length, off=-1),
    "length-high": partial(transport_faults.length, off=1),
    "length-high-stall": partial(transport_faults.length, off=1, ending="stall"),
    "length-negative": partial(transport_faults.length, value="-1"),
    "length-nonsense": partial(transport_faults.length, value="many"),
    "length-zero": partial(transport_faults.length, value="0"),
    "length-huge": partial(transport_faults.length, value="9" * 30),
    "length-twice": transport_faults.two_lengths,
    "endless": transport_faults.endless,
    "endless-chunked": partial(transport_faults.endless, chunked=True),
    "bad-chunks": transport_faults.bad_chunks,
    "bad-chunks-negative": partial(transport_faults.bad_chunks, line="-5"),
    "bad-chunks-huge": partial(transport_faults.bad_chunks, line="f" * 40),
    "chunks-unended": transport_faults.unended_chunks,
    "not-http": transport_faults.raw,
    "no-status-line": partial(transport_faults.raw, text="Content-Length: 5\r\n\r\nhello"),
    "status-999": transport_faults.first_line,
    "status-nonsense": partial(transport_faults.first_line, line="HTTP/1.1 OK"),
    "status-http9": partial(transport_faults.first_line, line="HTTP/9.9 200 OK"),
    "huge-header": transport_faults.huge_header,
    "thousands-of-headers": partial(transport_faults.huge_header, size=10, count=5000),
    "redirect-loop": transport_faults.redirect_loop,
    "redirect-endless": partial(transport_faults.redirect_loop, fresh=True),
    "redirect-nowhere": transport_faults.redirect_without_location,
    "redirect-empty": partial(quirks.redirect, to=""),
    "redirect-downgrade": transport_faults.downgrade,
    **{f"redirect-to-{name}": partial(quirks.redirect, to=url) for name, url in PRIVATE.items()},
}

BEHAVIOURS: dict[str, tuple[Kind, Act]] = {
    **{name: ("quirk", act) for name, act in _QUIRKS.items()},
    **{name: ("transient", act) for name, act in _TRANSIENT.items()},
    **{name: ("fault", act) for name, act in _FAULTS.items()},
}


def names(kind: Kind) -> list[str]:
    """Return the names of all behaviours of a kind, to parametrise a test."""
    return [name for name, (other, _) in BEHAVIOURS.items() if other == kind]


def describe(name: str) -> str:
    """Describe a behaviour and its parameters in one line."""
    kind, act = BEHAVIOURS[name]
    inner = act.func if isinstance(act, partial) else act
    parameters = ", ".join(str(parameter) for parameter in _parameters(act).values())
    return f"{name} ({kind}): {(inspect.getdoc(inner) or '').splitlines()[0]} [{parameters}]"


def _parameters(act: Act) -> dict[str, inspect.Parameter]:
    parameters = list(inspect.signature(act).parameters.values())[1:]
    return {parameter.name: parameter for parameter in parameters}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Select the requests that a behaviour applies to: all conditions must hold; `after` and `times` count those."""

    times: int | None = None  # act on this many requests
    after: int = 0  # skip this many first
    method: str | None = None
    only_ranges: bool = False  # only requests with a Range
    only_whole: bool = False  # only requests without one
    not_first: bool = False  # only ranges that start after the first byte
    covering: int | None = None  # only responses that contain this byte of the file
    authorized: bool | None = None  # only with (or without) an Authorization header

    def matches(self, x: Exchange) -> bool:
        """Return whether a request meets the conditions; the normal response tells its range."""
        is_partial, body = "range" in x.request.headers, x.response.body
        excluded = (
            (self.method and self.method != x.request.method)
            or (self.only_ranges and not is_partial)
            or (self.only_whole and is_partial)
            or (self.not_first and not (x.is_partial() and body.start > 0))
            or (self.covering is not None and not body.start <= self.covering < body.start + body.length)
            or (self.authorized is not None and self.authorized != ("authorization" in x.request.headers))
        )
        return not excluded


_SCOPES = {entry.name for entry in fields(Scope)}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A behaviour with its parameters, and the requests that it applies to."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    scope: Scope = field(default_factory=Scope)

    def __post_init__(self) -> None:
        if self.name not in BEHAVIOURS:
            raise ValueError(f"unknown behaviour {self.name!r}")
        if unknown := set(self.params) - set(_parameters(BEHAVIOURS[self.name][1])):
            accepted = sorted([*_parameters(BEHAVIOURS[self.name][1]), *_SCOPES])
            raise ValueError(f"{self.name} takes {', '.join(accepted)}, not {', '.join(sorted(unknown))}")

    def act(self, x: Exchange) -> None:
        """Apply the behaviour to an exchange."""
        BEHAVIOURS[self.name][1](x, **self.params)


def behaviour(name: str, **options: Any) -> Behaviour:
    """Create a behaviour; options named like fields of Scope select its requests, the others are its parameters.

    Behaviours of the kind "transient" act once by default.
    """
    scope = {key: value for key, value in options.items() if key in _SCOPES}
    if BEHAVIOURS.get(name, ("", None))[0] == "transient":
        scope.setdefault("times", 1)
    return Behaviour(name, {key: value for key, value in options.items() if key not in _SCOPES}, Scope(**scope))


class Rule:
    """A behaviour in use: counts the requests that match its scope. The mirror holds its lock around `applies`."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self._matched = itertools.count()

    def applies(self, x: Exchange) -> bool:
        """Return whether the behaviour applies to this request, and count it."""
        scope = self.behaviour.scope
        if not scope.matches(x):
            return False
        x.nth = next(self._matched) - scope.after
        return x.nth >= 0 and (scope.times is None or x.nth < scope.times)
