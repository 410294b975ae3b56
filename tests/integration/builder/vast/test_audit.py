"""The audit without SSH: sizes against the lock, and a repair whose effect is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.builder.remote import command
from gesso.builder.vast import audit
from gesso.builder.vast.instances import MAX_COMMAND, Instance
from gesso.errors import CheckError, PublishError
from gesso.manifest.schema import Model
from tests.integration.builder.fake_vast import RECORD

if TYPE_CHECKING:
    from gesso.builder.vast.instances import InstanceClient
    from tests.integration.builder.fake_vast import FakeVast

RUNNING = Instance(7, "running", "ghcr.io/someone/gesso:sdxl")


def model(name: str, size: int | None, tier: str = "required", *, confirmed: bool = True) -> Model:
    kinds = {"checkpoints": "checkpoint", "upscale_models": "upscale_model", "loras": "lora"}
    folder = name.split("/", 1)[0]
    return Model.model_validate(
        {"name": name, "sources": ["https://example.com/x"], "sha256": "ab" * 32, "size": size, "family": "sdxl",
         "kind": kinds.get(folder, folder), "tier": tier, "license": "MIT",
         "size_confirmed": confirmed}
    )  # fmt: skip


MODELS = (
    model("checkpoints/Juggernaut-XL-v9.safetensors", 7_105_348_188),
    model("vae/sdxl_vae_fp16.safetensors", 167_335_342),
    model("upscale_models/OmniSR_X2_DIV2K.safetensors", None),
    model("loras/Hyper.safetensors", 787_359_648, "optional"),
)
LOCKED_SIZES = {audit.path_of(m.name): m.size or 4_000_000 for m in MODELS}


def _heal(vast: InstanceClient, *, apply: bool) -> audit.Audit:
    return audit.heal(vast, RUNNING, MODELS, apply=apply, on_progress=lambda _: None)


def test_correct_sizes_are_reported_as_size_only(service: FakeVast, vast: InstanceClient) -> None:
    service.files |= LOCKED_SIZES
    found = _heal(vast, apply=True)
    assert not found.wrong
    assert (found.removed, found.rebooted) == ((), False)
    assert [s.state for s in found.seen] == ["size only", "size only", "unknown size", "size only"]
    assert str(found.seen[0]).endswith("7,105,348,188 bytes, as the lock says; size only: its content was not hashed")
    assert not any("reboot" in request or "rm " in request for request in service.requests)


def test_without_apply_a_stub_is_only_reported(service: FakeVast, vast: InstanceClient) -> None:
    service.files |= LOCKED_SIZES | {audit.path_of(MODELS[0].name): 710_000}
    before = dict(service.files)
    found = _heal(vast, apply=False)
    assert str(found.seen[0]) == (
        "checkpoints/Juggernaut-XL-v9.safetensors: a stub: 710,000 bytes, the lock says 7,105,348,188"
    )
    assert found.wrong
    assert service.files == before
    assert not any("reboot" in request for request in service.requests)


def test_apply_removes_bad_files_checks_and_reboots(service: FakeVast, vast: InstanceClient) -> None:
    stub, vae = audit.path_of(MODELS[0].name), audit.path_of(MODELS[1].name)
    service.files |= LOCKED_SIZES | {stub: 710_000, vae: 167_335_341}
    found = _heal(vast, apply=True)
    assert found.removed == (MODELS[0].name, MODELS[1].name)
    assert found.rebooted
    assert service.files == {RECORD: 9000} | {
        path: size for path, size in LOCKED_SIZES.items() if path not in {stub, vae}
    }
    kinds = [request.split('"')[3].split()[0] if "command" in request else "reboot" for request in service.requests]
    assert kinds == ["ls", "rm", "ls", "reboot"]


def test_a_missing_required_model_needs_only_a_reboot(service: FakeVast, vast: InstanceClient) -> None:
    service.files |= {path: size for path, size in LOCKED_SIZES.items() if "vae" not in path}
    found = _heal(vast, apply=True)
    assert (found.seen[1].state, found.removed, found.rebooted) == ("missing", (), True)
    assert not any("rm " in request for request in service.requests)


def test_a_missing_optional_model_is_no_error(service: FakeVast, vast: InstanceClient) -> None:
    service.files |= {path: size for path, size in LOCKED_SIZES.items() if "loras" not in path}
    found = _heal(vast, apply=True)
    assert (found.seen[3].state, found.wrong, found.rebooted) == ("missing", False, False)


def test_a_file_that_rm_does_not_remove_is_an_error(service: FakeVast, vast: InstanceClient) -> None:
    service.files |= LOCKED_SIZES | {audit.path_of(MODELS[0].name): 710_000}
    service.ignores_rm = True
    with pytest.raises(CheckError, match=r"Juggernaut-XL-v9.safetensors: still exists after `rm`; not rebooted"):
        _heal(vast, apply=True)
    assert not any("reboot" in request for request in service.requests)


def test_a_refused_reboot_is_an_error(service: FakeVast, vast: InstanceClient) -> None:
    service.files |= {path: size for path, size in LOCKED_SIZES.items() if "vae" not in path}
    vast_reboot = [(200, '{"success": false, "msg": "no"}')]
    original = vast.command

    def command(number: int, text: str) -> str:
        output = original(number, text)
        service.responses = list(vast_reboot)
        return output

    vast.command = command  # type: ignore[method-assign]
    with pytest.raises(PublishError, match=r"reboot: Vast.ai did not confirm it: no"):
        _heal(vast, apply=True)


def test_not_a_gesso_image(service: FakeVast, vast: InstanceClient) -> None:
    service.files = dict(LOCKED_SIZES)
    with pytest.raises(CheckError, match=r"instance 7 \(ghcr.io/someone/gesso:sdxl\) is no gesso image") as e:
        _heal(vast, apply=True)
    assert "--arch" in e.value.next_step
    service.files = {}
    with pytest.raises(CheckError, match=r"is no gesso image"):
        _heal(vast, apply=True)


@pytest.mark.parametrize("text", ["", "busy", "total 0"])
def test_unreadable_output_is_an_error(vast: InstanceClient, text: str) -> None:
    vast.command = lambda *_: text  # type: ignore[method-assign]
    with pytest.raises(CheckError, match=r"the output of `ls` is unreadable"):
        _heal(vast, apply=True)


def test_a_folder_in_place_of_a_model_is_not_removed(service: FakeVast, vast: InstanceClient) -> None:
    service.files |= {path: size for path, size in LOCKED_SIZES.items() if "vae" not in path}
    service.folders.add(audit.path_of(MODELS[1].name))
    found = _heal(vast, apply=False)
    assert (found.seen[1].state, found.seen[1].size, found.wrong) == ("no file", None, True)


@pytest.mark.parametrize(
    "line",
    [
        "-rw-r--r-- 1 0 0 710000 Nov 25 04:45 /workspace/models/a.safetensors",
        "-rw-r--r--. 1 1000 1000 710000 Nov 25  2025 /workspace/models/a.safetensors",
        "-rw-r--r--+ 12 0 0 710000 2026-11-25 04:45 /workspace/models/a.safetensors",
        "  -rw-r--r-- 1 0 0     710000 2026-11-25 04:45:12.123 +0000 /workspace/models/a.safetensors\r",
    ],
)
def test_rows_of_ls(line: str) -> None:
    assert audit.rows(f"total 9\n{line}\nls: cannot access '/x': No such file or directory\n") == {
        "/workspace/models/a.safetensors": ("-", 710_000)
    }


@given(st.lists(st.text("abc/._-", min_size=1, max_size=200).map(lambda t: f"/{t}"), max_size=30))
def test_commands_are_short_enough_and_contain_every_path_once(paths: list[str]) -> None:
    found = audit.commands(paths)
    assert all(len(text) <= MAX_COMMAND for text in found)
    assert all(text.split()[:3] == ["ls", "-lLnd", RECORD] for text in found)
    assert [path for text in found for path in text.split()[3:]] == paths


@given(st.integers(0, 10**11), st.integers(1, 10**11))
def test_only_the_locks_size_is_accepted(size: int, locked: int) -> None:
    seen = audit.compare(model("vae/x.safetensors", locked), ("-", size))
    assert (seen.state == "size only") == (size == locked)
    assert seen.bad == (size != locked)
    assert f"{size:,}" in str(seen)
    assert f"{locked:,}" in str(seen)


@given(st.integers(0, 10**11), st.integers(1, 10**11))
def test_only_a_stub_is_bad_against_an_unconfirmed_size(size: int, locked: int) -> None:
    seen = audit.compare(model("vae/x.safetensors", locked, confirmed=False), ("-", size))
    stub = size < 0.01 * locked
    assert seen.bad == seen.unusable == stub
    assert seen.state == ("size only" if size == locked else "stub" if stub else "unconfirmed size")
    assert ("cannot tell: the lock's size is unconfirmed" in str(seen)) == (seen.state == "unconfirmed size")
    assert ("(unconfirmed)" in str(seen)) == (seen.state != "size only")


def test_no_file_is_removed_for_an_unconfirmed_size(service: FakeVast, vast: InstanceClient) -> None:
    service.files |= LOCKED_SIZES | {audit.path_of(MODELS[3].name): 825_798_408, audit.path_of(MODELS[0].name): 710_000}
    before = dict(service.files)
    models = [m.model_copy(update={"size_confirmed": False}) for m in MODELS]
    found = audit.heal(vast, RUNNING, models, apply=True, on_progress=lambda _: None)
    assert found.removed == (MODELS[0].name,)
    assert service.files == {path: size for path, size in before.items() if path != audit.path_of(MODELS[0].name)}
    assert command.describe(audit.Audit(found.seen), "sdxl").startswith(
        "sdxl: 1 of 4 models have the lock's size; 1 differ from an unconfirmed size in the lock"
    )
