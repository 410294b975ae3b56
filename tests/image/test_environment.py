"""ComfyUI's Python is the locked one, and stays so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gesso.builder.lock.python_pins import GUARDED, pin_of

from .checks import bytecode

if TYPE_CHECKING:
    from docker.models.images import Image

    from gesso.builder.lock.lock_files import Locked

    from .conftest import Instance, Instances

HOLD_PYTHON = ("/opt", "/usr/lib", "/usr/share", "/usr/local")
SITE = "/opt/venv/lib/python3*/site-packages"


def test_sqlalchemy_is_the_locked_one_and_has_mapped_column(instance: Instance, locked: Locked) -> None:
    shown = instance.run(
        'python -c "import sqlalchemy; from sqlalchemy.orm import mapped_column; print(sqlalchemy.__version__)"'
    )
    assert shown.stdout.strip() == pin_of(locked.pins, GUARDED).version
    assert shown.stdout.startswith("2.0.")


def test_the_locked_packages_are_installed(instance: Instance, locked: Locked) -> None:
    listed = json.loads(
        instance.run("/opt/venv/bin/python -m pip list --format json --disable-pip-version-check").stdout
    )
    installed = {re.sub(r"[-_.]+", "-", entry["name"]).lower(): entry["version"] for entry in listed}
    installed.pop("pip")
    assert installed == {pin.name: pin.version for pin in locked.pins}


def test_the_last_filesystem_layer_asserts_mapped_column(image: Image) -> None:
    layers = [row for row in image.history() if row["Size"]]
    assert "mapped_column" in layers[0]["CreatedBy"]
    assert "assert" in layers[0]["CreatedBy"]
    assert "--reinstall" in layers[0]["CreatedBy"]


def test_constraints_bind_pip_and_uv(instance: Instance, locked: Locked) -> None:
    for name in ("PIP_CONSTRAINT", "UV_CONSTRAINT"):
        path = instance.run(f"printenv {name}").stdout.strip()
        lines = instance.run(f"cat {path}").stdout.splitlines()
        assert lines == [f"{pin.name}=={pin.version}" for pin in locked.pins], name


def test_pip_refuses_an_older_sqlalchemy_at_run_time(instance: Instance) -> None:
    refused = instance.run('/opt/venv/bin/python -m pip install "sqlalchemy<2"')
    assert refused.rc != 0
    assert "constraint" in refused.stdout + refused.stderr


def test_bytecode_matches_its_source(image: Image, instances: Instances) -> None:
    """Python runs it instead of the source: changing it changes ComfyUI, and no checksum of a source shows it."""
    mine = instances.start(image, entrypoint=["sleep", "infinity"], network_mode="none")
    mine.put("/tmp/bytecode.py", Path(bytecode.__file__).read_bytes())
    command = ["/usr/bin/python3", "-I", "-S", "-X", "pycache_prefix=/nowhere", "/tmp/bytecode.py", *HOLD_PYTHON]
    done: Any = mine.container.exec_run(command)
    *faults, count = done.output.decode().splitlines()
    mine.container.remove(force=True)
    assert faults == []
    assert done.exit_code == 0
    assert int(count.removesuffix(" checked")) > 500


def test_gesso_has_its_own_venv(instance: Instance) -> None:
    assert instance.run(f"ls -d {SITE}/gesso {SITE}/supervisor").rc != 0
    assert instance.run("/opt/gesso/venv/bin/python -c 'import sqlalchemy'").rc != 0


def test_comfyui_manager_is_not_shipped(instance: Instance) -> None:
    found = instance.run("find / -xdev -iname '*comfyui*manager*' -not -path '/proc/*' | head -1").stdout
    assert found == ""


def test_nothing_is_left_behind(instance: Instance, image: Image, instances: Instances) -> None:
    fresh = instances.start(image, entrypoint=["sleep", "600"])
    junk = fresh.run("find /tmp /var/lib/apt/lists /root/.cache -type f 2>/dev/null").stdout
    assert junk == ""
    writable = fresh.run("find / -xdev -type f -perm -0002 -not -path '/proc/*' 2>/dev/null").stdout
    assert writable == ""


def test_the_guard_restores_sqlalchemy_without_a_network(image: Image, instances: Instances) -> None:
    alone = instances.start(image, entrypoint=["sleep", "600"], network_mode="none")
    assert alone.run("gesso guard").rc == 0
    for damage in (
        f"mv {SITE}/sqlalchemy /root/gone",
        f"echo broken >> $(echo {SITE}/sqlalchemy/orm/__init__.py)",
        f"cd {SITE} && mv sqlalchemy-2*.dist-info sqlalchemy-1.4.54.dist-info",
    ):
        assert alone.run(damage).rc == 0, damage
        repaired = alone.run("gesso guard")
        assert repaired.rc == 0, (damage, repaired.stderr)
        assert "restored" in repaired.stderr, damage
        shown = alone.run(
            'python -c "from sqlalchemy.orm import mapped_column; import sqlalchemy as s; print(s.__version__)"'
        )
        assert shown.stdout.startswith("2.0."), damage
