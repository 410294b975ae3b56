"""The agent: fetches models, watches ComfyUI, publishes workflows to Krita, answers the gate and serves the page.

Runs under the supervisor, on a Unix socket. Each endless loop has its own thread, the web server runs in the main one.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import uvicorn

from gesso.runtime import boot, locks, unix_http
from gesso.runtime.gate import address, caddy, tokens
from gesso.runtime.gate.decision import Gate
from gesso.runtime.layout import models_folder
from gesso.runtime.services.supervisord import Supervisor
from gesso.runtime.state.state import USABLE
from gesso.runtime.watch import model_sync, watched
from gesso.runtime.watch.comfyui import ComfyuiWatch
from gesso.runtime.watch.drift import Drift
from gesso.runtime.watch.heals import Healer
from gesso.runtime.watch.scrub import Scrub
from gesso.runtime.watch.status import Status
from gesso.runtime.web import internal
from gesso.runtime.web.app import application
from gesso.runtime.web.logs import LogReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gesso.runtime.layout import Layout, Record

_MAX_HEADERS = 256 * 1024  # bytes; Caddy allows 16 KB, and sends the agent the URL once more


class _Server(uvicorn.Server):
    """A server that ends its event streams on a signal, which would keep it running, and sleeps until then.

    uvicorn's own loop wakes ten times a second, for a date header and for limits that are not used here.
    """

    def __init__(self, config: uvicorn.Config, stop: threading.Event) -> None:
        super().__init__(config)
        self._stop = stop
        self._loop: asyncio.AbstractEventLoop | None = None
        self._exit = asyncio.Event()

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        while not self.should_exit:
            await self._exit.wait()

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._stop.set()
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._exit.set)


def run(layout: Layout, record: Record, env: Mapping[str, str], on_progress: Callable[[str], None]) -> int:
    """Run the agent until a signal arrives."""
    models = watched.from_record(record.raw["models"])
    folder = models_folder(layout)
    sync = model_sync.ModelSync(
        models, folder, model_sync.command(layout), claimed=lambda: locks.is_held(layout.models_lock)
    )
    watch = ComfyuiWatch(
        layout,
        record,
        Supervisor(layout.run / "supervisor.sock"),
        lambda: boot.revive(layout, env, on_progress),
        env=env,
    )
    drift = Drift(layout, record, lambda: status()["state"] in USABLE, env)
    status = Status(layout, record, env, sync, watch, drift)
    scrub = Scrub(models, folder, sync.recheck, lambda: not watch.seen.queue)
    stop = threading.Event()
    loops = {"models": sync.run, "watch": watch.run, "drift": drift.run, "scrub": scrub.run}
    for name, loop in loops.items():
        threading.Thread(target=loop, args=(stop,), name=name, daemon=True).start()
    token = caddy.active_token(layout, env, on_progress)
    gate = Gate(
        token, tokens.cookie_key(layout), admin=address.admin_origin(env),
        public=address.public_url(env), secure=caddy.certificate(layout, env) is not None,
    )  # fmt: skip
    config = uvicorn.Config(
        application(
            status, gate, Healer(layout, env), LogReader(layout, env, token),
            stopping=stop.is_set, internal=internal.routes(status),
        ),
        http="h11", h11_max_incomplete_event_size=_MAX_HEADERS,
        ws="none", lifespan="off", access_log=False, log_level="warning",
        server_header=False, date_header=False, proxy_headers=False, timeout_graceful_shutdown=1, loop="asyncio",
    )  # fmt: skip
    on_progress(f"agent: {record.arch}: watching ComfyUI and {len(models)} models")
    with unix_http.listen(layout.agent_socket) as listener:
        _Server(config, stop).run(sockets=[listener])
    return 0
