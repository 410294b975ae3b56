"""Client for Vast.ai instances: describe one, run `ls`, `rm` or `du` in it, reboot it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from gesso.builder.vast import api_key
from gesso.builder.vast.api import RETRY_LATER, TIMEOUT, Api
from gesso.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_COMMAND = 512  # characters
_COMMAND = re.compile(r"(ls|rm|du) [\w./ =+-]+\Z", re.ASCII)
_SPACING = 1.5  # seconds between two commands
_RESULT_TIMEOUT = 90.0  # seconds until a command's result must exist
_MAX_RESULT = 1 << 20  # bytes of a result


@dataclass(frozen=True)
class Instance:
    """An instance as Vast.ai describes it; `host` and `port` are its sshd's, empty where it has none."""

    number: int
    status: str
    image: str = ""
    label: str = ""
    host: str = ""
    port: int = 0

    @property
    def is_running(self) -> bool:
        """True where commands can run in it."""
        return self.status == "running"


@dataclass
class InstanceClient(Api):
    """The client. Everything raises PublishError, with the next step."""

    def instance(self, number: int) -> Instance:
        """Return one instance."""
        response = self.request("GET", f"/api/v0/instances/{number}/", what=f"instance {number}")
        row = response.get("instances", response)
        if isinstance(row, list):
            row = next((r for r in row if isinstance(r, dict) and str(r.get("id")) == str(number)), None)
        if not isinstance(row, dict) or not row:
            raise not_found(number)
        return parse_instance(number, row)

    def running(self, number: int) -> Instance:
        """Return one instance; raise where it is not running."""
        found = self.instance(number)
        if not found.is_running:
            raise PublishError(
                f"instance {number} is not running: its status is {found.status or 'unknown'}",
                f"start it (`vastai start instance {number}`, or in the console), then run this again",
            )
        return found

    def command(self, number: int, text: str) -> str:
        """Run `ls`, `rm` or `du` in an instance; return its output."""
        if len(text) > MAX_COMMAND or not _COMMAND.match(text):
            raise PublishError(f"`{text[:60]}`: Vast.ai runs only ls, rm and du, of at most {MAX_COMMAND} characters")
        what = f"instance {number}: `{text.split(maxsplit=1)[0]}`"
        with self.rate_limited("command", _SPACING):
            response = self.change(f"/api/v0/instances/command/{number}/", {"command": text}, what)
        url = response.get("result_url")
        loopback = self.base_url.startswith("http:")
        if not isinstance(url, str) or not api_key.is_secure(url, loopback=loopback):
            raise PublishError(f"{what}: Vast.ai returned no valid URL for its result", RETRY_LATER)
        output = self._result(url, what)
        prefix = response.get("writeable_path")  # the container's disk on the host: a prefix of every path
        return output.replace(prefix, "") if isinstance(prefix, str) and prefix.strip("/") else output

    def reboot(self, number: int) -> None:
        """Reboot an instance: its disk stays, its start script runs again."""
        self.change(f"/api/v0/instances/reboot/{number}/", {}, f"instance {number}: reboot")

    def _result(self, url: str, what: str) -> str:
        """Poll for a result. It is at another host, which gets no key: the URL itself is secret."""
        end, pause = self.clock.now() + _RESULT_TIMEOUT, 0.5
        while self.clock.now() < end:
            self.clock.sleep(pause)
            pause = min(pause * 2, 4.0)
            try:
                with requests.get(url, timeout=TIMEOUT, stream=True, allow_redirects=False, auth=_no_auth) as response:
                    if response.status_code == requests.codes.ok:
                        return _read_body(response, what)
            except requests.RequestException:
                continue  # not ready, or a network error: retry until the timeout
        raise PublishError(f"{what}: Vast.ai returned no result within {_RESULT_TIMEOUT:g} s", RETRY_LATER)


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add no credentials: without an `auth`, requests would read ~/.netrc."""
    return request


def _read_body(response: requests.Response, what: str) -> str:
    """Read a result, up to a limit."""
    data = bytearray()
    for part in response.iter_content(1 << 16):
        data += part
        if len(data) > _MAX_RESULT:
            raise PublishError(f"{what}: its result is longer than {_MAX_RESULT >> 20} MB", RETRY_LATER)
    return data.decode("utf-8", "replace")


def not_found(number: int) -> PublishError:
    """Return the error for an unknown number."""
    return PublishError(f"instance {number}: not found at Vast.ai with this key", "see `vastai show instances`")


def parse_instance(number: int, row: Mapping[str, Any]) -> Instance:
    """Read Vast.ai's description of an instance. Pure."""
    status = str(row.get("actual_status") or row.get("status") or row.get("cur_state") or "")
    image = str(row.get("image_uuid") or row.get("image") or "")
    host, port = _direct_address(row) or (row.get("ssh_host"), row.get("ssh_port"))
    try:
        address = (str(host).strip(), int(str(port)))
    except ValueError:
        address = ("", 0)
    valid = bool(host) and 0 < address[1] < 1 << 16
    return Instance(number, status, image, str(row.get("label") or ""), *(address if valid else ("", 0)))


def _direct_address(row: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """Return the direct SSH address, where it has one: the other goes through Vast.ai's proxy."""
    try:
        port = row["ports"]["22/tcp"][0]["HostPort"]
    except (KeyError, IndexError, TypeError):
        return None
    return (row["public_ipaddr"], port) if row.get("public_ipaddr") else None
