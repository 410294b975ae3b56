"""`invoke heal`: which instance, by which way, and what is told of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso import report
from gesso.builder.image import build
from gesso.builder.remote import heal as remote
from gesso.builder.remote import ssh
from gesso.builder.vast import audit
from gesso.builder.vast.instances import Vast
from gesso.dotenv import with_tokens
from gesso.errors import CheckError, ManifestError, PublishError
from gesso.models.wanted import from_lock
from gesso.settings import Project, select

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gesso.builder.vast.instances import Instance


@dataclass(frozen=True)
class Wish:
    """The flags of `invoke heal`, as they were given."""

    ssh: str = ""
    instance: str = ""
    arch: str = ""
    overlays: tuple[str, ...] = ()
    trial: bool = False
    no_ssh: bool = False
    apply: bool = False
    dry_run: bool = False
    events: bool = False
    as_json: bool = False
    accept_new: bool = False
    comfyui: str = ""

    def checked(self) -> Wish:
        """Give itself. Raises ManifestError (usage) for flags that do not belong together."""
        wrong = {
            "say which instance": not self.ssh and not self.instance,
            "--ssh and --instance both name one": bool(self.ssh) and bool(self.instance),
            "--no-ssh needs --instance: it asks Vast.ai": self.no_ssh and not self.instance,
            "--apply is for --no-ssh; by SSH, heal repairs unless --dry-run is given": self.apply and not self.no_ssh,
            "--apply and --dry-run exclude each other": self.apply and self.dry_run,
            f"--instance {self.instance[:40]!r}: is no number": bool(self.instance)
            and re.fullmatch(r"[0-9]{1,18}", self.instance) is None,
        }
        if found := [text for text, holds in wrong.items() if holds]:
            raise ManifestError("; ".join(found), "invoke heal --ssh USER@HOST:PORT, or invoke heal --instance ID")
        return self


def heal(project: Project, wish: Wish, env: Mapping[str, str], say: Callable[[str], None]) -> int:
    """Heal one instance, and give the exit code.

    Raises every kind of GessoError that the way there can end with.
    """
    wish.checked()
    selection = select(project, wish.arch, wish.overlays, trial=wish.trial) if wish.arch else None
    if wish.no_ssh:
        return _without_ssh(project, wish, Vast.of(with_tokens(project.root, env), say), say)
    if wish.ssh:
        target = ssh.parse(wish.ssh)
    else:
        target = _address(Vast.of(with_tokens(project.root, env), say).running(int(wish.instance)))
    if wish.instance:
        say(f"instance {wish.instance}: its sshd is at {target}")
    asked = remote.Asked(wish.dry_run, wish.events, wish.as_json, selection, wish.comfyui)
    return remote.heal(ssh.Door(target, wish.accept_new), asked, env, say)


def _address(instance: Instance) -> ssh.Target:
    if not instance.host:
        raise PublishError(
            f"instance {instance.number}: Vast.ai names no address of its sshd",
            "launch it in SSH mode, or use --no-ssh, which looks at its models alone",
        )
    shown = f"[{instance.host}]" if ":" in instance.host else instance.host
    return ssh.parse(f"root@{shown}:{instance.port}")


def _without_ssh(project: Project, wish: Wish, vast: Vast, say: Callable[[str], None]) -> int:
    instance = vast.running(int(wish.instance))
    arch = wish.arch or arch_of(instance.image, project.archs())
    if not arch:
        raise ManifestError(
            f"instance {instance.number}: its image ({instance.image or 'unknown'}) does not tell its architecture",
            f"name it: --arch {' or '.join(project.archs())}",
        )
    manifest, locked = build.prepare(select(project, arch, wish.overlays, trial=wish.trial))
    found = audit.heal(vast, instance, from_lock(manifest, locked.lock), apply=wish.apply, say=say)
    if wish.as_json:
        report.result_json({**found.as_json(), "instance": instance.number, "arch": arch})
    else:
        report.result("\n".join([*map(str, found.seen), told(found, arch)]))
    if found.wrong and not found.rebooted and not wish.as_json:
        raise CheckError("models are missing or have another size than the lock says", "with --apply they are removed "
                         "and the instance is rebooted: its boot fetches and verifies them")  # fmt: skip
    return 1 if found.wrong and not found.rebooted else 0


def told(found: audit.Audit, arch: str) -> str:
    """Sum an audit up in a line. Pure."""
    if found.rebooted:
        gone = f"removed {', '.join(found.removed)}; " if found.removed else ""
        return f"{gone}rebooting: the boot fetches what lacks and verifies all (the instance's page shows it)"
    sizes = sum(seen.state == "size only" for seen in found.seen)
    return f"{arch}: {sizes} of {len(found.seen)} models have the lock's size; sizes alone prove nothing"


def arch_of(image: str, archs: Sequence[str]) -> str:
    """Tell a gesso image's architecture from its reference, where that names just one. Pure."""
    words = re.split(r"[^a-z0-9]+", image.partition("@")[0].lower())
    named = [arch for arch in archs if arch in words]
    return named[0] if len(named) == 1 else ""
