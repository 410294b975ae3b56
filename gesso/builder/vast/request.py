"""The request of `invoke vast`, and its validation. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gesso.errors import ManifestError

ACTIONS = ("offers", "template")
MAX_LIMIT = 1000  # offers


@dataclass(frozen=True)
class VastRequest:
    """The flags of `invoke vast`."""

    what: str
    arch: str = "sdxl"
    image: str = ""
    overlays: tuple[str, ...] = ()
    limit: str = ""
    dry_run: bool = False
    as_json: bool = False

    def validated(self) -> VastRequest:
        """Return itself. Raises ManifestError (usage) for flags that do not go together."""
        problems = {
            f"vast {self.what[:40]}: no such action": self.what not in ACTIONS,
            "vast template needs --image: the image in its registry": self.what == "template" and not self.image,
            "--dry-run is for `vast template`": self.what == "offers" and self.dry_run,
            "--limit is for `vast offers`": self.what == "template" and bool(self.limit),
            f"--limit {self.limit[:20]}: must be 1 to {MAX_LIMIT}": bool(self.limit) and not (
                self.limit.isascii() and self.limit.isdigit() and 1 <= int(self.limit) <= MAX_LIMIT),
        }  # fmt: skip
        if found := [text for text, applies in problems.items() if applies]:
            raise ManifestError("; ".join(found), "invoke vast offers, or invoke vast template --image NAME@DIGEST")
        return self
