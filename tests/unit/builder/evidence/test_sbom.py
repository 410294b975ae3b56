"""The SBOM and the provenance: valid by their schemas, reproducible, complete, and without secrets."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from gesso.builder.evidence import attach, consistency, provenance, sbom
from gesso.builder.evidence.sbom import Subject
from gesso.errors import PublishError
from tests.unit.builder import images

DIGEST = images.remote().digest
SUBJECT = Subject("ghcr.io/me/gesso", DIGEST, "0.1.0", images.CREATED)
BILL = sbom.bill(SUBJECT, images.CONTENTS)
INVOCATION = {"arch": "sdxl", "overlays": ["mine.yaml"]}
ORIGIN = provenance.statement(SUBJECT, images.CONTENTS, images.LABELS, INVOCATION, {})
PINS = images.CONTENTS.python


def part(ref: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in json.loads(BILL)["components"] if each["bom-ref"] == ref)
    return found


def test_valid_by_cyclonedx_own_schema() -> None:
    assert json.loads(BILL)["specVersion"] == "1.6"
    assert sbom.schema_errors(BILL) == []


@pytest.mark.parametrize(
    "damage",
    [
        {"bomFormat": "other"},
        {"components": [{"name": "x", "type": "no-such-type"}]},
        {"components": [{"name": "x", "type": "data", "hashes": [{"alg": "SHA-256", "content": "12"}]}]},
        {"unknown": 1},
    ],
)
def test_the_schema_is_strict(damage: dict[str, Any]) -> None:
    assert sbom.schema_errors(json.dumps({**json.loads(BILL), **damage})) != []


def test_the_same_image_has_the_same_sbom() -> None:
    assert sbom.bill(SUBJECT, images.CONTENTS) == BILL
    other = sbom.bill(replace(SUBJECT, digest=f"sha256:{'9' * 64}"), images.CONTENTS)
    assert json.loads(other)["serialNumber"] != json.loads(BILL)["serialNumber"]
    assert json.loads(BILL)["metadata"]["timestamp"] == "2026-11-25T07:44:23.658921+00:00"


def test_the_image() -> None:
    root = json.loads(BILL)["metadata"]["component"]
    assert (root["type"], root["version"]) == ("container", DIGEST)
    assert root["purl"].startswith("pkg:oci/gesso@sha256:")
    assert {"name": "gesso:lock", "value": images.LOCK} in root["properties"]


def test_python_by_the_locks_hashes() -> None:
    found = part("venv:sqlalchemy")
    assert found["purl"] == "pkg:pypi/sqlalchemy@2.0.58"
    assert {each["content"] for each in found["hashes"]} == {"11" * 32, "22" * 32}


def test_debian() -> None:
    assert part("deb:libc6:amd64")["purl"] == "pkg:deb/debian/libc6@2.41-12?arch=amd64&distro=trixie"


def test_sources_by_commit() -> None:
    assert part("source:ComfyUI")["purl"] == f"pkg:github/comfy-org/comfyui@{images.COMMIT}"
    other = part("source:pack")
    assert other["purl"].startswith(
        f"pkg:generic/pack@{images.COMMIT[::-1]}?vcs_url=git%2Bhttps://git.example/a/pack.git"
    )
    assert "purl" not in part("source:own")


def test_models() -> None:
    found = part("model:vae/a.safetensors")
    assert found["type"] == "machine-learning-model"
    assert found["hashes"] == [{"alg": "SHA-256", "content": images.SHA}]
    assert found["licenses"] == [{"license": {"id": "MIT"}}]
    urls = [each["url"] for each in found["externalReferences"]]
    assert sorted(urls) == ["https://mirror.example/a", "https://models.example/a"]
    assert {"name": "gesso:size", "value": "335"} in found["properties"]
    assert {"name": "gesso:where", "value": "a layer of the image"} in found["properties"]
    other = part("model:loras/b.safetensors")
    assert other["licenses"] == [{"license": {"name": "FLUX-1-dev-non-commercial"}}]
    assert {"name": "gesso:where", "value": "fetched at first start"} in other["properties"]


def test_counts() -> None:
    counts = {"python": 2, "gesso's own python": 1, "debian": 2, "sources": 3, "models": 2, "workflows": 1}
    assert sbom.count_components(BILL) == counts


def test_provenance() -> None:
    parts = ORIGIN["buildDefinition"]["resolvedDependencies"]
    materials = {each.get("name") or each["uri"]: each.get("digest") for each in parts}
    assert materials["pkg:docker/debian:trixie-slim"] == {"sha256": "b" * 64}
    assert materials["urn:gesso:lock:sdxl"] == {"sha256": images.LOCK}
    assert materials["ComfyUI"] == {"gitCommit": images.COMMIT}
    assert materials["pack"] == {"gitCommit": images.COMMIT[::-1]}
    assert materials["urn:gesso:source"] == {"gitCommit": images.COMMIT}
    assert ORIGIN["buildDefinition"]["externalParameters"] == INVOCATION
    assert ORIGIN["runDetails"]["metadata"]["finishedOn"] == "2026-11-25T07:44:23Z"


def test_who_built() -> None:
    assert provenance.builder({}) == provenance.LOCAL
    actions = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_WORKFLOW_REF": "me/gesso/.github/workflows/publish.yml@refs/heads/main",
    }
    assert provenance.builder(actions) == f"https://github.com/{actions['GITHUB_WORKFLOW_REF']}"


def test_a_trials_base_has_no_digest() -> None:
    record = {**images.RECORD, "base": {"bootstrap": "trixie"}}
    found = provenance.statement(SUBJECT, replace(images.CONTENTS, record=record), {}, {}, {})
    assert {"uri": "urn:gesso:base:bootstrap:trixie"} in found["buildDefinition"]["resolvedDependencies"]


CANARY = "hf_CanaryInTheMine"


@pytest.mark.parametrize("where", ["models", "labels"])
def test_a_secret_is_published_nowhere(where: str) -> None:
    """It is refused with the variable's name, wherever it came from; the message does not contain it."""
    record, labels = copy.deepcopy(images.RECORD), dict(images.LABELS)
    if where == "models":
        record["models"][0]["sources"] = [f"https://models.example/a?x={CANARY}"]
    else:
        labels["org.opencontainers.image.description"] = f"made with {CANARY}"
    with pytest.raises(PublishError, match="the value of HF_TOKEN is in") as error:
        attach.make(SUBJECT, replace(images.CONTENTS, record=record), labels, INVOCATION, {"HF_TOKEN": CANARY})
    assert CANARY not in str(error.value)


