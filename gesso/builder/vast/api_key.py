"""Who we are to Vast.ai, and where it is: read from the environment, never shown again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from requests.auth import AuthBase

from gesso.errors import PublishError
from gesso.manifest.schema import LOOPBACK_HOSTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requests import PreparedRequest

HOME = "https://console.vast.ai"
_KEY = re.compile(r"[!-~]{8,512}\Z")  # printable, without blanks: it becomes a header
NONE = "there is no key for Vast.ai: VAST_API_KEY is not set"
_HOW = "make a key at console.vast.ai (Keys), then set VAST_API_KEY (or keep it in .env, see .env.example)"


class Key(AuthBase):
    """Vast.ai's key as a header. Set like this, no ~/.netrc takes its place."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return "Key(***)"

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Sign a request."""
        request.headers["Authorization"] = f"Bearer {self._secret}"
        return request

    def hidden(self, text: str) -> str:
        """Give a text without the key: a server may repeat it."""
        return text.replace(self._secret, "***")


def find(env: Mapping[str, str]) -> Key:
    """Find the key: VAST_API_KEY, else what Vast.ai's own client keeps.

    Raises PublishError where there is none, or where it cannot be one.
    """
    if given := env.get("VAST_API_KEY", "").strip():
        return _checked(given, "VAST_API_KEY")
    home = Path(env.get("HOME") or "~").expanduser()
    config = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    for path in (config / "vastai" / "vast_api_key", home / ".vast_api_key"):
        try:
            kept = path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise PublishError(f"{path}: {getattr(error, 'strerror', None) or 'is no text'}", _HOW) from None
        if kept:
            return _checked(kept, str(path))
    raise PublishError(NONE, _HOW)


def _checked(secret: str, where: str) -> Key:
    if not _KEY.match(secret):
        raise PublishError(f"{where}: holds no key of Vast.ai (it is not shown here)", _HOW)
    return Key(secret)


def base(env: Mapping[str, str]) -> str:
    """Give the address of the API: VAST_URL, else Vast.ai's own.

    Raises PublishError for one that would carry the key in the clear, or that is none.
    """
    url = (env.get("VAST_URL") or HOME).rstrip("/")
    if not is_safe(url, loopback=True) or urlsplit(url).query or urlsplit(url).fragment:
        raise PublishError(f"VAST_URL: is no https address ({HOME} is the default)", "correct it, or leave it out")
    return url


def is_safe(url: str, *, loopback: bool) -> bool:
    """Tell whether nobody on the way can read or change it: https; plain http only on this machine (`loopback`)."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    here = loopback and parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS
    return bool(parts.hostname) and "@" not in parts.netloc and (parts.scheme == "https" or here)
