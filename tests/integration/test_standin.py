"""The stand-in for ComfyUI, started as an image starts it, with the requests of Krita and of the image tests."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

STANDIN = Path(__file__).resolve().parents[2] / "images/standin"
PACKS = sorted(p.name for p in (STANDIN / "custom_nodes").iterdir() if (p / "__init__.py").exists())
KRITA_NEEDS = {
    "DepthAnythingV2Preprocessor",
    "ETN_LoadImageCache",
    "ETN_SaveImageCache",
    "ETN_Translate",
    "INPAINT_ColorMatch",
    "INPAINT_LoadFooocusInpaint",
    "INPAINT_ShrinkMask",
    "INPAINT_StabilizeMask",
    "IPAdapter",
    "IPAdapterModelLoader",
    "InpaintPreprocessor",
}
CANVAS = {"class_type": "ETN_KritaCanvas", "inputs": {}}
OUTPUT = {"images": ["1", 0], "x": 0, "y": 0, "name": "", "batch_mode": "default", "resize_canvas": False}
GOOD = {"1": CANVAS, "2": {"class_type": "ETN_KritaOutput", "inputs": OUTPUT}}


@dataclass(frozen=True)
class Server:
    url: str
    home: Path
    log: list[str]

    def fetch(self, path: str, data: Any = None, method: str | None = None) -> tuple[int, bytes]:
        body = data if isinstance(data, bytes) or data is None else json.dumps(data).encode()
        request = urllib.request.Request(self.url + path, data=body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read()

    def json(self, path: str, data: Any = None, *, status: int = 200, method: str | None = None) -> Any:
        found, body = self.fetch(path, data, method)
        assert found == status, body
        return json.loads(body)

    def options(self, name: str, field: str) -> list[str]:
        spec = self.json(f"/object_info/{name}")[name]["input"]["required"][field]
        options: list[str] = spec[0] if isinstance(spec[0], list) else spec[1]["options"]
        return options

    def put_model(self, name: str, content: bytes = b"") -> Path:
        path = self.home / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


def command(home: Path, *more: str) -> list[str]:
    for folder in ("models", "user", "custom_nodes"):
        (home / folder).mkdir(exist_ok=True)
    flags = ["--cpu", "--listen", "127.0.0.1", "--port", "0", "--disable-auto-launch", "--disable-api-nodes"]
    directories = [f"--{name}-directory={home / name}" for name in ("models", "user", "input", "output", "temp")]
    return [sys.executable, "main.py", "--base-directory", str(home), *flags, *directories, *more]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **more}


@contextlib.contextmanager
def started(home: Path) -> Iterator[Server]:
    arguments, log = command(home), []
    with subprocess.Popen(
        arguments, cwd=STANDIN / "ComfyUI", env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        watchdog = threading.Timer(30, process.kill)  # so that a hang becomes a failure
        watchdog.start()
        try:
            assert process.stderr is not None
            for line in process.stderr:
                log.append(line)
                if found := re.search(r"To see the GUI go to: (\S+)", line):
                    yield Server(found[1], home, log)
                    break
            else:
                pytest.fail("".join(log))
        finally:
            watchdog.cancel()
            process.terminate()
    assert process.returncode == 0, "".join(log)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("standin")
    (home / "custom_nodes").mkdir()
    for pack in PACKS:
        (home / "custom_nodes" / pack).symlink_to(STANDIN / "custom_nodes" / pack)
    with started(home) as running:
        yield running


def safetensors(shapes: dict[str, list[int]]) -> bytes:
    header = {n: {"dtype": "F16", "shape": s, "data_offsets": [0, 0]} for n, s in shapes.items()}
    blob = json.dumps(header).encode()
    return struct.pack("<Q", len(blob)) + blob


def test_every_class_that_krita_needs_exists(server: Server) -> None:
    info = server.json("/object_info")
    assert info.keys() >= KRITA_NEEDS
    assert sum(name.startswith("ETN_") for name in info) == 30
    assert info.keys() >= {"KSampler", "VAELoader", "CheckpointLoaderSimple", "DualCLIPLoader", "SaveImage"}


def test_a_pack_s_classes_are_those_of_its_own_recording(server: Server) -> None:
    info = server.json("/api/object_info")
    assert len(PACKS) == 5
    for pack in PACKS:
        recorded = json.loads((STANDIN / "custom_nodes" / pack / "recorded.json").read_text())
        assert {n for n, c in info.items() if c["python_module"] == f"custom_nodes.{pack}"} == set(recorded)


def test_inputs_have_the_order_that_clients_expect(server: Server) -> None:
    described = server.json("/object_info/ETN_KritaOutput")["ETN_KritaOutput"]
    expected = ["images", "x", "y", "name", "batch_mode", "resize_canvas"]
    assert list(described["input"]["required"]) == described["input_order"]["required"] == expected
    assert described["output_node"] is True
    assert described["output"] == []


def test_it_declares_itself_a_trial(server: Server) -> None:
    assert server.json("/system_stats")["system"]["comfyui_version"].endswith("+standin")
    status, page = server.fetch("/")
    assert status == 200
    assert b"trial stand-in, not ComfyUI" in page


@pytest.mark.parametrize(
    "path",
    ["/system_stats", "/queue", "/history", "/prompt", "/models", "/features", "/extensions", "/settings"],
)
def test_routes_answer_with_and_without_api(server: Server, path: str) -> None:
    plain, under_api = server.json(path), server.json("/api" + path)
    assert plain.keys() == under_api.keys() if isinstance(plain, dict) else plain == under_api


def test_packs_that_are_missing_disabled_or_broken(tmp_path: Path) -> None:
    packs = tmp_path / "custom_nodes"
    packs.mkdir()
    (packs / "comfyui-tooling-nodes").symlink_to(STANDIN / "custom_nodes/comfyui-tooling-nodes")
    shutil.copytree(STANDIN / "custom_nodes/ComfyUI-GGUF", packs / "ComfyUI-GGUF.disabled")
    for name, code in {
        "broken": "import a_module_that_nobody_has",
        "empty": "",
        "mine": "from server import PromptServer\n"
        "from aiohttp import web\n"
        "@PromptServer.instance.routes.get('/mine')\n"
        "async def mine(request): return web.json_response('here')\n"
        "class Mine:\n"
        "    RETURN_TYPES = ('INT',)\n"
        "    @classmethod\n"
        "    def INPUT_TYPES(cls): return {'required': {'n': ('INT', {'default': 1})}}\n"
        "NODE_CLASS_MAPPINGS = {'Mine': Mine}\n",
    }.items():
        (packs / name).mkdir()
        (packs / name / "__init__.py").write_text(code)
    with started(tmp_path) as server:
        info = server.json("/object_info")
        assert "ETN_KritaCanvas" in info
        assert not {"IPAdapter", "INPAINT_ShrinkMask", "InpaintPreprocessor", "UnetLoaderGGUF"} & info.keys()
        assert info["Mine"]["python_module"] == "custom_nodes.mine"
        assert server.json("/mine") == server.json("/api/mine") == "here"
        assert not {"inpaint", "ipadapter", "unet_gguf"} & set(server.json("/models"))
    log = "".join(server.log)
    assert "Import times for custom nodes:" in log
    assert set(re.findall(r"\(IMPORT FAILED\): .*/(\w+)\n", log)) == {"broken", "empty"}
    assert "a_module_that_nobody_has" in log


def run_to_completion(home: Path, *more: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(home, *more),
        cwd=STANDIN / "ComfyUI",
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_without_sqlalchemy_2_it_does_not_start(tmp_path: Path) -> None:
    (old := tmp_path / "old/sqlalchemy").mkdir(parents=True)
    (old / "__init__.py").write_text("__version__ = '1.4.54'\n")
    (old / "orm.py").write_text("def sessionmaker(): ...\n")
    ended = run_to_completion(tmp_path, PYTHONPATH=str(old.parent))
    assert ended.returncode == 1
    assert "ASSETS_STARTUP_FAILED" in ended.stderr
    assert "ImportError: cannot import name 'mapped_column' from 'sqlalchemy.orm'" in ended.stderr
    assert "ComfyUI version" not in ended.stderr  # it ended before any other import


def test_a_start_needs_the_directories_that_comfyui_needs(tmp_path: Path) -> None:
    ended = run_to_completion(tmp_path, "--models-directory", str(tmp_path / "nowhere"))
    assert ended.returncode == 2
    assert "not a valid directory" in ended.stderr


def test_the_quick_test_uses_the_database_and_ends(tmp_path: Path) -> None:
    ended = run_to_completion(tmp_path, "--quick-test-for-ci", "--some-new-flag")
    assert ended.returncode == 0, ended.stderr
    assert "WARNING: unknown arguments ignored by the stand-in: --some-new-flag" in ended.stderr
    assert (tmp_path / "user/comfyui.db").read_bytes().startswith(b"SQLite format 3")


@pytest.mark.parametrize(
    ("file", "node", "field"),
    [
        ("checkpoints/a.safetensors", "CheckpointLoaderSimple", "ckpt_name"),
        ("checkpoints/below/b.ckpt", "CheckpointLoaderSimple", "ckpt_name"),
        ("vae/a.safetensors", "VAELoader", "vae_name"),
        ("text_encoders/a.safetensors", "DualCLIPLoader", "clip_name1"),
        ("clip/old-place.safetensors", "DualCLIPLoader", "clip_name1"),
        ("clip/a.gguf", "DualCLIPLoaderGGUF", "clip_name1"),
        ("unet/a.gguf", "UnetLoaderGGUF", "unet_name"),
        ("controlnet/a.safetensors", "ControlNetLoader", "control_net_name"),
        ("clip_vision/a.safetensors", "CLIPVisionLoader", "clip_name"),
        ("ipadapter/a.safetensors", "IPAdapterModelLoader", "ipadapter_file"),
        ("model_patches/a.safetensors", "ModelPatchLoader", "name"),
        ("style_models/a.safetensors", "StyleModelLoader", "style_model_name"),
        ("upscale_models/a.pth", "UpscaleModelLoader", "model_name"),
        ("inpaint/a.patch", "INPAINT_LoadFooocusInpaint", "patch"),
        ("inpaint/a.pth", "INPAINT_LoadInpaintModel", "model_name"),
        ("loras/a.safetensors", "LoraLoader", "lora_name"),
    ],
)
def test_model_lists_follow_the_folder(server: Server, file: str, node: str, field: str) -> None:
    name = file.partition("/")[2]
    before = server.options(node, field)
    path = server.put_model(file)
    try:
        during = server.options(node, field)
    finally:
        path.unlink()
    assert name not in before
    assert sorted(during) == sorted([*before, name])
    assert server.options(node, field) == before


def test_options_that_are_not_files_stay(server: Server) -> None:
    assert "pixel_space" in server.options("VAELoader", "vae_name")
    assert "euler" in server.options("KSampler", "sampler_name")


def graph(**nodes: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("n"): node for name, node in nodes.items()}


def output(**inputs: Any) -> dict[str, Any]:
    return {"class_type": "ETN_KritaOutput", "inputs": {**OUTPUT, **inputs}}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


DECODED = {"n2": output(images=["3", 0]), "n3": node("VAEDecode", samples=["4", 0], vae=["5", 0])}
VAE = node("VAELoader", vae_name="pixel_space")


@pytest.mark.parametrize(
    ("prompt", "kind", "invalid_nodes"),
    [
        (graph(n1=node("KritaInput")), "missing_node_type", {}),
        ({"1": {"inputs": {}}}, "missing_node_type", {}),
        (graph(n1=CANVAS), "prompt_no_outputs", {}),
        (graph(n1=CANVAS, n2=node("ETN_KritaOutput", x=1)), None, {"2": "required_input_missing"}),
        (graph(n1=CANVAS, n2=output(images=["1", 1])), None, {"2": "return_type_mismatch"}),
        (graph(n1=CANVAS, n2=output(images=["1"])), None, {"2": "bad_linked_input"}),
        (graph(n2=output(images=["9", 0])), None, {"2": "exception_during_validation"}),
        (graph(n1=CANVAS, n2=output(batch_mode="all")), None, {"2": "value_not_in_list"}),
        (graph(n1=CANVAS, n2=output(x="left")), None, {"2": "invalid_input_type"}),
        (
            graph(**DECODED, n4=node("EmptyLatentImage", width=8, height=64, batch_size=1), n5=VAE),
            None,
            {"4": "value_smaller_than_min"},
        ),
        (
            graph(
                **DECODED,
                n4=node("EmptyLatentImage", width=64, height=64, batch_size=1),
                n5=node("VAELoader", vae_name="not-there.safetensors"),
            ),
            None,
            {"5": "value_not_in_list"},
        ),
        (
            graph(
                n2=output(images=["3", 0]),
                n3=node("ImageInvert", image=["4", 0]),
                n4=node("ImageInvert", image=["3", 0]),
            ),
            None,
            {"3": "dependency_cycle", "4": "dependency_cycle"},
        ),
    ],
)
def test_an_invalid_prompt_is_rejected_as_by_comfyui(
    server: Server, prompt: dict[str, Any], kind: str | None, invalid_nodes: dict[str, str]
) -> None:
    response = server.json("/prompt", {"prompt": prompt}, status=400)
    assert response.keys() == {"error", "node_errors"}
    assert response["error"].keys() == {"type", "message", "details", "extra_info"}
    assert response["error"]["type"] == (kind or "prompt_outputs_failed_validation")
    assert {n: e["errors"][0]["type"] for n, e in response["node_errors"].items()} == invalid_nodes
    for wrong in response["node_errors"].values():
        assert wrong["dependent_outputs"] == ["2"]
        assert wrong["class_type"]


def test_no_prompt_and_a_bad_id(server: Server) -> None:
    assert server.json("/prompt", {}, status=400)["error"]["type"] == "no_prompt"
    bad = server.json("/prompt", {"prompt": GOOD, "prompt_id": "mine"}, status=400)
    assert bad["error"]["type"] == "invalid_prompt_id"


def test_a_prompt_runs_and_krita_gets_its_image(server: Server) -> None:
    async def run_prompt() -> tuple[str, list[str], list[bytes]]:
        events, images = [], []
        async with (
            aiohttp.ClientSession(server.url) as session,
            session.ws_connect("/ws?clientId=painter", timeout=aiohttp.ClientWSTimeout(ws_close=2)) as ws,
        ):
            first = await ws.receive_json(timeout=5)
            idle = {"exec_info": {"queue_remaining": 0}}
            assert first == {"type": "status", "data": {"status": idle, "sid": "painter"}}
            async with session.post("/api/prompt", json={"prompt": GOOD, "client_id": "painter"}) as response:
                accepted = await response.json()
            assert response.status == 200
            assert accepted.keys() == {"prompt_id", "number", "node_errors"}
            while True:
                message = await ws.receive(timeout=5)
                if message.type is aiohttp.WSMsgType.BINARY:
                    images.append(message.data)
                    continue
                event = json.loads(message.data)
                events.append(event["type"])
                if event["type"] == "executing" and event["data"]["node"] is None:
                    return accepted["prompt_id"], events, images

    prompt_id, events, images = asyncio.run(run_prompt())
    milestones = [e for e in events if e not in ("status", "progress_state")]
    run = "execution_start execution_cached executing executing executed execution_success executing"
    assert milestones == run.split()
    assert [p[:16] for p in images] == [struct.pack(">II", 1, 2) + b"\x89PNG\r\n\x1a\n"]
    entry = server.json(f"/history/{prompt_id}")[prompt_id]
    assert entry["status"]["status_str"] == "success"
    assert entry["status"]["completed"] is True
    assert entry["outputs"]["2"]["images"][0]["source"] == "websocket"
    assert entry["prompt"][1] == prompt_id


def test_workflows_reach_subscribers(server: Server) -> None:
    def publication(name: str) -> dict[str, Any]:
        return {"name": name, "client_id": "gesso", "workflow": GOOD}

    async def exchange() -> list[Any]:
        received = []
        async with aiohttp.ClientSession(server.url) as session:

            async def post(action: str, body: dict[str, Any]) -> int:
                async with session.post(f"/api/etn/workflow/{action}", json=body) as response:
                    return response.status

            assert await post("publish", publication("before")) == 200
            async with session.ws_connect("/ws?clientId=krita") as ws:
                await ws.receive_json(timeout=5)
                assert await post("subscribe", {"client_id": "krita"}) == 200
                received.append(await ws.receive_json(timeout=5))
                assert await post("publish", publication("after")) == 200
                received.append(await ws.receive_json(timeout=5))
                assert await post("subscribe", {"client_id": "krita"}) == 400
                assert await post("unsubscribe", {"client_id": "krita"}) == 200
                assert await post("unsubscribe", {"client_id": "krita"}) == 400
                assert await post("publish", {"name": "no id"}) == 400
        return received

    assert asyncio.run(exchange()) == [
        {
            "type": "etn_workflow_published",
            "data": {"publisher": {"name": name, "id": "gesso"}, "workflow": GOOD},
        }
        for name in ("before", "after")
    ]


UNET = "model.diffusion_model."
ATTENTION = UNET + "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            safetensors(
                {
                    UNET + "input_blocks.0.0.weight": [320, 4, 3, 3],
                    UNET + "label_emb.0.0.weight": [1280, 2816],
                    ATTENTION: [640, 2048],
                }
            ),
            {"base_model": "sdxl", "is_inpaint": False, "type": "eps"},
        ),
        (
            safetensors({UNET + "input_blocks.0.0.weight": [320, 9, 3, 3], ATTENTION: [320, 768]}),
            {"base_model": "sd15", "is_inpaint": True},
        ),
        (
            safetensors(
                {
                    "double_blocks.0.img_attn.norm.key_norm.scale": [128],
                    "img_in.weight": [3072, 64],
                    "guidance_in.in_layer.weight": [3072, 256],
                }
            ),
            {"base_model": "flux", "is_inpaint": False},
        ),
        (safetensors({"decoder.conv_in.weight": [512, 4, 3, 3]}), {"base_model": "unknown"}),
    ],
)
def test_model_info_detects_the_family(server: Server, content: bytes, expected: dict[str, Any]) -> None:
    path = server.put_model("checkpoints/model.safetensors", content)
    try:
        page = server.json("/api/etn/model_info/checkpoints?offset=0&limit=8")
        assert page == {"model.safetensors": expected, "_meta": {"offset": 0, "count": 1, "total": 1}}
        assert server.json("/api/etn/model_info") == {"model.safetensors": expected}
    finally:
        path.unlink()


def test_model_info_survives_invalid_files(server: Server) -> None:
    page = server.put_model("checkpoints/page.safetensors", b"<!doctype html><title>404</title>")
    stub = server.put_model("checkpoints/stub.safetensors", b"123")
    try:
        info = server.json("/api/etn/model_info")
        assert {name: entry["base_model"] for name, entry in info.items()} == dict.fromkeys(
            ("page.safetensors", "stub.safetensors"), "unknown"
        )
        assert server.json("/api/etn/model_info?offset=1&limit=8").keys() == {"stub.safetensors", "_meta"}
    finally:
        page.unlink()
        stub.unlink()
    assert server.json("/api/etn/model_info/unet_gguf?limit=8")["_meta"]["total"] == 0
    assert "Invalid folder" in server.json("/api/etn/model_info/nonsense", status=400)["error"]


def test_images_and_uploads_of_the_tooling_nodes(server: Server) -> None:
    assert server.fetch("/api/etn/image/a1")[0] == 404
    assert server.json("/api/etn/image/a1", b"pixels", status=201, method="PUT") == {"status": "success"}
    assert server.json("/api/etn/image/a1", b"others", method="PUT") == {"status": "cached"}
    assert server.fetch("/api/etn/image/a1") == (200, b"pixels")
    assert server.json("/api/etn/languages") == []
    target = "/api/etn/upload/loras/up.safetensors"
    assert server.json(target, b"weights", status=201, method="PUT") == {"status": "success"}
    assert server.json(target, b"weights", method="PUT") == {"status": "cached"}
    (server.home / "models/loras/up.safetensors").unlink()
    assert server.fetch("/api/etn/upload/loras/up.pth", b"", "PUT")[0] == 400
    assert server.fetch("/api/etn/upload/nonsense/up.safetensors", b"", "PUT")[0] == 400


def test_saved_workflows(server: Server) -> None:
    assert server.fetch("/userdata?dir=workflows")[0] == 404
    assert server.json("/api/userdata/workflows%2Fgold.json", b"{}") == "workflows/gold.json"
    assert server.json("/userdata?dir=workflows") == ["gold.json"]
    assert server.fetch("/userdata/workflows%2Fgold.json") == (200, b"{}")
    assert (server.home / "user/default/workflows/gold.json").read_text() == "{}"
    assert server.fetch("/userdata/workflows%2Fgold.json?overwrite=false", b"{}")[0] == 409
    for way_out in ("..%2F..%2Fx.json", "..%252F..%252Fx.json", "%2Fetc%2Fpasswd"):
        assert server.fetch(f"/userdata/{way_out}")[0] == 403


def test_uploaded_images_can_be_viewed(server: Server) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="cat.png"\r\n'
        b"Content-Type: image/png\r\n\r\nmeow\r\n--x--\r\n"
    )
    request = urllib.request.Request(
        server.url + "/upload/image", data=body, headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        assert json.load(response) == {"name": "cat.png", "subfolder": "", "type": "input"}
    assert server.fetch("/view?filename=cat.png&type=input") == (200, b"meow")
    assert server.fetch("/view?filename=dog.png&type=input")[0] == 404
    assert server.fetch("/view?filename=../user/comfyui.db&type=input")[0] == 400
    assert "cat.png" in server.options("LoadImage", "image")


def test_a_page_of_another_site_is_rejected(server: Server) -> None:
    request = urllib.request.Request(server.url + "/prompt", headers={"Origin": "https://evil.example"})
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=10)
    with refusal.value as response:
        assert response.code == 403


def load_record() -> ModuleType:
    spec = importlib.util.spec_from_file_location("standin_record", STANDIN / "record.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_recorder_detects_folders_from_options() -> None:
    record = load_record()

    def sentinel(*names: str) -> list[str]:
        return [f"gesso-sentinel-{name}" for name in names]

    folders = record.Folders(
        {
            "text_encoders": sentinel("clip.safetensors", "text_encoders.safetensors"),
            "clip_gguf": sentinel("clip.gguf"),
            "vae": sentinel("vae.safetensors"),
        }
    )
    assert folders.describe(["euler", "ddim"]) == ["euler", "ddim"]
    assert folders.describe([*sentinel("vae.safetensors"), "pixel_space"]) == {
        "folder": "vae",
        "extra": ["pixel_space"],
    }
    both = sentinel("clip.gguf", "clip.safetensors", "text_encoders.safetensors")
    assert folders.describe(both) == {"folder": ["text_encoders", "clip_gguf"]}
    with pytest.raises(SystemExit):
        folders.describe(sentinel("unheard-of.safetensors"))


def test_the_recordings_are_small_and_without_prose() -> None:
    files = [*STANDIN.rglob("recorded.json"), STANDIN / "ComfyUI/recorded/core.json"]
    assert len(files) == 6
    assert sum(f.stat().st_size for f in files) < 1_200_000
    for file in files:
        text = file.read_text()
        assert "gesso-sentinel" not in text
        assert '"tooltip"' not in text
        assert text.count("\n") == len(json.loads(text)) + 2  # a line for each class
