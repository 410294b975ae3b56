"""What a run of the contract found, kept by the image's id: `invoke test` writes it, `invoke publish` reads it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from gesso.builder.lock.lock_files import replace
from gesso.errors import CheckError
from gesso.settings import cache_root

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WHOLE, LAST = "checked.json", "last.json"
FRESH = timedelta(days=7)  # the image's bytes do not age; what is known of them does


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Case(_Frozen):
    """One check that failed or was not run, and why."""

    name: str
    reason: str = ""


class Checked(_Frozen):
    """One run of the contract on one image.

    `image` is the image's id (sha256:…); `lock` the digest of the lock that it was held against; `contract` the digest
    of the checks themselves; `whole` is false where only a part was asked for; `at` is in UTC.
    """

    format: Literal[1] = 1
    image: str
    arch: str
    trial: bool
    lock: str
    contract: str
    whole: bool
    passed: int
    failed: tuple[Case, ...] = ()
    not_run: tuple[Case, ...] = ()
    seconds: float
    at: datetime

    @property
    def green(self) -> bool:
        """True where everything was asked, something passed and nothing failed. What was not run is no failure."""
        return self.whole and not self.failed and self.passed > 0


def folder(env: Mapping[str, str], image: str) -> Path:
    """Give the folder of an image's reports: checked.json, and junit.xml for other programs."""
    return cache_root(env) / "reports" / image.removeprefix("sha256:")


def write(env: Mapping[str, str], checked: Checked) -> None:
    """Keep a report as the image's last one, and as the one that vouches for it.

    A part that passed says nothing about the rest: it leaves a report on the whole in its place.
    """
    where = folder(env, checked.image)
    where.mkdir(parents=True, exist_ok=True)
    text = checked.model_dump_json(indent=1) + "\n"
    replace(where / LAST, text)
    kept = read(env, checked.image)
    if checked.whole or checked.failed or kept is None or not kept.whole:
        replace(where / WHOLE, text)


def read(env: Mapping[str, str], image: str, name: str = WHOLE) -> Checked | None:
    """Give the report that vouches for an image, or its last one; None where there is none.

    Raises CheckError for one that cannot be read.
    """
    path = folder(env, image) / name
    try:
        return Checked.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        said = str(error).splitlines()[0]
        raise CheckError(f"{path}: no report of a test ({said})", "test the image again with `invoke test`") from None


def why_not(checked: Checked | None, *, lock: str, contract: str, now: datetime) -> list[str]:
    """Name all that keeps a report from vouching for its image today; empty where it does. Pure."""
    if checked is None:
        return ["the image was never tested"]
    problems = [f"failed: {case.name}" for case in checked.failed]
    if not checked.whole:
        problems.append("only a part of the contract was run")
    if not checked.passed:
        problems.append("no check passed")
    if checked.lock != lock:
        problems.append("it was tested against another lock")
    if checked.contract != contract:
        problems.append("the contract has changed since it was tested")
    if now - checked.at > FRESH:
        problems.append(f"it was tested {(now - checked.at).days} days ago, more than {FRESH.days}")
    return problems


def contract_of(tests: Path) -> str:
    """Give the digest of the contract: every Python file under tests/image, by its path and bytes."""
    digest = hashlib.sha256()
    for path in sorted(tests.rglob("*.py")):
        digest.update(f"{path.relative_to(tests).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def now() -> datetime:
    """Give the time, in UTC."""
    return datetime.now(UTC)
