"""Routes that describe the server: versions, node classes, model folders."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths
from aiohttp import web
from comfyui_version import __version__

from .registry import EXTENSION_WEB_DIRS, NODE_CLASS_MAPPINGS, describe

if TYPE_CHECKING:
    from .prompt_server import PromptServer

PAGE = Path(__file__).with_name("page.html")
NOTHING = "none (stand-in)"


def add(server: PromptServer) -> None:
    routes = server.routes

    @routes.get("/")
    async def page(_: web.Request) -> web.StreamResponse:
        text = PAGE.read_text(encoding="utf-8").replace("{version}", __version__)
        text = text.replace("{classes}", str(len(NODE_CLASS_MAPPINGS)))
        return web.Response(text=text, content_type="text/html", headers={"Cache-Control": "no-store"})

    @routes.get("/system_stats")
    async def system_stats(_: web.Request) -> web.Response:
        return web.json_response({"system": _system(), "devices": [_cpu()]})

    @routes.get("/features")
    async def features(_: web.Request) -> web.Response:
        return web.json_response(server.features)

    @routes.get("/object_info")
    async def object_info(_: web.Request) -> web.Response:
        return web.json_response({name: describe(name) for name in NODE_CLASS_MAPPINGS})

    @routes.get("/object_info/{name}")
    async def object_info_of(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return web.json_response({name: describe(name)} if name in NODE_CLASS_MAPPINGS else {})

    @routes.get("/models")
    async def models(_: web.Request) -> web.Response:
        return web.json_response(list(folder_paths.folder_names_and_paths))

    @routes.get("/models/{folder}")
    async def models_of(request: web.Request) -> web.Response:
        folder = request.match_info["folder"]
        if folder not in folder_paths.folder_names_and_paths:
            return web.Response(status=404)
        return web.json_response(folder_paths.get_filename_list(folder))

    @routes.get("/embeddings")
    async def embeddings(_: web.Request) -> web.Response:
        return web.json_response([os.path.splitext(n)[0] for n in folder_paths.get_filename_list("embeddings")])

    @routes.get("/extensions")
    async def extensions(_: web.Request) -> web.Response:
        found = [
            f"/extensions/{pack}/{script.relative_to(folder)}"
            for pack, folder in EXTENSION_WEB_DIRS.items()
            for script in _scripts(folder)
        ]
        return web.json_response(found)


def _scripts(folder: str) -> list[Path]:
    return sorted(Path(folder).rglob("*.js"))


def _system() -> dict[str, Any]:
    total, free = _memory()
    return {
        "os": sys.platform,
        "ram_total": total,
        "ram_free": free,
        "comfyui_version": __version__,
        "required_frontend_version": NOTHING,
        "installed_templates_version": NOTHING,
        "required_templates_version": NOTHING,
        "comfy_package_versions": [],
        "python_version": sys.version,
        "pytorch_version": NOTHING,
        "embedded_python": False,
        "deploy_environment": "standin",
        "argv": sys.argv,
    }


def _cpu() -> dict[str, Any]:
    total, free = _memory()
    sizes = {"vram_total": total, "vram_free": free, "torch_vram_total": total, "torch_vram_free": free}
    return {"name": "cpu", "type": "cpu", "index": None, **sizes}


def _memory() -> tuple[int, int]:
    page_size = os.sysconf("SC_PAGE_SIZE")
    return os.sysconf("SC_PHYS_PAGES") * page_size, os.sysconf("SC_AVPHYS_PAGES") * page_size
