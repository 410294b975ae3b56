"""Base classes of the manifest's parts."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, defer_build=True)


class HiddenValueError(ValueError):
    """An invalid value that the message must not contain: it is long, or secret."""
