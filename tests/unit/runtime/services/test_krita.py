"""Publishing to Krita: readable names, an ID for each graph, and failures that do not stop the others."""

from __future__ import annotations

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gesso.errors import CheckError
from gesso.manifest.load import load
from gesso.runtime.services import krita
from gesso.settings import Project
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


def test_names_are_readable_and_ids_differ() -> None:
    named = krita.list_workflows(FILES)
    assert [(graph.name, graph.client_id) for graph in named] == [
        ("My own", "gesso-my-own"),
        ("SDXL: gold standard", "gesso-sdxl"),
        ("SDXL inpaint: gold standard", "gesso-sdxl-inpaint"),
    ]
    assert all(graph.file.endswith(".api.json") for graph in named)


def test_every_graph_of_the_project_has_a_unique_name() -> None:
    project = Project(Path(__file__).resolve().parents[4])
    for arch in project.archs():
        names = load(project.manifests / f"{arch}.yaml", root=project.root).manifest.workflows
        listed = krita.list_workflows([f"{name}{krita.SUFFIX}" for name in names])
        assert len({graph.client_id for graph in listed}) == len({graph.name for graph in listed}) == len(names)


def test_all_are_posted(layout: Layout, record: Callable[..., Record]) -> None:
    bake(layout)
    messages: list[str] = []
    with comfyui() as (port, published):
        krita.publish(layout, record(workflows=FILES), messages.append, port)
    assert {item["path"] for item in published} == {"/api/etn/workflow/publish"}
    assert [item["client_id"] for item in published] == ["gesso-my-own", "gesso-sdxl", "gesso-sdxl-inpaint"]
    assert published[1]["workflow"] == {"1": {"class_type": "krita_gold_standard_sdxl.api.json", "inputs": {}}}
    assert messages == [f"krita: published {item['name']}" for item in published]


def test_a_missing_graph_does_not_stop_the_others(layout: Layout, record: Callable[..., Record]) -> None:
    bake(layout)
    (layout.gesso / "workflows/my_own.api.json").unlink()
    (layout.gesso / "workflows/krita_gold_standard_sdxl.api.json").write_text("{")
    with comfyui() as (port, published), pytest.raises(CheckError, match=r"my_own.*krita_gold_standard_sdxl\.api"):
        krita.publish(layout, record(workflows=FILES), lambda _: None, port)
    assert [item["client_id"] for item in published] == ["gesso-sdxl-inpaint"]


def test_a_refusal_is_reported(layout: Layout, record: Callable[..., Record]) -> None:
    bake(layout)
    with comfyui(500) as (port, _), pytest.raises(CheckError, match="ComfyUI answers 500: the reason"):
        krita.publish(layout, record(workflows=FILES), lambda _: None, port)
