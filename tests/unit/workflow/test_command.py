"""`gesso workflow check`: text, JSON and exit codes, in a checkout and in an image; what a build refuses."""

from __future__ import annotations

import json
import math
import shutil
import struct
from typing import TYPE_CHECKING, Any

import pytest

from gesso.builder.image import build
from gesso.builder.image.plan import build_record
from gesso.cli import main
from gesso.cli import workflow as runtime_workflow
from gesso.errors import ManifestError
from gesso.manifest.load import load
from gesso.runtime.layout import Layout
from gesso.runtime.services import comfyui as comfy
from gesso.settings import Project, Selection
from gesso.workflow import command
from gesso.workflow.graph import GraphError
from gesso.workflow.user_models import UserModels

from .graphs import GOLD, PROJECT, Api, recorded_classes

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path


def run(*args: str) -> int:
    try:
        return main.main(["workflow", "check", *args])
    except SystemExit as end:
        return int(end.code or 0)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    graph = Api("krita_gold_standard_sdxl")
    graph.inputs(graph.decode)["vae"] = [graph.other_vae(), 0]
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(graph.data))
    return path


@pytest.fixture
def unclear(tmp_path: Path) -> Path:
    graph = Api("krita_gold_standard_sdxl")
    style = graph.add("ETN_KritaStyle", name="", sampler_preset="auto")
    graph.inputs(graph.sampler)["model"] = [style, 0]
    path = tmp_path / "unclear.json"
    path.write_text(json.dumps(graph.data))
    return path


@pytest.mark.parametrize(("name", "arch"), GOLD.items())
@pytest.mark.parametrize("suffix", [".json", ".api.json"])
def test_the_gold_graphs_are_fine(
    name: str, arch: str, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    path = PROJECT.workflows / f"{name}{suffix}"
    assert run(str(path), "--arch", arch, "--strict") == 0
    assert capsys.readouterr().out.startswith(f"ok: {path}: ")


def test_errors_are_printed_and_exit_with_1(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(broken), "--arch", "sdxl") == 1
    out = capsys.readouterr().out
    assert "latent-vae: a VAE (flux, 16 channels) from node" in out
    assert "flux_vae.safetensors" in out
    assert out.rstrip().splitlines()[-1].endswith("3 wrong, 0 unclear; 35 nodes")


def test_json(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(broken), "--arch", "sdxl", "--json") == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["ok"], result["format"], result["nodes"], result["file"]) == (False, "api", 35, str(broken))
    found = next(item for item in result["findings"] if item["code"] == "latent-vae")
    assert set(found) == {"code", "severity", "file", "node", "title", "edge", "what", "should"}
    assert (found["severity"], found["node"], found["edge"], found["title"]) == ("error", "31", "vae", "Decode")


def test_unclear_findings_are_printed_and_fail_only_when_strict(
    unclear: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(unclear), "--arch", "sdxl") == 0
    assert "family-unknown" in capsys.readouterr().out
    assert run(str(unclear), "--arch", "sdxl", "--strict") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[]", "neither a workflow"), ("\x00", "not JSON"), ('{"nodes": [{}]}', "without id")],
)
def test_an_unreadable_graph_exits_with_2(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    assert run(str(path), "--arch", "sdxl") == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_missing_files_folders_and_binary_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "latin").write_bytes(b"\xe9{}")
    for path in (tmp_path / "gone.json", tmp_path, tmp_path / "latin"):
        assert run(str(path), "--arch", "sdxl") == 2
        assert "next: " in capsys.readouterr().err


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(65_000_000)
    with pytest.raises(GraphError, match="larger than 64 MB"):
        command.read_text(path)


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(PROJECT.workflows / "krita_gold_standard_sdxl.json")
    assert run(file) == 2
    assert "add --arch: one of flux, sdxl" in capsys.readouterr().err
    assert run(file, "--arch", "sd9") == 2
    assert "no such architecture" in capsys.readouterr().err
    assert run() == 2


# --- in an image


