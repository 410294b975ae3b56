"""The way to Vast.ai's API: one request, again where it was refused for its rate, and no answer believed blindly.

Vast.ai's own client ends with 0 where the service refused; this one never takes for done what was not answered so.
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

LATER = "try again later; status.vast.ai tells whether it is them"
TIMEOUT = (10, 30)  # seconds to connect, to answer
_TRIES = 8  # of one request that was refused for its rate: four minutes in all
_TRIES_OF_GET = 3  # where the network or the server failed: only what changes nothing is asked again
_FIRST, _LAST = 2.0, 60.0  # seconds of waiting: it doubles
_THRESHOLD = re.compile(r"threshold\s*=\s*(\d+(?:\.\d+)?)")


class UnansweredError(PublishError):
    """A change was asked for and nothing that can be read came back: it may have been made, or not."""

    exit_code = 7


@dataclass(frozen=True)
class Clock:
    """Time, in seconds; tests give a fast one."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass
class Api:
    """The way there. Everything raises PublishError, with the next step."""

    base: str
    key: api_key.Key = field(repr=False)
    say: Callable[[str], None] = lambda _: None
    clock: Clock = field(default_factory=Clock)
    _answered: dict[str, float] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, env: Mapping[str, str], say: Callable[[str], None]) -> Self:
        """Make one as the environment says."""
        return cls(api_key.base(env), api_key.find(env), say)

    @contextmanager
    def paced(self, endpoint: str, apart: float) -> Iterator[None]:
        """Ask an endpoint within this: it begins when `apart` seconds have gone since the last answer."""
        if (last := self._answered.get(endpoint)) is not None:
            self.clock.sleep(max(0.0, last + apart - self.clock.now()))
        try:
            yield
        finally:
            self._answered[endpoint] = self.clock.now()

    def change(self, path: str, body: Mapping[str, Any], what: str, method: str = "PUT") -> dict[str, Any]:
        """Ask for a change, and refuse every answer that does not say that it was made."""
        answer = self.ask(method, path, body, what=what)
        if answer.get("success") is not True:
            raise self.refused(answer, what)
        return answer

    def refused(self, answer: Mapping[str, Any], what: str) -> PublishError:
        """Give the error for an answer that does not say that it was done."""
        said = str(answer.get("msg") or answer.get("error") or "it does not say that it was done")
        return PublishError(f"{what}: Vast.ai did not do it: {self.key.hidden(said)[:200]}", "see Vast.ai's console")

    def ask(
        self, method: str, path: str, body: Any = None, *, what: str, query: Mapping[str, str] | None = None,
        reads: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Send one request, again where it was refused for its rate; give the JSON object that answers it.

        `reads`: it changes nothing, whatever its method is. Raises UnansweredError where a change may have been made.
        """
        reads = reads or method == "GET"
        failures = 0
        for attempt in range(_TRIES):
            pause = min(_FIRST * 2**attempt, _LAST)
            try:
                answer = requests.request(
                    method, f"{self.base}{path}", json=body, params=query, auth=self.key, timeout=TIMEOUT,
                    allow_redirects=False, headers={"Accept": "application/json"},
                )  # fmt: skip
            except requests.RequestException as error:
                failure = f"{what}: Vast.ai cannot be reached: {type(error).__name__}"
            else:
                if answer.status_code == requests.codes.too_many_requests:
                    pause = max(pause, wait_of(answer.text))
                    self.say(f"vast: too many requests; going on in {pause:g} s")
                    self.clock.sleep(pause)
                    continue
                if answer.status_code < requests.codes.server_error:
                    return self._read(answer, what, reads=reads)
                failure = f"{what}: Vast.ai answers {answer.status_code}"
            failures += 1
            if not reads:
                raise UnansweredError(f"{failure}; whether it was done is not known", LATER)
            if failures == _TRIES_OF_GET:
                raise PublishError(failure, LATER)
            self.say(f"vast: {failure}; again in {pause:g} s")
            self.clock.sleep(pause)
        raise PublishError(
            f"{what}: Vast.ai refused {_TRIES} times, each time for too many requests",
            "see what else uses this key, wait a minute, then run this again",
        )

    def _read(self, answer: requests.Response, what: str, *, reads: bool) -> dict[str, Any]:
        try:
            found: Any = answer.json()
        except ValueError:
            found = None
        said = found if isinstance(found, dict) else {}
        words = self.key.hidden(str(said.get("msg") or said.get("error") or "").strip())[:200]
        because = f": {words}" if words else ""
        status = answer.status_code
        if status in {requests.codes.unauthorized, requests.codes.forbidden}:
            raise PublishError(
                f"{what}: Vast.ai does not accept the key ({status}{because})",
                "make one at console.vast.ai (Keys) that may do this, and set VAST_API_KEY",
            )
        if status == requests.codes.not_found:
            raise PublishError(f"{what}: Vast.ai does not know it{because}", "see Vast.ai's console")
        if status != requests.codes.ok:
            raise PublishError(f"{what}: Vast.ai refuses ({status}{because})", "correct what it says, then again")
        if not isinstance(found, dict):
            kind = PublishError if reads else UnansweredError
            raise kind(f"{what}: Vast.ai answers with no JSON object, so nothing is known of it", LATER)
        return found


def wait_of(text: str) -> float:
    """Give the seconds that a refusal asks for: at least three, for it is mostly plain text and has no Retry-After."""
    match = _THRESHOLD.search(text)
    return min(max(3.0, float(match[1]) if match else 3.0), _LAST)
