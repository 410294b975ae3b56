"""Every behaviour by its name, and which requests it is for.

A name is a function with some parameters already given; the rest can be given when it is used. `kind` says what a
client owes us:

    odd      it must succeed, at once
    passing  it must succeed after trying again, the mirror comes to its senses
    fault    it must never accept wrong bytes; it may succeed where the right bytes can be had, or must give up
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Literal

from . import broken, faults, hub, odd
from .exchange import Exchange

Kind = Literal["odd", "passing", "fault"]
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

_ODD: dict[str, Act] = {
    "healthy": odd.healthy,
    "no-ranges": odd.no_ranges,
    "no-ranges-chunked": partial(odd.no_ranges, chunked=True),
    "chunked": odd.chunked,
    "slow": odd.slow,
    "late": odd.late,
    "pause": odd.pause,
    "weak-etag": partial(odd.tag, weak=True),
    "no-etag": odd.tag,
    "no-last-modified": odd.no_modified,
    "no-validators": partial(odd.tag, modified=False),
    "http10": odd.old_http,
    "close": odd.close,
    "header-case-odd": odd.header_case,
    "header-case-lower": partial(odd.header_case, style="lower"),
    "header-case-upper": partial(odd.header_case, style="upper"),
    "tiny-segments": odd.tiny_segments,
    "many-headers": odd.many_headers,
    "folded-headers": odd.folded_headers,
    "total-star": odd.total_star,
    "shorter-range": odd.shorter_range,
    "early-hints": odd.early,
    "continue-first": partial(odd.early, status=100),
    "no-head": odd.no_head,
    "no-head-401": partial(odd.no_head, status=401),
    "no-head-403": partial(odd.no_head, status=403),
    "agent-blocked": odd.agent_blocked,
    "redirect": odd.redirect,
    **{f"redirect-{status}": partial(odd.redirect, status=status) for status in (301, 303, 307, 308)},
    "redirect-chain": odd.redirect_chain,
    "redirect-elsewhere": odd.elsewhere,
    "redirect-elsewhere-307": partial(odd.elsewhere, status=307),
    "expiring": odd.expiring,
    "crowded": odd.crowded,
    "hub": hub.resolve,
}

_ONCE: dict[str, Act] = {
    **{f"{status}-once": partial(odd.busy, status=status) for status in (429, 500, 502, 503, 504)},
    "429-once-seconds": partial(odd.busy, status=429, retry=1),
    "429-once-date": partial(odd.busy, status=429, retry=1, as_date=True),
    "503-once-seconds": partial(odd.busy, retry=1),
    "cut-once": broken.cut,
    "reset-once": partial(broken.cut, ending="reset"),
    "close-before-status-once": partial(broken.silent, ending="close"),
    "reset-before-status-once": partial(broken.silent, ending="reset"),
    "flip-once": faults.flip,
    "stall-once": partial(broken.cut, ending="stall"),
    "login-page-once": faults.page,
    "429-once-page": partial(faults.page, status=429),
}

_FAULTS: dict[str, Act] = {
    "login-page": faults.page,
    "login-page-as-binary": partial(faults.page, kind="application/octet-stream"),
    "login-page-same-size": faults.same_size_page,
    "login-page-same-size-as-binary": partial(faults.same_size_page, kind="application/octet-stream"),
    "json-error": faults.json_error,
    "lfs-pointer": faults.lfs_pointer,
    "stub": faults.stub,
    "empty": faults.bare,
    "204": partial(faults.bare, status=204),
    "pickle": faults.pickled,
    "pickle-same-size": partial(faults.pickled, same_size=True),
    "header-only": faults.header_only,
    "wrong-family": faults.wrong_family,
    "other-file": faults.other_file,
    "flip": faults.flip,
    "flip-other-etag": partial(faults.flip, same_etag=False),
    **{str(status): partial(faults.refusal, status=status) for status in (400, 401, 403, 404, 410, 416, 451)},
    **{str(status): partial(faults.refusal, status=status) for status in (429, 500, 502, 503, 504)},
    "429-for-ever": partial(faults.refusal, status=429, retry=86_400, message="We had to rate limit you"),
    "503-for-ever": partial(faults.refusal, status=503, retry=86_400),
    "401-gated": partial(faults.refusal, status=401, code="GatedRepo", message=GATED),
    "403-gated": partial(faults.refusal, status=403, code="GatedRepo", message=GATED),
    "401-repo": partial(faults.refusal, status=401, code="RepoNotFound", message="Invalid username or password."),
    "404-repo": partial(faults.refusal, status=404, code="RepoNotFound", message="Repository not found"),
    "404-revision": partial(faults.refusal, status=404, code="RevisionNotFound", message="Invalid rev id"),
    "404-entry": partial(faults.refusal, status=404, code="EntryNotFound", message="Entry not found"),
    "range-answered-whole": faults.whole,
    "range-answered-200": faults.part_with_200,
    "range-wrong-start": partial(faults.content_range, start=1),
    "range-other-part": partial(faults.content_range, start=1, shift=1),
    "range-lies": partial(faults.content_range, shift=1),
    "range-wrong-last": partial(faults.content_range, last=1),
    "range-wrong-total": partial(faults.content_range, total=1),
    "range-no-header": partial(faults.content_range, text=""),
    "range-nonsense": partial(faults.content_range, text="bytes 0-x/y"),
    "range-other-unit": partial(faults.content_range, text="items 0-1/2"),
    "range-longer": faults.longer,
    "range-longer-chunked": partial(faults.longer, announce=False),
    "range-multipart": faults.multipart,
    "206-unasked": faults.unasked,
    "206-unasked-part": partial(faults.unasked, most=100),
    "etag-changes": faults.restless_tag,
    "modified-changes": partial(faults.restless_tag, etag=False),
    "replaced": faults.replaced,
    "replaced-longer": partial(faults.replaced, grow=1000),
    "replaced-shorter": partial(faults.replaced, grow=-1),
    "replaced-no-etag": partial(faults.replaced, etag=False),
    "replaced-silently": partial(faults.replaced, says=False),
    "gzip": faults.gzipped,
    "gzip-only-said": partial(faults.gzipped, really=False),
    "cut": broken.cut,
    "cut-reset": partial(broken.cut, ending="reset"),
    "stall": partial(broken.cut, ending="stall"),
    "stall-before-status": broken.silent,
    "close-before-status": partial(broken.silent, ending="close"),
    "reset-before-status": partial(broken.silent, ending="reset"),
    "trickle": broken.trickle,
    "trickle-head": partial(broken.trickle, head=True),
    "refuse": broken.refuse,
    "length-missing": partial(broken.length, value=""),
    "length-low": partial(broken.length, off=-1),
    "length-high": partial(broken.length, off=1),
    "length-high-stall": partial(broken.length, off=1, ending="stall"),
    "length-negative": partial(broken.length, value="-1"),
    "length-nonsense": partial(broken.length, value="many"),
    "length-zero": partial(broken.length, value="0"),
    "length-huge": partial(broken.length, value="9" * 30),
    "length-twice": broken.two_lengths,
    "endless": broken.endless,
    "endless-chunked": partial(broken.endless, chunked=True),
    "bad-chunks": broken.bad_chunks,
    "bad-chunks-negative": partial(broken.bad_chunks, line="-5"),
    "bad-chunks-huge": partial(broken.bad_chunks, line="f" * 40),
    "chunks-unended": broken.unended_chunks,
    "not-http": broken.raw,
    "no-status-line": partial(broken.raw, text="Content-Length: 5\r\n\r\nhello"),
    "status-999": broken.first_line,
    "status-nonsense": partial(broken.first_line, line="HTTP/1.1 OK"),
    "status-http9": partial(broken.first_line, line="HTTP/9.9 200 OK"),
    "huge-header": broken.huge_header,
    "thousands-of-headers": partial(broken.huge_header, size=10, count=5000),
    "redirect-loop": broken.loop,
    "redirect-endless": partial(broken.loop, fresh=True),
    "redirect-nowhere": broken.nowhere,
    "redirect-empty": partial(odd.redirect, to=""),
    "redirect-downgrade": broken.downgrade,
    **{f"redirect-to-{name}": partial(odd.redirect, to=url) for name, url in PRIVATE.items()},
}

BEHAVIOURS: dict[str, tuple[Kind, Act]] = {
    **{name: ("odd", act) for name, act in _ODD.items()},
    **{name: ("passing", act) for name, act in _ONCE.items()},
    **{name: ("fault", act) for name, act in _FAULTS.items()},
}


def names(kind: Kind) -> list[str]:
    """Name all behaviours of a kind, to parametrise a test over them."""
    return [name for name, (other, _) in BEHAVIOURS.items() if other == kind]


def describe(name: str) -> str:
    """Say in one line what a name does, and which parameters it takes."""
    kind, act = BEHAVIOURS[name]
    inner = act.func if isinstance(act, partial) else act
    given = ", ".join(str(parameter) for parameter in _parameters(act).values())
    return f"{name} ({kind}): {(inspect.getdoc(inner) or '').splitlines()[0]} [{given}]"


def _parameters(act: Act) -> dict[str, inspect.Parameter]:
    taken = list(inspect.signature(act).parameters.values())[1:]
    return {parameter.name: parameter for parameter in taken}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which requests a behaviour is for: all conditions given must hold; then `after` and `times` count those."""

    times: int | None = None  # act on so many, then never again
    after: int = 0  # let so many pass first
    method: str | None = None
    only_ranges: bool = False  # only requests with a Range
    only_whole: bool = False  # only requests without one
    not_first: bool = False  # only ranges that begin behind the first byte
    covering: int | None = None  # only answers that contain this byte of the file
    authorized: bool | None = None  # only with (or without) an Authorization header

    def fits(self, x: Exchange) -> bool:
        """Say whether a request meets the conditions; the honest answer tells what range it is about."""
        ranged, body = "range" in x.request.headers, x.reply.body
        refused = (
            (self.method and self.method != x.request.method)
            or (self.only_ranges and not ranged)
            or (self.only_whole and ranged)
            or (self.not_first and not (x.ranged() and body.start > 0))
            or (self.covering is not None and not body.start <= self.covering < body.start + body.length)
            or (self.authorized is not None and self.authorized != ("authorization" in x.request.headers))
        )
        return not refused