def _instance(tmp_path: Path) -> Layout:
    layout = Layout(**{name: tmp_path / name for name in ("gesso", "comfyui", "venv", "workspace", "run", "logs")})
    layout.gesso.mkdir()
    manifest, locked = build.prepare(Selection(PROJECT, "sdxl"))
    (layout.gesso / "build.json").write_text(json.dumps(build_record(manifest, locked, {})))
    return layout


def _options(file: Path, **more: Any) -> argparse.Namespace:
    return main._parser(models=True).parse_args(
        ["workflow", "check", str(file), *(f"--{k}={v}" for k, v in more.items())]
    )


@pytest.fixture
def comfyui(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    def respond(raw: Any) -> None:
        monkeypatch.setattr(comfy, "get_json", lambda *_, **__: raw)

    return respond


def test_in_an_image_its_build_record_is_used(
    tmp_path: Path, broken: Path, comfyui: Callable[[Any], None], capsys: pytest.CaptureFixture[str]
) -> None:
    layout = _instance(tmp_path)
    comfyui(recorded_classes()._raw)
    good = PROJECT.workflows / "krita_gold_standard_sdxl.api.json"
    assert runtime_workflow.run(_options(good), layout) == 0
    assert runtime_workflow.run(_options(broken), layout) == 1
    assert "vae-lock" in capsys.readouterr().out
    with pytest.raises(ManifestError, match="this image is sdxl"):
        runtime_workflow.run(_options(good, arch="flux"), layout)


def test_without_a_running_comfyui_everything_but_classes_is_checked(
    tmp_path: Path, broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = _instance(tmp_path)
    found = runtime_workflow._object_info(port=1)
    assert found == {}
    arch, classes = command.for_image(json.loads((layout.gesso / "build.json").read_text()), None, lambda: found)
    for name in ("krita_gold_standard_sdxl", "krita_gold_standard_sdxl_inpaint", "krita_gold_standard_sdxl_upscale"):
        for suffix in (".json", ".api.json"):
            checked = command.check_file(PROJECT.workflows / f"{name}{suffix}", arch, classes)
            assert [finding.code for finding in checked.findings] == ["classes-unchecked"], name
    codes = {finding.code for finding in command.check_file(broken, arch, classes).findings}
    assert {"vae-lock", "file-missing"} <= codes


def test_a_file_that_is_still_being_fetched_is_not_missing(tmp_path: Path, comfyui: Callable[[Any], None]) -> None:
    """A running ComfyUI lists only the files that are present; the manifest lists all."""
    layout = _instance(tmp_path)
    raw = json.loads(json.dumps(recorded_classes()._raw))
    raw["VAELoader"]["input"]["required"]["vae_name"] = [["pixel_space"]]
    raw["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"] = [[], {}]
    comfyui(raw)
    for suffix in (".json", ".api.json"):
        file = PROJECT.workflows / f"krita_gold_standard_sdxl{suffix}"
        assert runtime_workflow.run(_options(file), layout) == 0


def test_a_users_own_file_is_not_missing(
    tmp_path: Path, comfyui: Callable[[Any], None], capsys: pytest.CaptureFixture[str]
) -> None:
    layout = _instance(tmp_path)
    comfyui(recorded_classes()._raw)
    graph = Api("krita_gold_standard_sdxl")
    graph.insert_before(graph.sampler, "model", "LoraLoaderModelOnly", "model", lora_name="mine.safetensors",
                     strength_model=1.0)  # fmt: skip
    path = tmp_path / "own.json"
    path.write_text(json.dumps(graph.data))
    assert runtime_workflow.run(_options(path), layout) == 1
    (layout.models / "loras").mkdir(parents=True)
    (layout.models / "loras/mine.safetensors").touch()
    assert runtime_workflow.run(_options(path), layout) == 0
    assert not UserModels(layout.models).has("loras", "../../../gesso/build.json")
    assert not UserModels(layout.models).has("loras", "/etc/passwd")


def _safetensors(path: Path, shapes: dict[str, list[int]]) -> None:
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    blob = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(blob)) + blob + bytes(at))


