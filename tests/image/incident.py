"""The incident that gesso was made for, on a running instance: five things broken at once."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gesso.manifest.schema import Manifest, Model

    from .conftest import Instance

TOOLING = "/opt/ComfyUI/custom_nodes/comfyui-tooling-nodes"
PYTHON = "/opt/venv/bin/python"
VERSION = f"{PYTHON} -c 'import sqlalchemy; print(sqlalchemy.__version__)'"

# The result of `pip install "sqlalchemy<2"`; a test has no package index.
OLD_SQLALCHEMY = """
import pathlib, zipfile
pathlib.Path("/tmp/older").mkdir(exist_ok=True)
with zipfile.ZipFile("/tmp/older/SQLAlchemy-1.4.54-py3-none-any.whl", "w") as z:
    z.writestr("sqlalchemy/__init__.py", "__version__ = '1.4.54'")
    z.writestr("sqlalchemy/orm/__init__.py", "")
    info = "SQLAlchemy-1.4.54.dist-info"
    z.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: SQLAlchemy\\nVersion: 1.4.54\\n")
    z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    z.writestr(f"{info}/RECORD", "")
"""
# A VAE of another architecture: its latents have other channels.
OTHER_VAE = """
import json, math, struct, sys
path, channels = sys.argv[1], int(sys.argv[2])
shape = [512, channels, 3, 3]
size = 2 * math.prod(shape)
head = json.dumps({"decoder.conv_in.weight": {"dtype": "F16", "shape": shape, "data_offsets": [0, size]}}).encode()
with open(path, "wb") as file:
    file.write(struct.pack("<Q", len(head)) + head + bytes(size))
"""
# Locks the models, which the agent would repair within seconds, until a file is removed.
CLAIM = """
import fcntl, os, time
handle = os.open("/run/gesso/models.lock", os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)
open("/tmp/claimed", "w").close()
while os.path.exists("/tmp/claimed"):
    time.sleep(0.05)
"""


def required(manifest: Manifest, *kinds: str) -> Model:
    """Return the required model of one of these kinds."""
    return next(m for m in manifest.models if m.tier == "required" and m.kind in kinds)


def graph(manifest: Manifest) -> str:
    """Return the path of the workflow that is overwritten."""
    return f"/workspace/ComfyUI/workflows/krita_gold_standard_{manifest.arch}.json"


def names(manifest: Manifest) -> set[str]:
    """Return the names that a heal must report."""
    models = required(manifest, "vae").name, required(manifest, "checkpoint", "diffusion_model").name
    return {"sqlalchemy", "comfyui-tooling-nodes", graph(manifest), *models}


def prepare(instance: Instance) -> None:
    """Copy the necessary files into an instance."""
    done: Any = instance.container.exec_run([PYTHON, "-c", OLD_SQLALCHEMY])
    assert done.exit_code == 0, done.output
    done = instance.container.exec_run(["sh", "-c", f"cat > /tmp/vae.py <<'E'\n{OTHER_VAE}\nE"])
    assert done.exit_code == 0, done.output


def commands(manifest: Manifest) -> str:
    """Return the commands that cause it; the models last, because the agent checks them every few seconds."""
    vae, checkpoint = required(manifest, "vae"), required(manifest, "checkpoint", "diffusion_model")
    channels = 4 if manifest.arch == "flux" else 16
    unset = "env -u PIP_CONSTRAINT -u UV_CONSTRAINT"
    return "; ".join([
        "set -e",
        f"{unset} {PYTHON} -m pip install -q --no-index /tmp/older/SQLAlchemy-1.4.54-py3-none-any.whl",
        f"rm -r {TOOLING}",
        f"echo '{{\"1\": {{\"class_type\": \"LoadImage\"}}}}' > {graph(manifest)}",
        f"truncate -s {min(710_000, (checkpoint.size or 0) // 500)} /workspace/models/{checkpoint.name}",
        f"rm /workspace/models/{vae.name}",
        f"python3 /tmp/vae.py /workspace/models/{vae.name} {channels}",
    ])  # fmt: skip


@contextmanager
def happened(instance: Instance, manifest: Manifest) -> Iterator[None]:
    """Cause the incident; the agent does not touch the models within the block."""
    claim: Any = instance.container.exec_run([PYTHON, "-c", CLAIM], detach=True)
    del claim
    while instance.run("test -e /tmp/claimed").rc:
        time.sleep(0.1)
    done = instance.run(commands(manifest))
    assert done.rc == 0, done.stderr
    try:
        yield
    finally:
        instance.run("rm -f /tmp/claimed")


def heal_after(instance: Instance, commands: str, heals: int = 1) -> list[tuple[int, dict[str, Any]]]:
    """Break something and heal it; return each heal's exit code and report.

    The agent gets the models' lock only after a heal waits for it: on a slow machine it would be faster.
    """
    script = f"""
waiting() {{ cat /workspace/gesso/reports/*.jsonl | grep -c waiting; }}
before=$(waiting)
{PYTHON} -c "$0" & while ! test -e /tmp/claimed; do sleep 0.05; done
( {commands} ) || exit 99
for n in $(seq {heals}); do (gesso heal --json > /tmp/heal$n.json; echo $? > /tmp/heal$n.code) & done
until [ "$(waiting)" -gt "$before" ]; do sleep 0.05; done
rm -f /tmp/claimed; wait
"""
    done = instance.host.run("timeout 300 sh -c %s %s", script, CLAIM)
    assert done.rc == 0, done.stdout + done.stderr
    found = []
    for number in range(1, heals + 1):
        report, code = (instance.run(f"cat /tmp/heal{number}.{kind}").stdout for kind in ("json", "code"))
        assert report.startswith("{"), report
        found.append((int(code), json.loads(report)))
    return found


def assert_all_right(instance: Instance, manifest: Manifest) -> None:
    """Check that nothing of it remains."""
    instance.wait_for_state("ready", within=90)
    assert instance.run(VERSION).stdout.startswith("2.0.")
    assert instance.run("gesso verify --full").rc == 0
    assert instance.run("gesso guard").rc == 0
    assert instance.run(f"cmp {graph(manifest)} /opt/gesso/workflows/{graph(manifest).rsplit('/', 1)[-1]}").rc == 0
