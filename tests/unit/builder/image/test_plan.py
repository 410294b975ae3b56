"""The plan of an image: golden files of the real manifests and locks, and invariants of every Dockerfile.

After an intended change, rewrite the golden files and read the diff before committing it:

    GESSO_GOLDEN=write python -m pytest tests/unit/builder/image/test_plan.py
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gesso.builder.image import build, context, spares
from gesso.builder.image.plan import Plan, own_files, tags_of
from gesso.builder.lock.python_pins import read_pins
from gesso.manifest.workflows import Workflow
from gesso.settings import Project, Selection

if TYPE_CHECKING:
    from gesso.builder.lock.lock_files import Locked
    from gesso.manifest.schema import Manifest

ROOT = Path(__file__).resolve().parents[4]
GOLDEN = Path(__file__).parent / "golden"
WHEEL = "gesso_images-0-py3-none-any.whl"
REVISION = "0123456789abcdef0123456789abcdef01234567"
IMAGES = ("sdxl", "flux", "sdxl-trial")
SPARES = {"ComfyUI": {"sha256": "0" * 64, "target": "/opt/ComfyUI"}}
CHANGES_FILES = {"RUN", "COPY", "ADD", "WORKDIR"}


@dataclass(frozen=True)
class Decided:
    manifest: Manifest
    locked: Locked
    plan: Plan
    dockerfile: str


@functools.cache
def _prepared(name: str) -> tuple[Manifest, Locked]:
    arch, _, trial = name.partition("-")
    return build.prepare(Selection(Project(ROOT), arch, (), trial == "trial"))


def _decide(name: str, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Decided:
    project = Project(ROOT)
    manifest, locked = _prepared(name)
    manifest = manifest.model_copy(update=changes)
    monkeypatch.setattr(build, "_revision", lambda _: REVISION)
    base = build.base_reference(locked)
    plan = build.decide(project, manifest, locked, base=base, wheel=WHEEL, spares=SPARES)
    return Decided(manifest, locked, plan, context.dockerfile(plan, project.images))


@pytest.fixture(params=IMAGES)
def decided(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Decided:
    return _decide(request.param, monkeypatch)


def _instructions(text: str) -> list[tuple[str, str]]:
    """Return (instruction, rest) of a Dockerfile, with continuation lines joined and without comments."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def _keys(data: Any, path: str = "") -> set[str]:
    """Return every key of a record; the items of a list share a key, and so do entries by name."""
    if isinstance(data, dict):
        named = path in {".nodes", ".python.pins", ".spares", ".workflows", ".workflow_titles"}
        return {path}.union(*(_keys(v, f"{path}.{'*' if named else k}") for k, v in data.items()))
    if isinstance(data, list):
        return {path}.union(*(_keys(v, f"{path}[]") for v in data))
    return {path}


# --- golden


@pytest.mark.parametrize("name", IMAGES)
def test_golden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """See the docstring of this module for how to rewrite them."""
    found = _decide(name, monkeypatch)
    record = json.loads(found.plan.files["arch/build.json"])
    made = {
        "Dockerfile": found.dockerfile.replace(found.locked.lock.sha256, "(the lock's sha256)"),
        "build.json.keys": "".join(f"{key}\n" for key in sorted(_keys(record) - {""})),
        "constraints.txt": found.plan.files["python/constraints.txt"],
    }
    folder = GOLDEN / name
    if os.environ.get("GESSO_GOLDEN") == "write":
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in made.items():
            (folder / file).write_text(text, encoding="utf-8")
    for file, text in made.items():
        assert text == (folder / file).read_text(encoding="utf-8"), f"{file}: see the docstring of this module"


def test_there_are_no_other_golden_files() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(IMAGES)


# --- the Dockerfile


