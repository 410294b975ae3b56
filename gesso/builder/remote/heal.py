"""Heal an instance over SSH: a gesso image with its own gesso, a foreign one with a bundle that is sent there."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso import report
from gesso.builder.remote import bundle, payload, ssh
from gesso.errors import CheckError, ManifestError, PublishError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gesso import proc
    from gesso.builder.remote.bundle import Python
    from gesso.builder.remote.ssh import Connection
    from gesso.settings import Selection

    OnProgress = Callable[[str], None]

IMAGE = "/opt/gesso/venv/bin"  # a gesso image's own Python and command
DISCOVER = files("gesso").joinpath("runtime/foreign/discover.py")  # sent to the instance as text; never imported
_DISCOVER_MARK = "gesso-found "
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
STOP = b"stop\n"


@dataclass(frozen=True)
class HealOptions:
    """Options of a heal; `selection` is required for a foreign instance, `comfyui` is its folder there."""

    dry_run: bool = False
    events: bool = False
    as_json: bool = False
    selection: Selection | None = None
    comfyui: str = ""

    @property
    def flags(self) -> list[str]:
        """The flags of the heal on the instance."""
        return [*["--dry-run"] * self.dry_run, *["--events"] * self.events, *["--json"] * self.as_json, "--by", "ssh"]


@dataclass(frozen=True)
class Probe:
    """Whether it is a gesso image, and the Pythons found."""

    image: bool
    pythons: tuple[Python, ...]


def heal(connection: Connection, options: HealOptions, env: Mapping[str, str], on_progress: OnProgress) -> int:
    """Heal the instance, reporting progress; return the exit code of the heal there.

    Raises PublishError where ssh fails, ManifestError where an option is missing, and what `build_bundle` raises.
    """
    probed = probe(connection)
    if probed.image:
        on_progress(f"{connection.target}: a gesso image")
        result = _run_heal(connection, f"{IMAGE}/python", [f"{IMAGE}/gesso", "heal", *options.flags])
        if result.code in {126, 127} or "invalid choice: 'heal'" in result.output:
            raise PublishError(
                f"{connection.target}: its gesso does not work, or is too old to heal: {_clean(result.tail(1))}",
                "start a new instance from a newer image",
            )
        return result.code
    if options.selection is None:
        raise ManifestError(
            f"{connection.target}: not a gesso image: the architecture to heal it for is required",
            "pass --arch NAME",
        )
    runner = bundle.choose(probed.pythons)
    found = find_comfyui(connection, runner, options.comfyui)
    comfyui_python = describe_python(connection, found["python"])
    state = f"runs as process {found['pid']}" if found["pid"] else "is not running"
    on_progress(f"{connection.target}: a foreign instance; ComfyUI in {found['folder']} {state}, with {comfyui_python}")
    with tempfile.TemporaryDirectory(prefix="gesso-heal-") as scratch:
        built = bundle.build_bundle(
            options.selection, runner, comfyui_python, Path(scratch) / "bundle", env, on_progress
        )
        folder = found["home"] + f"/heal-{built.digest}"
        if built.digest in found["kept"]:
            on_progress("bundle: exists already")
        else:
            folder = send_bundle(connection, runner, built, Path(scratch) / "bundle.tar.gz", on_progress)
    where = ["--comfyui", options.comfyui] if options.comfyui else []
    return _run_heal(connection, runner.path, [runner.path, "-I", f"{folder}/heal.py", *options.flags, *where]).code


def probe(connection: Connection) -> Probe:
    """Probe the instance. Raises PublishError."""
    script = f"DESCRIBE_PYTHON={shlex.quote(payload.text('describe_python.py'))}\n{payload.text('probe.sh')}"
    result = connection.run("sh", stdin=script.encode())
    lines = marked_lines(result.stdout, payload.MARK)
    if not result.ok:
        raise PublishError(f"{connection.target}: its shell exited with {result.code}: {_clean(result.tail(1))}",
                           "check what plain `ssh` does there")  # fmt: skip
    found = [python for line in lines if (python := parse_python(line)) is not None]
    unique = {python.path: python for python in found}
    return Probe("image" in lines, tuple(unique.values()))


def describe_python(connection: Connection, path: str) -> Python:
    """Return what one Python there is. Raises PublishError."""
    result = connection.run(ssh.python_command(path, payload.text("describe_python.py")))
    for line in marked_lines(result.stdout, payload.MARK):
        if (python := parse_python(line)) is not None:
            return python
    raise PublishError(
        f"{connection.target}: {_clean(path)}, which runs ComfyUI, does not work: {_clean(result.tail(1))}",
        "repair it, or pass ComfyUI's folder: --comfyui DIR",
    )


def find_comfyui(connection: Connection, runner: Python, chosen: str) -> dict[str, Any]:
    """Find ComfyUI there. Raises CheckError where there is none, PublishError for an unreadable response."""
    result = connection.run(
        ssh.python_command(runner.path, DISCOVER.read_text(encoding="utf-8"), [chosen] * bool(chosen))
    )
    try:
        response = json.loads(marked_lines(result.stdout, _DISCOVER_MARK)[-1])
        if "error" in response:
            raise CheckError(f"{connection.target}: {_clean(response['error'])}", _clean(response["next"]))
        return {
            "folder": _clean(response["folder"]), "python": str(response["python"]), "pid": int(response["pid"]),
            "kept": [str(name) for name in response["kept"]], "home": str(response["home"]),
        }  # fmt: skip
    except (ValueError, LookupError, TypeError):
        raise PublishError(f"{connection.target}: could not be inspected: {_clean(result.tail(1))}",
                           "check what plain `ssh` does there") from None  # fmt: skip


def send_bundle(
    connection: Connection, runner: Python, built: bundle.Bundle, packed: Path, on_progress: OnProgress
) -> str:
    """Send a bundle and unpack it there; return its folder. Raises PublishError."""
    size = built.pack(packed)
    on_progress(f"bundle: sending {size / 1e6:.1f} MB")
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    result = connection.run(
        ssh.python_command(runner.path, payload.text("receive.py"), [digest, f"heal-{built.digest}"]), stdin=packed
    )
    lines = marked_lines(result.output, payload.MARK)
    if not result.ok or not lines:
        why = lines[-1] if lines else result.tail(1)
        raise PublishError(f"{connection.target}: the bundle could not be unpacked there: {_clean(why)}",
                           "free disk space in the home directory there, then run this again")  # fmt: skip
    return lines[-1]


def _run_heal(connection: Connection, python: str, command: Sequence[str]) -> proc.Result:
    started = False

    def on_line(line: str) -> None:
        nonlocal started
        if started:
            report.result(_clean(line))
        started = started or line == payload.BEGINS

    return connection.run(
        ssh.python_command(python, payload.text("keep.py"), command),
        interrupt_input=STOP,
        on_line=on_line,
        on_error=lambda line: report.progress(_clean(line)),
    )


def marked_lines(text: str, mark: str) -> list[str]:
    """Return what follows a mark, by line: login scripts may print anything else. Pure."""
    return [line.split(mark, 1)[1].strip() for line in text.splitlines() if line.startswith(mark)]


def parse_python(line: str) -> Python | None:
    """Parse a Python's description of itself; None for another line. Pure."""
    try:
        fields = json.loads(line)
        major, minor, micro = map(int, fields["version"])
        libc = re.fullmatch(r"2\.(\d+)(\.\d+)*", fields["libc"])
        return bundle.Python(_clean(fields["python"]), (major, minor, micro), _clean(fields["implementation"]),
                             _clean(fields["machine"]), int(libc[1]) if libc else 0)  # fmt: skip
    except (ValueError, LookupError, TypeError):
        return None


def _clean(text: object) -> str:
    """Drop terminal control characters: the other end is not trusted."""
    return _CONTROL.sub("", str(text))
