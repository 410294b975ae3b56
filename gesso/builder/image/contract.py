"""`invoke test --arch A`: run the contract of an image (tests/image) on one, and give what it found."""

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
class Ask:
    """What is tested (`image` by name, else as the build named it), how much of it, and where the results go.

    `own`: only what differs between architectures. `workers`: how many tests run at once; 0: as
    many as the machine is good for.
    """

    image: str | None = None
    only: str | None = None
    junit: str | None = None
    as_json: bool = False
    sabotage: bool = False  # not the image is tested, but the tests: on bad images that are made of it
    own: bool = False
    workers: int = 0


def workers_on(cores: int) -> int:
    """Give how many tests run at once: most of them wait for a container, and each has one or two. Pure."""
    return min(4, cores + 1)


def words(selection: Selection, ask: Ask, junit: Path) -> list[str]:
    """Give pytest's words. Pure."""
    suite = ["tests/sabotage"] if ask.sabotage else ["tests/image", "-p", "tests.image.reporter"]
    found = [*suite, "-p", "no:cacheprovider", f"--junitxml={junit}"]
    found += ["-o", "junit_family=xunit2", "-o", f"junit_suite_name=gesso-{selection.arch}"]
    found += [f"--gesso-arch={selection.arch}", *["--gesso-trial"] * selection.trial]
    found += [f"--gesso-overlay={path.resolve()}" for path in selection.overlays]
    found += [f"--gesso-image={ask.image}"] if ask.image else []
    found += ["--gesso-part"] if ask.own else []
    workers = ask.workers or workers_on(os.cpu_count() or 1)
    found += [f"-n{workers}"] if workers > 1 else []
    return found + (["-k", ask.only] if ask.only else [])


def run(selection: Selection, ask: Ask, env: Mapping[str, str]) -> None:
    """Test one image. What it found is kept by the image's id, as a report and as JUnit XML.

    Raises CheckError where a check failed, BuildError where there is no engine or no such image, ManifestError for
    what cannot be asked.
    """
    if ask.sabotage and not selection.trial:
        raise ManifestError("--sabotage makes bad images of the trial's", "add --trial")
    engine.find()
    name = ask.image or tags_of(selection.arch, trial=selection.trial)[0]
    image = _image(name, selection)
    kept = contract_report.folder(env, image) / ("sabotage.xml" if ask.sabotage else "junit.xml")
    junit = Path(ask.junit).resolve() if ask.junit else kept
    junit.parent.mkdir(parents=True, exist_ok=True)
    # By its id: tests of another worker build images that take its name for a while.
    here = ask if ask.sabotage else replace(ask, image=image)
    tell = report.say if ask.as_json else report.result
    done = proc.stream([sys.executable, "-m", "pytest", *words(selection, here, junit)], tell,
                       cwd=selection.project.root)  # fmt: skip
    found = None if ask.sabotage else contract_report.read(env, image, contract_report.LAST)
    if ask.as_json and found is not None:
        report.result_json(json.loads(found.model_dump_json()))
    if not done.ok:
        what = "sabotage went unnoticed, or a test" if ask.sabotage else "image tests"
        raise CheckError(f"{what} failed", f"the output above says why; JUnit XML is in {junit}")


def _image(name: str, selection: Selection) -> str:
    """Give an image's id; one that is named by its registry is pulled where it is not here."""
    for attempt in range(2):
        found = proc.run(["docker", "image", "inspect", "--format", "{{.Id}}", name], timeout=60)
        if found.ok:
            return found.stdout.strip()
        if attempt or "/" not in name:
            break
        report.say(f"pulling {name}")
        pulled = proc.run(["docker", "pull", "--quiet", name])
        if not pulled.ok:
            raise BuildError(f"{name} cannot be pulled: {pulled.tail(1)}", "check the name, and `docker login`")
    raise BuildError(f"there is no image {name}", f"build it with `invoke build {selection.flags}`")
