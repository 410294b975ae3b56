"""Leave secrets out of what is shown or kept: by name, by where they stand, and by what they are. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

HIDDEN = "***"
# What people hand over in the environment, and must never read again in a report.
SECRETS = (
    "VAST_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "CIVITAI_TOKEN", "GESSO_TOKEN", "OPEN_BUTTON_TOKEN",
    "JUPYTER_TOKEN", "COSIGN_PASSWORD", "GITHUB_TOKEN", "GH_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
)  # fmt: skip
_FOLDERS = {"PWD", "OLDPWD"}
_SHORTEST = 6  # characters: a shorter value is found in too much that is none
_WORD = (
    r"(?:token|secrets?|passw(?:or)?d|passphrase|api[-_ ]?key|access[-_ ]?key|private[-_ ]?key|client[-_ ]?key"
    r"|credentials?|authorization|x-registry-auth|cookie|auth|pwd)"
)
# A name counts where the word ends it: HF_TOKEN and x-api-key do, token_count and author do not.
_NAME = re.compile(rf"(?:^|.*[^A-Za-z0-9]|.*[a-z](?=[A-Z])){_WORD}(?:[-_]?value)?\Z", re.IGNORECASE | re.DOTALL)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_USERINFO = re.compile(r"(?<=://)[^/\s\"'<>]+@")
_QUERY = re.compile(rf"(?i)([?&;][\w.-]*{_WORD}=)[^&;#\s\"']+")
_PAIR = re.compile(rf"(?i)(?<![\w-])((?:[\w-]*[-_])?{_WORD}=)(\"[^\"]*\"|'[^']*'|[^\s\"'&;,]+)")
_HEADER = re.compile(rf"(?i)(?<![\w-])((?:[\w-]*-)?{_WORD}\"?\s*:\s*\"?)((?:(?:bearer|basic|token)\s+)?[^\s\"',]+)")
_SCHEME = re.compile(r"(?i)\b(bearer|basic)\s+(?!\*\*\*)[\w.~+/=-]{8,}")
_FLAG = re.compile(rf"(?i)(--(?:[\w-]*-)?{_WORD}[ =])(?!\*\*\*)(\"[^\"]*\"|'[^']*'|\S+)")


def redact(data: Any, secrets: Iterable[str] = ()) -> Any:
    """Give the same data, at any depth, without secrets; `secrets` are values that are hidden wherever they stand.

    Hidden are: values of mappings under a name that speaks of a secret, the userinfo of URLs, `NAME=value` where the
    name does (`-e HF_TOKEN=…`, also in a query), headers in text, and the given values, in keys as well.
    """
    return _redact(data, tuple(sorted({s for s in secrets if len(s) >= _SHORTEST}, key=len, reverse=True)))


def secret_values(env: Mapping[str, str]) -> tuple[str, ...]:
    """Give the values of those variables that hold secrets, for `redact`."""
    return tuple(sorted({value for name, value in env.items() if value and is_secret_variable(name)}))


def is_secret_variable(name: str) -> bool:
    """Tell whether a variable of the environment holds a secret; a shell's PWD and OLDPWD are folders."""
    return name not in _FOLDERS and (name in SECRETS or is_secret(name))


def is_secret(name: str) -> bool:
    """Tell whether a value under this name is a secret, as far as a name can tell."""
    return _NAME.match("_".join(_CAMEL.split(name))) is not None


def _redact(data: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(data, str):
        return _text(data, secrets)
    if isinstance(data, bytes):
        return _text(data.decode("utf-8", "replace"), secrets).encode()
    if isinstance(data, Mapping):
        return {_redact(key, secrets): _under(key, value, secrets) for key, value in data.items()}
    if isinstance(data, list | tuple | set | frozenset):
        words = [_redact(item, secrets) for item in _pairs(data)]
        return words if isinstance(data, list) else type(data)(words)
    return data


def _under(key: Any, value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(key, str) and is_secret(key) and value not in (None, "", True, False):
        return dict.fromkeys(value, HIDDEN) if isinstance(value, Mapping) else HIDDEN
    return _redact(value, secrets)


def _pairs(items: Any) -> list[Any]:
    """Join what stands apart: (`-e`, `X=…`) hides by itself, (`--password`, `…`) and ("Authorization", "…") do not."""
    found = list(items)
    if isinstance(items, tuple) and len(found) == 2 and isinstance(found[0], str) and is_secret(found[0]):
        return [found[0], HIDDEN]
    for at, word in enumerate(found[:-1]):
        if isinstance(word, str) and word.startswith("--") and is_secret(word.removeprefix("--")):
            found[at + 1] = HIDDEN
    return found


def _text(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    text = _USERINFO.sub(f"{HIDDEN}@", text)
    text = _SCHEME.sub(rf"\1 {HIDDEN}", text)
    for pattern in (_QUERY, _HEADER, _PAIR, _FLAG):
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return text