_SCOPES = {entry.name for entry in fields(Scope)}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A behaviour with its parameters, and which requests it is for."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    scope: Scope = field(default_factory=Scope)

    def __post_init__(self) -> None:
        if self.name not in BEHAVIOURS:
            raise ValueError(f"no behaviour is called {self.name!r}")
        if unknown := set(self.params) - set(_parameters(BEHAVIOURS[self.name][1])):
            taken = sorted([*_parameters(BEHAVIOURS[self.name][1]), *_SCOPES])
            raise ValueError(f"{self.name} takes {', '.join(taken)}, not {', '.join(sorted(unknown))}")

    def act(self, x: Exchange) -> None:
        """Do it."""
        BEHAVIOURS[self.name][1](x, **self.params)


def behaviour(name: str, **options: Any) -> Behaviour:
    """Make a behaviour; those options that are a Scope's say which requests it is for, the others are its parameters.

    Names of the kind "passing" act once if nothing else is said.
    """
    scope = {key: value for key, value in options.items() if key in _SCOPES}
    if BEHAVIOURS.get(name, ("", None))[0] == "passing":
        scope.setdefault("times", 1)
    return Behaviour(name, {key: value for key, value in options.items() if key not in _SCOPES}, Scope(**scope))


class Rule:
    """A behaviour in use: counts the requests that it was for. The mirror holds its lock around `due`."""

    def __init__(self, what: Behaviour) -> None:
        self.what = what
        self._met = itertools.count()

    def due(self, x: Exchange) -> bool:
        """Say whether it is this request's turn, and count it."""
        scope = self.what.scope
        if not scope.fits(x):
            return False
        x.nth = next(self._met) - scope.after
        return x.nth >= 0 and (scope.times is None or x.nth < scope.times)
