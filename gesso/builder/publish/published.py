"""An image in a registry: what the push read back, and what a template needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One image in a registry.

    `repository` is host/name without a tag; `digest` its manifest's sha256:…; `tags` those that point to it;
    `compressed` what a host pulls and `unpacked` what it stores, in bytes.
    """

    repository: str
    digest: str
    tags: tuple[str, ...]
    compressed: int
    unpacked: int

    @property
    def reference(self) -> str:
        """The image by digest, as a template names it."""
        return f"{self.repository}@{self.digest}"
