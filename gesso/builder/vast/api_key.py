"""Vast.ai's API key and base URL: read from the environment, never printed."""

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

DEFAULT_URL = "https://console.vast.ai"
_KEY = re.compile(r"[!-~]{8,512}\Z")  # printable, no spaces: it becomes a header
NO_KEY = "there is no key for Vast.ai: VAST_API_KEY is not set"
_NEXT_STEP = "create a key at console.vast.ai (Keys), then set VAST_API_KEY (or keep it in .env, see .env.example)"


class Key(AuthBase):
    """Vast.ai's key as a header. As `auth`, no ~/.netrc overrides it."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return "Key(***)"

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Sign a request."""
        request.headers["Authorization"] = f"Bearer {self._secret}"
        return request

    def redact(self, text: str) -> str:
        """Return a text without the key: a server may repeat it."""
        return text.replace(self._secret, "***")


def find(env: Mapping[str, str]) -> Key:
    """Return the key: VAST_API_KEY, else the one that Vast.ai's own client stores.

    Raises PublishError where there is none, or it is malformed.
    """
    if given := env.get("VAST_API_KEY", "").strip():
        return _checked(given, "VAST_API_KEY")
    home = Path(env.get("HOME") or "~").expanduser()
    config = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    for path in (config / "vastai" / "vast_api_key", home / ".vast_api_key"):
        try:
            stored = path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise PublishError(f"{path}: {getattr(error, 'strerror', None) or 'not a text file'}", _NEXT_STEP) from None
        if stored:
            return _checked(stored, str(path))
    raise PublishError(NO_KEY, _NEXT_STEP)


def _checked(secret: str, where: str) -> Key:
    if not _KEY.match(secret):
        raise PublishError(f"{where}: not a Vast.ai key (its value is not shown)", _NEXT_STEP)
    return Key(secret)


def base_url(env: Mapping[str, str]) -> str:
    """Return the API's base URL: VAST_URL, else Vast.ai's own.

    Raises PublishError for one that is malformed or would send the key unencrypted.
    """
    url = (env.get("VAST_URL") or DEFAULT_URL).rstrip("/")
    if not is_secure(url, loopback=True) or urlsplit(url).query or urlsplit(url).fragment:
        raise PublishError(f"VAST_URL: must be an https URL (default: {DEFAULT_URL})", "correct or unset it")
    return url


def is_secure(url: str, *, loopback: bool) -> bool:
    """Return whether a URL is https, or with `loopback` plain http to this machine."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    here = loopback and parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS
    return bool(parts.hostname) and "@" not in parts.netloc and (parts.scheme == "https" or here)
