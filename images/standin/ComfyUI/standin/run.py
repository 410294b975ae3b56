"""Assemble the server and run it until a signal arrives."""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
import signal
import sys

import folder_paths
from aiohttp import web
from comfyui_version import __version__

from . import loader, routes_files, routes_info, routes_prompt
from .cli import HOME, Args
from .database import FAILED, open_database
from .prompt_server import PromptServer
from .registry import EXTENSION_WEB_DIRS

log = logging.getLogger("standin")


def run(args: Args) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    return asyncio.run(_serve(args))


async def _serve(args: Args) -> int:
    log.info("ComfyUI version: %s (a trial stand-in, not ComfyUI)", __version__)
    shutil.rmtree(args.temp, ignore_errors=True)  # always a folder that we named, see cli.py
    folder_paths.configure(
        models=str(args.models),
        user=str(args.user),
        inputs=str(args.input),
        outputs=str(args.output),
        temp=str(args.temp),
    )
    server = make_server(args)
    try:
        open_database(args.database_url)
    # SQLAlchemy half-installed, a database in use, a full disk: the start fails in the same way.
    except Exception as error:  # noqa: BLE001
        log.error("%s\n%s: %s", FAILED, type(error).__name__, error)  # noqa: TRY400
        return 1
    if args.quick_test:
        return 0
    return await _listen(server)


def make_server(args: Args) -> PromptServer:
    server = PromptServer(args, asyncio.get_running_loop())
    for part in (routes_info, routes_prompt, routes_files):
        part.add(server)
    loader.load_core(HOME / "recorded" / "core.json")
    if args.load_custom_nodes:
        loader.load_packs(args.custom_nodes)
    server.add_routes()
    for name, folder in EXTENSION_WEB_DIRS.items():
        server.app.router.add_static(f"/extensions/{name}", folder)
    return server


async def _listen(server: PromptServer) -> int:
    runner = web.AppRunner(server.app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    log.info("Starting server\n")
    for address in server.args.listen:
        try:
            await web.TCPSite(runner, address, server.args.port).start()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            log.error("Port %s is already in use on address %s.", server.args.port, address)  # noqa: TRY400
            return 1
    for host, port, *_ in runner.addresses:
        log.info("To see the GUI go to: http://%s:%s", f"[{host}]" if ":" in host else host, port)
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        server.loop.add_signal_handler(name, stop.set)
    worker = asyncio.create_task(server.queue.work())
    await stop.wait()
    worker.cancel()
    for socket in list(server.sockets.values()):
        await socket.close()
    await runner.cleanup()
    return 0
