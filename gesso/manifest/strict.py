"""What every part of a manifest has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, defer_build=True)


class UnshownError(ValueError):
    """What is wrong with a value, said without the value itself: it is long, or secret."""