def test_no_secret_in_the_parameters() -> None:
    found = attach.make(SUBJECT, images.CONTENTS, images.LABELS, {"env": [f"HF_TOKEN={CANARY}"]}, {})
    assert CANARY not in found.provenance
    assert "HF_TOKEN=***" in found.provenance


def test_invalid_evidence_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = attach.make(SUBJECT, images.CONTENTS, images.LABELS, INVOCATION, {"HF_TOKEN": CANARY})
    assert json.loads(found.sbom)["components"]
    monkeypatch.setattr(sbom, "bill", lambda *_: json.dumps({**json.loads(BILL), "bomFormat": "x"}))
    with pytest.raises(PublishError, match="the bill of materials is not valid"):
        attach.make(SUBJECT, images.CONTENTS, images.LABELS, INVOCATION, {})


def test_empty_values_of_a_predicate_are_ignored() -> None:
    assert attach.is_same_predicate({"a": 1, "b": {"c": None}, "d": []}, {"a": 1})
    assert not attach.is_same_predicate({"a": 1}, {"a": 2})
    assert not attach.is_same_predicate({"a": [1, 2]}, {"a": [2, 1]})


def test_everything_matches() -> None:
    assert consistency.bill(json.loads(BILL), DIGEST, images.RECORD, PINS) == []
    assert consistency.labels(images.LABELS, images.RECORD, trial_allowed=False) == []
    assert consistency.provenance(ORIGIN, images.RECORD) == []


def _damaged(change: Any) -> list[str]:
    found = json.loads(BILL)
    change(found, {each["bom-ref"]: each for each in found["components"]})
    return consistency.bill(found, DIGEST, images.RECORD, PINS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b, _: b["metadata"]["component"].update(version="sha256:x"), "it describes sha256:x"),
        (lambda b, _: b["metadata"]["component"].update(properties=[]), "it was made for lock "),
        (lambda b, p: b["components"].remove(p["model:vae/a.safetensors"]), "model:vae/a.safetensors is missing"),
        (
            lambda _, p: p["model:vae/a.safetensors"]["hashes"][0].update(content="0" * 64),
            "model:vae/a.safetensors differs",
        ),
        (lambda _, p: p["workflow:gold.json"].update(hashes=[]), "workflow:gold.json differs"),
        (lambda _, p: p["venv:torch"].update(version="2.9.0"), "venv:torch differs"),
        (
            lambda b, _: b["components"].append({"bom-ref": "venv:extra", "version": "1"}),
            "venv:extra is not in the image",
        ),
        (lambda _, p: p["source:ComfyUI"].update(version="f" * 40), "source:ComfyUI differs"),
    ],
)
def test_an_sbom_of_another_image(change: Any, reason: str) -> None:
    found = _damaged(change)
    assert len(found) == 1
    assert reason in found[0]


@pytest.mark.parametrize(
    ("label", "value"),
    [("dev.gesso.lock", "x"), ("dev.gesso.arch", "flux"), ("dev.gesso.sqlalchemy", "1.4"), ("dev.gesso.comfyui", "x"),
     ("org.opencontainers.image.version", "9"), ("dev.gesso.trial", "true")],
)  # fmt: skip
def test_a_label_of_another_image(label: str, value: str) -> None:
    found = consistency.labels({**images.LABELS, label: value}, images.RECORD, trial_allowed=True)
    assert len(found) == 1
    assert f"label {label} is {value}" in found[0]


def test_missing_labels() -> None:
    assert len(consistency.labels({}, images.RECORD, trial_allowed=False)) == 6


def test_a_trial_image_is_not_trusted() -> None:
    labels, record = {**images.LABELS, "dev.gesso.trial": "true"}, {**images.RECORD, "trial": True}
    assert consistency.labels(labels, record, trial_allowed=False) == ["it is a trial image"]
    assert consistency.labels(labels, record, trial_allowed=True) == []


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"lock": "other"}, "made for another lock"),
        ({"comfyui": {"commit": "f" * 40}}, "ComfyUI has another commit"),
        ({"base": {"digest": f"sha256:{'1' * 64}"}}, "its base differs"),
    ],
)
def test_a_provenance_of_another_image(record: dict[str, Any], reason: str) -> None:
    found = consistency.provenance(ORIGIN, {**images.RECORD, **record})
    assert len(found) == 1
    assert reason in found[0]
    assert consistency.provenance({}, images.RECORD) != []
