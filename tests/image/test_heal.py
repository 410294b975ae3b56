"""The whole incident on one running instance, and one `gesso heal` that repairs everything."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from . import incident

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.images import Image

    from gesso.manifest.schema import Manifest

    from .conftest import Instance, Instances

pytestmark = pytest.mark.usefixtures("with_models")


@pytest.fixture(scope="module")
def victim(instances: Instances, image: Image) -> Iterator[Instance]:
    mine = instances.start(image)
    mine.wait_for_state("ready")
    incident.prepare(mine)
    yield mine
    mine.container.remove(force=True, v=True)


def _heal(instance: Instance, flags: str = "") -> tuple[int, dict[str, Any]]:
    done = instance.run(f"gesso heal --json {flags}")
    assert done.stdout.startswith("{"), f"{done.stdout}\n{done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout)
    return int(done.rc), found


def _names(report: dict[str, Any]) -> set[str]:
    return {f"{damage['kind']} {damage['name'].rsplit('/', 1)[-1]}" for damage in report["damages"]}


def test_nothing_is_wrong_with_a_fresh_instance(victim: Instance) -> None:
    code, report = _heal(victim, "--dry-run")
    assert report["damages"] == []
    assert code == 0
    assert report["ok"]


def test_the_incident_is_healed_by_one_command(victim: Instance, manifest: Manifest) -> None:
    vae, checkpoint = incident.required(manifest, "vae"), incident.required(manifest, "checkpoint", "diffusion_model")
    before = victim.status()["comfyui"]["starts"]
    good = victim.run("stat -c %i,%Y /workspace/models/*/* | sort").stdout
    ((code, report),) = incident.heal_after(victim, incident.commands(manifest))
    assert _names(report) == {
        "python sqlalchemy", "pack comfyui-tooling-nodes", f"workflow krita_gold_standard_{manifest.arch}.json",
        f"model {checkpoint.name.rsplit('/', 1)[-1]}", f"model {vae.name.rsplit('/', 1)[-1]}",
    }  # fmt: skip
    found = {damage["name"]: damage["found"] for damage in report["damages"]}
    assert "1.4.54" in found["sqlalchemy"]
    assert "stub" in found[checkpoint.name] or "truncated" in found[checkpoint.name]
    assert "channels" in found[vae.name]
    assert [damage["outcome"] for damage in report["damages"]] == ["repaired"] * 5
    assert code == 0
    assert report["restarted"] == 1
    sizes = {checkpoint.size or 0, vae.size or 0}
    assert report["fetched"] in {sum(sizes), *sizes, 0}  # the agent may have been faster, with both or one of them
    after = victim.wait_for_state("ready", within=60)
    assert after["comfyui"]["starts"] == before + 1
    assert after["comfyui"]["published"]
    incident.assert_all_right(victim, manifest)
    graph = incident.graph(manifest).rsplit("/", 1)[-1]
    output = victim.run("grep -rl LoadImage /workspace/gesso/replaced").stdout
    assert graph.removesuffix(".json") in output  # the user's changes are not lost
    assert victim.run("ls /workspace/models/.gesso/quarantine | wc -l").stdout.strip() == "2"
    untouched = set(good.split()) - set(victim.run("stat -c %i,%Y /workspace/models/*/* | sort").stdout.split())
    assert len(untouched) == 2  # only the two bad ones are other files


def test_a_second_run_finds_nothing(victim: Instance) -> None:
    starts = victim.status()["comfyui"]["starts"]
    code, report = _heal(victim)
    assert code == 0
    assert report["damages"] == []
    assert report["restarted"] == 0
    assert report["summary"] == "nothing is wrong"
    assert report["fetched"] == 0
    assert victim.status()["comfyui"]["starts"] == starts


def test_reports_are_kept(victim: Instance) -> None:
    names = victim.run("ls /workspace/gesso/reports").stdout.split()
    assert sum(name.endswith(".json") for name in names) >= 3
    assert sum(name.endswith(".jsonl") for name in names) >= 3


def test_two_at_once_do_the_work_once(victim: Instance, manifest: Manifest) -> None:
    vae = incident.required(manifest, "vae")
    damage = f"rm -r {incident.TOOLING}; rm /workspace/models/{vae.name}"
    reports = [report for _, report in incident.heal_after(victim, damage, heals=2)]
    assert sorted(len(report["damages"]) for report in reports) == [0, 2]
    assert all(report["ok"] for report in reports)
    assert sum(report["restarted"] for report in reports) == 1
    assert sum(report["fetched"] for report in reports) == vae.size


def test_killed_at_any_moment_the_next_one_finishes(victim: Instance, manifest: Manifest) -> None:
    """Never worse than before: right files stay right, and wrong ones are unchanged or right."""
    vae = incident.required(manifest, "vae")
    for number in range(6):
        victim.run(
            f"rm -r {incident.TOOLING}; rm /workspace/models/{vae.name}; echo x > /opt/ComfyUI/nodes_{number}.py"
        )
        delay = 0.4 + 0.25 * number
        victim.run(f"gesso heal > /dev/null 2>&1 & sleep {delay}; kill -9 $!; wait")
    code, report = _heal(victim)
    assert code == 0, report
    assert _heal(victim)[1]["damages"] == []
    victim.wait_for_state("ready", within=60)


def test_repairs_without_a_network(victim: Instance, manifest: Manifest) -> None:
    vae = incident.required(manifest, "vae")
    victim.supervisor("stop mirror")
    done = victim.host.run("timeout 300 sh -c %s", f"{incident.commands(manifest)}; gesso heal --json")
    report = json.loads(done.stdout)
    became = {damage["kind"]: damage["outcome"] for damage in report["damages"]}
    assert became == {"python": "repaired", "pack": "repaired", "workflow": "repaired", "model": "failed"}
    assert done.rc == 4
    assert all(damage["next"] for damage in report["damages"] if damage["outcome"] == "failed")
    assert victim.run(incident.VERSION).stdout.startswith("2.0.")
    victim.supervisor("start mirror")
    code, report = _heal(victim)
    assert code == 0, report
    assert vae.name in {damage["name"] for damage in report["damages"]} or victim.run("gesso verify --full").rc == 0
    victim.wait_for_state("ready", within=60)


def test_drift_is_detected_automatically(victim: Instance, manifest: Manifest) -> None:
    path = f"/workspace/ComfyUI/workflows/krita_gold_standard_{manifest.arch}.json"
    victim.run(f"echo '{{}}' > {shlex.quote(path)}")
    found = victim.wait_for_state("degraded", within=90)
    assert path in found["why"]
    assert "heal" in found["next"]
    assert victim.run("gesso health").rc == 0  # Krita can work
    assert _heal(victim)[0] == 0
    victim.wait_for_state("ready", within=30)


def test_an_edited_node_pack_is_detected_and_healed(victim: Instance) -> None:
    """Also in a trial, whose packs come from this project and have no commit."""
    code = f"{incident.TOOLING}/__init__.py"
    before = victim.run(f"sha256sum {code}").stdout
    victim.run(f"echo '# edited' >> {code}")
    found = victim.wait_for_state("degraded", within=90)
    assert "comfyui-tooling-nodes: does not match the lock" in found["why"]
    done = victim.run("gesso guard --json")
    assert [text.partition(":")[0] for text in json.loads(done.stdout)["packs"]] == ["comfyui-tooling-nodes"]
    code_of_heal, report = _heal(victim)
    assert code_of_heal == 0, report
    assert _names(report) == {"pack comfyui-tooling-nodes"}
    assert victim.run(f"sha256sum {code}").stdout == before
    victim.wait_for_state("ready", within=60)
