"""`invoke publish`, `verify`, `diff` and `vast`. Their libraries take a second to import: each task imports its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gesso import report
from gesso.builder.commands.project import PROJECT
from gesso.dotenv import with_tokens

if TYPE_CHECKING:
    from gesso.builder.publish.request import PublishRequest
    from gesso.builder.vast.request import VastRequest


def publish(request: PublishRequest, *, vast: bool) -> None:
    """Publish a checked image, and with `vast` its template; or only print what that would do."""
    from gesso.builder.publish import command
    from gesso.builder.vast.template.follow_up import TemplateFollowUp

    follow_up = TemplateFollowUp(with_tokens(PROJECT.root, os.environ)) if vast else None
    command.publish(PROJECT, request, os.environ, follow_up)


def verify(reference: str, key: str, identity: str, issuer: str, *, no_tlog: bool, as_json: bool) -> None:
    """Verify a published image from outside, without an engine."""
    from gesso.builder.evidence import verify as verification

    trusted = verification.trusted(key, identity, issuer, no_tlog=no_tlog)
    verification.verify(reference, trusted, os.environ, as_json=as_json)


def diff(old: str, new: str, *, as_json: bool) -> None:
    """Print what a host that has one image must pull for another."""
    from gesso.builder.diff import command

    command.diff(old, new, os.environ, as_json=as_json)


def vast(request: VastRequest) -> None:
    """List offers at Vast.ai, or create the template of a pushed image."""
    from gesso.builder.vast import command

    command.run(PROJECT, request, os.environ, report.progress)
