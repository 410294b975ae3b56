"""An instance at Vast.ai, as much of it as gesso needs: what it is, `ls`, `rm` and `du` in it, and a reboot."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from gesso.builder.vast import api_key
from gesso.builder.vast.api import LATER, TIMEOUT, Api
from gesso.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 512  # characters of a command
_COMMAND = re.compile(r"(ls|rm|du) [\w./ =+-]+\Z", re.ASCII)
_SPACING = 1.5  # seconds between two commands
_PATIENCE = 90.0  # seconds for the result of a command
_MOST = 1 << 20  # bytes of a result


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
class Vast(Api):
    """The client. Everything raises PublishError, with the next step."""

    def instance(self, number: int) -> Instance:
        """Ask for one instance."""
        answer = self.ask("GET", f"/api/v0/instances/{number}/", what=f"instance {number}")
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
        what = f"instance {number}: `{text.split(maxsplit=1)[0]}`"
        with self.paced("command", _SPACING):
            answer = self.change(f"/api/v0/instances/command/{number}/", {"command": text}, what)
        url = answer.get("result_url")
        loopback = self.base.startswith("http:")
        if not isinstance(url, str) or not api_key.is_safe(url, loopback=loopback):
            raise PublishError(f"{what}: Vast.ai gave no address for its result", LATER)
        said = self._result(url, what)
        prefix = answer.get("writeable_path")  # where the container's disk lies on the host: it is in every path
        return said.replace(prefix, "") if isinstance(prefix, str) and prefix.strip("/") else said

    def reboot(self, number: int) -> None:
        """Stop and start an instance; its disk stays, and its start script runs again."""
        self.change(f"/api/v0/instances/reboot/{number}/", {}, f"instance {number}: reboot")

    def _result(self, url: str, what: str) -> str:
        """Wait for a result. It lies with another host, which gets no key; its address is a secret of its own."""
        end, pause = self.clock.now() + _PATIENCE, 0.5
        while self.clock.now() < end:
            self.clock.sleep(pause)
            pause = min(pause * 2, 4.0)
            try:
                with requests.get(url, timeout=TIMEOUT, stream=True, allow_redirects=False, auth=_nobody) as answer:
                    if answer.status_code == requests.codes.ok:
                        return _body(answer, what)
            except requests.RequestException:
                continue  # not there yet, or the network: the end of patience tells
        raise PublishError(f"{what}: Vast.ai gave no result within {_PATIENCE:g} s", LATER)


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Sign nothing: else requests would look into ~/.netrc."""
    return request


def _body(answer: requests.Response, what: str) -> str:
    """Read a result; one that is too long to be ours is none."""
    data = bytearray()
    for part in answer.iter_content(1 << 16):
        data += part
        if len(data) > _MOST:
            raise PublishError(f"{what}: its result is longer than {_MOST >> 20} MB", LATER)
    return data.decode("utf-8", "replace")


def unknown(number: int) -> PublishError:
    """Give the error for a number that is nobody's."""
    return PublishError(
        f"instance {number}: Vast.ai knows none of that number for this key", "see `vastai show instances`"
    )


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
