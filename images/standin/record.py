#!/usr/bin/env python3
"""Record what a running ComfyUI says about its node classes, for the stand-in to repeat.

usage: record.py --url http://127.0.0.1:8188 --models DIR [--input DIR] --out images/standin

It writes OUT/ComfyUI/recorded/core.json and OUT/custom_nodes/<pack>/recorded.json, one class per line.
It needs nothing but the standard library.

An option list that names model files must not be recorded as those names: the stand-in lists whatever lies
in *its* model folders. So a sentinel file is put into every model folder of the real server first, and a list
that shows sentinels is recorded as {"folder": ...}. DIR is the server's models directory as seen from here;
run this inside the server's container if need be (`docker exec -i NAME python3 - ARGS < record.py`).

The sentinels are removed again. Directories made for them stay: ComfyUI remembers a directory that it has
listed, and drops the node classes that list it once it is gone.
"""

from __future__ import annotations

import argparse
import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SENTINEL = "gesso-sentinel-"
# GGUF files lie in the same directories as safetensors ones but are listed apart: these get one of each.
GGUF_DIRECTORIES = {"unet", "diffusion_models", "clip", "text_encoders"}
# Directories with another name than the folder that they belong to.
OTHER_DIRECTORIES = {"unet", "clip", "t2i_adapter"}
NOT_MODELS = {"custom_nodes", "datasets"}
# A custom node that comes with ComfyUI itself, as a single file.
SHIPPED = {"websocket_image_save"}
# Prose, and what only a browser uses: not part of what a client or a validator has to know.
LEFT_OUT = {"placeholder", "remote", "tooltip"}
CLASS_KEYS = (
    "input", "input_order", "output", "output_is_list", "output_name", "name", "display_name", "category",
    "output_node",
)  # fmt: skip
LONGEST_TEXT = 120


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


@contextmanager
def sentinels(models: Path, inputs: Path | None, folders: list[str]) -> Iterator[None]:
    """Put the sentinel files in place, and take them away whatever happens in between."""
    made: list[Path] = []
    try:
        for name in sorted({*folders, *OTHER_DIRECTORIES}):
            directory = models / name
            if name not in OTHER_DIRECTORIES and not name.endswith("_gguf"):
                directory.mkdir(exist_ok=True)
            if not directory.is_dir():
                continue
            for suffix in ("safetensors", "gguf") if name in GGUF_DIRECTORIES else ("safetensors",):
                made.append(directory / f"{SENTINEL}{name}.{suffix}")
                made[-1].touch()
        if inputs is not None:
            made.append(inputs / f"{SENTINEL}input.png")
            made[-1].touch()
        yield
    finally:
        for path in made:
            path.unlink(missing_ok=True)


class Folders:
    """Says which model folders an option list was filled from."""

    def __init__(self, listed: dict[str, list[str]]) -> None:
        found = {name: {f for f in files if f.startswith(SENTINEL)} for name, files in listed.items()}
        found["input"] = {f"{SENTINEL}input.png"}
        # The folder that explains most comes first: one match beats two partial ones.
        self.by_size = sorted(((n, s) for n, s in found.items() if s), key=lambda e: (-len(e[1]), e[0]))

    def describe(self, options: list[Any]) -> Any:
        shown = {o for o in options if isinstance(o, str) and o.startswith(SENTINEL)}
        if not shown:
            return options
        names: list[str] = []
        left = set(shown)
        for name, files in self.by_size:
            if files <= shown and files & left:
                names.append(name)
                left -= files
        if left:
            raise SystemExit(f"no model folder lists {sorted(left)}")
        where: dict[str, Any] = {"folder": names[0] if len(names) == 1 else names}
        # Beside a sentinel in the input folder lie only that server's own pictures.
        if names != ["input"] and (extra := [o for o in options if o not in shown]):
            where["extra"] = extra
        return where


def compact_options(config: dict[str, Any], folders: Folders) -> dict[str, Any]:
    kept = {k: v for k, v in config.items() if k not in LEFT_OUT}
    if isinstance(text := kept.get("default"), str) and (len(text) > LONGEST_TEXT or text.startswith(SENTINEL)):
        kept["default"] = ""
    if isinstance(kept.get("options"), list):
        kept["options"] = folders.describe([compact_nested(o, folders) for o in kept["options"]])
    if isinstance(kept.get("template"), dict):
        kept["template"] = compact_nested(kept["template"], folders)
    return kept


def compact_nested(value: Any, folders: Folders) -> Any:
    """Dynamic inputs hold input tables inside their options: {"key": …, "inputs": {"required": {…}}}."""
    if not isinstance(value, dict):
        return value
    return {k: compact_inputs(v, folders) if k in ("inputs", "input") else v for k, v in value.items()}


def compact_inputs(table: dict[str, Any], folders: Folders) -> dict[str, Any]:
    return {kind: {n: compact_input(spec, folders) for n, spec in inputs.items()} for kind, inputs in table.items()}


def compact_input(spec: Any, folders: Folders) -> Any:
    if not isinstance(spec, list) or not spec:
        return spec  # "hidden" entries are plain strings
    kind = folders.describe(spec[0]) if isinstance(spec[0], list) else spec[0]
    return [kind, *(compact_options(config, folders) for config in spec[1:])]


def compact_class(info: dict[str, Any], folders: Folders) -> dict[str, Any]:
    kept = {key: info[key] for key in CLASS_KEYS if key in info}
    kept["input"] = compact_inputs(info["input"], folders)
    kept["module"] = info["python_module"]
    if info.get("is_input_list"):
        kept["is_input_list"] = True
    return dict(sorted(kept.items()))


def owner(module: str) -> str | None:
    """The file that a class goes to: "" is the core, a name is a pack's, None is left out."""
    if module.startswith("comfy_api_nodes."):
        return None
    pack = re.match(r"custom_nodes\.(.+)", module)
    return pack.group(1) if pack and pack.group(1) not in SHIPPED else ""


def write(path: Path, classes: dict[str, Any]) -> None:
    # Inside a class the server's own order stays: clients map values to inputs by position.
    lines = (f"{json.dumps(n)}:{json.dumps(c, separators=(',', ':'))}" for n, c in sorted(classes.items()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{path}: {len(classes)} classes, {path.stat().st_size:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description="Record a running ComfyUI's node classes for the stand-in.")
    parser.add_argument("--url", default="http://127.0.0.1:8188")
    parser.add_argument("--models", type=Path, required=True, help="the server's models directory, as seen from here")
    parser.add_argument("--input", type=Path, help="the server's input directory, as seen from here")
    parser.add_argument("--out", type=Path, required=True, help="images/standin of a checkout")
    args = parser.parse_args()
    names = [name for name in get(f"{args.url}/models") if name not in NOT_MODELS]
    with sentinels(args.models, args.input, names):
        folders = Folders({name: get(f"{args.url}/models/{name}") for name in names})
        info = get(f"{args.url}/object_info")
    files: dict[str, dict[str, Any]] = {}
    for name, described in info.items():
        if (where := owner(described["python_module"])) is not None:
            files.setdefault(where, {})[name] = compact_class(described, folders)
    write(args.out / "ComfyUI/recorded/core.json", files.pop("", {}))
    for pack, classes in sorted(files.items()):
        write(args.out / "custom_nodes" / pack / "recorded.json", classes)


if __name__ == "__main__":
    main()
