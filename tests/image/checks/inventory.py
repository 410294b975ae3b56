"""Every file has an owner: the base, a Debian package, a distribution, a source at its commit, or gesso.

A file without an owner was added by somebody: a second Python, a leftover, a backdoor.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import debian, python
from .config import base_layers
from .expected import some

if TYPE_CHECKING:
    from .expected import Expected
    from .image_snapshot import ImageSnapshot

_BYTECODE = re.compile(r"(?P<folder>.*/)?__pycache__/(?P<name>[^/]+?)\.cpython-\d+(\.opt-\d)?\.pyc\Z")
_STICKY = 0o1000
_SET_ID = 0o6000

# Files that installing creates and no package lists, each by its creator.
_MADE = re.compile(
    r"""
    etc/(\.pwd\.lock|group-?|gshadow-?|passwd-?|shadow-?|subuid-?|subgid-?|ld\.so\.cache|inputrc|networks|shells
        |python3/debian_config|ssl/certs/.*|ca-certificates\.conf|alternatives/.*)   # maintainer scripts
    |var/cache/(debconf/(config|passwords|templates)\.dat|ldconfig/aux-cache)
    |var/lib/(apt/extended_states|python/python3[.\d]*_installed
        |dpkg/(diversions(-old)?|lock(-frontend)?|status(-old)?|statoverride(-old)?|triggers/(File|Lock|Unincorp)|info/.*)
        |systemd/deb-systemd-helper-enabled/.*|caddy/\.(bash_logout|bashrc|profile))
    |etc/systemd/system/multi-user\.target\.wants/caddy\.service
    |opt/venv/(pyvenv\.cfg|lib64|bin/(python|python3|python3\.\d+|[Aa]ctivate(\.\w+)?)|\.gitignore)
    |opt/gesso/venv/(pyvenv\.cfg|lib64|\.gitignore|CACHEDIR\.TAG
        |bin/(python|python3|python3\.\d+|(de)?activate(\.\w+)?|activate_this\.py|pydoc\.bat))
    |opt/gesso/(build\.json|spare/[\w.-]+\.tar\.xz|wheels/[\w.+-]+\.whl)
    |opt/gesso/cache/matplotlib/fontlist-v[\d.]+\.json                                # the rehearsal
    |opt/gesso/(models|mirror)/.*                                                      # compared in own.py
    |opt/ComfyUI/.*                                                                    # compared in sources.py
    """,
    re.VERBOSE,
)


def owners(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Name every file above the base that has no owner."""
    low = base_layers(snapshot, expected)
    known = debian.owned(snapshot) | set(expected.texts)
    for venv in (python.VENV, python.OWN_VENV):
        known |= {path for _, path, _ in python.records(snapshot, python.site(expected, venv))}
    root = expected.selection.project.images / "rootfs"
    known |= {path.relative_to(root).as_posix() for path in root.rglob("*")}
    strangers = []
    for path, entry in snapshot.files.items():
        if entry.kind == "folder" or entry.layer < low or path in known or _MADE.fullmatch(path):
            continue
        bytecode = _BYTECODE.match(path)
        if bytecode is None or f"{bytecode['folder'] or ''}{bytecode['name']}.py" not in snapshot.files:
            strangers.append(f"/{path} (layer {entry.layer}): has no owner")
    return some(strangers)


def permissions(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Name files that everybody may write, new setuid files, and files that are not root's."""
    low = base_layers(snapshot, expected)
    debians = debian.owned(snapshot)
    problems = []
    for path, entry in snapshot.files.items():
        if entry.kind == "link" or path.startswith("dev/"):
            continue
        if entry.mode & 0o002 and not (entry.kind == "folder" and entry.mode & _STICKY):
            problems.append(f"/{path} can be written by everybody ({entry.mode:o})")
        if entry.layer >= low and entry.kind == "file" and entry.mode & _SET_ID:
            problems.append(f"/{path} runs as its owner ({entry.mode:o})")
        if (
            entry.layer >= low
            and entry.owner != (0, 0)
            and path not in debians
            and not path.startswith(("var/", "etc/"))
        ):
            problems.append(f"/{path} belongs to {entry.owner[0]}:{entry.owner[1]}, not to root")
    return some(problems)


def leftovers(snapshot: ImageSnapshot) -> list[str]:
    """Name leftovers of a build: caches, lists, logs, temporary files, a shell's history."""
    pattern = re.compile(
        r"(tmp|var/tmp|run|root|home|var/lib/apt/lists|var/cache/apt|var/log|workspace|mnt|media|srv)/.+"
        r"|.*/(\.cache|\.git|\.hg|\.svn|\.pytest_cache|\.ruff_cache|\.mypy_cache|node_modules)/.+|.*\.(swp|orig|rej|bak)"
    )
    allowed = re.compile(r"root/\.(bashrc|profile)|run/lock|var/log/(apt|lastlog|wtmp|btmp|faillog|README)")
    return some(f"/{path} was left behind" for path, entry in snapshot.files.items()
                if entry.kind == "file" and entry.size and pattern.fullmatch(path)
                and not allowed.fullmatch(path))  # fmt: skip
