"""The agent: fetches models, watches ComfyUI, hands Krita its workflows, answers the gate and serves the page.

Under the supervisor, on loopback. A thread for each work that never ends; the web server has the main one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import uvicorn

from gesso.models import wanted
from gesso.runtime import boot, locks
from gesso.runtime.gate import caddy
from gesso.runtime.layout import AGENT_PORT
from gesso.runtime.services.supervisord import Supervisor
from gesso.runtime.state.state import USABLE
from gesso.runtime.watch import model_sync
from gesso.runtime.watch.comfyui import Watch
from gesso.runtime.watch.drift import Drift
from gesso.runtime.watch.heals import Healer
from gesso.runtime.watch.scrub import Scrub
from gesso.runtime.watch.status import Status
from gesso.runtime.web.app import application

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gesso.runtime.layout import Layout, Record


class _Server(uvicorn.Server):
    """Told to go, it tells the streams to end, which would else keep it."""

    def __init__(self, config: uvicorn.Config, stop: threading.Event) -> None:
        super().__init__(config)
        self._stop = stop

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._stop.set()
        super().handle_exit(sig, frame)


def run(layout: Layout, record: Record, env: Mapping[str, str], say: Callable[[str], None]) -> int:
    """Work until a signal comes."""
    models = wanted.from_record(record.raw["models"], layout.gesso / "build.json")
    folder = model_sync.folder_of(layout)
    goods = model_sync.Stock(wanted.in_order(models), folder, model_sync.command(layout),
                        claimed=lambda: locks.taken(layout.models_lock))  # fmt: skip
    watch = Watch(layout, record, Supervisor(layout.run / "supervisor.sock"), lambda: boot.revive(layout, env, say))
    drift = Drift(layout, record, lambda: status()["state"] in USABLE)
    status = Status(layout, record, env, goods, watch, drift)
    scrub = Scrub(models, folder, goods.doubt)
    stop = threading.Event()
    works = {"stock": goods.run, "watch": watch.run, "drift": drift.run, "scrub": scrub.run}
    for name, work in works.items():
        threading.Thread(target=work, args=(stop,), name=name, daemon=True).start()
    secure = caddy.certificate(layout, env) is not None
    config = uvicorn.Config(
        application(
            status, caddy.in_force(layout, env), Healer(layout, env),
            secure=secure, ended=stop.is_set, admin=caddy.admin_origin(env),
        ),
        host="127.0.0.1", port=AGENT_PORT, ws="none", lifespan="off", access_log=False, log_level="warning",
        server_header=False, date_header=False, proxy_headers=False, timeout_graceful_shutdown=1, loop="asyncio",
    )  # fmt: skip
    say(f"agent: {record.arch}: watching ComfyUI and {len(models)} models")
    _Server(config, stop).run()
    return 0
