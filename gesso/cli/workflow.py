"""`gesso workflow check`: check a workflow, in an image and on a host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso import report
from gesso.errors import CheckError
from gesso.runtime.layout import COMFY_PORT, Layout, find_layout, read_record
from gesso.runtime.services import comfyui
from gesso.settings import Project
from gesso.workflow import command
from gesso.workflow.user_models import UserModels

if TYPE_CHECKING:
    import argparse

    from gesso.workflow.arch import Arch
    from gesso.workflow.object_info import NodeClasses

HOST = Project(Path(__file__).resolve().parents[2])


def add_command(commands: Any, text: str, epilog: str) -> None:
    """Add `workflow check` to the parser."""
    actions = commands.add_parser("workflow", help=text).add_subparsers(required=True, metavar="ACTION")
    parser = actions.add_parser("check", help=text, description=text, epilog=epilog)
    parser.add_argument("file", type=Path, metavar="FILE", help="a workflow, as the editor saves it or in API format")
    parser.add_argument("--arch", help="the architecture of the image it is for (in an image: its own)")
    parser.add_argument("--strict", action="store_true", help="also fail for what could not be determined")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, layout: Layout | None = None) -> int:
    """Check one file and print the findings; return 1 where something is wrong."""
    layout = find_layout() if layout is None else layout
    arch, classes, user_models = _compare_with(layout, options.arch)
    checked = command.check_file(options.file, arch, classes, user_models)
    if options.json:
        report.result_json(command.as_json(checked, strict=options.strict))
    else:
        report.result(command.as_text(checked))
    return 1 if command.fails(checked, strict=options.strict) else 0


def _compare_with(layout: Layout, arch: str | None) -> tuple[Arch, NodeClasses, UserModels]:
    if not (layout.gesso / "build.json").exists():
        return *command.for_host(HOST, arch), UserModels()
    found, classes = command.for_image(read_record(layout).raw, arch, _object_info)
    return found, classes, UserModels(layout.models)


def _object_info(port: int = COMFY_PORT) -> Any:
    """Query this instance's ComfyUI for its node classes; return nothing where it does not answer."""
    try:
        return comfyui.get_json("/object_info", port=port)
    except CheckError as error:
        report.progress(f"{error.message}: classes and inputs are not checked")
        return {}
