"""On a machine with a GPU: ComfyUI's torch sees it. Elsewhere this is skipped, with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from docker.types import DeviceRequest

if TYPE_CHECKING:
    import docker
    from docker.models.images import Image

    from gesso.manifest.schema import Manifest

    from .conftest import Instance, Instances


@pytest.fixture(scope="module")
def accelerated(
    client: docker.DockerClient, image: Image, instances: Instances, pytestconfig: pytest.Config
) -> Instance:
    info: dict[str, Any] = client.info()
    if "nvidia" not in info.get("Runtimes", {}) and not info.get("DiscoveredDevices"):
        pytest.skip("this engine has no GPU: this was not run")
    if pytestconfig.getoption("--gesso-trial"):
        pytest.skip("a trial has no torch: this was not run")
    everything = DeviceRequest(count=-1, capabilities=[["gpu"]])
    return instances.start(image, entrypoint=["sleep", "infinity"], device_requests=[everything])


def test_torch_sees_the_gpu_and_can_compute_on_it(accelerated: Instance) -> None:
    script = "import torch; x = torch.ones(64, 64, device='cuda'); print(float((x @ x).sum()))"
    done = accelerated.run(f'python -c "{script}"')
    assert done.rc == 0, done.stderr
    assert float(done.stdout) == 64.0**3


def test_the_driver_runs_the_cuda_that_the_manifest_names(accelerated: Instance, manifest: Manifest) -> None:
    done = accelerated.run("python -c 'import torch; torch.cuda.init(); print(torch.version.cuda)'")
    assert done.rc == 0, done.stderr
    assert done.stdout.strip() == manifest.hardware.cuda
