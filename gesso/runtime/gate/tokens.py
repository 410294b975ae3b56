"""The token: given by the environment, or generated at the first boot; and the instance's other random values."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from gesso import small_files
from gesso.errors import CheckError
from gesso.runtime.gate import private_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gesso.runtime.layout import Layout

VARIABLES = ("GESSO_TOKEN", "OPEN_BUTTON_TOKEN")
SURPRISING = 12  # characters of a chosen token that do not follow from those before them
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}\Z")
_KEY = re.compile(r"[0-9a-f]{64}\Z")
_ID = re.compile(r"[0-9a-f]{32}\Z")
_REQUEST = ("OPEN_BUTTON_TOKEN", "1")  # a template's request to Vast.ai for a token, not a token itself
_ROWS = (
    "abcdefghijklmnopqrstuvwxyz", "012345678901234567890",
    "qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "azertyuiop",
)  # fmt: skip
_SEQUENCES = {row[n : n + 3] for each in _ROWS for row in (each, each[::-1]) for n in range(len(row) - 2)}


def looks_like_token(text: str) -> bool:
    """Return whether a text has the form of a token."""
    return _TOKEN.match(text) is not None


def surprising(text: str) -> int:
    """Count the characters that do not continue a run, a sequence, a row of the keyboard, or a repetition.

    Three characters make a sequence or a repetition: pairs are frequent in random tokens, too.
    """
    text = text.lower()
    return sum(not _is_predictable(text[: at + 1]) for at in range(len(text)))


def _is_predictable(text: str) -> bool:
    """Return whether the last character follows from those before it."""
    last = text[-3:]
    return text[-1:] == text[-2:-1] or last in _SEQUENCES or (len(last) == 3 and last in text[:-1])


def from_environment(env: Mapping[str, str]) -> str:
    """Return GESSO_TOKEN, else Vast's OPEN_BUTTON_TOKEN; empty if none is set.

    Raises CheckError for a token that is too weak.
    """
    for name in VARIABLES:
        value = env.get(name)
        if not value or (name, value) == _REQUEST:
            continue
        step = f"set another {name}, or unset it"
        if not _TOKEN.match(value):
            raise CheckError(f"{name}: must be 16 to 128 letters, digits, - or _", step)
        if surprising(value) < SURPRISING:
            raise CheckError(f"{name}: is easy to guess: repeated characters, sequences or keyboard rows", step)
        return value
    return ""


def choose(layout: Layout, env: Mapping[str, str], on_progress: Callable[[str], None]) -> str:
    """Return the token of the environment, else the stored one, generated at the first boot.

    A stored token that is damaged is kept beside the new one, and reported. Raises CheckError for a token that is too
    weak, and for a file that can be neither read nor replaced.
    """
    if given := from_environment(env):
        return given
    path = layout.state / "token"
    try:
        if stored := _stored(path):
            return stored
        if path.exists() or path.is_symlink():
            kept = _free_name(path)
            path.rename(kept)
            on_progress(f"gesso: {path} held no valid token; it is kept as {kept.name}, and a new token is generated")
        made = secrets.token_urlsafe(32)
        path.parent.mkdir(parents=True, exist_ok=True)
        private_file.write(path, made + "\n")
    except OSError as error:
        raise CheckError(f"{path}: {error.strerror}", "make it a writable file, or remove it") from None
    return made


def _stored(path: Path) -> str:
    """Return the stored token; empty if it is missing or invalid. Raises OSError, and CheckError for a folder."""
    if path.is_dir():
        raise CheckError(f"{path}: is a folder, not a file with the token", "remove it")
    if not path.is_file():
        return ""
    text = small_files.read(path).decode("ascii", errors="replace").strip()
    return text if looks_like_token(text) else ""


def _free_name(path: Path) -> Path:
    number = 1
    while (found := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return found


def known(layout: Layout, env: Mapping[str, str]) -> str:
    """Return the token that the gate was started with, else the one that it would start with. Creates nothing.

    Raises CheckError if there is none yet, and as `from_environment` does.
    """
    if found := active(layout) or from_environment(env):
        return found
    stored = private_file.read(layout.state / "token")
    if looks_like_token(stored):
        return stored
    raise CheckError("there is no token yet: gesso has not started here", "`gesso boot` starts it, and generates one")


def active(layout: Layout) -> str:
    """Return the token as the boot stored it; empty if it is missing or invalid."""
    stored = private_file.read(layout.run / "token")
    return stored if looks_like_token(stored) else ""


def instance_id(layout: Layout) -> str:
    """Return the random name of this instance, which every answer of the gate contains; empty if it is missing."""
    found = private_file.read(layout.run / "instance-id")
    return found if _ID.match(found) else ""


def ensure_instance_id(layout: Layout) -> None:
    """Create the instance's name, unless it is there. Raises OSError."""
    if not instance_id(layout):
        _replace(layout.run / "instance-id", secrets.token_hex(16))


def cookie_key(layout: Layout) -> bytes:
    """Return the key that signs cookies, created if it is missing or damaged.

    It is kept with the token; in memory-backed storage, and so for one boot, where that folder cannot be written.
    """
    paths = [folder / "cookie-key" for folder in (layout.state, layout.run)]
    for path in paths:
        if _KEY.match(found := private_file.read(path)):
            return bytes.fromhex(found)
    made = secrets.token_bytes(32)
    for path in paths:
        try:
            _replace(path, made.hex())
        except OSError:
            continue
        break
    return made


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    private_file.write(path, text + "\n")
