"""Paths inside an instance, and the record of its image (build.json)."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gesso import small_files
from gesso.errors import CheckError
from gesso.models.folder import Folder
from gesso.runtime import locks

PUBLIC_PORT = 8188
COMFY_PORT = 18188
COMFY_USER = 18188  # user and group of ComfyUI where the container starts as root; `comfyui` in /etc/passwd
_MEMORY = "dev/shm"  # writable by every user, also in a container with a read-only root
_PREFIX = "gesso-"  # of the run folders there: gesso-UID


@dataclass(frozen=True)
class Layout:
    """The folders of an instance; tests use other roots."""

    gesso: Path = Path("/opt/gesso")
    comfyui: Path = Path("/opt/ComfyUI")
    venv: Path = Path("/opt/venv")
    workspace: Path = Path("/workspace")
    run: Path = Path("/run/gesso")
    logs: Path = Path("/var/log/gesso")
    root: Path = Path("/")  # of every path outside of the folders above

    @property
    def site_packages(self) -> Path:
        """ComfyUI's Python packages.

        Raises CheckError unless its venv holds exactly one Python.
        """
        found = sorted(self.venv.glob("lib/python3.*/site-packages"))
        if len(found) != 1:
            raise CheckError(f"{self.venv}: holds {len(found)} Pythons, expected one", "start a fresh instance")
        return found[0]

    @property
    def state(self) -> Path:
        """What gesso stores for an instance: the token, the files that it replaced."""
        return self.workspace / "gesso"

    @property
    def home(self) -> Path:
        """Home directory of the programs where their user has none that is writable."""
        return self.state / "home"

    @property
    def temporary(self) -> Path:
        """Folder for temporary files where /tmp is not writable."""
        return self.state / "tmp"

    @property
    def comfyui_temporary(self) -> Path:
        """The only folder below the run folder that ComfyUI may write."""
        return self.run / "comfyui"

    @property
    def environment(self) -> Path:
        """The environment that the instance was started with, secrets included: readable by its owner only."""
        return self.run / "environment.json"

    @property
    def agent_socket(self) -> Path:
        """Where the agent listens: a file that only the instance's own user can connect to, not a port.

        Node packs cannot use the agent without the token, and two instances in one network namespace do not collide.
        """
        return self.run / "agent.sock"

    @property
    def comfyui_socket(self) -> Path:
        """Where Caddy itself listens for what it sends on to ComfyUI while the agent is away."""
        return self.run / "comfyui.sock"

    @property
    def reports(self) -> Path:
        """The journals and reports of heals."""
        return self.state / "reports"

    @property
    def heal_lock(self) -> Path:
        """Held by the running heal."""
        return self.state / "heal.lock"

    @property
    def models_lock(self) -> Path:
        """Held while a heal repairs the models: the agent then does not touch them."""
        return self.run / "models.lock"

    @property
    def pending_restart(self) -> Path:
        """Marks that a restart of ComfyUI is pending after a repair: a heal may be killed in between."""
        return self.run / "comfyui.owed"

    @property
    def spare(self) -> Path:
        """What heal restores from: an archive of each built-in component."""
        return self.gesso / "spare"

    def locate(self, path: str) -> tuple[Path, str]:
        """Return where a path of the image lies: a trusted base folder, and the rest below it."""
        for prefix, folder in (("/opt/ComfyUI", self.comfyui), ("/opt/gesso", self.gesso)):
            if path == prefix or path.startswith(f"{prefix}/"):
                return folder, path.removeprefix(prefix).strip("/")
        parent, _, name = path.rpartition("/")
        return self.root / parent.strip("/"), name

    @property
    def models(self) -> Path:
        """The model files, by ComfyUI's folder names."""
        return self.workspace / "models"

    @property
    def baked(self) -> Path:
        """The model files baked into the image."""
        return self.gesso / "models"

    @property
    def user(self) -> Path:
        """ComfyUI's user directory."""
        return self.workspace / "user"


def find_layout(root: Path = Path("/"), user: int | None = None) -> Layout:
    """Return this instance's layout, with the run and log folders of its supervisor, or of a boot by this user now.

    /run/gesso and /var/log/gesso where they are writable. Otherwise (a read-only root, another user) the run folder is
    in memory, /dev/shm/gesso-UID, and the logs are in it. Every command finds the same: a live supervisor comes first,
    and logs in the run folder are there only because its boot put them there.
    """
    user = os.geteuid() if user is None else user
    candidates = [root / "run/gesso", *_in_memory(root / _MEMORY, user)]
    live = (folder for folder in candidates if locks.is_held(folder / "boot.lock"))
    run = next(live, None) or next(filter(_usable, candidates), candidates[0])
    logs = root / "var/log/gesso"
    return Layout(run=run, logs=logs if not (run / "log").is_dir() and _usable(logs) else run / "log")


def _in_memory(parent: Path, user: int) -> list[Path]:
    """Return the run folders in memory that this user may trust: its own, and for root everybody's."""
    own = parent / f"{_PREFIX}{user}"
    others = sorted(parent.glob(f"{_PREFIX}*")) if user == 0 else []
    return [own] * (not os.path.lexists(own) or _belongs_to_its_user(own)) + [
        folder for folder in others if folder != own and _belongs_to_its_user(folder)
    ]


def _belongs_to_its_user(folder: Path) -> bool:
    """Return whether the folder is that of the user whose number is in its name: anybody may create names there."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    named = folder.name.removeprefix(_PREFIX)
    return stat.S_ISDIR(found.st_mode) and str(found.st_uid) == named and not found.st_mode & 0o022


def _usable(folder: Path) -> bool:
    """Return whether a folder is writable, or can be created."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


@dataclass(frozen=True)
class Spare:
    """An archive of a built-in component, `Layout.spare`/NAME.tar.xz; `target` is the folder that it was made from.

    `loose`: the image build put other files there too, so extra files are not damage.
    """

    name: str
    sha256: str
    target: str
    loose: bool = False


@dataclass(frozen=True)
class Record:
    """/opt/gesso/build.json: what the image contains."""

    arch: str
    title: str
    trial: bool
    classes: tuple[str, ...]
    pins: dict[str, str]
    workflows: dict[str, str]
    raw: dict[str, Any] = field(repr=False)
    baked: tuple[str, ...] = ()  # models in layers of the image, below Layout.baked
    spares: tuple[Spare, ...] = ()  # empty in older images
    workflow_titles: dict[str, str] = field(default_factory=dict)  # by name; empty in older images


def models_folder(layout: Layout) -> Folder:
    """Return the models folder; its bookkeeping goes to `Layout.state` if the folder is read-only."""
    root = layout.models
    if root.is_dir() and not os.access(root, os.W_OK):
        return Folder.at(root, layout.state / "models")
    return Folder.at(root)


def read_record(layout: Layout) -> Record:
    """Read the image's record.

    Raises CheckError if this is not a gesso image.
    """
    path = layout.gesso / "build.json"
    try:
        raw: dict[str, Any] = small_files.read_json(path)
        return Record(
            arch=raw["arch"],
            title=raw["title"],
            trial=raw["trial"],
            classes=tuple(raw["classes"]),
            pins=raw["python"]["pins"],
            workflows=raw["workflows"],
            baked=tuple(raw.get("baked", ())),
            spares=tuple(Spare(name, **spare) for name, spare in raw.get("spares", {}).items()),
            workflow_titles=dict(raw.get("workflow_titles", {})),
            raw=raw,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckError(f"{path}: {type(error).__name__}: {error}", "run this inside a gesso image") from None
