"""Models in an instance: fetched from their sources, verified, quarantined if wrong, fetched again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import docker
    from docker.models.images import Image

    from gesso.manifest.schema import Manifest

    from .conftest import Instance, Instances


MIRROR_LOG = 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:18190/_mirror/log").read().decode())'


@pytest.fixture(scope="module")
def fetched(instances: Instances, image: Image, manifest: Manifest) -> Instance:
    """A separate instance that has fetched all of its models; a trial serves them to itself."""
    if not manifest.trial:
        pytest.skip("the real models are out of reach of a test: this was not run")
    started = instances.start(image)
    started.wait_until_healthy()
    started.supervisor("stop agent")  # it would repair what these tests break
    done = started.run("gesso fetch")
    assert done.rc == 0, done.stdout + done.stderr
    return started


def _verdicts(instance: Instance, *options: str) -> dict[str, dict[str, Any]]:
    done = instance.run(f"gesso verify --json {' '.join(options)}")
    found: list[dict[str, Any]] = json.loads(done.stdout)["models"]
    return {row["name"]: row for row in found}


def test_every_model_is_fetched_and_verified(fetched: Instance, manifest: Manifest) -> None:
    found = _verdicts(fetched)
    assert found.keys() == {model.name for model in manifest.models}
    assert {row["status"] for row in found.values()} == {"ok"}
    assert fetched.run("gesso verify --full").rc == 0


def test_baked_models_are_linked_from_an_empty_volume(
    fetched: Instance, record: dict[str, Any], manifest: Manifest
) -> None:
    if not record["baked"]:
        pytest.skip("nothing is baked into this image: this was not run")
    digests = {model.name: model.sha256 for model in manifest.models}
    for name in record["baked"]:
        assert fetched.run(f"sha256sum /opt/gesso/models/{name}").stdout.startswith(digests[name])
        assert fetched.run(f"readlink /workspace/models/{name}").stdout.strip() == f"/opt/gesso/models/{name}"


def test_comfyui_lists_what_was_fetched_without_a_restart(fetched: Instance, manifest: Manifest) -> None:
    listed = json.dumps(fetched.json("/object_info"))
    for model in manifest.models:
        assert json.dumps(model.name.split("/", 1)[1]) in listed, model.name


def test_a_second_fetch_does_nothing(fetched: Instance, manifest: Manifest) -> None:
    answer = json.loads(fetched.run("gesso fetch --json").stdout)
    assert answer["ok"]
    assert {row["state"] for row in answer["models"]} == {"there"}


def test_a_stub_of_the_checkpoint_is_quarantined_and_fetched_again(fetched: Instance, manifest: Manifest) -> None:
    """The incident: 710 KB in place of a checkpoint. Here the real file, cut off."""
    name = next(m.name for m in manifest.models if m.kind in {"checkpoint", "diffusion_model"} and m.tier == "required")
    fetched.run(f"truncate -s 710000 /workspace/models/{name}" if manifest.family == "sdxl" else
                f"truncate -s 100 /workspace/models/{name}")  # fmt: skip
    for level in ("", "--header", "--full"):
        assert _verdicts(fetched, level, name)[name]["status"] in {"truncated", "stub"}
        assert fetched.run(f"gesso verify {level} {name}").rc == 5
    assert fetched.run("gesso fetch").rc == 0
    assert _verdicts(fetched, "--full", name)[name]["status"] == "ok"
    assert fetched.run("ls /workspace/models/.gesso/quarantine").stdout.count(name.rsplit("/", 1)[-1]) == 1


@pytest.mark.parametrize("link", ["/workspace/models", "/workspace/models/vae"])
def test_a_disk_that_is_not_mounted_is_named_with_the_link_to_it(instances: Instances, image: Image, link: str) -> None:
    """The instance stays up: who would read the reason of a container that ended?"""
    mine = instances.start_idle(image)
    mine.run(f"mkdir -p $(dirname {link}) && rmdir {link} 2>/dev/null; ln -s /nas/of/somebody {link}")
    mine.run("nohup entrypoint.sh > /dev/null 2>&1 &")
    found = mine.wait_for_state("failed", within=90)
    assert f"{link} leads to /nas/of/somebody, which does not exist" in found["why"]
    assert found["next"] == "mount /nas/of/somebody, or remove the link, then run this again"


def test_two_containers_on_one_volume_do_the_work_once(
    instances: Instances, image: Image, manifest: Manifest, client: docker.DockerClient
) -> None:
    if not manifest.trial:
        pytest.skip("the real models are out of reach of a test: this was not run")
    volume = client.volumes.create()
    try:
        mounts = {volume.name: {"bind": "/workspace", "mode": "rw"}}
        both = [instances.start(image, volumes=mounts) for _ in range(2)]
        for each in both:
            each.wait_until_healthy()
        for each in both:
            each.wait_for_state("ready", within=150)
        # Each serves the models to itself: both mirrors together sent each file once.
        sent: dict[str, int] = {}
        for each in both:
            for row in json.loads(each.run(f"/opt/gesso/venv/bin/python -c '{MIRROR_LOG}'").stdout):
                sent[row["path"][1:]] = sent.get(row["path"][1:], 0) + row["sent"]
        baked = set(json.loads(both[0].run("cat /opt/gesso/build.json").stdout)["baked"])
        expected = {model.name: model.size for model in manifest.models if model.name not in baked}
        assert {name: sent.get(name, 0) for name in expected} == expected
        assert both[0].run("ls /workspace/models/.gesso/quarantine").stdout == ""
        assert both[0].run("gesso verify --full").rc == 0
    finally:
        for each in both:
            each.container.remove(force=True)
        instances.forget(both)
        volume.remove(force=True)
