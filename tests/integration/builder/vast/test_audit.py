"""The audit without SSH: sizes beside the lock's, and a remedy that is never taken for done before it is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.builder.vast import audit
from gesso.builder.vast.instances import LONGEST, Instance
from gesso.errors import CheckError, PublishError
from gesso.manifest.schema import Model
from tests.integration.builder.fake_vast import RECORD

if TYPE_CHECKING:
    from gesso.builder.vast.instances import Vast
    from tests.integration.builder.fake_vast import VastLike

RUNNING = Instance(7, "running", "ghcr.io/someone/gesso:sdxl")


def model(name: str, size: int | None, tier: str = "required") -> Model:
    kinds = {"checkpoints": "checkpoint", "upscale_models": "upscale_model", "loras": "lora"}
    folder = name.split("/", 1)[0]
    return Model.model_validate(
        {"name": name, "sources": ["https://example.com/x"], "sha256": "ab" * 32, "size": size, "family": "sdxl",
         "kind": kinds.get(folder, folder), "tier": tier, "license": "MIT"}
    )  # fmt: skip


MODELS = (
    model("checkpoints/Juggernaut-XL-v9.safetensors", 7_105_348_188),
    model("vae/sdxl_vae_fp16.safetensors", 167_335_342),
    model("upscale_models/OmniSR_X2_DIV2K.safetensors", None),
    model("loras/Hyper.safetensors", 787_359_648, "optional"),
)
RIGHT = {audit.path_of(m.name): m.size or 4_000_000 for m in MODELS}


def _heal(vast: Vast, *, apply: bool) -> audit.Audit:
    return audit.heal(vast, RUNNING, MODELS, apply=apply, say=lambda _: None)


def test_all_right_is_said_to_be_size_only(service: VastLike, vast: Vast) -> None:
    service.files |= RIGHT
    found = _heal(vast, apply=True)
    assert not found.wrong
    assert (found.removed, found.rebooted) == ((), False)
    assert [s.state for s in found.seen] == ["size only", "size only", "unknown size", "size only"]
    assert str(found.seen[0]).endswith("7,105,348,188 bytes, as the lock says; size only: its bytes were not hashed")
    assert not any("reboot" in asked or "rm " in asked for asked in service.asked)


def test_a_stub_is_shown_with_both_sizes_and_nothing_is_done(service: VastLike, vast: Vast) -> None:
    service.files |= RIGHT | {audit.path_of(MODELS[0].name): 710_000}
    before = dict(service.files)
    found = _heal(vast, apply=False)
    assert str(found.seen[0]) == (
        "checkpoints/Juggernaut-XL-v9.safetensors: a stub: 710,000 bytes, the lock says 7,105,348,188"
    )
    assert found.wrong
    assert service.files == before
    assert not any("reboot" in asked for asked in service.asked)


def test_apply_removes_just_what_is_bad_looks_again_and_reboots(service: VastLike, vast: Vast) -> None:
    stub, vae = audit.path_of(MODELS[0].name), audit.path_of(MODELS[1].name)
    service.files |= RIGHT | {stub: 710_000, vae: 167_335_341}
    found = _heal(vast, apply=True)
    assert found.removed == (MODELS[0].name, MODELS[1].name)
    assert found.rebooted
    assert service.files == {RECORD: 9000} | {path: size for path, size in RIGHT.items() if path not in {stub, vae}}
    kinds = [asked.split('"')[3].split()[0] if "command" in asked else "reboot" for asked in service.asked]
    assert kinds == ["ls", "rm", "ls", "reboot"]


def test_a_required_one_that_is_missing_needs_only_the_boot(service: VastLike, vast: Vast) -> None:
    service.files |= {path: size for path, size in RIGHT.items() if "vae" not in path}
    found = _heal(vast, apply=True)
    assert (found.seen[1].state, found.removed, found.rebooted) == ("missing", (), True)
    assert not any("rm " in asked for asked in service.asked)


def test_an_optional_one_that_is_missing_is_no_reason(service: VastLike, vast: Vast) -> None:
    service.files |= {path: size for path, size in RIGHT.items() if "loras" not in path}
    found = _heal(vast, apply=True)
    assert (found.seen[3].state, found.wrong, found.rebooted) == ("missing", False, False)


def test_what_is_still_there_was_not_removed(service: VastLike, vast: Vast) -> None:
    service.files |= RIGHT | {audit.path_of(MODELS[0].name): 710_000}
    service.ignores_rm = True
    with pytest.raises(CheckError, match=r"Juggernaut-XL-v9.safetensors: still there after `rm`; nothing was rebooted"):
        _heal(vast, apply=True)
    assert not any("reboot" in asked for asked in service.asked)


def test_a_reboot_that_was_refused_is_no_success(service: VastLike, vast: Vast) -> None:
    service.files |= {path: size for path, size in RIGHT.items() if "vae" not in path}
    vast_reboot = [(200, '{"success": false, "msg": "no"}')]
    original = vast.command

    def command(number: int, text: str) -> str:
        said = original(number, text)
        service.instead = list(vast_reboot)
        return said

    vast.command = command  # type: ignore[method-assign]
    with pytest.raises(PublishError, match=r"reboot: Vast.ai did not do it: no"):
        _heal(vast, apply=True)


def test_not_a_gesso_image(service: VastLike, vast: Vast) -> None:
    service.files = dict(RIGHT)
    with pytest.raises(CheckError, match=r"instance 7 \(ghcr.io/someone/gesso:sdxl\) is no gesso image") as e:
        _heal(vast, apply=True)
    assert "--arch" in e.value.next_step
    service.files = {}
    with pytest.raises(CheckError, match=r"is no gesso image"):
        _heal(vast, apply=True)


@pytest.mark.parametrize("text", ["", "busy", "total 0"])
def test_an_answer_that_is_none_says_nothing_of_models(vast: Vast, text: str) -> None:
    vast.command = lambda *_: text  # type: ignore[method-assign]
    with pytest.raises(CheckError, match=r"`ls` gave no answer that can be read"):
        _heal(vast, apply=True)


def test_a_folder_where_a_model_should_be_is_not_removed(service: VastLike, vast: Vast) -> None:
    service.files |= {path: size for path, size in RIGHT.items() if "vae" not in path}
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
def test_commands_are_short_enough_and_name_every_path_once(paths: list[str]) -> None:
    found = audit.commands(paths)
    assert all(len(text) <= LONGEST for text in found)
    assert all(text.split()[:3] == ["ls", "-lLnd", RECORD] for text in found)
    assert [path for text in found for path in text.split()[3:]] == paths


@given(st.integers(0, 10**11), st.integers(1, 10**11))
def test_only_the_locks_size_is_right(size: int, locked: int) -> None:
    seen = audit.judge(model("vae/x.safetensors", locked), ("-", size))
    assert (seen.state == "size only") == (size == locked)
    assert seen.bad == (size != locked)
    assert f"{size:,}" in str(seen)
    assert f"{locked:,}" in str(seen)
