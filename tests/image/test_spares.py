"""The copies that heal restores from are in the image, equal what was built, and repair it without a network."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from docker.models.images import Image

    from .conftest import Instance, Instances

_EXAMINE = """
import json, pathlib
from gesso.runtime.heal import python, trees
from gesso.runtime.layout import Layout, read_record
layout = Layout()
record = read_record(layout)
found = {spare.name: [str(d) for d in trees.differences(layout, spare)] for spare in record.spares}
"""
_REPORT = """
found["python"] = [str(finding) for finding in python.examine(layout, record, lambda *_: None)]
print(json.dumps({name: texts for name, texts in found.items() if texts}))
"""
_RESTORE = """
for spare in record.spares:
    trees.restore(layout, spare, trees.differences(layout, spare), pathlib.Path("/workspace/aside"), lambda _: None)
findings = python.examine(layout, record, lambda *_: None)
python.repair(layout, record, [f for f in findings if f.offline], {}, lambda _: None)
"""


def _python(instance: Instance, script: str) -> Any:
    return instance.run(f"/opt/gesso/venv/bin/python -c {shlex.quote(script)}")


def _found(instance: Instance) -> dict[str, list[str]]:
    output = _python(instance, _EXAMINE + _REPORT)
    assert output.rc == 0, output.stderr
    found: dict[str, list[str]] = json.loads(output.stdout)
    return found


def test_every_part_has_a_spare(instance: Instance, record: dict[str, Any]) -> None:
    assert set(record["spares"]) == {"ComfyUI", "gesso", *record["nodes"]}
    checksums = instance.run("cd /opt/gesso/spare && sha256sum *.tar.xz").stdout.split()
    assert dict(zip(checksums[1::2], checksums[::2], strict=True)) == {
        f"{name}.tar.xz": spare["sha256"] for name, spare in record["spares"].items()
    }


def test_a_serving_instance_is_as_built(instance: Instance) -> None:
    """Nothing that the build, the boot, ComfyUI or a pack writes looks like damage."""
    assert _found(instance) == {}


@pytest.fixture(scope="module")
def alone(image: Image, instances: Instances) -> Instance:
    return instances.start(image, entrypoint=["sleep", "600"], network_mode="none")


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        ("rm -r /opt/ComfyUI/custom_nodes/comfyui-tooling-nodes", "comfyui-tooling-nodes"),
        ("cd /opt/ComfyUI/custom_nodes && mv comfyui-tooling-nodes /root/x && ln -s /root/x comfyui-tooling-nodes",
         "comfyui-tooling-nodes"),
        ("echo x >>/opt/ComfyUI/custom_nodes/comfyui_controlnet_aux/__init__.py", "comfyui_controlnet_aux"),
        ("rm /opt/ComfyUI/server.py; mkdir /opt/ComfyUI/server.py", "ComfyUI"),
        ("echo 'raise SystemExit' >/opt/ComfyUI/sqlalchemy.py", "ComfyUI"),
        ("rm -r /opt/gesso/workflows /opt/gesso/constraints.txt", "gesso"),
        ("chmod -x /usr/local/bin/entrypoint.sh; rm /usr/local/bin/gesso", "gesso"),
        ("rm -r /opt/venv/lib/python3*/site-packages/sqlalchemy", "python"),
        ("cd /opt/venv/lib/python3*/site-packages && rm -r pip/_internal sqlalchemy*", "python"),
        ("echo 'import nothing' >$(echo /opt/venv/lib/python3*/site-packages)/a.pth", "python"),
        ("rm /opt/venv/pyvenv.cfg /opt/venv/bin/python3", "python"),
    ],
)  # fmt: skip
def test_damage_is_found_and_repaired_offline(alone: Instance, damage: str, part: str) -> None:
    assert alone.run(damage).rc == 0
    assert set(_found(alone)) == {part}
    restored = _python(alone, _EXAMINE + _RESTORE)
    assert restored.rc == 0, restored.stderr
    assert _found(alone) == {}


def test_comfyui_still_starts(alone: Instance) -> None:
    """After all of that, and after SQLAlchemy was repaired in more than one way."""
    names = ("user", "temp", "input", "output", "models")
    folders = " ".join(f"--{name}-directory /tmp/{name}" for name in names)
    assert alone.run(f"cd /tmp && mkdir -p {' '.join(names)}").rc == 0
    started = alone.run(f"cd /opt/ComfyUI && python main.py --cpu --quick-test-for-ci --disable-auto-launch {folders}")
    assert started.rc == 0, started.stderr
    assert "IMPORT FAILED" not in started.stdout + started.stderr
    output = alone.run("python -c 'import sqlalchemy, sqlalchemy.orm; print(sqlalchemy.__version__)'")
    assert output.stdout.startswith("2.0."), output.stderr
    assert alone.run("gesso guard").rc == 0


def test_the_lock_with_its_hashes_is_in_the_image(instance: Instance, record: dict[str, Any]) -> None:
    lines = instance.run("cat /opt/gesso/requirements.txt").stdout.splitlines()
    pins = dict(line.split()[0].split("==") for line in lines if "==" in line)
    assert pins == record["python"]["pins"]
    assert any("--hash=sha256:" in line for line in lines)
