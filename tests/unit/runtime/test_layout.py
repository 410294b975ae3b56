"""What an image says of itself: read whole, or refused with the reason."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from gesso.errors import CheckError
from gesso.runtime.layout import read_record

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


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"arch": "sdxl"}', json.dumps({**RAW, "python": None})])
def test_what_is_no_gesso_image(layout: Layout, text: str | None) -> None:
    if text is not None:
        (layout.gesso / "build.json").write_text(text)
    with pytest.raises(CheckError, match=r"build\.json: ") as raised:
        read_record(layout)
    assert raised.value.next_step == "run this inside a gesso image"
