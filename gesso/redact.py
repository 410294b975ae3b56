"""Hide secrets in reports and logs: by name, by position, and by value. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

HIDDEN = "***"
# Environment variables that hold secrets and must never appear in a report.
SECRETS = (
    "VAST_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "CIVITAI_TOKEN", "GESSO_TOKEN", "OPEN_BUTTON_TOKEN",
    "JUPYTER_TOKEN", "COSIGN_PASSWORD", "GITHUB_TOKEN", "GH_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
)  # fmt: skip
_FOLDERS = {"PWD", "OLDPWD"}
_MIN_SECRET_LENGTH = 6  # characters: shorter values also occur in harmless text
_WORD = (
    r"(?:token|secrets?|passw(?:or)?d|passphrase|api[-_ ]?key|access[-_ ]?key|private[-_ ]?key|client[-_ ]?key"
    r"|credentials?|authorization|x-registry-auth|cookie|auth|pwd)"
)
# A name matches if the word ends it: HF_TOKEN and x-api-key do, token_count and author do not.
_NAME = re.compile(rf"(?:^|.*[^A-Za-z0-9]|.*[a-z](?=[A-Z])){_WORD}(?:[-_]?value)?\Z", re.IGNORECASE | re.DOTALL)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_URL_CREDENTIALS = re.compile(r"(?<=://)[^/\s]+@")  # up to the last @: passwords may contain it unescaped
_USERINFO = re.compile(r"(?<=://)[^/\s\"'<>]+@")
_QUERY = re.compile(rf"(?i)([?&;][\w.-]*{_WORD}=)[^&;#\s\"']+")
_PAIR = re.compile(rf"(?i)(?<![\w-])((?:[\w-]*[-_])?{_WORD}=)(\"[^\"]*\"|'[^']*'|[^\s\"'&;,]+)")
_HEADER = re.compile(rf"(?i)(?<![\w-])((?:[\w-]*-)?{_WORD}\"?\s*:\s*\"?)((?:(?:bearer|basic|token)\s+)?[^\s\"',]+)")
_SCHEME = re.compile(r"(?i)\b(bearer|basic)\s+(?!\*\*\*)[\w.~+/=-]{8,}")
_FLAG = re.compile(rf"(?i)(?<![\w-])(--(?:[\w-]*-)?{_WORD}[ =])(?!\*\*\*)(\"[^\"]*\"|'[^']*'|\S+)")


def redact(data: Any, secrets: Iterable[str] = ()) -> Any:
    """Return the same data, at any depth, without secrets; `secrets` are values to hide wherever they occur.

    Hidden are: values of mappings under a secret's name, the userinfo of URLs, `NAME=value` with a secret's name
    (`-e HF_TOKEN=…`, also in a query), headers in text, and the given values, also in keys.
    """
    return _redact(data, tuple(sorted({s for s in secrets if len(s) >= _MIN_SECRET_LENGTH}, key=len, reverse=True)))


def redact_urls(text: str) -> str:
    """Hide the user:password part of every URL in `text`: git and pip repeat URLs in their errors."""
    return _URL_CREDENTIALS.sub(f"{HIDDEN}@", text)


def secret_values(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of the variables that hold secrets, for `redact`."""
    return tuple(sorted({value for name, value in env.items() if value and is_secret_variable(name)}))


def is_secret_variable(name: str) -> bool:
    """Check whether an environment variable holds a secret; a shell's PWD and OLDPWD are folders."""
    return name not in _FOLDERS and (name in SECRETS or is_secret(name))


def is_secret(name: str) -> bool:
    """Check whether a name is that of a secret."""
    return _NAME.match("_".join(_CAMEL.split(name))) is not None


def _redact(data: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(data, str):
        return _redact_text(data, secrets)
    if isinstance(data, bytes):
        return _redact_text(data.decode("utf-8", "replace"), secrets).encode()
    if isinstance(data, Mapping):
        return {_redact(key, secrets): _redact_value(key, value, secrets) for key, value in data.items()}
    if isinstance(data, list | tuple | set | frozenset):
        items = [_redact(item, secrets) for item in _hide_adjacent(data)]
        return items if isinstance(data, list) else type(data)(items)
    return data


def _redact_value(key: Any, value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(key, str) and is_secret(key) and value not in (None, "", True, False):
        return dict.fromkeys(value, HIDDEN) if isinstance(value, Mapping) else HIDDEN
    return _redact(value, secrets)


def _hide_adjacent(items: Any) -> list[Any]:
    """Hide values that follow their name as a separate item: (`--password`, `…`) and ("Authorization", "…")."""
    found = list(items)
    if isinstance(items, tuple) and len(found) == 2 and isinstance(found[0], str) and is_secret(found[0]):
        return [found[0], HIDDEN]
    for at, word in enumerate(found[:-1]):
        if isinstance(word, str) and word.startswith("--") and is_secret(word.removeprefix("--")):
            found[at + 1] = HIDDEN
    return found


def _redact_text(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    text = _USERINFO.sub(f"{HIDDEN}@", text)
    text = _SCHEME.sub(rf"\1 {HIDDEN}", text)
    for pattern in (_QUERY, _HEADER, _PAIR, _FLAG):
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return text
