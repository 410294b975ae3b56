"""The real image from an empty volume to Krita: what page and Krita are told meanwhile, and what Krita gets in the end.

Krita's own client, unmodified, through the address that `gesso url` prints; ComfyUI and the node packs are the real
ones, on a CPU; models have the real tensors and no weights. Krita accepts a Flux server without VAE, CLIP or T5: there
only gesso reports the missing models.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import docker
import pytest
import requests
import yaml

from gesso import report
from gesso.models.net.limits import MOST
from gesso.runtime.services import krita
from tests.image import incident
from tests.image.resident import LIMIT, SERVING, resident, shown

from . import overlay
from .conftest import HEADERS, folder
from .pod import Clock, pod
from .test_gold import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.image.conftest import Instance

    from .pod import Pod

HOLD = 150  # seconds that any model takes at least, on all connections: time for the test to observe its download
FASTEST = 1_000_000  # bytes a second on each connection meanwhile
WITHIN = 900.0  # seconds; a limit for a hanging instance, not a measurement


@dataclass(frozen=True)
class Case:
    """What Krita needs of an architecture, what it does not check, and its name for it."""

    arch: str
    seen: str  # the required model without which Krita does not accept the server for this architecture
    unseen: tuple[str, ...] = ()  # required ones that it does not check


CASES = {
    "sdxl": Case("sdxl", "checkpoints/Juggernaut-XL-v9.safetensors"),
    "flux": Case("flux", "diffusion_models/flux1-krea-dev_fp8_scaled.safetensors", (
        "vae/flux_vae.safetensors", "text_encoders/clip_l.safetensors", "text_encoders/t5xxl_fp8_e4m3fn.safetensors",
    )),
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def image(case: Case) -> str:
    """The image named by the environment, or one built here from the overlays that it names."""
    headers = folder("GESSO_HEADERS", f"{HEADERS[0]}.json.gz")
    variable = f"GESSO_REAL_IMAGE_{case.arch.upper()}"
    named = os.environ.get(variable)
    if not named:
        pytest.skip(f"SKIPPED, not passed: {variable} is not set (docs/maintainer.md, The real image)")
    if named == "build":
        return overlay.build(case.arch, overlay.beneath(os.environ), headers)
    overlay.make(case.arch, headers)
    return named


@pytest.fixture(scope="module")
def within(case: Case, image: str) -> Iterator[Pod]:
    with closing(docker.from_env()) as client, pod(client, image, overlay.place(case.arch) / "files") as made:
        yield made


def test_from_an_empty_volume_to_krita(case: Case, within: Pod) -> None:
    plugin = folder("GESSO_KRITA", "ai_diffusion/__init__.py")
    record = within.record()
    _must_be_of_these_models(case, record)
    for model in record["models"]:
        within.behave(f"/{model['name']}", "slow", rate=_held(model["size"]))
    clock, mine = Clock(case.arch, report.progress), within.start()

    # ComfyUI is up, models are downloading: the page reports it, Krita reports what is missing.
    mine.wait_for(
        lambda s: s["comfyui"]["published"] and _done(s, case.seen) > 0, "ComfyUI and the first bytes", WITHIN
    )
    clock.report("ComfyUI is up and has the workflows, models are on their way")
    url = mine.run("gesso url").stdout.strip()
    assert url == f"http://127.0.0.1:{within.port}/{mine.token}"
    _page_shows_what_comes(url, record)
    _stays_small(mine)
    result = run_krita_client(plugin, url)
    clock.report(f"Krita is told that {case.arch} lacks {result['missing_models'].get(case.arch)}")
    assert result["connected"]
    assert case.arch not in result["supported"]
    assert result["missing_models"][case.arch]
    assert ("missing" in result) == (result["supported"] == [])
    assert _state(url) == "fetching"
    assert mine.run("gesso health").rc == 1

    # What Krita checks is present, what it does not check is missing: gesso reports it, though Krita is content.
    if case.unseen:
        within.behave(f"/{case.seen}", "healthy")
        mine.wait_for(lambda s: _stage(s, case.seen) == "verified", f"{case.seen}", WITHIN)
        result = run_krita_client(plugin, url)
        assert case.arch in result["supported"]
        found = mine.status()
        assert found["state"] == "fetching"
        assert {_stage(found, name) for name in case.unseen} <= {"fetching", "waiting"}
        assert f"{len(case.unseen)} required models to come" in found["why"]
        assert mine.run("gesso health").rc == 1
        clock.report(f"Krita takes {case.arch} for supported; gesso: {found['state']}: {found['why']}")

    # The required ones arrive; an optional checkpoint of gigabytes may still be downloading.
    for model in record["models"]:
        if model["tier"] == "required":
            within.behave(f"/{model['name']}", "healthy")
    clock.report("the mirror is healthy")
    found = mine.wait_for_state("ready", within=WITHIN)
    clock.report(f"ready: {found['why']} {found['notes']}")
    assert mine.run("gesso health").rc == 0
    required = [model["name"] for model in record["models"] if model["tier"] == "required"]
    assert {_stage(found, name) for name in required} == {"verified"}
    _can_work(case, plugin, url, record, clock)

    # Published workflows are only in ComfyUI's memory.
    starts = found["comfyui"]["starts"]
    assert "started" in mine.supervisor("restart comfyui")
    mine.wait_for(lambda s: s["comfyui"]["starts"] > starts and s["state"] == "ready", "ComfyUI, again", WITHIN)
    clock.report("ready after a restart of ComfyUI")
    _can_work(case, plugin, url, record, clock)

    # The whole incident, and one heal. By then the optional ones have arrived, too.
    for model in record["models"]:
        within.behave(f"/{model['name']}", "healthy")
    mine.wait_for(lambda s: s["totals"]["verified"] == len(record["models"]), "optional models", WITHIN)
    _heals_the_incident(case, mine, record, clock)
    _can_work(case, plugin, url, record, clock)


def _heals_the_incident(case: Case, mine: Instance, record: dict[str, Any], clock: Clock) -> None:
    models = [SimpleNamespace(**model) for model in record["models"]]
    manifest: Any = SimpleNamespace(arch=case.arch, models=models)
    incident.prepare(mine)
    starts = mine.status()["comfyui"]["starts"]
    with incident.happened(mine, manifest):
        looked = json.loads(mine.host.run("timeout 900 sh -c %s", "gesso heal --dry-run --json").stdout)
    for damage in looked["damages"]:
        report.progress(f"  {damage['kind']} {damage['name']}: {damage['found']}")
    assert {damage["name"] for damage in looked["damages"]} == incident.names(manifest)
    done = mine.host.run("timeout 900 sh -c %s", "gesso heal --json")  # beside the agent, which now may help
    found = json.loads(done.stdout)
    clock.report(f"healed in {found['seconds']} s: {found['summary']}")
    assert done.rc == 0, done.stderr
    incident.assert_all_right(mine, manifest)
    assert mine.status()["comfyui"]["starts"] == starts + 1
    second = json.loads(mine.host.run("timeout 900 sh -c %s", "gesso heal --json").stdout)
    clock.report(f"a second heal, in {second['seconds']} s: {second['summary']}")
    assert (second["damages"], second["ok"]) == ([], True)


def _held(size: int) -> int:
    """Return the rate at which a file of this size takes that long; small ones need not."""
    return FASTEST if size < 1_000_000 else min(FASTEST, size // MOST // HOLD)


def run_krita_client(plugin: Path, url: str) -> dict[str, Any]:
    """Connect Krita's client, and return its view of the server."""
    python = os.environ.get("GESSO_KRITA_PYTHON", sys.executable)
    command = [python, str(Path(__file__).parent / "krita_client.py"), str(plugin), url, "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert "error" not in result, result
    return result


def _can_work(case: Case, plugin: Path, url: str, record: dict[str, Any], clock: Clock) -> None:
    result = run_krita_client(plugin, url)
    clock.report(
        f"Krita: supported {result['supported']}, checkpoints {result['checkpoints']}, {list(result['workflows'])}"
    )
    assert "missing" not in result
    assert case.arch in result["supported"]
    assert result["checkpoints"][case.seen.rsplit("/", 1)[1]] == case.arch
    gold = {f"{graph.name} ({graph.client_id})": graph.file for graph in krita.list_workflows(record["workflows"])}
    assert set(result["workflows"]) == set(gold)
    for shown_as, file in gold.items():
        graph = load(file.removesuffix(krita.SUFFIX))
        found = result["workflows"][shown_as]
        assert found["sha256"] == hashlib.sha256(json.dumps(graph, sort_keys=True).encode()).hexdigest(), shown_as
        assert found["imported"] == found["nodes"] == len(graph)


def _page_shows_what_comes(url: str, record: dict[str, Any]) -> None:
    """Through the gate, as a browser gets it: the state, every model, its progress, rate, and source."""
    page = requests.get(f"{url}/gesso/", timeout=60)
    assert page.status_code == 200
    found = requests.get(f"{url}/gesso/status.json", timeout=60).json()
    assert (found["state"], found["url"]) == ("fetching", url)
    assert "to come" in found["why"]
    models = {model["name"]: model for model in found["models"]}
    assert {name: model["size"] for name, model in models.items()} == {m["name"]: m["size"] for m in record["models"]}
    for name, model in models.items():
        assert 0 <= model["done"] <= model["size"], name
        assert (model["stage"] == "verified") <= (model["done"] == model["size"]), name
        if model["stage"] == "fetching" and model["done"]:
            assert model["source"] == "127.0.0.1:18190", name
    coming = [model for model in models.values() if model["stage"] == "fetching" and model["rate"] > 0]
    assert coming, models
    report.progress("; ".join(f"{m['name']} {m['done'] / 1e6:.1f} of {m['size'] / 1e6:.0f} MB" for m in coming))


def _stays_small(mine: Instance) -> None:
    """While gigabytes are fetched, with the fetching process."""
    sizes = resident(mine)
    report.progress(shown(sizes))
    assert "fetch" in sizes
    assert sum(sizes[name] for name in SERVING) < LIMIT


def _must_be_of_these_models(case: Case, record: dict[str, Any]) -> None:
    """An image that was built with other files would reject the mirror's."""
    assert record["arch"] == case.arch
    assert not record["trial"]
    made = yaml.safe_load((overlay.place(case.arch) / overlay.NAME).read_text(encoding="utf-8"))["models"]
    expected = {model["name"]: model["sha256"] for model in made}
    assert {model["name"]: model["sha256"] for model in record["models"]} == expected, (
        f"this image was not built by `python -m tests.real.overlay {case.arch}`"
    )


def _model(status: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(model for model in status["models"] if model["name"] == name)
    return found


def _stage(status: dict[str, Any], name: str) -> str:
    return str(_model(status, name)["stage"])


def _done(status: dict[str, Any], name: str) -> int:
    return int(_model(status, name)["done"])


def _state(url: str) -> str:
    return str(requests.get(f"{url}/gesso/status.json", timeout=60).json()["state"])
