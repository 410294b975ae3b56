"""Report of a contract run, stored by the image's id: `invoke test` writes it, `invoke publish` requires it."""

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

FULL, LAST = "checked.json", "last.json"
MAX_AGE = timedelta(days=7)  # the image does not change, but what is known about it does


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Case(_Frozen):
    """One check that failed or was not run, and why."""

    name: str
    reason: str = ""


class ContractReport(_Frozen):
    """One run of the contract on one image.

    `image` is the image's id (sha256:…); `lock` the digest of the lock that it was checked against; `contract` the
    digest of the checks themselves; `whole` is false for a partial run; `at` is in UTC.
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
        """True for a full run in which something passed and nothing failed. A check that was not run is no failure."""
        return self.whole and not self.failed and self.passed > 0


def folder(env: Mapping[str, str], image: str) -> Path:
    """Return the folder of an image's reports: checked.json, last.json, and junit.xml for other programs."""
    return cache_root(env) / "reports" / image.removeprefix("sha256:")


def write(env: Mapping[str, str], checked: ContractReport) -> None:
    """Store a report as the image's last one, and as the one that `invoke publish` requires.

    A partial run that passed does not replace the report of a full run.
    """
    target = folder(env, checked.image)
    target.mkdir(parents=True, exist_ok=True)
    text = checked.model_dump_json(indent=1) + "\n"
    replace(target / LAST, text)
    existing = read(env, checked.image)
    if checked.whole or checked.failed or existing is None or not existing.whole:
        replace(target / FULL, text)


def read(env: Mapping[str, str], image: str, name: str = FULL) -> ContractReport | None:
    """Return an image's report for publishing, or its last one; None where there is none.

    Raises CheckError for a report that cannot be read.
    """
    path = folder(env, image) / name
    try:
        return ContractReport.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise CheckError(f"{path}: not a test report ({reason})", "test the image again with `invoke test`") from None


def problems_of(checked: ContractReport | None, *, lock: str, contract: str, now: datetime) -> list[str]:
    """Return every reason why a report does not allow publishing its image; empty where it does. Pure."""
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
    if now - checked.at > MAX_AGE:
        problems.append(f"it was tested {(now - checked.at).days} days ago, more than {MAX_AGE.days}")
    return problems


def contract_of(tests: Path) -> str:
    """Return the digest of the contract: every Python file under tests/image, by its path and bytes."""
    digest = hashlib.sha256()
    for path in sorted(tests.rglob("*.py")):
        digest.update(f"{path.relative_to(tests).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)
