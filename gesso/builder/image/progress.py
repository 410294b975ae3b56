"""Parse BuildKit's progress (`--progress rawjson`) to events, and a failed build's output to an error. Pure."""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gesso.errors import BuildError, FetchError, GessoError
from gesso.redact import redact_urls

_LOG_LINES = 40
_COMMAND = re.compile(r'process ".*" did not complete successfully:', re.DOTALL)
_FRACTION = re.compile(r"(\.\d{6})\d+")


@dataclass(frozen=True)
class Started:
    """A step began to run."""

    name: str


@dataclass(frozen=True)
class Finished:
    """A step ended; `seconds` is 0 where its result was in the cache."""

    name: str
    seconds: float
    cached: bool


@dataclass(frozen=True)
class Transfer:
    """Bytes transferred so far: the context, a layer, an export."""

    name: str
    current: int
    total: int


Event = Started | Finished | Transfer


@dataclass
class Progress:
    """The state of one build, updated by each line of output."""

    log: deque[str] = field(default_factory=lambda: deque(maxlen=_LOG_LINES))
    other: deque[str] = field(default_factory=lambda: deque(maxlen=_LOG_LINES))
    failed: str = ""
    error: str = ""
    _partial: list[str] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)
    _running: set[str] = field(default_factory=set)
    _done: set[str] = field(default_factory=set)

    def feed(self, line: str) -> list[Event]:
        """Parse one line. buildx 0.13 spreads an object over many lines, newer ones do not; other text is kept."""
        if self._partial and not line.startswith((" ", "\t", "}")):  # not an object after all
            self.other.append("\n".join(self._partial))
            self._partial = []
        if not self._partial and not line.startswith("{"):
            if line.strip():
                self.other.append(line.strip())
            return []
        self._partial.append(line)
        if not line.endswith("}") or (len(self._partial) > 1 and line != "}"):
            return []
        text, self._partial = "\n".join(self._partial), []
        try:
            return self._events(json.loads(text))
        except (
            ValueError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ):  # a program's line that resembles BuildKit's
            self.other.append(text)
            return []

    def _events(self, status: dict[str, Any]) -> list[Event]:
        events: list[Event] = []
        for vertex in status.get("vertexes") or ():
            events += self._vertex(vertex)
        for item in status.get("statuses") or ():
            if item.get("total") and not item.get("completed"):
                name = self._names.get(item.get("vertex", ""), "")
                events.append(
                    Transfer(f"{name}: {item.get('id', '')}", int(item.get("current", 0)), int(item["total"]))
                )
        for entry in status.get("logs") or ():
            text = base64.b64decode(entry.get("data", "")).decode("utf-8", "replace")
            self.log.extend(redact_urls(part.strip()) for part in text.splitlines() if part.strip())
        return events

    def _vertex(self, vertex: dict[str, Any]) -> list[Event]:
        digest, name = str(vertex.get("digest")), _readable(str(vertex.get("name", "")))
        self._names[digest] = name
        if vertex.get("error") and "context canceled" not in vertex["error"]:
            # BuildKit repeats the whole command, mounts and flags, before the error; the step's name is enough.
            self.failed, self.error = name, redact_urls(_COMMAND.sub("it ended with", str(vertex["error"]), count=1))
        if vertex.get("completed") and digest not in self._done:
            self._done.add(digest)
            cached = bool(vertex.get("cached"))
            return [Finished(name, 0.0 if cached else _seconds(vertex), cached)]
        # BuildKit reports some steps as started again after they ended: they are not running.
        if vertex.get("started") and digest not in self._running | self._done:
            self._running.add(digest)
            return [Started(name)]
        return []


def _readable(name: str) -> str:
    """Shorten a step's name for display: without mounts, at most 100 characters."""
    name = re.sub(r"\s*--mount=\S+", "", name)
    return " ".join(name.split())[:100]


def _seconds(vertex: dict[str, Any]) -> float:
    try:
        start, end = (_time(str(vertex[key])) for key in ("started", "completed"))
    except (KeyError, ValueError):
        return 0.0
    return max(0.0, (end - start).total_seconds())


def _time(text: str) -> datetime:
    return datetime.fromisoformat(_FRACTION.sub(r"\1", text))


_REFERENCE = r"[\w.-]+(?::\d+)?(?:/[\w.-]+)+(?:[:@]\S+)?"

_INDEX_TROUBLE = (
    "Failed to fetch|Request failed after|Could not fetch URL|Temporary failure resolving|Failed to download"
    "|after connection broken by|dns error|invalid peer certificate|CERTIFICATE_VERIFY_FAILED"
)

# Messages of BuildKit, uv and pip: (pattern, error type, message, next step).
_KNOWN_FAILURES = (
    (
        r"[Nn]o space left on device",
        BuildError,
        "the engine's disk is full",
        "free disk space with `docker system prune`, or move Docker's data to a larger disk",
    ),
    (
        r"[Cc]ache export .{0,20}not supported for (?:the )?docker driver",
        BuildError,
        "this builder cannot write a cache to a registry",
        "create one that can, `docker buildx create --name gesso --driver docker-container`, and add --builder gesso",
    ),
    (
        rf"failed to resolve source metadata for (?P<what>\S+?):? |(?P<what2>{_REFERENCE}): (?:not found|pull access)",
        FetchError,
        "base image {what} cannot be pulled",
        "check that its registry can be reached; without one, bootstrap the base with an overlay, or use --trial",
    ),
    (
        r"failed to (?:do request|fetch (?:anonymous|oauth) token)|failed to push|connect: connection refused",
        FetchError,
        "a registry does not answer",
        "check that it runs and can be reached, then retry: finished steps are kept",
    ),
    (
        r"Hash mismatch for|DO NOT MATCH THE HASHES",
        BuildError,
        "a package does not match its hash in the lock",
        "do not build from that index; if the package is right, run `invoke lock --upgrade`",
    ),
    (
        _INDEX_TROUBLE,
        FetchError,
        "a package index cannot be reached from inside the build",
        "check network and proxy; set SSL_CERT_FILE for a TLS proxy, UV_DEFAULT_INDEX and PIP_INDEX_URL for a mirror",
    ),
    (
        r"because of (?:these|the following) constraints|conflicting dependencies|The user requested \(constraint\)",
        BuildError,
        "a node pack's install script requires what the lock forbids",
        "leave out the pack or its `install`; locked versions never change",
    ),
)


def failure(progress: Progress, output: str) -> GessoError:
    """Return the error of a failed build: the step, the reason, and what to do."""
    text = redact_urls("\n".join([*progress.log, progress.error, *progress.other, output]))
    step = f" (step: {progress.failed})" if progress.failed else ""
    for pattern, kind, message, next_step in _KNOWN_FAILURES:
        match = re.search(pattern, text)
        if match:
            groups = match.groupdict()
            what = groups.get("what") or groups.get("what2") or ""
            return kind(f"{message.format(what=what)}: {_matching_line(text, match)}{step}", next_step)
    reason = " | ".join(list(progress.log)[-3:]) or progress.error or redact_urls(" ".join(list(progress.other)[-2:]))
    return BuildError(
        f"the build failed: {reason[:600]}{step}",
        "read the log above, fix it and build again",
    )


def _matching_line(text: str, match: re.Match[str]) -> str:
    """Return the line that contains the match, as the evidence for the message."""
    start = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    return text[start : end if end >= 0 else None].strip()[:300]
