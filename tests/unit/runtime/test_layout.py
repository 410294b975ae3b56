"""The paths of an instance, and the record of its image: read completely, or rejected with the reason."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from gesso.errors import CheckError
from gesso.runtime.layout import Spare, models_folder, read_record

if TYPE_CHECKING:
    from gesso.runtime.layout import Layout

RAW = {
    "arch": "sdxl", "title": "x", "trial": False, "classes": ["A"], "python": {"pins": {"sqlalchemy": "2.0.58"}},
    "workflows": {"a.json": "00"}, "more": 1,
}  # fmt: skip


def test_a_record(layout: Layout) -> None:
    (layout.gesso / "build.json").write_text(json.dumps(RAW))
    record = read_record(layout)
    assert (record.arch, record.classes, record.pins) == ("sdxl", ("A",), {"sqlalchemy": "2.0.58"})
    assert record.raw == RAW
    assert record.spares == ()
    assert record.workflow_titles == {}


def test_the_titles_of_workflows(layout: Layout) -> None:
    (layout.gesso / "build.json").write_text(json.dumps({**RAW, "workflow_titles": {"a": "1 Paint"}}))
    assert read_record(layout).workflow_titles == {"a": "1 Paint"}


def test_the_spares(layout: Layout) -> None:
    spares = {
        "ComfyUI": {"sha256": "00", "target": "/opt/ComfyUI"},
        "gesso": {"sha256": "11", "target": "/", "loose": True},
    }
    (layout.gesso / "build.json").write_text(json.dumps({**RAW, "spares": spares}))
    assert read_record(layout).spares == (Spare("ComfyUI", "00", "/opt/ComfyUI"), Spare("gesso", "11", "/", loose=True))


@pytest.mark.parametrize(
    ("path", "folder", "below"),
    [
        ("/opt/ComfyUI", "comfyui", ""),
        ("/opt/ComfyUI/custom_nodes/a/b.py", "comfyui", "custom_nodes/a/b.py"),
        ("/opt/ComfyUI2/b.py", "root/opt/ComfyUI2", "b.py"),
        ("/opt/gesso/constraints.txt", "gesso", "constraints.txt"),
        ("/usr/local/bin/entrypoint.sh", "root/usr/local/bin", "entrypoint.sh"),
        ("/x", "root", "x"),
    ],
)
def test_a_path_of_the_image_is_located(layout: Layout, path: str, folder: str, below: str) -> None:
    assert layout.locate(path) == (layout.root.parent / folder, below)


def test_a_read_only_models_folder(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models_folder(layout).state == layout.models / ".gesso"
    layout.models.mkdir()
    monkeypatch.setattr("os.access", lambda *_: False)
    assert models_folder(layout).state == layout.state / "models"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "{}",
        '{"arch": "sdxl"}',
        json.dumps({**RAW, "python": None}),
        json.dumps({**RAW, "spares": {"a": {}}}),
        json.dumps({**RAW, "spares": []}),
    ],
)
def test_an_invalid_record_is_rejected(layout: Layout, text: str | None) -> None:
    if text is not None:
        (layout.gesso / "build.json").write_text(text)
    with pytest.raises(CheckError, match=r"build\.json: ") as raised:
        read_record(layout)
    assert raised.value.next_step == "run this inside a gesso image"
