"""The `gesso` command, as it is inside an image. Builder commands are invoke tasks (tasks.py).

Each command imports its modules when it runs: the guard runs before every start of ComfyUI, health runs every 30
seconds, and neither should load the libraries of the others.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from gesso import __version__, report
from gesso.runtime.layout import find_layout, read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gesso.runtime.layout import Layout

_EXIT_CODES = """\
exit codes: 0 done, 1 something is wrong with what was checked, 2 usage, 3 lock, 4 fetch, 5 verify, 70 unexpected,
130 interrupted"""

# Their options need libraries that cost a quarter of a second; the list of commands does not.
_WITH_MODELS = {
    "fetch": "fetch and verify every model; quarantine bad files",
    "verify": "verify the models by their receipts, or else by hashing",
    "heal": "examine everything, and repair only what is damaged",
    "workflow": "check that a workflow's models, latents and VAE match each other and this image",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parser(models=any(word in _WITH_MODELS for word in arguments[:1])).parse_args(arguments)
    with report.exit_codes():
        command: Callable[[argparse.Namespace], int] = options.run
        return command(options)


def _parser(*, models: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gesso",
        description="Serve Krita from this instance, and keep it healthy.",
        epilog=_EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"gesso {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, run: Callable[[argparse.Namespace], int], text: str, *, json: bool = False
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, epilog=_EXIT_CODES)
        command.set_defaults(run=run)
        if json:
            command.add_argument("--json", action="store_true", help="print the result as JSON")
        return command

    add("boot", _boot, "prepare the instance and start everything; a second start does nothing")
    add("run-comfyui", _run_comfyui, "check the environment, then become ComfyUI (the supervisor calls this)")
    add("agent", _agent, "fetch models, watch ComfyUI, serve the page (the supervisor calls this)")
    add("guard", _guard, "check the Python environment against the lock, repair SQLAlchemy offline", json=True)
    add("health", _health, "check whether Krita can work with this instance", json=True)
    add("status", _status, "print the state, its cause, and what to do next", json=True)
    add("url", _url, "print the URL to paste into Krita")
    command = add("logs", _logs, "print the end of the logs")
    command.add_argument("name", nargs="?", metavar="NAME", help="one log (comfyui, agent, gate, ...); default: all")
    command.add_argument("-f", "--follow", action="store_true", help="keep printing as the logs grow")
    if models:
        from gesso.cli import workflow

        _add_models(add)
        _add_heal(add)
        workflow.add_command(commands, _WITH_MODELS["workflow"], _EXIT_CODES)
    else:
        for name, text in _WITH_MODELS.items():
            commands.add_parser(name, help=text)
    return parser


def _add_models(add: Callable[..., argparse.ArgumentParser]) -> None:
    from gesso.cli import models as models_cli

    command = add("fetch", models_cli.run_fetch, _WITH_MODELS["fetch"], json=True)
    command.add_argument("--events", action="store_true", help="print each event as it happens, as a line of JSON")
    models_cli.add_shared_options(command)
    command = add("verify", models_cli.run_verify, _WITH_MODELS["verify"], json=True)
    level = command.add_mutually_exclusive_group()
    level.add_argument("--full", action="store_true", help="hash every file, ignoring receipts")
    level.add_argument("--header", action="store_true", help="check only sizes and headers: proves nothing")
    models_cli.add_shared_options(command)


def _add_heal(add: Callable[..., argparse.ArgumentParser]) -> None:
    from gesso.runtime.heal import command as heal

    def run(options: argparse.Namespace) -> int:
        layout = find_layout()
        return heal.run(options, layout, read_record(layout), _environment(layout))

    heal.add_options(add("heal", run, _WITH_MODELS["heal"], json=True))


def _boot(_: argparse.Namespace) -> int:
    from gesso.runtime import boot

    layout = find_layout()
    return boot.boot(layout, read_record(layout), os.environ, report.progress)


def _run_comfyui(_: argparse.Namespace) -> int:
    from gesso.runtime.services import comfyui

    layout = find_layout()
    comfyui.start(layout, read_record(layout), os.environ, report.progress)


def _agent(_: argparse.Namespace) -> int:
    from gesso.runtime import agent

    layout = find_layout()
    return agent.run(layout, read_record(layout), _environment(layout), report.progress)


def _status(options: argparse.Namespace) -> int:
    from gesso.runtime.services import health
    from gesso.runtime.state import status_view

    found = health.status(find_layout())
    if options.json:
        report.result_json(found)
    else:
        report.result(status_view.text(found))
    return 1 if found["state"] == "failed" else 0


def _logs(options: argparse.Namespace) -> int:
    from gesso.runtime.state import log_files, status_view

    layout = find_layout()
    return status_view.logs(log_files.find(layout, options.name), follow=options.follow, on_progress=report.result)


def _guard(options: argparse.Namespace) -> int:
    from gesso.runtime.prepare import guard, node_packs

    layout = find_layout()
    record = read_record(layout)
    remaining = guard.ensure(layout, record, report.progress)
    changed = node_packs.changed(layout, record)
    ok = not remaining and not changed
    if options.json:
        different = [asdict(finding) for finding in remaining]
        report.result_json({"ok": ok, "different": different, "packs": list(changed)})
    elif ok:
        report.result("ok: Python and the node packs are as locked")
    for text in () if options.json else changed:
        report.progress(f"guard: note: {text}")
    return 0 if ok else 1


def _health(options: argparse.Namespace) -> int:
    from gesso.runtime.services import health
    from gesso.runtime.state import status_view

    found = health.problems(find_layout())
    if options.json:
        report.result_json({"ok": not found, "problems": found})
    else:
        report.result(status_view.health(found))
    return 1 if found else 0


def _url(_: argparse.Namespace) -> int:
    from gesso.runtime.gate import address
    from gesso.runtime.services import health

    layout = find_layout()
    read_record(layout)  # elsewhere there is no instance, and nothing may be created
    env = _environment(layout)
    report.result(address.url(layout, env))
    if note := health.silence(layout) or address.port_note(env):
        report.progress(note)
    return 0


def _environment(layout: Layout) -> dict[str, str]:
    """Return the environment that the instance was started with, below that of this process."""
    from gesso.runtime import variables

    found = variables.full(layout, os.environ)
    report.hide(variables.private_values(found))
    return found
