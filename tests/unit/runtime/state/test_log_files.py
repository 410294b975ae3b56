"""The logs of an instance: names, files, the end of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gesso.errors import ManifestError
from gesso.runtime.state import log_files

if TYPE_CHECKING:
    from gesso.runtime.layout import Layout


def test_names(layout: Layout) -> None:
    assert log_files.names(layout) == []
    layout.logs.mkdir()
    for name in ("gate.log", "agent.log", "agent.log.1", "notes.txt"):
        (layout.logs / name).touch()
    (layout.logs / "folder.log").mkdir()
    assert log_files.names(layout) == ["agent", "gate"]
    assert log_files.find(layout, None) == [layout.logs / "agent.log", layout.logs / "gate.log"]
    for name in ("folder", "agent.log", "../agent", "", "*"):
        with pytest.raises(ManifestError, match="no log is named"):
            log_files.find(layout, name)


def test_the_tail_is_bounded_and_begins_with_a_whole_line(layout: Layout) -> None:
    layout.logs.mkdir()
    path = layout.logs / "agent.log"
    path.write_bytes(b"".join(b"line %07d\n" % n for n in range(40_000)))
    text = log_files.tail(path)
    assert len(text) <= log_files.TAIL_BYTES
    assert text.startswith("line 00")
    assert text.endswith("line 0039999\n")
    path.write_bytes(b"x" * (log_files.TAIL_BYTES + 1))
    assert log_files.tail(path) == ""
    path.write_bytes(b"x" * log_files.TAIL_BYTES)
    assert len(log_files.tail(path)) == log_files.TAIL_BYTES


def test_the_tail_is_what_a_terminal_would_show(layout: Layout) -> None:
    layout.logs.mkdir()
    path = layout.logs / "comfyui.log"
    path.write_bytes(b"\x1b[32mgreen\x1b[0m\r\n 10 %\r 20 %\r100 %\n\xff\n")
    assert log_files.tail(path) == "green\n100 %\n\N{REPLACEMENT CHARACTER}\n"
