"""Routes for the user's files: saved workflows and settings, uploaded and generated images."""

from __future__ import annotations

import json
import mimetypes
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import folder_paths
from aiohttp import web

if TYPE_CHECKING:
    from .prompt_server import PromptServer

USER = "default"
# Content that a browser might run if it were displayed: served as a download only.
ACTIVE_TYPES = ("html", "javascript", "ecmascript", "css", "xml")


def add(server: PromptServer) -> None:
    routes = server.routes

    @routes.get("/users")
    async def users(_: web.Request) -> web.Response:
        return web.json_response({"storage": "server", "migrated": _root().exists()})

    @routes.get("/userdata")
    async def list_userdata(request: web.Request) -> web.Response:
        if not (name := request.query.get("dir", "")):
            return web.Response(status=400, text="Directory not provided")
        folder = _user_file(name)
        if not folder.exists():
            return web.Response(status=404, text="Directory not found")
        recurse = request.query.get("recurse", "").lower() == "true"
        files = [p for p in sorted(folder.rglob("*") if recurse else folder.glob("*")) if p.is_file()]
        if request.query.get("full_info", "").lower() == "true":
            return web.json_response([_info(p, folder) for p in files])
        names = [str(p.relative_to(folder)) for p in files]
        split = request.query.get("split", "").lower() == "true"
        return web.json_response([[n, *n.split("/")] for n in names] if split else names)

    @routes.get("/userdata/{file}")
    async def read_userdata(request: web.Request) -> web.StreamResponse:
        path = _existing(request)
        headers = {"Content-Type": _harmless_type(path), "X-Content-Type-Options": "nosniff"}
        return web.FileResponse(path, headers={**headers, "Content-Disposition": "attachment"})

    @routes.post("/userdata/{file}")
    async def write_userdata(request: web.Request) -> web.Response:
        path = _user_file(request.match_info["file"])
        if request.query.get("overwrite", "true") == "false" and path.exists():
            return web.Response(status=409, text="File already exists")
        _write(path, await request.read())
        full = request.query.get("full_info", "").lower() == "true"
        return web.json_response(_info(path, _root()) if full else str(path.relative_to(_root())))

    @routes.delete("/userdata/{file}")
    async def delete_userdata(request: web.Request) -> web.Response:
        _existing(request).unlink()
        return web.Response(status=204)

    @routes.get("/settings")
    async def settings(_: web.Request) -> web.Response:
        return web.json_response(_settings())

    @routes.get("/settings/{id}")
    async def setting(request: web.Request) -> web.Response:
        return web.json_response(_settings().get(request.match_info["id"]))

    @routes.post("/settings")
    async def save_settings(request: web.Request) -> web.Response:
        _save_settings({**_settings(), **await request.json()})
        return web.Response()

    @routes.post("/settings/{id}")
    async def save_setting(request: web.Request) -> web.Response:
        _save_settings({**_settings(), request.match_info["id"]: await request.json()})
        return web.Response()

    @routes.post("/upload/image")
    async def upload(request: web.Request) -> web.Response:
        form = await request.post()
        image, kind = form.get("image"), str(form.get("type", "input"))
        if not isinstance(image, web.FileField) or not image.filename:
            return web.Response(status=400)
        subfolder = str(form.get("subfolder", ""))
        path = _inside(_kind(kind), os.path.join(subfolder, image.filename), outside=400)
        data = image.file.read()
        stem, number = path.stem, 1
        overwrite = form.get("overwrite") in ("true", "1")
        while not overwrite and path.exists() and path.read_bytes() != data:
            path = path.with_name(f"{stem} ({number}){path.suffix}")
            number += 1
        _write(path, data)
        return web.json_response({"name": path.name, "subfolder": subfolder, "type": kind})

    @routes.get("/view")
    async def view(request: web.Request) -> web.StreamResponse:
        name = request.query.get("filename", "")
        if not name or name.startswith("/") or ".." in name:
            return web.Response(status=400)
        folder = _inside(_kind(request.query.get("type", "output")), request.query.get("subfolder", ""), outside=403)
        if not (path := folder / Path(name).name).is_file():
            return web.Response(status=404)
        kind = _harmless_type(path)
        disposition = "attachment; " if kind != (mimetypes.guess_type(path.name)[0] or kind) else ""
        shown = path.name.replace("\\", "\\\\").replace('"', '\\"')
        headers = {"X-Content-Type-Options": "nosniff", "Content-Disposition": f'{disposition}filename="{shown}"'}
        return web.FileResponse(path, headers={**headers, "Content-Type": kind})


def _root() -> Path:
    return Path(folder_paths.user_directory, USER).resolve()


def _user_file(name: str) -> Path:
    # Clients encode a path once or twice; aiohttp decodes the first.
    return _inside(_root(), unquote(name), outside=403)


def _existing(request: web.Request) -> Path:
    path = _user_file(request.match_info["file"])
    if not path.is_file():
        raise web.HTTPNotFound
    return path


def _kind(kind: str) -> Path:
    folder = folder_paths.get_directory_by_type(kind)
    if folder is None:
        raise web.HTTPBadRequest
    return Path(folder).resolve()


def _inside(folder: Path, name: str, *, outside: int) -> Path:
    path = Path(os.path.abspath(folder / name))
    if path != folder and folder not in path.parents:
        raise web.HTTPForbidden if outside == 403 else web.HTTPBadRequest
    return path


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    os.replace(name, path)


def _info(path: Path, base: Path) -> dict[str, Any]:
    stat = path.stat()
    times = {"modified": int(stat.st_mtime * 1000), "created": int(stat.st_ctime * 1000)}
    return {"path": str(path.relative_to(base)), "size": stat.st_size, **times}


def _harmless_type(path: Path) -> str:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return "application/octet-stream" if any(active in kind for active in ACTIVE_TYPES) else kind


def _settings() -> dict[str, Any]:
    path = _root() / "comfy.settings.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _save_settings(settings: dict[str, Any]) -> None:
    _write(_root() / "comfy.settings.json", json.dumps(settings, indent=4).encode())
