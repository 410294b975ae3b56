"""The image's bytes, read from outside: each is what manifest, lock and this checkout lead to, and nothing is too much.

The image's own programs are not asked: one that was tampered with would say that all is well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from docker.errors import ImageNotFound

from . import index
from .checks import budget, config, debian, inventory, own, python, secrets, sources, wheels
from .checks.expected import Expected, expect
from .checks.photograph import Photograph, take

if TYPE_CHECKING:
    import docker
    from docker.models.images import Image

    from gesso.settings import Selection

pytestmark = pytest.mark.xdist_group("bytes")  # reading a real image takes more than a minute: once


@pytest.fixture(scope="module")
def photo(image: Image) -> Photograph:
    return take(image.save(chunk_size=1 << 20), secrets.search(secrets.canaries()))


@pytest.fixture(scope="module")
def expectation(selection: Selection) -> Expected:
    return expect(selection)


def test_the_config_is_the_dockerfiles(photo: Photograph, expectation: Expected) -> None:
    """Environment, entry, health check, ports, user: all of it, and nothing more."""
    assert config.settings(photo, expectation) == []


def test_the_labels_say_what_it_is(photo: Photograph, expectation: Expected) -> None:
    assert config.labels(photo, expectation) == []


def test_the_history_is_the_dockerfiles(photo: Photograph, expectation: Expected) -> None:
    """Every layer above the base was asked for, in this order, and by these words."""
    assert config.history(photo, expectation) == []


def test_the_last_layer_restores_sqlalchemy_and_nothing_else(photo: Photograph, expectation: Expected) -> None:
    assert config.final_layer(photo, expectation) == []


def test_it_stands_on_the_locked_base(
    photo: Photograph, expectation: Expected, client: docker.DockerClient, selection: Selection
) -> None:
    base = debian.reference(expectation)
    try:
        layers = client.images.get(base).attrs["RootFS"]["Layers"]
    except ImageNotFound:
        pytest.skip(f"{base} is not on this engine, nothing to compare with: this was not run")
    assert debian.base(photo, expectation, layers) == []


def test_no_layer_and_no_image_is_over_its_budget(photo: Photograph, expectation: Expected) -> None:
    assert budget.problems(photo, expectation) == []


def test_what_is_locked_is_installed_and_nothing_else(photo: Photograph, expectation: Expected) -> None:
    assert python.locked(photo, expectation) == []


def test_every_installed_file_is_as_distributed(photo: Photograph, expectation: Expected) -> None:
    assert python.as_distributed(photo, expectation) == []


def test_packages_are_out_of_their_locked_wheels(photo: Photograph, expectation: Expected, image: Image) -> None:
    """A record that was changed with its package vouches for nothing: here the lock does, by the wheel's hash."""
    for venv, pins in wheels.pins_of(expectation).items():
        found = index.fetch(pins, expectation.manifest.python.version, str(image.attrs["Architecture"]))
        if found.out_of_reach:
            pytest.skip("no index of packages is in reach: this was not run")
        assert found.complaint == ""
        assert len(found.wheels) == len(pins) - len(found.built)
        assert len(found.built) < len(pins) / 10, f"an index without most of the wheels: {', '.join(found.built)}"
        assert wheels.differing(photo, python.site(expectation, venv), found.wheels) == []


def test_sqlalchemy_is_out_of_its_locked_wheel(photo: Photograph, expectation: Expected) -> None:
    assert python.wheel(photo, expectation) == []


def test_there_are_two_environments_and_no_other(photo: Photograph, expectation: Expected) -> None:
    assert python.venvs(photo, expectation) == []


def test_debian_packages_are_the_manifests(photo: Photograph, expectation: Expected) -> None:
    assert debian.packages(photo, expectation) == []


def test_every_file_of_debian_is_as_packaged(photo: Photograph) -> None:
    assert debian.as_packaged(photo) == []


def test_comfyui_and_its_packs_are_at_their_commits(photo: Photograph, expectation: Expected) -> None:
    assert sources.commits(photo, expectation) == []


def test_what_heal_restores_from_is_what_is_installed(photo: Photograph, expectation: Expected) -> None:
    assert sources.spares(photo, expectation) == []


def test_the_record_says_what_manifest_and_lock_say(photo: Photograph, expectation: Expected) -> None:
    assert own.record(photo, expectation) == []


def test_constraints_and_workflows_are_as_generated(photo: Photograph, expectation: Expected) -> None:
    assert own.generated(photo, expectation) == []


def test_entry_and_supervisor_are_this_checkouts(photo: Photograph, expectation: Expected) -> None:
    assert own.rootfs(photo, expectation) == []


def test_gesso_itself_is_this_checkouts(photo: Photograph, expectation: Expected) -> None:
    assert own.package(photo, expectation) == []


def test_only_a_trial_has_a_mirror(photo: Photograph, expectation: Expected) -> None:
    assert own.mirror(photo, expectation) == []


def test_baked_models_are_the_locked_bytes(photo: Photograph, expectation: Expected) -> None:
    assert own.models(photo, expectation) == []


def test_every_file_has_an_owner(photo: Photograph, expectation: Expected) -> None:
    assert inventory.owners(photo, expectation) == []


def test_nobody_else_may_write_and_nothing_runs_as_its_owner(photo: Photograph, expectation: Expected) -> None:
    assert inventory.permissions(photo, expectation) == []


def test_nothing_is_left_behind(photo: Photograph) -> None:
    assert inventory.leftovers(photo) == []


def test_there_is_no_secret_in_any_layer_or_in_the_history(photo: Photograph, expectation: Expected) -> None:
    public = python.published(photo, expectation) | debian.published(photo) | sources.published(photo)
    assert secrets.problems(photo, secrets.canaries(), public) == []
