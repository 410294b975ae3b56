"""What was asked of `invoke vast`, and whether it hangs together."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gesso import report
from gesso.errors import ManifestError
from gesso.settings import Project

WHAT = ("offers", "template")
MOST = 1000  # offers


@dataclass(frozen=True)
class Wish:
    """The flags of `invoke vast`, as they were given."""

    what: str
    arch: str = "sdxl"
    image: str = ""
    overlays: tuple[str, ...] = ()
    limit: str = ""
    dry_run: bool = False
    as_json: bool = False

    def checked(self) -> Wish:
        """Give itself. Raises ManifestError (usage) for flags that do not belong together."""
        wrong = {
            f"vast {self.what[:40]}: no such thing": self.what not in WHAT,
            "vast template needs --image: what it is the template of": self.what == "template" and not self.image,
            "--dry-run is for `vast template`": self.what == "offers" and self.dry_run,
            "--limit is for `vast offers`": self.what == "template" and bool(self.limit),
            f"--limit {self.limit[:20]}: must be 1 to {MOST}": bool(self.limit) and not (
                self.limit.isascii() and self.limit.isdigit() and 1 <= int(self.limit) <= MOST),
        }  # fmt: skip
        if found := [text for text, holds in wrong.items() if holds]:
            raise ManifestError("; ".join(found), "invoke vast offers, or invoke vast template --image NAME@DIGEST")
        return self


def grant(wish: Wish) -> None:
    """Do what was asked for, in this project. Raises every kind of GessoError that it can end with."""
    from gesso.builder.vast import command  # noqa: PLC0415 - its libraries take a second that other tasks need not pay

    command.run(Project(Path(__file__).resolve().parents[3]), wish, os.environ, report.say)
