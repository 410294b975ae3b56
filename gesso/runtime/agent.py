"""The agent: fetches models, watches ComfyUI, publishes workflows to Krita, answers the gate and serves the page.

Runs under the supervisor, on a Unix socket. Each endless loop has its own thread, the web server runs in the main one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import uvicorn

from gesso.models import wanted
from gesso.runtime import boot, locks, unix_http
from gesso.runtime.gate import caddy
from gesso.runtime.layout import models_folder
from gesso.runtime.services.supervisord import Supervisor
from gesso.runtime.state.state import USABLE
from gesso.runtime.watch import model_sync
from gesso.runtime.watch.comfyui import ComfyuiWatch
from gesso.runtime.watch.drift import Drift
from gesso.runtime.watch.heals import Healer
from gesso.runtime.watch.scrub import Scrub
from gesso.runtime.watch.status import Status
from gesso.runtime.web.app import application
from gesso.runtime.web.logs import LogReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gesso.runtime.layout import Layout, Record


class _Server(uvicorn.Server):
    """A server that ends its event streams on a signal; otherwise they would keep it running."""

    def __init__(self, config: uvicorn.Config, stop: threading.Event) -> None:
        super().__init__(config)
        self._stop = stop

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._stop.set()
        super().handle_exit(sig, frame)


def run(layout: Layout, record: Record, env: Mapping[str, str], on_progress: Callable[[str], None]) -> int:
    """Run the agent until a signal arrives."""
    models = wanted.from_record(record.raw["models"], layout.gesso / "build.json")
    folder = models_folder(layout)
    sync = model_sync.ModelSync(
        wanted.in_order(models), folder, model_sync.command(layout), claimed=lambda: locks.is_held(layout.models_lock)
    )
    watch = ComfyuiWatch(
        layout, record, Supervisor(layout.run / "supervisor.sock"), lambda: boot.revive(layout, env, on_progress)
    )
    drift = Drift(layout, record, lambda: status()["state"] in USABLE)
    status = Status(layout, record, env, sync, watch, drift)
    scrub = Scrub(models, folder, sync.recheck)
    stop = threading.Event()
    loops = {"models": sync.run, "watch": watch.run, "drift": drift.run, "scrub": scrub.run}
    for name, loop in loops.items():
        threading.Thread(target=loop, args=(stop,), name=name, daemon=True).start()
    secure = caddy.certificate(layout, env) is not None
    token = caddy.active_token(layout, env)
    config = uvicorn.Config(
        application(
            status, token, Healer(layout, env), secure=secure, stopping=stop.is_set, admin=caddy.admin_origin(env),
            reader=LogReader(layout, env, token),
        ),
        ws="none", lifespan="off", access_log=False, log_level="warning",
        server_header=False, date_header=False, proxy_headers=False, timeout_graceful_shutdown=1, loop="asyncio",
    )  # fmt: skip
    on_progress(f"agent: {record.arch}: watching ComfyUI and {len(models)} models")
    with unix_http.listen(layout.agent_socket) as listener:
        _Server(config, stop).run(sockets=[listener])
    return 0
