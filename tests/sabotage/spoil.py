"""Make a bad image from a good one: most are derived in a second by a few instructions, some are built differently."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from gesso.builder.image import build, buildx

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gesso.settings import Selection

    from .catalogue import Sabotage

_LAST = re.compile(
    r"^RUN (?:(?!\n\n).)*?/opt/gesso/wheels/\*\.whl \\\n && python -c.*?(?=\n\n)", re.MULTILINE | re.DOTALL
)


def spoil(name: str, one: Sabotage, good: str, selection: Selection, values: Mapping[str, str]) -> str:
    """Make one bad image and return its tag. `values` fill the placeholders in the context's files."""
    tag = f"gesso-sabotage:{name}-{os.getpid()}"
    _HOW[one.how](one, good, tag, selection, values)
    return tag


def _derive(one: Sabotage, good: str, tag: str, _selection: Selection, values: Mapping[str, str]) -> None:
    files = {name: _filled(text, values).encode() for name, text in one.files.items()}
    files["Dockerfile"] = "\n".join([f"FROM {good}", *one.lines, ""]).encode()
    for line in one.lines:
        if match := re.match(r"COPY (([A-Za-z]+)-([\d.]+)-py3-none-any\.whl) ", line):
            files[match[1]] = _wheel(match[2], match[3])
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            archive.addfile(info, io.BytesIO(data))
    done = subprocess.run(["docker", "buildx", "build", "--quiet", "--load", "--network", "none", "--tag", tag, "-"],
                          input=context.getvalue(), capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-3000:]


def _filled(text: str, values: Mapping[str, str]) -> str:
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", value)
    return text


def _wheel(name: str, version: str) -> bytes:
    """Make a wheel that installs and does nothing."""
    module, info = name.lower(), f"{name}-{version}.dist-info"
    files = {
        f"{module}/__init__.py": f"__version__ = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return packed.getvalue()


def _squash(_one: Sabotage, good: str, tag: str, _selection: Selection, _values: Mapping[str, str]) -> None:
    """Flatten it, and set the same config again."""
    shown = subprocess.run(["docker", "image", "inspect", good], capture_output=True, check=True)
    config = json.loads(shown.stdout)[0]["Config"]
    changes = [f"ENV {pair.split('=', 1)[0]}={json.dumps(pair.split('=', 1)[1])}" for pair in config["Env"]]
    changes += [f"LABEL {key}={json.dumps(value)}" for key, value in config["Labels"].items()]
    changes += [f"ENTRYPOINT {json.dumps(config['Entrypoint'])}", f"WORKDIR {config['WorkingDir']}", "EXPOSE 8188"]
    changes += ['HEALTHCHECK --interval=30s --timeout=10s --start-period=10m --retries=3 CMD ["gesso", "health"]']
    made = subprocess.run(["docker", "create", good], capture_output=True, check=True, text=True).stdout.strip()
    try:
        arguments = " ".join(f"--change {_quoted(change)}" for change in changes)
        subprocess.run(["sh", "-c", f"docker export {made} | docker import {arguments} - {tag}"], check=True,
                       capture_output=True)  # fmt: skip
    finally:
        subprocess.run(["docker", "rm", made], capture_output=True, check=True)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _without_last_layer(_one: Sabotage, _good: str, tag: str, selection: Selection, _values: Mapping[str, str]) -> None:
    _rebuild(tag, selection, lambda text: _LAST.sub("", text))


def _without_assertion(_one: Sabotage, _good: str, tag: str, selection: Selection, _values: Mapping[str, str]) -> None:
    _rebuild(tag, selection, lambda text: re.sub(r" && python -c 'import sqlalchemy.*\n", "", text))


def _rebuild(tag: str, selection: Selection, change: Callable[[str], str]) -> None:
    """Build from a changed Dockerfile; everything before the change is in the build cache."""
    with tempfile.TemporaryDirectory() as scratch:
        context = Path(scratch) / "context"
        build.write_context(selection, context, os.environ, lambda _: None)
        dockerfile = context / "Dockerfile"
        text = dockerfile.read_text()
        assert change(text) != text, "the Dockerfile has no such step any more"
        dockerfile.write_text(change(text))
        buildx.build(context, (tag,), env=os.environ, builder=None, on_event=lambda _: None)


_HOW = {
    "derive": _derive,
    "squash": _squash,
    "without_last_layer": _without_last_layer,
    "without_assertion": _without_assertion,
}
