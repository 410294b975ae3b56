"""The image's bytes, read from outside: they follow from manifest, lock and this checkout, and nothing else is there.

The image's own programs are not run: a manipulated one would report that everything is fine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from docker.errors import ImageNotFound

from . import index
from .checks import budget, config, debian, inventory, own, python, secrets, sources, wheels
from .checks.expected import Expected, expect
from .checks.image_snapshot import ImageSnapshot, read_image

if TYPE_CHECKING:
    import docker
    from docker.models.images import Image

    from gesso.settings import Selection

pytestmark = pytest.mark.xdist_group("bytes")  # reading a real image takes more than a minute: only once


@pytest.fixture(scope="module")
def snapshot(image: Image) -> ImageSnapshot:
    return read_image(image.save(chunk_size=1 << 20), secrets.search(secrets.canaries()))


@pytest.fixture(scope="module")
def expectation(selection: Selection) -> Expected:
    return expect(selection)


def test_the_config_is_the_dockerfiles(snapshot: ImageSnapshot, expectation: Expected) -> None:
    """Environment, entry, health check, ports, user: all of them, and no others."""
    assert config.settings(snapshot, expectation) == []


def test_the_labels_are_the_dockerfiles(snapshot: ImageSnapshot, expectation: Expected) -> None:
    assert config.labels(snapshot, expectation) == []


def test_the_history_is_the_dockerfiles(snapshot: ImageSnapshot, expectation: Expected) -> None:
    """Every layer above the base is one of the Dockerfile's steps, in its order."""
    assert config.history(snapshot, expectation) == []


def test_the_last_layer_restores_sqlalchemy_and_nothing_else(snapshot: ImageSnapshot, expectation: Expected) -> None:
    assert config.final_layer(snapshot, expectation) == []


def test_it_is_built_on_the_locked_base(
    snapshot: ImageSnapshot, expectation: Expected, client: docker.DockerClient, selection: Selection
) -> None:
    base = debian.reference(expectation)
    try:
        layers = client.images.get(base).attrs["RootFS"]["Layers"]
    except ImageNotFound:
        pytest.skip(f"{base} is not on this engine, nothing to compare with: this was not run")
    assert debian.base(snapshot, expectation, layers) == []


def test_no_layer_and_no_image_is_over_its_budget(snapshot: ImageSnapshot, expectation: Expected) -> None:
    assert budget.problems(snapshot, expectation) == []


def test_exactly_the_locked_packages_are_installed(snapshot: ImageSnapshot, expectation: Expected) -> None:
    assert python.locked(snapshot, expectation) == []


def test_every_installed_file_is_as_distributed(snapshot: ImageSnapshot, expectation: Expected) -> None:
    assert python.as_distributed(snapshot, expectation) == []


def test_packages_match_their_locked_wheels(snapshot: ImageSnapshot, expectation: Expected, image: Image) -> None:
    """A record that was changed with its package proves nothing: the lock does, by the wheel's hash."""
    for venv, pins in wheels.pins_of(expectation).items():
        found = index.fetch(pins, expectation.manifest.python.version, str(image.attrs["Architecture"]))
        if found.out_of_reach:
            pytest.skip("no index of packages is in reach: this was not run")
        assert found.complaint == ""
        assert len(found.wheels) == len(pins) - len(found.built)
        assert len(found.built) < len(pins) / 10, f"an index without most of the wheels: {', '.join(found.built)}"
        assert wheels.differing(snapshot, python.site(expectation, venv), found.wheels) == []


def test_sqlalchemy_matches_its_locked_wheel(snapshot: ImageSnapshot, expectation: Expected) -> None:
    assert python.wheel(snapshot, expectation) == []


def test_there_are_two_environments_and_no_other(snapshot: ImageSnapshot, expectation: Expected) -> None:
    assert python.venvs(snapshot, expectation) == []


def test_debian_packages_are_the_manifests(snapshot: ImageSnapshot, expectation: Expected) -> None:
    assert debian.packages(snapshot, expectation) == []


def test_every_file_of_debian_is_as_packaged(snapshot: ImageSnapshot) -> None:
    assert debian.as_packaged(snapshot) == []


def test_comfyui_and_its_packs_are_at_their_commits(snapshot: ImageSnapshot, expectation: Expected) -> None:
    assert sources.commits(snapshot, expectation) == []


def test_what_heal_restores_from_is_what_is_installed(snapshot: ImageSnapshot, expectation: Expected) -> None:
    assert sources.spares(snapshot, expectation) == []


def test_the_record_matches_manifest_and_lock(snapshot: ImageSnapshot, expectation: Expected) -> None:
    assert own.record(snapshot, expectation) == []


def test_constraints_and_workflows_are_as_generated(snapshot: ImageSnapshot, expectation: Expected) -> None:
    assert own.generated(snapshot, expectation) == []


def test_entry_and_supervisor_are_this_checkouts(snapshot: ImageSnapshot, expectation: Expected) -> None:
    assert own.rootfs(snapshot, expectation) == []


def test_gesso_itself_is_this_checkouts(snapshot: ImageSnapshot, expectation: Expected) -> None:
    assert own.package(snapshot, expectation) == []


def test_there_is_no_builder_in_it(snapshot: ImageSnapshot) -> None:
    """An image holds the runtime wing: what builds, publishes and rents stays on the operator's machine."""
    assert own.wings(snapshot) == []


def test_only_a_trial_has_a_mirror(snapshot: ImageSnapshot, expectation: Expected) -> None:
    assert own.mirror(snapshot, expectation) == []


def test_baked_models_are_the_locked_bytes(snapshot: ImageSnapshot, expectation: Expected) -> None:
    assert own.models(snapshot, expectation) == []


def test_every_file_has_an_owner(snapshot: ImageSnapshot, expectation: Expected) -> None:
    assert inventory.owners(snapshot, expectation) == []


def test_nobody_else_may_write_and_no_file_is_setuid(snapshot: ImageSnapshot, expectation: Expected) -> None:
    assert inventory.permissions(snapshot, expectation) == []


def test_nothing_is_left_behind(snapshot: ImageSnapshot) -> None:
    assert inventory.leftovers(snapshot) == []


def test_there_is_no_secret_in_any_layer_or_in_the_history(snapshot: ImageSnapshot, expectation: Expected) -> None:
    public = python.published(snapshot, expectation) | debian.published(snapshot) | sources.published(snapshot)
    assert secrets.problems(snapshot, secrets.canaries(), public) == []
