"""Preconditions of a publish: the image passed the whole contract, recently, against the current project."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gesso.builder.image import contract_report
from gesso.builder.image.contract_report import Case, ContractReport
from gesso.builder.publish import preconditions
from gesso.builder.publish.preconditions import Expected
from gesso.builder.registry.local_image import LocalLayer
from gesso.builder.registry.reference import repository
from gesso.builder.registry.tags import Tags, check_fixed, is_same, tags_of
from gesso.errors import CheckError, ManifestError, PublishError
from tests.unit.builder import images

if TYPE_CHECKING:
    from pathlib import Path

NOW = contract_report.now()
EXPECTED = Expected("sdxl", False, images.LOCK, "contract")
GREEN = ContractReport(
    image=images.local().image_id, arch="sdxl", trial=False, lock=images.LOCK, contract="contract", whole=True,
    passed=90, seconds=300, at=NOW,
)  # fmt: skip


def test_a_green_and_fresh_image_passes() -> None:
    assert preconditions.missing(images.local(), GREEN, EXPECTED, NOW) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"failed": (Case(name="test_gate"),)}, "failed: test_gate"),
        ({"whole": False}, "only a part"),
        ({"passed": 0}, "no check passed"),
        ({"lock": "other"}, "tested against another lock"),
        ({"contract": "other"}, "the contract has changed"),
        ({"at": NOW - timedelta(days=8)}, "8 days ago"),
        ({"arch": "flux"}, "it was tested as flux"),
        ({"trial": True}, "it was tested as sdxl (trial)"),
    ],
)
def test_a_report_that_is_not_sufficient(change: dict[str, Any], problem: str) -> None:
    found = preconditions.missing(images.local(), GREEN.model_copy(update=change), EXPECTED, NOW)
    assert len(found) == 1
    assert problem in found[0]


@pytest.mark.parametrize(
    ("label", "value", "problem"),
    [
        ("dev.gesso.arch", "flux", "no image of sdxl"),
        ("dev.gesso.trial", "true", "it is a trial image"),
        ("dev.gesso.lock", "old", "built from another lock"),
    ],
)
def test_another_image(label: str, value: str, problem: str) -> None:
    found = preconditions.missing(images.local({**images.LABELS, label: value}), GREEN, EXPECTED, NOW)
    assert len(found) == 1
    assert problem in found[0]


def test_all_problems_are_reported_at_once() -> None:
    found = preconditions.missing(images.local({}), None, EXPECTED, NOW)
    assert len(found) == 5
    with pytest.raises(CheckError) as error:
        preconditions.refuse(images.local(), found, "--arch sdxl")
    first, second = str(error.value).splitlines()
    assert all(each in first for each in found)
    assert second == "  next: `invoke build --arch sdxl`, then `invoke test --arch sdxl`, then publish again"


def test_the_report_is_looked_up_by_the_images_id(tmp_path: Path) -> None:
    env = {"GESSO_CACHE": str(tmp_path)}
    assert preconditions.examine(images.local(), EXPECTED, env) == ["the image was never tested"]
    contract_report.write(env, GREEN)
    assert preconditions.examine(images.local(), EXPECTED, env) == []
    assert preconditions.examine(replace(images.local(), image_id="sha256:other"), EXPECTED, env) == [
        "the image was never tested"
    ]


def test_nothing_missing_raises_nothing() -> None:
    preconditions.refuse(images.local(), [], "--arch sdxl")


@pytest.mark.parametrize("host", ["ghcr.io/me/gesso", "10.0.0.1:5000/gesso", "docker.io/me/gesso"])
def test_a_trial_image_is_not_published(host: str) -> None:
    with pytest.raises(ManifestError, match="a trial image is never published"):
        preconditions.refuse_trial(repository(host), trial=True)
    preconditions.refuse_trial(repository(host), trial=False)


def test_a_trial_image_may_go_to_this_machine() -> None:
    preconditions.refuse_trial(repository("127.0.0.1:5000"), trial=True)


def test_a_real_image_is_no_trial() -> None:
    found = preconditions.missing(images.local(), GREEN, replace(EXPECTED, trial=True), NOW)
    assert found == ["it is no trial image", "it was tested as sdxl"]


def test_a_layer_over_the_limit() -> None:
    image = images.local()
    preconditions.check_layers(image, 3000)
    with pytest.raises(PublishError, match="COPY part2") as error:
        preconditions.check_layers(image, 2999)
    assert "part1" not in str(error.value)
    preconditions.check_layers(replace(image, layers=(LocalLayer("sha256:x", None, ""),)), 1)


@pytest.mark.parametrize(
    ("version", "cuda", "trial", "fixed"),
    [
        ("0.1.0", "13.0", False, ("sdxl-0.1.0-cu130", "sdxl-0.1.0")),
        ("1.0.0+local", "12.8", True, ("sdxl-trial-1.0.0_local-cu128", "sdxl-trial-1.0.0_local")),
    ],
)
def test_tags(version: str, cuda: str, trial: bool, fixed: tuple[str, ...]) -> None:
    found = tags_of("sdxl", version, cuda, trial=trial)
    assert found == Tags("sdxl-trial" if trial else "sdxl", fixed)
    assert found.all[-1] == found.moving, "who follows the moving tag gets a complete image"


TAGS = tags_of("sdxl", "0.1.0", "13.0", trial=False)


@pytest.mark.parametrize("tag", TAGS.fixed)
def test_a_fixed_tag_is_never_moved(tag: str) -> None:
    other = images.remote(layers=2)
    with pytest.raises(PublishError) as error:
        check_fixed(images.REPOSITORY, images.local(), {tag: other}, TAGS)
    assert f"ghcr.io/me/gesso:{tag} is {other.digest}" in str(error.value)
    assert images.local().image_id in str(error.value)
    assert len(str(error.value).splitlines()) == 2


def test_the_same_image_and_the_moving_tag_are_no_conflict() -> None:
    same, other = images.remote(), images.remote(layers=2)
    check_fixed(images.REPOSITORY, images.local(), {TAGS.fixed[0]: same, TAGS.fixed[1]: None, "sdxl": other}, TAGS)


def test_an_engine_may_name_an_image_by_its_manifest() -> None:
    assert is_same(replace(images.local(), image_id=images.remote().digest), images.remote())
    assert not is_same(images.local(layers=2), images.remote())
