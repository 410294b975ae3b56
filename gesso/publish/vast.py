"""Vast.ai's API, as much of it as gesso needs: a small client that reads every answer and believes none blindly.

Vast.ai's own client ends with 0 where the service refused; this one never takes for done what was not answered so.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests

from gesso.errors import PublishError
from gesso.publish import vastkey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LONGEST = 512  # characters of a command
_COMMAND = re.compile(r"(ls|rm|du) [\w./ =+-]+\Z", re.ASCII)
_SPACING = 1.5  # seconds between two commands
_TIMEOUT = (10, 30)  # seconds to connect, to answer
_TRIES = 8  # of one request that was refused for its rate: four minutes in all
_TRIES_OF_GET = 3  # where the network or the server failed: only what changes nothing is asked again
_FIRST, _LAST = 2.0, 60.0  # seconds of waiting: it doubles
_PATIENCE = 90.0  # seconds for the result of a command
_MOST = 1 << 20  # bytes of a result
_THRESHOLD = re.compile(r"threshold\s*=\s*(\d+(?:\.\d+)?)")
_LATER = "try again later; status.vast.ai tells whether it is them"


@dataclass(frozen=True)
class Clock:
    """Time, in seconds; tests give a fast one."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Instance:
    """An instance as Vast.ai describes it; `host` and `port` are where its sshd is, if anywhere."""

    number: int
    status: str
    image: str = ""
    label: str = ""
    host: str = ""
    port: int = 0

    @property
    def runs(self) -> bool:
        """True where something can be done in it."""
        return self.status == "running"


