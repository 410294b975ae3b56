"""The command line: ComfyUI's flags and defaults that matter here; other flags only cause a warning."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Args:
    listen: tuple[str, ...]
    port: int
    models: Path
    user: Path
    input: Path
    output: Path
    temp: Path
    custom_nodes: Path
    database_url: str
    cors: str | None
    load_custom_nodes: bool
    api_nodes: bool
    quick_test: bool
    max_upload_bytes: int


def parse(argv: list[str]) -> Args:
    given, unknown = _parser().parse_known_args(argv)
    if unknown:
        print(f"WARNING: unknown arguments ignored by the stand-in: {' '.join(unknown)}", file=sys.stderr, flush=True)
    base = Path(given.base_directory).resolve() if given.base_directory else HOME
    user = given.user_directory or base / "user"
    return Args(
        listen=tuple(given.listen.split(",")),
        port=given.port,
        models=given.models_directory or base / "models",
        user=user,
        input=_absolute(given.input_directory) or base / "input",
        output=_absolute(given.output_directory) or base / "output",
        # ComfyUI creates a folder `temp` inside the given one, because it empties it at each start.
        temp=(_absolute(given.temp_directory) or base) / "temp",
        custom_nodes=base / "custom_nodes",
        database_url=given.database_url or f"sqlite:///{user / 'comfyui.db'}",
        cors=given.enable_cors_header,
        load_custom_nodes=not given.disable_all_custom_nodes,
        api_nodes=not given.disable_api_nodes,
        quick_test=given.quick_test_for_ci,
        max_upload_bytes=round(given.max_upload_size * 1024 * 1024),
    )


def _absolute(path: str | None) -> Path | None:
    return Path(path).resolve() if path else None


def _existing_directory(path: str) -> Path:
    # ComfyUI refuses to start when these two are missing, so a start script has to create them first.
    if not Path(path).is_dir():
        raise argparse.ArgumentTypeError(f"{path} is not a valid directory.")
    return Path(path).resolve()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A stand-in for ComfyUI; its page at / describes its limits.")
    add = parser.add_argument
    add("--listen", default="127.0.0.1", metavar="IP", nargs="?", const="0.0.0.0,::")
    add("--port", type=int, default=8188)
    add("--base-directory")
    add("--models-directory", type=_existing_directory)
    add("--user-directory", type=_existing_directory)
    add("--input-directory")
    add("--output-directory")
    add("--temp-directory")
    add("--database-url")
    add("--enable-cors-header", metavar="ORIGIN", nargs="?", const="*")
    add("--max-upload-size", type=float, default=100, metavar="MB")
    add("--disable-all-custom-nodes", action="store_true")
    add("--disable-api-nodes", action="store_true")
    add("--quick-test-for-ci", action="store_true")
    # ComfyUI's flags without an effect here: ignored silently.
    for flag in (
        "--cpu",
        "--disable-auto-launch",
        "--dont-print-server",
        "--log-stdout",
        "--lowvram",
        "--highvram",
    ):
        add(flag, action="store_true")
    return parser
