"""Node packs that need another SQLAlchemy, as real ones do: caught by the lock, the build, at run time, or undone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from .options import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import docker
    from docker.models.images import Image

    from gesso.settings import Selection

    from .conftest import Instances


@pytest.fixture(scope="module", autouse=True)
def keep_the_tag(selection: Selection, image: Image) -> Iterator[None]:
    """These builds take the image's local name; restore it afterwards."""
    if not selection.trial:
        pytest.skip("builds images of its own, from the trial's small parts: run with --trial")
    yield
    image.tag(*image.tags[0].split(":")) if image.tags else None


class Operator:
    """A user who adds a node pack by an overlay and runs the documented commands."""

    def __init__(self, folder: Path, selection: Selection) -> None:
        self._folder, self._selection = folder, selection

    def overlay(self, pack: str, *, install: bool = False, force: bool = False) -> Path:
        path = self._folder / f"{pack}.yaml"
        node = {
            "name": pack,
            "path": f"tests/image/packs/{pack}",
            **({"install": "install.py"} if install else {}),
        }
        content: dict[str, Any] = {"nodes": [node]}
        if force:
            content["python"] = {"overrides": ["sqlalchemy>=2.0,<2.1"]}
        path.write_text(json.dumps(content))  # JSON is YAML
        return path

    def invoke(self, task: str, overlay: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "invoke",
            task,
            "--arch",
            self._selection.arch,
            "--trial",
            "--overlay",
            overlay,
        ]
        return subprocess.run(
            [*map(str, command), *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env=dict(os.environ),
        )


@pytest.fixture
def operator(tmp_path: Path, selection: Selection) -> Operator:
    return Operator(tmp_path, selection)


@pytest.fixture
def made(client: docker.DockerClient) -> Iterator[Callable[[subprocess.CompletedProcess[str]], Image]]:
    """Return a function that finds the image of a build; remove the image in the end."""
    images: list[Image] = []

    def find(built: subprocess.CompletedProcess[str]) -> Image:
        assert built.returncode == 0, built.stderr
        images.append(client.images.get(json.loads(built.stdout)["image_id"]))
        return images[-1]

    yield find
    for image in images:
        for container in client.containers.list(all=True, filters={"ancestor": str(image.id)}):
            container.remove(force=True, v=True)
        client.images.remove(str(image.id), force=True)


def _version_in(instances: Instances, image: Image) -> str:
    mine = instances.start(image)
    mine.wait_until_healthy()
    script = "from sqlalchemy.orm import mapped_column; import sqlalchemy; print(sqlalchemy.__version__)"
    listing = mine.run("ls -d /opt/venv/lib/python3*/site-packages/*.dist-info | grep -ic sqlalchemy-")
    assert listing.stdout.strip() == "1", "two SQLAlchemys"
    return str(mine.run(f'/opt/venv/bin/python -c "{script}"').stdout).strip()


def test_the_lock_names_the_pack_and_the_conflict(operator: Operator) -> None:
    overlay = operator.overlay("asks_for_old")
    done = operator.invoke("lock", overlay)
    assert done.returncode == 3
    assert "node pack asks_for_old" in done.stderr
    assert "sqlalchemy>=1.4,<2.0" in done.stderr
    assert "next:" in done.stderr
    assert [p.name for p in overlay.parent.iterdir()] == [overlay.name], "nothing is written"
    assert operator.invoke("build", overlay).returncode == 3, "and it cannot be built without a lock"


def test_forced_past_the_lock_the_image_still_has_2_0(
    operator: Operator, instances: Instances, made: Callable[..., Image]
) -> None:
    overlay = operator.overlay("asks_for_old", force=True)
    assert operator.invoke("lock", overlay).returncode == 0
    image = made(operator.invoke("build", overlay, "--json"))
    assert _version_in(instances, image).startswith("2.0.")


def test_an_install_script_for_1_4_is_rejected_by_the_constraint(operator: Operator) -> None:
    overlay = operator.overlay("installs_old", install=True)
    assert operator.invoke("lock", overlay).returncode == 0
    built = operator.invoke("build", overlay)
    assert built.returncode == 6
    assert "install script requires what the lock forbids" in built.stderr
    assert "installs_old" in built.stderr
    assert "next:" in built.stderr


def test_an_install_script_that_bypasses_the_constraint_is_undone(
    operator: Operator, instances: Instances, made: Callable[..., Image]
) -> None:
    overlay = operator.overlay("forces_old", install=True)
    assert operator.invoke("lock", overlay).returncode == 0
    image = made(operator.invoke("build", overlay, "--json"))
    history = [row for row in image.history() if row["Size"]]
    assert "mapped_column" in history[0]["CreatedBy"]
    assert any("forces_old" in row["CreatedBy"] and "install.py" in row["CreatedBy"] for row in history)
    assert _version_in(instances, image).startswith("2.0.")


def test_a_pack_that_runs_pip_at_every_start_is_rejected(
    operator: Operator, instances: Instances, made: Callable[..., Image]
) -> None:
    overlay = operator.overlay("runs_pip")
    assert operator.invoke("lock", overlay).returncode == 0
    mine = instances.start(made(operator.invoke("build", overlay, "--json")))
    mine.wait_until_healthy()
    log = mine.run("grep runs_pip: /var/log/gesso/comfyui.log").stdout
    assert "pip ended with 1" in log
    assert "constraint" in log or "conflicting" in log
    assert mine.run("gesso guard").rc == 0
