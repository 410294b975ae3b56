"""`gesso workflow`: the check of graphs as a command, in an image and on a host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso import report
from gesso.errors import CheckError
from gesso.runtime import comfy
from gesso.runtime.layout import COMFY_PORT, Layout, read_record
from gesso.settings import Project
from gesso.workflow import command

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from gesso.workflow.arch import Arch
    from gesso.workflow.classes import Classes

HOST = Project(Path(__file__).resolve().parents[2])


def add_command(commands: Any, epilog: str) -> None:
    """Add `workflow check` to the parser."""
    text = "check a workflow: do its models, latents and VAE belong together, and to this image?"
    actions = commands.add_parser("workflow", help=text).add_subparsers(required=True, metavar="ACTION")
    parser = actions.add_parser("check", help=text, description=text, epilog=epilog)
    parser.add_argument("file", type=Path, metavar="FILE", help="a workflow, as the editor saves it or in API format")
    parser.add_argument("--arch", help="which image it is for; in an image: that one")
    parser.add_argument("--strict", action="store_true", help="fail also for what could not be told")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, layout: Layout = Layout()) -> int:  # noqa: B008 - frozen
    """Check one file and print what was found; 1 where something is wrong."""
    arch, classes, have = _compare_with(layout, options.arch)
    checked = command.check_file(options.file, arch, classes, have)
    if options.json:
        report.result_json(command.as_json(checked, strict=options.strict))
    else:
        report.result(command.as_text(checked))
    return 1 if command.fails(checked, strict=options.strict) else 0


def _compare_with(layout: Layout, arch: str | None) -> tuple[Arch, Classes, Callable[[str, str], bool]]:
    if not (layout.gesso / "build.json").exists():
        return *command.on_host(HOST, arch), lambda _folder, _name: False
    record = read_record(layout)
    found, classes = command.in_image(record.raw, arch, _object_info)
    return found, classes, lambda folder, name: _is_there(layout.models, folder, name)


def _object_info(port: int = COMFY_PORT) -> Any:
    """Ask the ComfyUI of this instance for its classes; nothing where it does not answer."""
    try:
        return comfy.ask("/object_info", port=port)
    except CheckError as error:
        report.say(f"{error.message}: classes and inputs are not checked")
        return {}


def _is_there(models: Path, folder: str, name: str) -> bool:
    """Tell whether a person put a file of their own there: the manifest does not have it, ComfyUI lists it."""
    path = models / folder / name
    return ".." not in Path(name).parts and path.is_relative_to(models) and path.is_file()
