"""Heal an instance over SSH: gesso's own with the program that it has, a foreign one with one that is sent there."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso import report
from gesso.builder.remote import bundle, payload_text, ssh
from gesso.errors import CheckError, ManifestError, PublishError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gesso import proc
    from gesso.builder.remote.bundle import Python
    from gesso.builder.remote.ssh import Door
    from gesso.settings import Selection

    Say = Callable[[str], None]

IMAGE = "/opt/gesso/venv/bin"  # where a gesso image has its own Python and its command
FIND = Path(__file__).resolve().parents[2] / "runtime" / "foreign" / "discover.py"  # read as text: it is run there
_FOUND = "gesso-found "
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
STOP = b"stop\n"


@dataclass(frozen=True)
class Asked:
    """What the person asked for; `selection` is needed on a foreign instance, `comfyui` says where it is there."""

    dry_run: bool = False
    events: bool = False
    as_json: bool = False
    selection: Selection | None = None
    comfyui: str = ""

    @property
    def flags(self) -> list[str]:
        """The flags of the program over there."""
        return [*["--dry-run"] * self.dry_run, *["--events"] * self.events, *["--json"] * self.as_json, "--by", "ssh"]


@dataclass(frozen=True)
class Probed:
    """What is there."""

    image: bool
    pythons: tuple[Python, ...]


def heal(door: Door, asked: Asked, env: Mapping[str, str], say: Say) -> int:
    """Heal what is behind this door, telling what happens as it happens; give the exit code of the program there.

    Raises PublishError where ssh cannot, ManifestError where something else must be asked for, and what making a bundle
    raises.
    """
    probed = probe(door)
    if probed.image:
        say(f"{door.target}: a gesso image")
        result = _run(door, f"{IMAGE}/python", [f"{IMAGE}/gesso", "heal", *asked.flags])
        if result.code in {126, 127} or "invalid choice: 'heal'" in result.output:
            raise PublishError(
                f"{door.target}: its gesso does not work, or is from before there was heal: {_plain(result.tail(1))}",
                "start a fresh instance of a new image",
            )
        return result.code
    if asked.selection is None:
        raise ManifestError(
            f"{door.target}: is no gesso image: what should its ComfyUI be made fit for?",
            "name the architecture: --arch NAME",
        )
    runner = bundle.choose(probed.pythons)
    found = find(door, runner, asked.comfyui)
    comfyuis = facts(door, found["python"])
    state = f"runs as process {found['pid']}" if found["pid"] else "does not run"
    say(f"{door.target}: a foreign instance; ComfyUI in {found['folder']} {state}, with {comfyuis}")
    with tempfile.TemporaryDirectory(prefix="gesso-heal-") as scratch:
        made = bundle.make(asked.selection, runner, comfyuis, Path(scratch) / "bundle", env, say)
        folder = found["home"] + f"/heal-{made.digest}"
        if made.digest in found["kept"]:
            say("bundle: is there already")
        else:
            folder = send(door, runner, made, Path(scratch) / "bundle.tar.gz", say)
    where = ["--comfyui", asked.comfyui] if asked.comfyui else []
    return _run(door, runner.path, [runner.path, "-I", f"{folder}/heal.py", *asked.flags, *where]).code


def probe(door: Door) -> Probed:
    """Ask what is there. Raises PublishError."""
    script = f"FACTS={shlex.quote(payload_text.FACTS)}\n{payload_text.PROBE}"
    result = door.run("sh", stdin=script.encode())
    lines = marked(result.stdout, payload_text.MARK)
    if not result.ok:
        raise PublishError(f"{door.target}: its shell ended with {result.code}: {_plain(result.tail(1))}",
                           "see what `ssh` alone does there")  # fmt: skip
    found = [python for line in lines if (python := python_of(line)) is not None]
    unique = {python.path: python for python in found}
    return Probed("image" in lines, tuple(unique.values()))


def facts(door: Door, path: str) -> Python:
    """Ask what one Python there is. Raises PublishError."""
    result = door.run(ssh.python(path, payload_text.FACTS))
    for line in marked(result.stdout, payload_text.MARK):
        if (python := python_of(line)) is not None:
            return python
    raise PublishError(f"{door.target}: {_plain(path)}, which runs ComfyUI, does not work: {_plain(result.tail(1))}",
                       "mend it, or say where ComfyUI is: --comfyui DIR")  # fmt: skip


def find(door: Door, runner: Python, chosen: str) -> dict[str, Any]:
    """Ask where ComfyUI is. Raises CheckError where there is none, PublishError where there is no answer."""
    result = door.run(ssh.python(runner.path, FIND.read_text(encoding="utf-8"), [chosen] * bool(chosen)))
    try:
        said = json.loads(marked(result.stdout, _FOUND)[-1])
        if "error" in said:
            raise CheckError(f"{door.target}: {_plain(said['error'])}", _plain(said["next"]))
        kept = [str(name) for name in said["kept"]]
        return {"folder": _plain(said["folder"]), "python": str(said["python"]), "pid": int(said["pid"]), "kept": kept,
                "home": str(said["home"])}  # fmt: skip
    except (ValueError, LookupError, TypeError):
        raise PublishError(f"{door.target}: cannot be looked at: {_plain(result.tail(1))}",
                           "see what `ssh` alone does there") from None  # fmt: skip


def send(door: Door, runner: Python, made: bundle.Bundle, packed: Path, say: Say) -> str:
    """Send a bundle and have it unpacked; give the folder that it is in. Raises PublishError."""
    size = made.pack(packed)
    say(f"bundle: sending {size / 1e6:.1f} MB")
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    result = door.run(ssh.python(runner.path, payload_text.RECEIVE, [digest, f"heal-{made.digest}"]), stdin=packed)
    lines = marked(result.output, payload_text.MARK)
    if not result.ok or not lines:
        why = lines[-1] if lines else result.tail(1)
        raise PublishError(f"{door.target}: the bundle could not be put there: {_plain(why)}",
                           "make room in the home directory there, then run this again")  # fmt: skip
    return lines[-1]


def _run(door: Door, python: str, command: Sequence[str]) -> proc.Result:
    began = False

    def on_line(line: str) -> None:
        nonlocal began
        if began:
            report.result(_plain(line))
        began = began or line == payload_text.BEGINS

    return door.run(
        ssh.python(python, payload_text.KEEP, command),
        goodbye=STOP,
        on_line=on_line,
        on_error=lambda line: report.say(_plain(line)),
    )


def marked(text: str, mark: str) -> list[str]:
    """Give what follows a mark, by line: login scripts may print anything else. Pure."""
    return [line.split(mark, 1)[1].strip() for line in text.splitlines() if line.startswith(mark)]


def python_of(line: str) -> Python | None:
    """Read what a Python said of itself; None for another line. Pure."""
    try:
        said = json.loads(line)
        major, minor, micro = map(int, said["version"])
        libc = re.fullmatch(r"2\.(\d+)(\.\d+)*", said["libc"])
        return bundle.Python(_plain(said["python"]), (major, minor, micro), _plain(said["implementation"]),
                             _plain(said["machine"]), int(libc[1]) if libc else 0)  # fmt: skip
    except (ValueError, LookupError, TypeError):
        return None


def _plain(text: object) -> str:
    """Drop what a terminal would take for a command: the other end is somebody else's machine."""
    return _CONTROL.sub("", str(text))
