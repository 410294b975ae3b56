"""`gesso health` and the HEALTHCHECK: red as soon as Krita could not work with it, whatever port is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from docker.models.images import Image

    from gesso.manifest.schema import Manifest

    from .conftest import Instance, Instances

SITE = "/opt/venv/lib/python3*/site-packages"


@pytest.fixture(scope="module")
def mine(image: Image, instances: Instances) -> Instance:
    started = instances.start(image)
    started.wait_until_healthy()
    return started


def _unwell(mine: Instance, expected: str) -> None:
    found = mine.run("gesso health")
    assert found.rc == 1, found.stdout + found.stderr
    assert expected in found.stdout + found.stderr
    check = mine.run("/opt/gesso/bin/health.py")
    assert check.rc == 1
    assert expected in check.stdout


def test_without_comfyui_it_is_red(mine: Instance) -> None:
    mine.supervisor("stop comfyui")
    mine.wait_for_state("failed")
    _unwell(mine, "ComfyUI is stopped")
    mine.supervisor("start comfyui")
    mine.wait_until_healthy()


def test_without_the_agent_it_is_red(mine: Instance) -> None:
    mine.supervisor("stop agent")
    _unwell(mine, "the agent does not answer")
    mine.supervisor("start agent")
    mine.wait_until_healthy()


def test_with_another_sqlalchemy_it_is_red(mine: Instance) -> None:
    away = f"cd {SITE} && mv sqlalchemy/orm/__init__.py /root/kept && touch sqlalchemy/orm/__init__.py"
    assert mine.run(away).rc == 0
    try:
        _unwell(mine, "sqlalchemy/orm/__init__.py altered")
    finally:
        mine.run(f"cd {SITE} && mv /root/kept sqlalchemy/orm/__init__.py")
    assert "sqlalchemy" not in mine.run("gesso health").stdout


@pytest.mark.usefixtures("with_models")
def test_without_a_required_model_it_is_red(mine: Instance, manifest: Manifest) -> None:
    required = next(model.name for model in manifest.models if model.tier == "required")
    mine.mirror(f"/{required}", "404")
    mine.run(f"rm /workspace/models/{required}")
    try:
        mine.wait_for_state("failed", within=60)
        _unwell(mine, required)
    finally:
        mine.mirror(f"/{required}", "healthy")
    mine.wait_until_healthy()


def test_without_a_node_pack_that_krita_needs_it_is_red(mine: Instance) -> None:
    packs = "/opt/ComfyUI/custom_nodes"
    assert mine.run(f"mv {packs}/comfyui-tooling-nodes /root/pack").rc == 0
    try:
        mine.supervisor("restart comfyui")
        until = "for i in $(seq 100); do gesso health 2>&1 | grep -q lacks.node.classes && exit; sleep 0.5; done; false"
        assert mine.run(until).rc == 0, mine.run("gesso health").stdout
    finally:
        mine.run(f"mv /root/pack {packs}/comfyui-tooling-nodes")
        mine.supervisor("restart comfyui")
    mine.wait_until_healthy()
