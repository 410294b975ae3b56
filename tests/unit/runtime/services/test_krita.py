"""Publishing to Krita: readable names, an ID for each graph, and failures that do not stop the others."""

from __future__ import annotations

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError
from gesso.runtime.services import krita
from tests.local_server import answering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gesso.runtime.layout import Layout, Record

FILES = {
    "krita_gold_standard_sdxl.json": "", "krita_gold_standard_sdxl.api.json": "",
    "krita_gold_standard_sdxl_inpaint.api.json": "", "my_own.api.json": "",
}  # fmt: skip


@contextmanager
def comfyui(status: int = 200) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """A fake ComfyUI that records what is published."""
    published: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, b"{}")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            published.append({"path": self.path, **body})
            self.answer(status, b"the reason")

        def answer(self, code: int, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with answering(Handler) as port:
        yield port, published


def bake(layout: Layout) -> None:
    (layout.gesso / "workflows").mkdir()
    for name in FILES:
        (layout.gesso / "workflows" / name).write_text(json.dumps({"1": {"class_type": name, "inputs": {}}}))


TITLES = {"krita_gold_standard_sdxl_inpaint": "SDXL 2 Inpaint", "krita_gold_standard_sdxl": "SDXL 1 Paint"}


def test_titles_come_from_the_record_and_are_sorted_as_krita_sorts_them(record: Callable[..., Record]) -> None:
    titles = {**TITLES, "my_own": "Z: mine"}
    named = krita.list_workflows(record(workflows=FILES, workflow_titles=titles))
    assert [(graph.name, graph.client_id, graph.file) for graph in named] == [
        ("SDXL 1 Paint", "gesso-sdxl", "krita_gold_standard_sdxl.api.json"),
        ("SDXL 2 Inpaint", "gesso-sdxl-inpaint", "krita_gold_standard_sdxl_inpaint.api.json"),
        ("Z: mine", "gesso-my-own", "my_own.api.json"),
    ]


def test_the_record_of_an_older_image_has_no_titles(record: Callable[..., Record]) -> None:
    named = krita.list_workflows(record(workflows=FILES))
    assert [(graph.name, graph.client_id) for graph in named] == [
        ("Krita gold standard sdxl", "gesso-sdxl"),
        ("Krita gold standard sdxl inpaint", "gesso-sdxl-inpaint"),
        ("My own", "gesso-my-own"),
    ]


def test_all_are_posted(layout: Layout, record: Callable[..., Record]) -> None:
    bake(layout)
    messages: list[str] = []
    with comfyui() as (port, published):
        krita.publish(layout, record(workflows=FILES, workflow_titles=TITLES), messages.append, port)
    assert {item["path"] for item in published} == {"/api/etn/workflow/publish"}
    assert [item["client_id"] for item in published] == ["gesso-my-own", "gesso-sdxl", "gesso-sdxl-inpaint"]
    assert [item["name"] for item in published] == ["My own", "SDXL 1 Paint", "SDXL 2 Inpaint"]
    assert published[1]["workflow"] == {"1": {"class_type": "krita_gold_standard_sdxl.api.json", "inputs": {}}}
    assert messages == [f"krita: published {item['name']}" for item in published]


def test_a_missing_graph_does_not_stop_the_others(layout: Layout, record: Callable[..., Record]) -> None:
    bake(layout)
    (layout.gesso / "workflows/my_own.api.json").unlink()
    (layout.gesso / "workflows/krita_gold_standard_sdxl.api.json").write_text("{")
    with comfyui() as (port, published), pytest.raises(CheckError, match=r"krita_gold_standard_sdxl\.api.*my_own"):
        krita.publish(layout, record(workflows=FILES), lambda _: None, port)
    assert [item["client_id"] for item in published] == ["gesso-sdxl-inpaint"]


def test_a_refusal_is_reported(layout: Layout, record: Callable[..., Record]) -> None:
    bake(layout)
    with comfyui(500) as (port, _), pytest.raises(CheckError, match="ComfyUI answers 500: the reason"):
        krita.publish(layout, record(workflows=FILES), lambda _: None, port)