def test_a_users_own_vae_is_identified_by_its_header(tmp_path: Path) -> None:
    """Failure B with a file that no manifest names: its header shows 16 channels."""
    layout = _instance(tmp_path)
    arch, classes = command.for_host(PROJECT, "sdxl")
    graph = Api("krita_gold_standard_sdxl")
    graph.inputs(graph.find("VAELoader"))["vae_name"] = "mine.safetensors"
    path = tmp_path / "own.json"
    path.write_text(json.dumps(graph.data))
    for channels, codes in ((16, {"vae-lock", "latent-vae", "latent-model"}), (4, {"vae-lock"})):
        _safetensors(layout.models / "vae/mine.safetensors", {"decoder.conv_in.weight": [512, channels, 3, 3]})
        found = command.check_file(path, arch, classes, UserModels(layout.models))
        assert {finding.code for finding in found.findings} == codes
    (layout.models / "vae/mine.safetensors").write_text("<html>")
    found = command.check_file(path, arch, classes, UserModels(layout.models))
    assert {finding.code for finding in found.findings} == {"vae-lock", "family-unknown"}


def test_an_incomplete_build_record_is_refused() -> None:
    with pytest.raises(ManifestError, match="lacks 'models'"):
        command.for_image({}, None, dict)


# --- in a build


@pytest.fixture
def project(tmp_path: Path) -> Project:
    for name in ("manifests", "workflows", "images/standin"):
        shutil.copytree(PROJECT.root / name, tmp_path / name, dirs_exist_ok=True)
    return Project(tmp_path)


def _check(project: Project) -> None:
    build.check_workflows(project, load(project.manifests / "sdxl.yaml", root=project.root).manifest)


def test_a_build_accepts_the_projects_graphs(project: Project) -> None:
    _check(project)


def test_a_build_refuses_a_graph_that_mixes_families(project: Project) -> None:
    graph = Api("krita_gold_standard_sdxl")
    graph.inputs(graph.decode)["vae"] = [graph.other_vae(), 0]
    (project.workflows / f"{graph.name}.api.json").write_text(json.dumps(graph.data))
    with pytest.raises(ManifestError, match=r"node 31 'Decode', vae: latent-vae: .* 16 channels") as caught:
        _check(project)
    assert "formats-differ" in str(caught.value)


def test_no_context_is_written_for_a_broken_graph(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every build and `invoke render` goes through this function."""
    graph = Api("krita_gold_standard_sdxl")
    graph.inputs(graph.decode)["vae"] = [graph.other_vae(), 0]
    (project.workflows / f"{graph.name}.api.json").write_text(json.dumps(graph.data))
    prepared = build.prepare(Selection(PROJECT, "sdxl"))
    monkeypatch.setattr(build, "prepare", lambda _: prepared)
    with pytest.raises(ManifestError, match="latent-vae"):
        build.write_context(Selection(project, "sdxl"), tmp_path / "out", {}, lambda _: None)
    assert not (tmp_path / "out").exists()


def test_a_build_refuses_unclear_findings(project: Project) -> None:
    core = project.images / "standin/ComfyUI/recorded/core.json"
    core.write_text(core.read_text().replace('"SetLatentNoiseMask"', '"NewMask"'))
    for suffix in (".api.json", ".json"):
        path = project.workflows / f"krita_gold_standard_sdxl{suffix}"
        path.write_text(path.read_text().replace('"SetLatentNoiseMask"', '"NewMask"'))
    with pytest.raises(ManifestError, match="class-unknown: no rule describes what NewMask does with it"):
        _check(project)


def test_a_build_refuses_the_wrong_one_of_the_two_formats(project: Project) -> None:
    shutil.copy(project.workflows / "krita_gold_standard_sdxl.json",
                project.workflows / "krita_gold_standard_sdxl.api.json")  # fmt: skip
    with pytest.raises(ManifestError, match="is in editor format; must be in api format"):
        _check(project)


def test_a_build_refuses_a_file_that_is_no_graph(project: Project) -> None:
    (project.workflows / "krita_gold_standard_sdxl.json").write_text("{")
    with pytest.raises(ManifestError, match="not JSON"):
        _check(project)


def test_another_broken_manifest_does_not_matter(project: Project) -> None:
    (project.manifests / "flux.yaml").write_text("nonsense: 1\n")
    _check(project)
