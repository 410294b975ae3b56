"""`invoke test --arch A`: run the image contract (tests/image) on an image, and print the result."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gesso import proc, report
from gesso.builder.image import contract_report, engine
from gesso.builder.image.plan import tags_of
from gesso.errors import BuildError, CheckError, ManifestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gesso.settings import Selection


@dataclass(frozen=True)
class ContractOptions:
    """Options of a run. `image`: its name, by default the build's; `only`: pytest's -k; `junit`: the report's path.

    `own`: run only the tests that differ between architectures. `workers`: parallel tests; 0: chosen by the number of
    cores.
    """

    image: str | None = None
    only: str | None = None
    junit: str | None = None
    as_json: bool = False
    sabotage: bool = False  # test the tests, on bad images made from this one
    own: bool = False
    workers: int = 0


def workers_on(cores: int) -> int:
    """Return the number of parallel tests: most wait for a container, and each has one or two. Pure."""
    return min(4, cores + 1)


def pytest_args(selection: Selection, options: ContractOptions, junit: Path) -> list[str]:
    """Return pytest's arguments. Pure."""
    suite = ["tests/sabotage"] if options.sabotage else ["tests/image", "-p", "tests.image.reporter"]
    args = [*suite, "-p", "no:cacheprovider", f"--junitxml={junit}"]
    args += ["-o", "junit_family=xunit2", "-o", f"junit_suite_name=gesso-{selection.arch}"]
    args += [f"--gesso-arch={selection.arch}", *["--gesso-trial"] * selection.trial]
    args += [f"--gesso-overlay={path.resolve()}" for path in selection.overlays]
    args += [f"--gesso-image={options.image}"] if options.image else []
    args += ["--gesso-part"] if options.own else []
    workers = options.workers or workers_on(os.cpu_count() or 1)
    args += [f"-n{workers}"] if workers > 1 else []
    return args + (["-k", options.only] if options.only else [])


def run(selection: Selection, options: ContractOptions, env: Mapping[str, str]) -> None:
    """Test one image. The result is stored by the image's id, as a report and as JUnit XML.

    Raises CheckError where a check failed, BuildError where there is no engine or no such image, ManifestError for
    options that exclude each other.
    """
    if options.sabotage and not selection.trial:
        raise ManifestError("--sabotage works on trial images only", "add --trial")
    engine.find()
    name = options.image or tags_of(selection.arch, trial=selection.trial)[0]
    image = _image(name, selection)
    default = contract_report.folder(env, image) / ("sabotage.xml" if options.sabotage else "junit.xml")
    junit = Path(options.junit).resolve() if options.junit else default
    junit.parent.mkdir(parents=True, exist_ok=True)
    # By id: other workers' tests build images that take its name for a while.
    pinned = options if options.sabotage else replace(options, image=image)
    on_line = report.progress if options.as_json else report.result
    done = proc.stream([sys.executable, "-m", "pytest", *pytest_args(selection, pinned, junit)], on_line,
                       cwd=selection.project.root)  # fmt: skip
    found = None if options.sabotage else contract_report.read(env, image, contract_report.LAST)
    if options.as_json and found is not None:
        report.result_json(json.loads(found.model_dump_json()))
    if not done.ok:
        what = "sabotage went unnoticed, or a test" if options.sabotage else "image tests"
        raise CheckError(f"{what} failed", f"see the output above; JUnit XML: {junit}")


def _image(name: str, selection: Selection) -> str:
    """Return an image's id; pull a missing image whose name contains a registry."""
    for attempt in range(2):
        found = proc.run(["docker", "image", "inspect", "--format", "{{.Id}}", name], timeout=60)
        if found.ok:
            return found.stdout.strip()
        if attempt or "/" not in name:
            break
        report.progress(f"pulling {name}")
        pulled = proc.run(["docker", "pull", "--quiet", name])
        if not pulled.ok:
            raise BuildError(f"{name} cannot be pulled: {pulled.tail(1)}", "check the name, and `docker login`")
    raise BuildError(f"no such image: {name}", f"build it with `invoke build {selection.flags}`")
