"""`invoke heal`: invalid flags, and from an id at Vast.ai to the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gesso.builder.image.build import prepare
from gesso.builder.remote import command
from gesso.builder.remote import heal as remote
from gesso.builder.remote.command import HealRequest
from gesso.builder.vast import audit
from gesso.builder.vast.instances import InstanceClient
from gesso.errors import CheckError, ManifestError, PublishError
from gesso.models.wanted import from_lock
from gesso.settings import Project, Selection
from tests.integration.builder.fake_vast import instance

if TYPE_CHECKING:
    from gesso.builder.remote.ssh import Connection
    from tests.integration.builder.fake_vast import FakeVast

PROJECT = Project(Path(__file__).resolve().parents[4])
WITHOUT = HealRequest(instance="7", no_ssh=True)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (HealRequest(), "no instance is given"),
        (HealRequest(arch="sdxl"), "no instance is given"),
        (HealRequest(ssh="root@h", instance="7"), "--ssh and --instance exclude each other"),
        (HealRequest(ssh="root@h", no_ssh=True), "--no-ssh needs --instance"),
        (HealRequest(instance="7", apply=True), "--apply is for --no-ssh"),
        (HealRequest(instance="7", no_ssh=True, apply=True, dry_run=True), "exclude each other"),
        (HealRequest(instance="seven"), "not a number"),
        (HealRequest(instance="7/../8"), "not a number"),
        (HealRequest(instance="-7"), "not a number"),
    ],
)
def test_invalid_flags(flags: HealRequest, why: str) -> None:
    with pytest.raises(ManifestError, match=why):
        command.heal(PROJECT, flags, {}, lambda _: None)


def test_without_a_key_no_request_is_sent() -> None:
    with pytest.raises(PublishError, match="there is no key"):
        command.heal(PROJECT, HealRequest(instance="7"), {"HOME": "/nonexistent"}, lambda _: None)


@pytest.fixture
def _vast(vast: InstanceClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InstanceClient, "of", lambda *_: vast)


@pytest.fixture
def sizes(service: FakeVast) -> dict[str, int]:
    manifest, locked = prepare(Selection(PROJECT, "sdxl"))
    found = {audit.path_of(m.name): m.size or 5_000_000 for m in from_lock(manifest, locked.lock)}
    service.files |= found
    return found


@pytest.mark.usefixtures("_vast")
def test_without_ssh_end_to_end(service: FakeVast, sizes: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.heal(PROJECT, WITHOUT, {}, lambda _: None) == 0
    assert "sizes alone prove nothing" in capsys.readouterr().out
    stub = audit.path_of("checkpoints/Juggernaut-XL-v9.safetensors")
    service.files[stub] = 710_000
    with pytest.raises(CheckError) as raised:
        command.heal(PROJECT, WITHOUT, {}, lambda _: None)
    assert "--apply" in raised.value.next_step
    assert "a stub: 710,000 bytes, the lock says 7,105,348,188" in capsys.readouterr().out
    assert stub in service.files
    applied = HealRequest(instance="7", no_ssh=True, apply=True)
    assert command.heal(PROJECT, applied, {}, lambda _: None) == 0
    assert "removed checkpoints/Juggernaut-XL-v9.safetensors; rebooting" in capsys.readouterr().out
    assert stub not in service.files


@pytest.mark.usefixtures("_vast")
def test_as_json(service: FakeVast, sizes: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    del service.files[next(iter(sizes))]
    assert command.heal(PROJECT, HealRequest(instance="7", no_ssh=True, as_json=True), {}, lambda _: None) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["instance"], found["arch"], found["rebooted"]) == (False, 7, "sdxl", False)
    assert {model["state"] for model in found["models"]} == {"missing", "size only"}


@pytest.mark.usefixtures("_vast")
def test_an_image_without_an_architecture_in_its_name(service: FakeVast) -> None:
    service.instances[7] = instance(image_uuid="someone/comfyui:latest")
    with pytest.raises(ManifestError, match="does not identify its architecture") as raised:
        command.heal(PROJECT, WITHOUT, {}, lambda _: None)
    assert raised.value.next_step == "pass --arch flux or sdxl"
    service.files.clear()
    with pytest.raises(CheckError, match="is no gesso image"):
        command.heal(PROJECT, HealRequest(instance="7", no_ssh=True, arch="sdxl"), {}, lambda _: None)


@pytest.mark.parametrize(
    ("image", "arch"),
    [("ghcr.io/x/gesso:sdxl", "sdxl"), ("ghcr.io/x/gesso-flux@sha256:ab", "flux"), ("x/gesso:sdxl-trial", "sdxl"),
     ("x/gesso:sdxl-flux", ""), ("x/gesso", ""), ("x/mysdxl", ""), ("", ""), ("x/gesso@sha256:sdxl", "")],
)  # fmt: skip
def test_the_architecture_of_a_reference(image: str, arch: str) -> None:
    assert command.arch_of(image, ["flux", "sdxl"]) == arch


@pytest.mark.usefixtures("_vast")
def test_a_stopped_instance_and_one_without_ssh(service: FakeVast) -> None:
    service.instances[7] = instance(actual_status="exited")
    for request in (WITHOUT, HealRequest(instance="7")):
        with pytest.raises(PublishError, match="is not running"):
            command.heal(PROJECT, request, {}, lambda _: None)
        service.time += 10
    service.instances[7] = instance(ports=None, ssh_host=None)
    with pytest.raises(PublishError, match="lists no SSH address") as raised:
        command.heal(PROJECT, HealRequest(instance="7"), {}, lambda _: None)
    assert "--no-ssh" in raised.value.next_step


@pytest.mark.usefixtures("_vast")
def test_from_an_id_to_a_connection(service: FakeVast, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def instead(connection: Connection, options: remote.HealOptions, *_: object) -> int:
        seen.append((str(connection.target), connection.accept_new, options.flags, options.selection))
        return 4

    monkeypatch.setattr(remote, "heal", instead)
    request = HealRequest(instance="7", dry_run=True, accept_new=True)
    assert command.heal(PROJECT, request, {}, lambda _: None) == 4
    assert seen == [("root@203.0.113.9:40022", True, ["--dry-run", "--by", "ssh"], None)]
