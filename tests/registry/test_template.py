"""`invoke publish --vast` from a checked image to a template that can be rented: real registry, simulated Vast.ai.

A trial cannot become a template: this image is the stand-in's with an overlay that does not declare a trial, with the
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

from tests.integration.builder.fake_vast import KEY, FakeVast

from .conftest import NAME, ROOT, vouch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Person
    from .server import Server

RECORD = "small.sdxl.vast.json"


class Timely(FakeVast):
    """The service with a real clock: waiting times are real."""

    @property
    def time(self) -> float:
        return time.monotonic()

    @time.setter
    def time(self, _: float) -> None:
        pass

    def writes(self) -> list[str]:
        return [line.partition(" {")[0] for line in self.requests if not line.startswith("GET ")]


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
    """Its lock, as `invoke lock` writes it; known facts of models stay."""
    arguments = [sys.executable, "-m", "invoke", "lock", "--arch", "sdxl", "--overlay", str(overlay)]
    subprocess.run(arguments, cwd=ROOT, check=True, capture_output=True)
    return overlay


@pytest.fixture(scope="module")
def image(build: Callable[..., str], locked: Path) -> str:
    return build("sdxl", "rentable", overlay=locked)


@pytest.fixture
def arguments(person: Person, server: Server, service: Timely, image: str, overlay: Path) -> list[str]:
    """An operator who has a key, and whose image was tested."""
    vouch(person, "sdxl", image, overlay)
    (overlay.parent / RECORD).unlink(missing_ok=True)
    person.more |= {"VAST_API_KEY": KEY, "VAST_URL": service.url}
    return ["publish", "--arch", "sdxl", "--overlay", str(overlay), "--image", image, "--registry", server.host,
            "--sign", str(person.key), "--no-tlog", "--vast"]  # fmt: skip


def template(service: Timely) -> dict[str, Any]:
    """Return the only one."""
    (found,) = service.market.templates.values()
    return found


def test_from_a_checked_image_to_a_template(
    person: Person, server: Server, service: Timely, arguments: list[str], overlay: Path
) -> None:
    done = person.invoke(*arguments, "--json").expect()
    result = done.json()
    made = template(service)
    assert result["pushed"]
    assert result["template"]["state"] == "created"
    assert made["image"] == result["reference"] == f"{server.repository}@{result['digest']}"
    assert result["tags"] == ["sdxl-0.1.0-cu130", "sdxl-0.1.0", "sdxl"]
    record = json.loads((overlay.parent / RECORD).read_text())
    assert (record["id"], record["hash_id"], record["image"]) == (made["id"], made["hash_id"], made["image"])
    assert KEY not in done.out + done.err + json.dumps(made)
    person.invoke("verify", made["image"], "--key", str(person.public), "--no-tlog").expect()

    before, pushed = len(service.writes()), server.writes()
    second = person.invoke(*arguments, "--json").expect().json()
    assert second["template"]["state"] == "unchanged"
    assert not second["pushed"]
    assert server.writes() == pushed
    assert len(service.writes()) == before
    alone = ["vast", "template", "--arch", "sdxl", "--overlay", str(overlay), "--image", made["image"], "--json"]
    assert person.invoke(*alone).expect().json()["state"] == "unchanged"
    assert template(service) == made


def test_with_an_invalid_key_the_image_is_pushed_without_a_template(
    person: Person, server: Server, service: Timely, arguments: list[str]
) -> None:
    """Whether a key works is only known when it is used. Pushed data stays, and is not pushed again."""
    person.more["VAST_API_KEY"] = "f" * 64
    failed = person.invoke(*arguments).expect(7)
    assert "Invalid user key" in failed.err
    assert f"published: {server.repository}@sha256:" in failed.out + failed.err
    assert "f" * 64 not in failed.out + failed.err
    assert service.market.templates == {}
    blobs = server.blobs()
    person.more["VAST_API_KEY"] = KEY
    done = person.invoke(*arguments, "--json").expect().json()
    assert (done["pushed"], done["template"]["state"]) == (False, "created")
    assert server.blobs() == blobs


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_dry_run(person: Person, server: Server, service: Timely, arguments: list[str], more: tuple[str, ...]) -> None:
    dry_run = person.invoke(*arguments, "--dry-run", *more).expect()
    assert f"{server.repository}@sha256:" in dry_run.out
    assert service.market.templates == {}
    assert service.writes() == []
    assert server.blobs() == {}
    assert KEY not in dry_run.out + dry_run.err


def test_a_trial_becomes_no_template(person: Person, server: Server, service: Timely) -> None:
    person.more |= {"VAST_API_KEY": KEY, "VAST_URL": service.url}
    refused = person.invoke(*person.publish(server, "sdxl", "--no-sign", "--vast", image=f"{NAME}:sdxl")).expect(2)
    assert "trial" in refused.err
    assert server.blobs() == {}
    assert service.requests == []
