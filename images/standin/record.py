#!/usr/bin/env python3
"""Record the node classes of a running ComfyUI for the stand-in.

usage: record.py --url http://127.0.0.1:8188 --models DIR [--input DIR] --out images/standin

It writes OUT/ComfyUI/recorded/core.json and OUT/custom_nodes/<pack>/recorded.json, one class per line.
It needs only the standard library.

An option list that names model files must not be recorded as those names: the stand-in lists the files
in *its* model folders. So a sentinel file is created in every model folder of the real server first, and a list
that shows sentinels is recorded as {"folder": ...}. DIR is the server's models directory as seen from here;
run this inside the server's container if necessary (`docker exec -i NAME python3 - ARGS < record.py`).

The sentinels are removed afterwards. Directories created for them stay: ComfyUI remembers a directory that it has
listed, and drops the node classes that list it once it is removed.
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
# GGUF files are in the same directories as safetensors ones but are listed separately: these get one of each.
GGUF_DIRECTORIES = {"unet", "diffusion_models", "clip", "text_encoders"}
# Directories whose name differs from the folder that they belong to.
OTHER_DIRECTORIES = {"unet", "clip", "t2i_adapter"}
NOT_MODELS = {"custom_nodes", "datasets"}
# A custom node that comes with ComfyUI itself, as a single file.
BUNDLED = {"websocket_image_save"}
# Prose, and keys that only a browser uses: no client or validator needs them.
IGNORED_KEYS = {"placeholder", "remote", "tooltip"}
CLASS_KEYS = (
    "input", "input_order", "output", "output_is_list", "output_name", "name", "display_name", "category",
    "output_node",
)  # fmt: skip
LONGEST_TEXT = 120


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as response:
        return json.load(response)


@contextmanager
def sentinels(models: Path, inputs: Path | None, folders: list[str]) -> Iterator[None]:
    """Create the sentinel files, and remove them in the end."""
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
    """Find the model folders that an option list was filled from."""

    def __init__(self, listed: dict[str, list[str]]) -> None:
        found = {name: {f for f in files if f.startswith(SENTINEL)} for name, files in listed.items()}
        found["input"] = {f"{SENTINEL}input.png"}
        # The folder with the most sentinels comes first: one match beats two partial ones.
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
        source: dict[str, Any] = {"folder": names[0] if len(names) == 1 else names}
        # The other files in the input folder are that server's own images.
        if names != ["input"] and (extra := [o for o in options if o not in shown]):
            source["extra"] = extra
        return source


def compact_options(config: dict[str, Any], folders: Folders) -> dict[str, Any]:
    result = {k: v for k, v in config.items() if k not in IGNORED_KEYS}
    if isinstance(text := result.get("default"), str) and (len(text) > LONGEST_TEXT or text.startswith(SENTINEL)):
        result["default"] = ""
    if isinstance(result.get("options"), list):
        result["options"] = folders.describe([compact_nested(o, folders) for o in result["options"]])
    if isinstance(result.get("template"), dict):
        result["template"] = compact_nested(result["template"], folders)
    return result


def compact_nested(value: Any, folders: Folders) -> Any:
    """Compact the input tables inside a dynamic input's option: {"key": …, "inputs": {"required": {…}}}."""
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
    result = {key: info[key] for key in CLASS_KEYS if key in info}
    result["input"] = compact_inputs(info["input"], folders)
    result["module"] = info["python_module"]
    if info.get("is_input_list"):
        result["is_input_list"] = True
    return dict(sorted(result.items()))


def owner(module: str) -> str | None:
    """Return whose recording a class belongs to: "" is the core, a name is a pack, None is not recorded."""
    if module.startswith("comfy_api_nodes."):
        return None
    pack = re.match(r"custom_nodes\.(.+)", module)
    return pack.group(1) if pack and pack.group(1) not in BUNDLED else ""


def write(path: Path, classes: dict[str, Any]) -> None:
    # Within a class, keep the server's order: clients map values to inputs by position.
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
        if (pack := owner(described["python_module"])) is not None:
            files.setdefault(pack, {})[name] = compact_class(described, folders)
    write(args.out / "ComfyUI/recorded/core.json", files.pop("", {}))
    for pack, classes in sorted(files.items()):
        write(args.out / "custom_nodes" / pack / "recorded.json", classes)


if __name__ == "__main__":
    main()
