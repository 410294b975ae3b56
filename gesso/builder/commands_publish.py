"""What the tasks of publishing do. Their libraries take a second to load: each is loaded by the task that needs it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gesso.builder.commands import PROJECT

if TYPE_CHECKING:
    from gesso.builder.publish.request import Wish


def publish(wish: Wish) -> None:
    """Publish a checked image, or only tell what that would do."""
    from gesso.builder.publish import command

    command.publish(PROJECT, wish, os.environ)


def verify(reference: str, key: str, identity: str, issuer: str, *, no_tlog: bool, as_json: bool) -> None:
    """Verify a published image as a stranger would."""
    from gesso.builder.evidence import verify as verifying

    who = verifying.trusted(key, identity, issuer, no_tlog=no_tlog)
    verifying.verify(reference, who, os.environ, as_json=as_json)


def diff(old: str, new: str, *, as_json: bool) -> None:
    """Tell what a host that has one image must pull for another."""
    from gesso.builder.diff import command as differing

    differing.diff(old, new, os.environ, as_json=as_json)
