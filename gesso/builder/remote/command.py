"""`invoke heal`: find the instance, heal it over SSH or through Vast.ai's API, and report."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gesso import report
from gesso.builder.image import build
from gesso.builder.remote import heal as remote
from gesso.builder.remote import ssh
from gesso.builder.vast import audit
from gesso.builder.vast.instances import InstanceClient
from gesso.dotenv import with_tokens
from gesso.errors import CheckError, ManifestError, PublishError
from gesso.models.wanted import from_lock
from gesso.settings import Project, select

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gesso.builder.vast.instances import Instance


@dataclass(frozen=True)
class HealRequest:
    """The flags of `invoke heal`."""

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

    def validated(self) -> HealRequest:
        """Return itself. Raises ManifestError (usage) for flags that do not go together."""
        problems = {
            "no instance is given": not self.ssh and not self.instance,
            "--ssh and --instance exclude each other": bool(self.ssh) and bool(self.instance),
            "--no-ssh needs --instance: it uses Vast.ai's API": self.no_ssh and not self.instance,
            "--apply is for --no-ssh; over SSH, heal repairs unless --dry-run is given": self.apply and not self.no_ssh,
            "--apply and --dry-run exclude each other": self.apply and self.dry_run,
            f"--instance {self.instance[:40]!r}: not a number": bool(self.instance)
            and re.fullmatch(r"[0-9]{1,18}", self.instance) is None,
        }
        if found := [text for text, applies in problems.items() if applies]:
            raise ManifestError("; ".join(found), "invoke heal --ssh USER@HOST:PORT, or invoke heal --instance ID")
        return self


def heal(project: Project, request: HealRequest, env: Mapping[str, str], on_progress: Callable[[str], None]) -> int:
    """Heal one instance, and return the exit code.

    Raises GessoError of every kind.
    """
    request.validated()
    selection = select(project, request.arch, request.overlays, trial=request.trial) if request.arch else None
    if request.no_ssh:
        return _without_ssh(
            project, request, InstanceClient.of(with_tokens(project.root, env), on_progress), on_progress
        )
    if request.ssh:
        target = ssh.parse(request.ssh)
    else:
        target = _address(InstanceClient.of(with_tokens(project.root, env), on_progress).running(int(request.instance)))
    if request.instance:
        on_progress(f"instance {request.instance}: SSH at {target}")
    options = remote.HealOptions(request.dry_run, request.events, request.as_json, selection, request.comfyui)
    return remote.heal(ssh.Connection(target, request.accept_new), options, env, on_progress)


def _address(instance: Instance) -> ssh.Target:
    if not instance.host:
        raise PublishError(
            f"instance {instance.number}: Vast.ai lists no SSH address",
            "launch it in SSH mode, or use --no-ssh, which checks only its models",
        )
    shown = f"[{instance.host}]" if ":" in instance.host else instance.host
    return ssh.parse(f"root@{shown}:{instance.port}")


def _without_ssh(
    project: Project, request: HealRequest, vast: InstanceClient, on_progress: Callable[[str], None]
) -> int:
    instance = vast.running(int(request.instance))
    arch = request.arch or arch_of(instance.image, project.archs())
    if not arch:
        raise ManifestError(
            f"instance {instance.number}: its image ({instance.image or 'unknown'}) does not identify its architecture",
            f"pass --arch {' or '.join(project.archs())}",
        )
    manifest, locked = build.prepare(select(project, arch, request.overlays, trial=request.trial))
    found = audit.heal(vast, instance, from_lock(manifest, locked.lock), apply=request.apply, on_progress=on_progress)
    if request.as_json:
        report.result_json({**found.as_json(), "instance": instance.number, "arch": arch})
    else:
        report.result("\n".join([*map(str, found.seen), describe(found, arch)]))
    if found.wrong and not found.rebooted and not request.as_json:
        raise CheckError("models are missing or have another size than the lock says", "--apply removes bad files "
                         "and reboots the instance: its boot fetches and verifies the models")  # fmt: skip
    return 1 if found.wrong and not found.rebooted else 0


def describe(found: audit.Audit, arch: str) -> str:
    """Summarize an audit in one line. Pure."""
    if found.rebooted:
        gone = f"removed {', '.join(found.removed)}; " if found.removed else ""
        return f"{gone}rebooting: the boot fetches and verifies the models (progress: the instance's page)"
    sizes = sum(seen.state == "size only" for seen in found.seen)
    unconfirmed = sum(seen.state == "unconfirmed size" for seen in found.seen)
    more = f"; {unconfirmed} differ from an unconfirmed size in the lock" if unconfirmed else ""
    return f"{arch}: {sizes} of {len(found.seen)} models have the lock's size{more}; sizes alone prove nothing"


def arch_of(image: str, archs: Sequence[str]) -> str:
    """Return a gesso image's architecture where its reference names exactly one. Pure."""
    parts = re.split(r"[^a-z0-9]+", image.partition("@")[0].lower())
    named = [arch for arch in archs if arch in parts]
    return named[0] if len(named) == 1 else ""