@dataclass
class Vast:
    """The client. Everything raises PublishError, with the next step."""

    base: str
    key: vastkey.Key = field(repr=False)
    say: Callable[[str], None] = lambda _: None
    clock: Clock = field(default_factory=Clock)
    _last_command: float | None = field(default=None, repr=False)

    @classmethod
    def of(cls, env: Mapping[str, str], say: Callable[[str], None]) -> Vast:
        """Make one as the environment says."""
        return cls(vastkey.base(env), vastkey.find(env), say)

    def instance(self, number: int) -> Instance:
        """Ask for one instance."""
        answer = self._ask("GET", f"/api/v0/instances/{number}/", what=f"instance {number}")
        row = answer.get("instances", answer)
        if isinstance(row, list):
            row = next((r for r in row if isinstance(r, dict) and str(r.get("id")) == str(number)), None)
        if not isinstance(row, dict) or not row:
            raise unknown(number)
        return described(number, row)

    def running(self, number: int) -> Instance:
        """Ask for one instance that must be running."""
        found = self.instance(number)
        if not found.runs:
            raise PublishError(
                f"instance {number} is not running: its status is {found.status or 'not known'}",
                f"start it (`vastai start instance {number}`, or in the console), then run this again",
            )
        return found

    def command(self, number: int, text: str) -> str:
        """Have Vast.ai run `ls`, `rm` or `du` in an instance, and give what it printed."""
        if len(text) > LONGEST or not _COMMAND.match(text):
            raise PublishError(f"`{text[:60]}`: Vast.ai runs only ls, rm and du, of at most {LONGEST} characters")
        if self._last_command is not None:
            self.clock.sleep(max(0.0, self._last_command + _SPACING - self.clock.now()))
        what = f"instance {number}: `{text.split(maxsplit=1)[0]}`"
        answer = self._change(f"/api/v0/instances/command/{number}/", {"command": text}, what)
        self._last_command = self.clock.now()
        url = answer.get("result_url")
        loopback = self.base.startswith("http:")
        if not isinstance(url, str) or not vastkey.is_safe(url, loopback=loopback):
            raise PublishError(f"{what}: Vast.ai gave no address for its result", _LATER)
        said = self._result(url, what)
        prefix = answer.get("writeable_path")  # where the container's disk lies on the host: it is in every path
        return said.replace(prefix, "") if isinstance(prefix, str) and prefix.strip("/") else said

    def reboot(self, number: int) -> None:
        """Stop and start an instance; its disk stays, and its start script runs again."""
        self._change(f"/api/v0/instances/reboot/{number}/", {}, f"instance {number}: reboot")

    def _change(self, path: str, body: Mapping[str, Any], what: str) -> dict[str, Any]:
        """Ask for a change, and refuse every answer that does not say that it was made."""
        answer = self._ask("PUT", path, body, what=what)
        if answer.get("success") is not True:
            said = str(answer.get("msg") or answer.get("error") or "it does not say that it was done")
            raise PublishError(
                f"{what}: Vast.ai did not do it: {self.key.hidden(said)[:200]}", "see the instance in Vast.ai's console"
            )
        return answer

    def _result(self, url: str, what: str) -> str:
        """Wait for a result. It lies with another host, which gets no key; its address is a secret of its own."""
        end, pause = self.clock.now() + _PATIENCE, 0.5
        while self.clock.now() < end:
            self.clock.sleep(pause)
            pause = min(pause * 2, 4.0)
            try:
                with requests.get(url, timeout=_TIMEOUT, stream=True, allow_redirects=False, auth=_nobody) as answer:
                    if answer.status_code == requests.codes.ok:
                        return _body(answer, what)
            except requests.RequestException:
                continue  # not there yet, or the network: the end of patience tells
        raise PublishError(f"{what}: Vast.ai gave no result within {_PATIENCE:g} s", _LATER)

    def _ask(self, method: str, path: str, body: Any = None, *, what: str) -> dict[str, Any]:
        """Send one request, again where it was refused for its rate; give the JSON object that answers it."""
        failures = 0
        for attempt in range(_TRIES):
            pause = min(_FIRST * 2**attempt, _LAST)
            try:
                answer = requests.request(
                    method, f"{self.base}{path}", json=body, auth=self.key, timeout=_TIMEOUT, allow_redirects=False,
                    headers={"Accept": "application/json"},
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
                    return self._read(answer, what)
                failure = f"{what}: Vast.ai answers {answer.status_code}"
            failures += 1
            if method != "GET" or failures == _TRIES_OF_GET:
                unsure = "" if method == "GET" else "; whether it was done is not known"
                raise PublishError(f"{failure}{unsure}", _LATER)
            self.say(f"vast: {failure}; again in {pause:g} s")
            self.clock.sleep(pause)
        raise PublishError(
            f"{what}: Vast.ai refused {_TRIES} times, each time for too many requests",
            "see what else uses this key, wait a minute, then run this again",
        )

    def _read(self, answer: requests.Response, what: str) -> dict[str, Any]:
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
                "make one at console.vast.ai (Keys) that may read and control instances, and set VAST_API_KEY",
            )
        if status == requests.codes.not_found:
            raise PublishError(f"{what}: Vast.ai does not know it{because}", "see `vastai show instances`")
        if status != requests.codes.ok:
            raise PublishError(f"{what}: Vast.ai refuses ({status}{because})", "correct what it says, then again")
        if not isinstance(found, dict):
            raise PublishError(f"{what}: Vast.ai answers with no JSON object, so nothing is known of it", _LATER)
        return found


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Sign nothing: else requests would look into ~/.netrc."""
    return request


def _body(answer: requests.Response, what: str) -> str:
    """Read a result; one that is too long to be ours is none."""
    data = bytearray()
    for part in answer.iter_content(1 << 16):
        data += part
        if len(data) > _MOST:
            raise PublishError(f"{what}: its result is longer than {_MOST >> 20} MB", _LATER)
    return data.decode("utf-8", "replace")


def unknown(number: int) -> PublishError:
    """Give the error for a number that is nobody's."""
    return PublishError(
        f"instance {number}: Vast.ai knows none of that number for this key", "see `vastai show instances`"
    )


def wait_of(text: str) -> float:
    """Give the seconds that a refusal asks for: at least three, for it is mostly plain text and has no Retry-After."""
    match = _THRESHOLD.search(text)
    return min(max(3.0, float(match[1]) if match else 3.0), _LAST)


def described(number: int, row: Mapping[str, Any]) -> Instance:
    """Read what Vast.ai says of an instance. Pure."""
    status = str(row.get("actual_status") or row.get("status") or row.get("cur_state") or "")
    image = str(row.get("image_uuid") or row.get("image") or "")
    host, port = _direct(row) or (row.get("ssh_host"), row.get("ssh_port"))
    try:
        address = (str(host).strip(), int(str(port)))
    except ValueError:
        address = ("", 0)
    known = bool(host) and 0 < address[1] < 1 << 16
    return Instance(number, status, image, str(row.get("label") or ""), *(address if known else ("", 0)))


def _direct(row: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """Give the instance's own door, where it has one: the other leads through a proxy of Vast.ai's."""
    try:
        port = row["ports"]["22/tcp"][0]["HostPort"]
    except (KeyError, IndexError, TypeError):
        return None
    return (row["public_ipaddr"], port) if row.get("public_ipaddr") else None
