"""An image that lies in a registry: what the push read back, and what a template needs of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One image in a registry.

    `repository` is host/name without a tag; `digest` its manifest's sha256:…; `tags` those that lead to it;
    `compressed` what a host pulls and `unpacked` what it keeps, in bytes.
    """

    repository: str
    digest: str
    tags: tuple[str, ...]
    compressed: int
    unpacked: int

    @property
    def reference(self) -> str:
        """The image by digest: what a template names."""
        return f"{self.repository}@{self.digest}"
