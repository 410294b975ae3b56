"""The models of the record, as the agent needs them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from gesso.errors import CheckError
from gesso.runtime.watch.watched import WatchedModel, from_record

ROW = {"name": "vae/a.safetensors", "tier": "required", "sha256": "ab", "size": 7, "license": "MIT", "kind": "vae"}


def test_five_fields_in_the_order_of_fetching() -> None:
    later = {**ROW, "name": "vae/b.safetensors", "tier": "optional", "size": None}
    assert from_record([later, ROW]) == [
        WatchedModel("vae/a.safetensors", "required", "ab", 7, "MIT"),
        WatchedModel("vae/b.safetensors", "optional", "ab", None, "MIT"),
    ]


@pytest.mark.parametrize(
    "row", [[], None, 7, {}, {**ROW, "tier": "nice"}, {**ROW, "size": "big"}, {**ROW, "size": []},
            {key: value for key, value in ROW.items() if key != "sha256"}],
)  # fmt: skip
def test_a_damaged_record(row: Any) -> None:
    with pytest.raises(CheckError, match=r"^build\.json: a model is not valid: "):
        from_record([ROW, row])


def test_the_agent_loads_no_library_for_manifests() -> None:
    """It would cost each instance ten megabytes."""
    heavy = "{'pydantic', 'yaml', 'rich', 'huggingface_hub'} & set(sys.modules)"
    code = f"import sys, gesso.runtime.agent; print(*{heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
