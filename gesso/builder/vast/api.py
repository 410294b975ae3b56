"""HTTP client for Vast.ai's API: one request at a time, retried after a rate limit, every response checked.

Vast.ai's own client exits with 0 where the service refused; this one reports success only where the response does.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import requests

from gesso.builder.vast import api_key
from gesso.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

RETRY_LATER = "try again later; status.vast.ai shows outages"
TIMEOUT = (10, 30)  # seconds to connect, to read
_ATTEMPTS = 8  # of one rate-limited request: four minutes in all
_READ_ATTEMPTS = 3  # after a network or server failure: only requests that change nothing are retried
_FIRST_BACKOFF, _MAX_BACKOFF = 2.0, 60.0  # seconds; doubles in between
_THRESHOLD = re.compile(r"threshold\s*=\s*(\d+(?:\.\d+)?)")


class UnconfirmedError(PublishError):
    """A change was requested without a readable response: it may have been made, or not."""

    exit_code = 7


@dataclass(frozen=True)
class Clock:
    """Time, in seconds; tests inject a fast one."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass
class Api:
    """The client. Everything raises PublishError, with the next step."""

    base_url: str
    key: api_key.Key = field(repr=False)
    on_progress: Callable[[str], None] = lambda _: None
    clock: Clock = field(default_factory=Clock)
    _last_response: dict[str, float] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, env: Mapping[str, str], on_progress: Callable[[str], None]) -> Self:
        """Create a client from the environment."""
        return cls(api_key.base_url(env), api_key.find(env), on_progress)

    @contextmanager
    def rate_limited(self, endpoint: str, spacing: float) -> Iterator[None]:
        """Hold a request back until `spacing` seconds after the endpoint's last response."""
        if (last := self._last_response.get(endpoint)) is not None:
            self.clock.sleep(max(0.0, last + spacing - self.clock.now()))
        try:
            yield
        finally:
            self._last_response[endpoint] = self.clock.now()

    def change(self, path: str, body: Mapping[str, Any], what: str, method: str = "PUT") -> dict[str, Any]:
        """Request a change; raise for every response that does not confirm it."""
        response = self.request(method, path, body, what=what)
        if response.get("success") is not True:
            raise self.refusal_error(response, what)
        return response

    def refusal_error(self, response: Mapping[str, Any], what: str) -> PublishError:
        """Return the error for a response that does not confirm success."""
        reason = str(response.get("msg") or response.get("error") or "its response does not report success")
        return PublishError(
            f"{what}: Vast.ai did not confirm it: {self.key.redact(reason)[:200]}", "see Vast.ai's console"
        )

    def request(
        self, method: str, path: str, body: Any = None, *, what: str, query: Mapping[str, str] | None = None,
        reads: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Send one request, retried after a rate limit; return the JSON object of the response.

        `reads`: it changes nothing, whatever its method is. Raises UnconfirmedError where a change may have been made.
        """
        reads = reads or method == "GET"
        failures = 0
        for attempt in range(_ATTEMPTS):
            pause = min(_FIRST_BACKOFF * 2**attempt, _MAX_BACKOFF)
            try:
                response = requests.request(
                    method, f"{self.base_url}{path}", json=body, params=query, auth=self.key, timeout=TIMEOUT,
                    allow_redirects=False, headers={"Accept": "application/json"},
                )  # fmt: skip
            except requests.RequestException as error:
                failure = f"{what}: Vast.ai cannot be reached: {type(error).__name__}"
            else:
                if response.status_code == requests.codes.too_many_requests:
                    pause = max(pause, retry_after(response.text))
                    self.on_progress(f"vast: too many requests; retrying in {pause:g} s")
                    self.clock.sleep(pause)
                    continue
                if response.status_code < requests.codes.server_error:
                    return self._read(response, what, reads=reads)
                failure = f"{what}: Vast.ai responded with HTTP {response.status_code}"
            failures += 1
            if not reads:
                raise UnconfirmedError(f"{failure}; it is unknown whether the change was made", RETRY_LATER)
            if failures == _READ_ATTEMPTS:
                raise PublishError(failure, RETRY_LATER)
            self.on_progress(f"vast: {failure}; retrying in {pause:g} s")
            self.clock.sleep(pause)
        raise PublishError(
            f"{what}: Vast.ai refused {_ATTEMPTS} times: too many requests",
            "check what else uses this key, wait a minute, then run this again",
        )

    def _read(self, response: requests.Response, what: str, *, reads: bool) -> dict[str, Any]:
        try:
            found: Any = response.json()
        except ValueError:
            found = None
        body = found if isinstance(found, dict) else {}
        message = self.key.redact(str(body.get("msg") or body.get("error") or "").strip())[:200]
        reason = f": {message}" if message else ""
        status = response.status_code
        if status in {requests.codes.unauthorized, requests.codes.forbidden}:
            raise PublishError(
                f"{what}: Vast.ai does not accept the key ({status}{reason})",
                "create one with this permission at console.vast.ai (Keys), and set VAST_API_KEY",
            )
        if status == requests.codes.not_found:
            raise PublishError(f"{what}: not found at Vast.ai{reason}", "see Vast.ai's console")
        if status != requests.codes.ok:
            raise PublishError(f"{what}: Vast.ai refused the request ({status}{reason})", "correct this, then retry")
        if not isinstance(found, dict):
            kind = PublishError if reads else UnconfirmedError
            raise kind(f"{what}: Vast.ai's response is not a JSON object", RETRY_LATER)
        return found


def retry_after(text: str) -> float:
    """Return the seconds to wait after a 429: at least three. It is mostly plain text without a Retry-After header."""
    match = _THRESHOLD.search(text)
    return min(max(3.0, float(match[1]) if match else 3.0), _MAX_BACKOFF)
