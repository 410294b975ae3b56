"""`invoke publish --vast` from a checked image to a template that can be rented: real registry, simulated Vast.ai.

No trial becomes a template: the image here is the stand-in's under an overlay that says nothing of a trial, with the
CUDA of the real one in its lock, but no torch.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.builder.fake_vast import KEY, VastLike

from .conftest import NAME, ROOT, vouch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Person
    from .server import Server

RECORD = "small.sdxl.vast.json"


class Timely(VastLike):
    """The service with everybody's clock: what waits for its thresholds waits."""

    @property
    def time(self) -> float:
        return time.monotonic()

    @time.setter
    def time(self, _: float) -> None:
        pass

    def writes(self) -> list[str]:
        return [line.partition(" {")[0] for line in self.asked if not line.startswith("GET ")]


@pytest.fixture
def service() -> Iterator[Timely]:
    with Timely().running() as found:
        assert isinstance(found, Timely)
        yield found


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trial = (ROOT / "manifests/trial.yaml").read_text()
    path: Path = tmp_path_factory.mktemp("overlay") / "small.yaml"
    assert "trial: true\n" in trial
    (cuda,) = re.findall(r"^cuda-toolkit==\S+", (ROOT / "manifests/locks/python.lock.txt").read_text(), re.MULTILINE)
    path.write_text(trial.replace("trial: true\n", "").replace("requirements: []", f"requirements: [{cuda}]"))
    return path


@pytest.fixture(scope="module")
def locked(overlay: Path) -> Path:
    """Its lock, as `invoke lock` writes it; of models it keeps what is known."""
    words = [sys.executable, "-m", "invoke", "lock", "--arch", "sdxl", "--overlay", str(overlay)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    return overlay


@pytest.fixture(scope="module")
def image(build: Callable[..., str], locked: Path) -> str:
    return build("sdxl", "rentable", overlay=locked)


@pytest.fixture
def words(person: Person, server: Server, service: Timely, image: str, overlay: Path) -> list[str]:
    """What the operator types, who has a key, and whose image was tested."""
    vouch(person, "sdxl", image, overlay)
    (overlay.parent / RECORD).unlink(missing_ok=True)
    person.more |= {"VAST_API_KEY": KEY, "VAST_URL": service.url}
    return ["publish", "--arch", "sdxl", "--overlay", str(overlay), "--image", image, "--registry", server.host,
            "--sign", str(person.key), "--no-tlog", "--vast"]  # fmt: skip


def template(service: Timely) -> dict[str, Any]:
    """Give the only one that is there."""
    (found,) = service.market.templates.values()
    return found


def test_from_a_checked_image_to_a_template(
    person: Person, server: Server, service: Timely, words: list[str], overlay: Path
) -> None:
    done = person.invoke(*words, "--json").expect()
    said = done.json()
    made = template(service)
    assert said["pushed"]
    assert said["template"]["state"] == "created"
    assert made["image"] == said["reference"] == f"{server.repository}@{said['digest']}"
    assert said["tags"] == ["sdxl-0.1.0-cu130", "sdxl-0.1.0", "sdxl"]
    record = json.loads((overlay.parent / RECORD).read_text())
    assert (record["id"], record["hash_id"], record["image"]) == (made["id"], made["hash_id"], made["image"])
    assert KEY not in done.out + done.err + json.dumps(made)
    person.invoke("verify", made["image"], "--key", str(person.public), "--no-tlog").expect()

    before, pushed = len(service.writes()), server.writes()
    again = person.invoke(*words, "--json").expect().json()
    assert again["template"]["state"] == "unchanged"
    assert not again["pushed"]
    assert server.writes() == pushed
    assert len(service.writes()) == before
    alone = ["vast", "template", "--arch", "sdxl", "--overlay", str(overlay), "--image", made["image"], "--json"]
    assert person.invoke(*alone).expect().json()["state"] == "unchanged"
    assert template(service) == made


def test_with_a_key_that_is_none_the_image_is_there_and_its_template_is_not(
    person: Person, server: Server, service: Timely, words: list[str]
) -> None:
    """Whether a key is good is known when it is used. What was pushed stays, and is not pushed again."""
    person.more["VAST_API_KEY"] = "f" * 64
    failed = person.invoke(*words).expect(7)
    assert "Invalid user key" in failed.err
    assert f"published: {server.repository}@sha256:" in failed.out + failed.err
    assert "f" * 64 not in failed.out + failed.err
    assert service.market.templates == {}
    blobs = server.blobs()
    person.more["VAST_API_KEY"] = KEY
    done = person.invoke(*words, "--json").expect().json()
    assert (done["pushed"], done["template"]["state"]) == (False, "created")
    assert server.blobs() == blobs


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_only_told(person: Person, server: Server, service: Timely, words: list[str], more: tuple[str, ...]) -> None:
    told = person.invoke(*words, "--dry-run", *more).expect()
    assert f"{server.repository}@sha256:" in told.out
    assert service.market.templates == {}
    assert service.writes() == []
    assert server.blobs() == {}
    assert KEY not in told.out + told.err


def test_a_trial_becomes_none(person: Person, server: Server, service: Timely) -> None:
    person.more |= {"VAST_API_KEY": KEY, "VAST_URL": service.url}
    refused = person.invoke(*person.publish(server, "sdxl", "--no-sign", "--vast", image=f"{NAME}:sdxl")).expect(2)
    assert "trial" in refused.err
    assert server.blobs() == {}
    assert service.asked == []
