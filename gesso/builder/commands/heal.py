"""`invoke heal`."""

from __future__ import annotations

import os

from gesso import report
from gesso.builder.commands.project import PROJECT
from gesso.builder.remote import command


def heal(request: command.HealRequest) -> None:
    """Heal a running instance, a gesso image or a foreign one; exit with the exit code of the heal there."""
    if code := command.heal(PROJECT, request, os.environ, report.progress):
        raise SystemExit(code)
