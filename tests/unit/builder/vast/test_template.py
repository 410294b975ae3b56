"""The template: derived values, content, refused values. Golden files hold the whole content."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gesso.builder.image.build import prepare
from gesso.builder.lock.python_pins import Pin
from gesso.builder.vast.template import derive
from gesso.builder.vast.template.model import Template, parse_flags
from gesso.builder.vast.template.render import render
from gesso.errors import ManifestError
from gesso.manifest import connecting
from gesso.manifest.lock import LockedSource, inputs_of
from gesso.manifest.vast import ENV_LIMIT, Vast, docker_flags
from gesso.models.wanted import from_lock
from gesso.settings import Project, Selection

if TYPE_CHECKING:
    from gesso.builder.lock.lock_files import Locked
    from gesso.builder.publish.published import Published
    from gesso.manifest.schema import Manifest

PROJECT = Project(Path(__file__).resolve().parents[4])
GOLDEN = Path(__file__).parent / "golden"


def _golden(name: str, text: str) -> None:
    """`GESSO_GOLDEN=write` writes the file; review the difference."""
    if os.environ.get("GESSO_GOLDEN") == "write":
        (GOLDEN / name).write_text(text, encoding="utf-8")
    assert text == (GOLDEN / name).read_text(encoding="utf-8")


def _with(manifest: Manifest, **changed: Any) -> Manifest:
    """Return a manifest with changes in `vast`, validated as when it is loaded."""
    fields = manifest.vast.model_dump(by_alias=True, exclude_unset=True)
    return manifest.model_copy(update={"vast": Vast.model_validate({**fields, **changed})})


@pytest.mark.parametrize("arch", PROJECT.archs())
def test_the_whole_template(arch: str, image: Published) -> None:
    template = render(*prepare(Selection(PROJECT, arch)), image)
    _golden(f"{arch}.readme.md", template.readme)
    _golden(f"{arch}.template.json", json.dumps({**template.body(), "readme": "..."}, indent=1) + "\n")


def test_the_same_input_gives_the_same_template(sdxl: tuple[Manifest, Locked], image: Published) -> None:
    first, second = render(*sdxl, image), render(*prepare(Selection(PROJECT, "sdxl")), image)
    assert first == second
    assert first.sha256 == second.sha256
    assert first.sha256 != render(*sdxl, replace(image, digest=f"sha256:{'cd' * 32}")).sha256


def test_template_settings_need_no_new_lock(sdxl: tuple[Manifest, Locked]) -> None:
    other = _with(sdxl[0], headroom_gb=99, env={"A": "b"}, launch="jupyter", name="another", private=True)
    assert inputs_of(other) == inputs_of(sdxl[0])


@pytest.mark.parametrize(
    ("mode", "fields"),
    [
        ("ssh", {"runtype": "ssh", "onstart": "entrypoint.sh", "use_ssh": True, "ssh_direct": True,
                 "jup_direct": False, "use_jupyter_lab": False, "jupyter_dir": ""}),
        ("jupyter", {"runtype": "jupyter", "onstart": "entrypoint.sh", "use_ssh": True, "ssh_direct": False,
                     "jup_direct": True, "use_jupyter_lab": True, "jupyter_dir": "/workspace"}),
        ("args", {"runtype": "args", "onstart": "", "use_ssh": False, "ssh_direct": False, "jup_direct": False,
                  "use_jupyter_lab": False, "jupyter_dir": ""}),
    ],
)  # fmt: skip
def test_launch_modes(sdxl: tuple[Manifest, Locked], image: Published, mode: str, fields: dict[str, Any]) -> None:
    template = render(_with(sdxl[0], launch=mode), sdxl[1], image)
    assert {name: getattr(template, name) for name in fields} == fields
    assert template.args_str == ""
    assert ("gesso url" in template.readme) is (mode != "args")
    assert template.extra_filters["direct_port_count"] == {"gte": 1 + (mode != "args")}


def test_what_the_disk_is_made_of(sdxl: tuple[Manifest, Locked], image: Published) -> None:
    manifest, locked = sdxl
    models = from_lock(manifest, locked.lock)

    def disk(**changed: Any) -> int:
        return derive.needs(_with(manifest, **changed), models, locked.pins, image).disk_gb

    sizes = {tier: sum(m.size if m.size is not None else 500_000_000 for m in models if m.tier == tier)
             for tier in ("required", "recommended", "optional")}  # fmt: skip
    total = image.unpacked + 10**9
    for tier, size in sizes.items():
        total += size
        assert disk(headroom_gb=1, tier=tier) == -(-total // 10**9), tier
    assert disk(headroom_gb=41) - disk(headroom_gb=1) == 40
    bigger = replace(image, unpacked=image.unpacked + 5 * 10**9)
    assert derive.needs(manifest, models, locked.pins, bigger).disk_gb - disk() == 5


def test_the_assumed_size_of_a_model_depends_on_its_kind(sdxl: tuple[Manifest, Locked]) -> None:
    models = {m.kind: m.model_copy(update={"size": None}) for m in sdxl[0].models}
    assert derive.size_of(models["checkpoint"]) == 12 * 10**9
    assert derive.size_of(models["inpaint"]) == 5 * 10**8


def test_conditions_follow_from_the_manifest(sdxl: tuple[Manifest, Locked], image: Published) -> None:
    plain = render(*sdxl, image).extra_filters
    assert plain["gpu_ram"] == {"gte": 10_000}, "MB, as in the API"
    assert plain["cuda_max_good"] == {"gte": 13.0}
    assert plain["inet_down"] == {"gt": 500}
    assert plain["disk_space"] == {"gte": render(*sdxl, image).recommended_disk_space}
    own = {"geolocation": {"in": ["NO", "SE"]}, "verified": None, "reliability": {"gte": "0.99"}}
    changes = {"gpu_gb": 24, "cuda": "13.1", "inet_down_mbps": 900, "ports": ["8188", "9000:9000/udp"], "filters": own}
    other = _with(sdxl[0], **changes)
    found = render(other, sdxl[1], image).extra_filters
    assert found["gpu_ram"] == {"gte": 24_000}
    assert found["cuda_max_good"] == {"gte": 13.1}
    assert found["inet_down"] == {"gt": 900}
    assert found["direct_port_count"] == {"gte": 3}
    assert found["geolocation"] == {"in": ["NO", "SE"]}
    assert found["reliability"] == {"gte": 0.99}
    assert "verified" not in found


def pins(*texts: str) -> tuple[Pin, ...]:
    return tuple(Pin(name, version, text) for text in texts for name, _, version in [text.partition("==")])


@pytest.mark.parametrize(
    ("texts", "cuda"),
    [
        (["torch==2.13.0", "nvidia-cuda-runtime==13.0.96", "cuda-toolkit==13.0.3.0"], "13.0"),
        (["torch==2.9.1", "nvidia-cuda-runtime-cu12==12.8.90", "nvidia-cudnn-cu12==9.10.2.21"], "12.8"),
        (["torch==2.9.1+cu126"], "12.6"),
        (["torch==2.9.1+cu126", "nvidia-cuda-nvrtc-cu12==12.6.77"], "12.6"),
        (["torch==2.13.0", "nvidia-cublas==13.1.1.3", "nvidia-cuda-cupti==13.0.85", "cuda-bindings==13.5.0"], "13.0"),
    ],
)
def test_the_cuda_of_a_torch(texts: list[str], cuda: str) -> None:
    assert derive.cuda_of(pins(*texts)) == cuda


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["torch==2.13.0"], "built for a CPU"),
        (["torch==2.13.0+cpu"], "built for a CPU"),
        (["torch==2.13.0+cu128", "nvidia-cuda-runtime==13.0.96"], "pins disagree: 12.8 by torch .*; 13.0 by nvidia"),
        (["nvidia-cuda-runtime==13.0.96", "nvidia-cuda-nvrtc==13.1.2"], "pins disagree"),
    ],
)
def test_no_cuda_version_or_two_are_refused(texts: list[str], why: str) -> None:
    with pytest.raises(ManifestError, match=why):
        derive.cuda_of(pins(*texts))


def test_manifest_and_torch_must_have_the_same_cuda(sdxl: tuple[Manifest, Locked], image: Published) -> None:
    manifest, locked = sdxl
    older = manifest.model_copy(update={"hardware": manifest.hardware.model_copy(update={"cuda": "12.8"})})
    with pytest.raises(ManifestError, match=r"hardware.cuda is 12.8, but the locked torch is built for CUDA 13.0") as e:
        render(older, locked, image)
    assert e.value.exit_code == 2
    for less in ("12.9", "9.2"):
        with pytest.raises(ManifestError, match=rf"vast.cuda is {less}, less than the 13.0"):
            render(_with(manifest, cuda=less), locked, image)


def test_a_trial_has_no_template(image: Published) -> None:
    with pytest.raises(ManifestError, match="a trial image is never published"):
        render(*prepare(Selection(PROJECT, "sdxl", (), trial=True)), image)


def test_an_image_by_tag_has_no_template(sdxl: tuple[Manifest, Locked], image: Published) -> None:
    with pytest.raises(ManifestError, match="image"):
        render(*sdxl, replace(image, digest="latest"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image", "ghcr.io/someone/gesso:sdxl"),
        ("image", f"ghcr.io/someone/gesso@sha256:{'ab' * 31}"),
        ("tag", "latest"),
        ("onstart", "x" * 4049),
        ("env", f"-e A={'x' * ENV_LIMIT}"),
        ("env", "-v /:/host"),
        ("env", "--privileged"),
        ("env", "-e"),
        ("env", "-e NAME"),
        ("env", "-p 8188"),
        ("env", "-e A='unclosed"),
        ("env", " ".join(f"-p {n}:{n}" for n in range(1000, 1064))),
        ("docker_login_pass", "secret"),
        ("recommended_disk_space", 0),
        ("runtype", "ssh_direct"),
        ("name", "x" * 257),
        ("unknown", 1),
    ],
)
def test_values_that_vast_refuses_are_invalid(
    sdxl: tuple[Manifest, Locked], image: Published, field: str, value: Any
) -> None:
    body = render(*sdxl, image).body()
    assert Template.model_validate(body).body() == body
    with pytest.raises(ValidationError, match=field):
        Template.model_validate({**body, field: value})


def test_a_template_is_immutable(sdxl: tuple[Manifest, Locked], image: Published) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        render(*sdxl, image).name = "another"  # type: ignore[misc]


_NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True).filter(
    lambda n: not n.upper().endswith(("TOKEN", "KEY", "SECRET", "PASS", "PASSWORD", "CREDENTIALS"))
)
_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="\"$'\\`"), max_size=30)


@given(st.dictionaries(_NAMES, _VALUES, max_size=6), st.lists(st.integers(1, 65535), max_size=5, unique=True))
def test_flags_round_trip(env: dict[str, str], ports: list[int]) -> None:
    given_ports = ["8188", *(str(p) for p in ports if p != 8188)]
    vast = Vast.model_validate({"env": env, "ports": given_ports})
    found = parse_flags(docker_flags(vast.ports, vast.env))
    assert [v for flag, v in found if flag == "-p"] == [f"{p}:{p}" for p in given_ports]
    assert dict(v.split("=", 1) for flag, v in found if flag == "-e") == env


@given(st.text(max_size=40))
def test_no_value_becomes_a_flag_of_its_own(value: str) -> None:
    try:
        vast = Vast.model_validate({"env": {"A": value}})
    except ValidationError:
        return
    assert parse_flags(docker_flags((), vast.env)) == [("-e", f"A={value}")]


def test_the_limits_are_inclusive() -> None:
    room = ENV_LIMIT - len("-p 8188:8188 -e A=")
    Vast.model_validate({"env": {"A": "x" * room}})
    with pytest.raises(ValidationError, match="1,025 characters"):
        Vast.model_validate({"env": {"A": "x" * (room + 1)}})
    entry = "\nentrypoint.sh"
    Vast.model_validate({"onstart": "#" * (4048 - len(entry)) + entry})
    with pytest.raises(ValidationError, match="4,049 characters"):
        Vast.model_validate({"onstart": "#" * (4049 - len(entry)) + entry})


@pytest.mark.parametrize(
    ("text", "valid"),
    [("entrypoint.sh", True), ("export A=1\nentrypoint.sh", True), ("  exec /usr/local/bin/entrypoint.sh", True),
     ("# entrypoint.sh", False), ("cat entrypoint.sh", False), ("entrypoint.shx", False), ("", False)],
)  # fmt: skip
def test_an_onstart_must_start_gesso(text: str, valid: bool) -> None:
    try:
        Vast.model_validate({"onstart": text})
    except ValidationError:
        assert not valid
    else:
        assert valid


def test_the_readme_lists_models_licences_and_sources(image: Published) -> None:
    manifest, locked = prepare(Selection(PROJECT, "flux"))
    text = render(_with(manifest, readme="And **this**.\n"), locked, image).readme
    for model in manifest.models:
        assert f"| {model.name} |" in text
        assert f"| {model.license} |" in text
    assert locked.lock.comfyui.commit is not None
    assert f"/tree/{locked.lock.comfyui.commit})" in text
    assert all(name in text for name in locked.lock.nodes)
    assert image.reference in text
    assert "use is restricted" in text
    assert text.endswith("And **this**.\n")


@pytest.mark.parametrize("mode", ["ssh", "args"])
def test_the_readme_has_the_steps_of_the_docs(mode: str, image: Published, sdxl: tuple[Manifest, Locked]) -> None:
    manifest, locked = sdxl
    text = render(_with(manifest, launch=mode), locked, image).readme
    assert f"\n\n{connecting.markdown()}\n" in text


def test_the_readme_links_to_no_folder_of_the_builder(image: Published, sdxl: tuple[Manifest, Locked]) -> None:
    manifest, locked = sdxl
    commit = "c" * 40
    own = replace(
        locked,
        lock=locked.lock.model_copy(update={"comfyui": LockedSource(git="file:///home/me/ComfyUI", commit=commit)}),
    )
    text = render(manifest, own, image).readme
    assert f"| ComfyUI | {commit[:12]} |" in text
    assert "/home/me" not in text


def test_before_the_first_push_the_readme_has_no_download_size(image: Published, sdxl: tuple[Manifest, Locked]) -> None:
    text = render(*sdxl, replace(image, compressed=0)).readme
    assert "0.0 MB" not in text
    assert "download size unknown until the image is pushed" in text
