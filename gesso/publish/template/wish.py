"""What was asked of `invoke vast`, and whether it hangs together. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gesso.errors import ManifestError

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