def test_the_last_run_reinstalls_sqlalchemy(decided: Decided) -> None:
    found = _instructions(decided.dockerfile)
    last = max(index for index, (word, _) in enumerate(found) if word in CHANGES_FILES)
    word, rest = found[last]
    assert word == "RUN"
    assert "--reinstall /opt/gesso/wheels/*.whl" in rest
    assert "--offline" in rest
    assert "from sqlalchemy.orm import mapped_column" in rest
    version = decided.locked.lock.python.sqlalchemy
    assert f'assert sqlalchemy.__version__ == "{version}"' in rest
    assert rest.index("--reinstall") < rest.index("mapped_column")
    assert {word for word, _ in found[last + 1 :]} == {"LABEL", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"}


def test_constraints_protect_the_locked_versions_from_later_installs(decided: Decided) -> None:
    found = _instructions(decided.dockerfile)
    first_source = next(n for n, (word, rest) in enumerate(found) if word == "COPY" and " sources/" in rest)
    before = [rest for word, rest in found[:first_source] if word == "ENV"]
    for tool in ("PIP", "UV"):
        assert any(f"{tool}_CONSTRAINT=/opt/gesso/constraints.txt" in rest for rest in before)
    copied = next(n for n, (word, rest) in enumerate(found) if word == "COPY" and "constraints.txt" in rest)
    assert copied < first_source
    stages = [rest for word, rest in found if word == "FROM"]
    assert stages[-1] == "python AS image"  # the stage that sets them


def test_every_locked_pin_is_a_constraint_and_in_one_layer(decided: Decided) -> None:
    files = decided.plan.files
    pins = {(pin.name, pin.version) for pin in decided.locked.pins}
    assert files["python/constraints.txt"].splitlines() == [f"{p.name}=={p.version}" for p in decided.locked.pins]
    groups = decided.plan.variables["groups"]
    text = "".join(files[f"python/{group}.txt"] for group in groups)
    assert len(re.findall(r"^\S+==", text, re.MULTILINE)) == len(pins)
    runs = [rest for word, rest in _instructions(decided.dockerfile) if word == "RUN"]
    installs = [rest for rest in runs if "-r /run/python/" in rest and "uv pip install" in rest]
    assert [re.findall(r"-r /run/python/(\S+)\.txt", rest) for rest in installs] == [[group] for group in groups]
    assert all("--require-hashes" in rest and "--no-deps" in rest for rest in installs)


def test_the_whole_lock_is_in_the_image(decided: Decided) -> None:
    pins = read_pins(decided.plan.files["python/requirements.txt"])
    assert pins == decided.locked.pins
    copies = [rest for word, rest in _instructions(decided.dockerfile) if word == "COPY"]
    assert "--link python/constraints.txt python/requirements.txt /opt/gesso/" in copies


def test_spares_are_shared_except_those_of_an_architecture(decided: Decided) -> None:
    copies = [rest for word, rest in _instructions(decided.dockerfile) if word == "COPY"]
    assert "--link spare/ /opt/gesso/spare/" in copies
    own = own_files(decided.locked, build.read_workflows(Project(ROOT), decided.manifest))
    made = decided.plan.files
    assert own["opt/gesso/constraints.txt"] == made["python/constraints.txt"]
    assert own["opt/gesso/requirements.txt"] == made["python/requirements.txt"]
    workflows = {name.removeprefix("opt/gesso/"): text for name, text in own.items() if "/workflows/" in name}
    assert workflows
    assert workflows == {name[5:]: text for name, text in made.items() if name.startswith("arch/workflows/")}


def test_comfyui_and_every_pack_is_a_layer_of_its_own(decided: Decided) -> None:
    copies = [rest for word, rest in _instructions(decided.dockerfile) if word == "COPY"]
    assert all(rest.startswith("--link ") for rest in copies)
    assert "--link sources/ComfyUI /opt/ComfyUI" in copies
    packs = [rest.split()[1:] for rest in copies if "sources/nodes/" in rest]
    names = [node.name for node in decided.manifest.nodes]
    assert packs == [[f"sources/nodes/{name}", f"/opt/ComfyUI/custom_nodes/{name}"] for name in names]
    assert len(names) == 5


def test_no_secret_can_stay_in_the_image(decided: Decided) -> None:
    found = _instructions(decided.dockerfile)
    words = {word for word, _ in found}
    assert "ARG" not in words
    assert "ADD" not in words
    settings = {name for word, rest in found if word == "ENV" for name in re.findall(r"(\w+)=", rest)}
    assert settings == {
        "LANG", "MPLCONFIGDIR", "PATH", "PIP_CONSTRAINT", "PIP_NO_CACHE_DIR", "UV_CONSTRAINT", "UV_NO_CACHE",
        "VIRTUAL_ENV",
    }  # fmt: skip
    # Steps with network access read the secrets; other steps cannot.
    for word, rest in found:
        if word == "RUN":
            assert (". /run/net.sh" in rest) == ("type=secret,id=index" in rest) == ("type=secret,id=ca" in rest), rest
            offline = ("--offline", "rehearse.py", "user.sh")
            assert ". /run/net.sh" in rest or any(word in rest for word in offline), rest


def test_the_base_is_by_digest_or_bootstrapped(decided: Decided) -> None:
    first = next(rest for word, rest in _instructions(decided.dockerfile) if word == "FROM")
    if decided.plan.trial:
        assert first == "gesso-base:trixie AS system"
    else:
        assert re.fullmatch(r"debian:trixie-slim@sha256:[0-9a-f]{64} AS system", first)


def test_architectures_differ_in_comment_and_labels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def shared(name: str) -> list[tuple[str, str]]:
        found = _decide(name, monkeypatch)
        assert found.dockerfile.splitlines()[0].startswith(f"# Rendered by gesso from manifests/{name}.yaml")
        return [(word, rest) for word, rest in _instructions(found.dockerfile) if word != "LABEL"]

    assert shared("sdxl") == shared("flux")
    sdxl, flux = (_decide(name, monkeypatch).plan.files for name in ("sdxl", "flux"))
    differing = {name for name in sdxl.keys() | flux.keys() if sdxl.get(name) != flux.get(name)}
    assert {name.split("/")[0] for name in differing} == {"arch"}


def test_an_install_script_runs_between_packs_and_rehearsal(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *rest = _prepared("sdxl")[0].nodes
    changed = (first.model_copy(update={"install": "scripts/install.py"}), *rest)
    found = _instructions(_decide("sdxl", monkeypatch, nodes=changed).dockerfile)
    texts = [rest for _, rest in found]
    at = next(n for n, text in enumerate(texts) if text.endswith("python scripts/install.py"))
    assert f"cd /opt/ComfyUI/custom_nodes/{first.name} " in texts[at]
    assert max(n for n, text in enumerate(texts) if "sources/nodes/" in text) < at
    rehearsal = next(n for n, text in enumerate(texts) if "rehearse.py" in text)
    assert at < rehearsal
    assert any("--reinstall /opt/gesso/wheels/*.whl" in text for text in texts[at + 1 : rehearsal])


# --- labels, tags, record


def test_labels(decided: Decided) -> None:
    labels = decided.plan.variables["labels"]
    assert labels["dev.gesso.lock"] == decided.locked.lock.sha256
    assert labels["dev.gesso.trial"] == ("true" if decided.plan.trial else "false")
    assert labels["org.opencontainers.image.revision"] == REVISION
    (text,) = [rest for word, rest in _instructions(decided.dockerfile) if word == "LABEL"]
    for key, value in labels.items():
        assert f"{key}={json.dumps(value)}" in text


def test_no_revision_outside_git(monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(ROOT)
    manifest, locked = _prepared("sdxl")
    monkeypatch.setattr(build, "_revision", lambda _: None)
    plan = build.decide(project, manifest, locked, base="x", wheel=WHEEL)
    assert "org.opencontainers.image.revision" not in plan.variables["labels"]


def test_tags(decided: Decided) -> None:
    assert decided.plan.tags == tags_of(decided.manifest.arch, trial=decided.plan.trial)
    assert tags_of("sdxl", trial=False) == ("gesso:sdxl",)
    assert tags_of("sdxl", trial=True) == ("gesso:sdxl-trial",)


def test_the_record_lists_everything(decided: Decided) -> None:
    record = json.loads(decided.plan.files["arch/build.json"])
    assert record["trial"] is decided.plan.trial
    assert record["lock"] == decided.locked.lock.sha256
    assert record["python"]["pins"] == {pin.name: pin.version for pin in decided.locked.pins}
    locked = {model.name: (model.sha256, model.size) for model in decided.locked.lock.models}
    assert {m["name"]: (m["sha256"], m["size"]) for m in record["models"]} == locked
    assert record["vae"] in locked
    assert record["spares"] == SPARES
    for name, digest in record["workflows"].items():
        assert hashlib.sha256(decided.plan.files[f"arch/workflows/{name}"].encode()).hexdigest() == digest
    names = {workflow.name for workflow in decided.manifest.workflows}
    assert {f"{name}{suffix}" for name in names for suffix in (".json", ".api.json")} == set(record["workflows"])
    assert record["workflow_titles"].keys() == names
    assert record["workflow_titles"][f"krita_gold_standard_{record['arch']}"].endswith(" 1 Paint")


def test_titles_are_recorded_as_krita_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = (Workflow(name="krita_gold_standard_sdxl"), Workflow(name="krita_gold_standard_flux", title="F"))
    record = json.loads(_decide("sdxl", monkeypatch, workflows=listed).plan.files["arch/build.json"])
    assert record["workflow_titles"] == {
        "krita_gold_standard_sdxl": "Krita gold standard sdxl", "krita_gold_standard_flux": "F",
    }  # fmt: skip


def test_every_node_pack_has_a_tree_id(decided: Decided) -> None:
    """From the lock, or that of the folder in this project."""
    record = json.loads(decided.plan.files["arch/build.json"])
    for name, source in decided.locked.lock.nodes.items():
        tree = spares.tree_of(ROOT / source.path) if source.path else source.tree
        assert record["nodes"][name]["tree"] == tree is not None


def test_a_stand_in_with_an_install_script_has_no_tree_id(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = _prepared("sdxl-trial")[0].nodes
    installed = first.model_copy(update={"install": "install.py"})
    record = json.loads(_decide("sdxl-trial", monkeypatch, nodes=(installed, *others)).plan.files["arch/build.json"])
    assert [name for name, node in record["nodes"].items() if "tree" not in node] == [first.name]


def test_the_same_inputs_make_the_same_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _decide("sdxl", monkeypatch) == _decide("sdxl", monkeypatch)
