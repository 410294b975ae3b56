"""`invoke publish`, `verify` and `diff` end to end, without an engine."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gesso.builder.diff import command as diff
from gesso.builder.evidence import contents, cosign, verify
from gesso.builder.evidence.cosign import Trusted
from gesso.builder.image import contract_report
from gesso.builder.image.build import prepare
from gesso.builder.publish import command
from gesso.builder.publish.request import PublishRequest
from gesso.builder.registry import layer_files, local_image
from gesso.builder.registry import push as pushing
from gesso.builder.vast.template.follow_up import TemplateFollowUp
from gesso.errors import CheckError, GessoError, ManifestError, PublishError, VerifyError
from gesso.settings import Project, Selection
from tests.unit.builder import images

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.builder.fake_registry import FakeRegistry

PROJECT = Project(Path(__file__).resolve().parents[4])
PREPARED = prepare(Selection(PROJECT, "sdxl"))
LOCK = PREPARED[1].lock.sha256
LABELS = {**images.LABELS, "dev.gesso.lock": LOCK}
DIGEST = images.remote(LABELS).digest
FIXED = "sdxl-0.1.0-cu130"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"GESSO_CACHE": str(tmp_path), "DOCKER_CONFIG": str(tmp_path), "HF_TOKEN": "hf_CanaryInTheMine"}


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch, registry: FakeRegistry) -> list[str]:
    """Fake an engine that has the image, and a push to the fake registry; return the pushed tags."""
    targets: list[str] = []

    @contextmanager
    def engine(_: Any) -> Iterator[None]:
        yield None

    def push(_client: Any, _image: Any, target: Any, *_: Any) -> str:
        targets.append(target.tag)
        registry.add_image(images.remote(LABELS), target.tag)
        return DIGEST

    registry.manifests.clear()
    monkeypatch.setattr(local_image, "engine", engine)
    monkeypatch.setattr(local_image, "read", lambda *_: images.local(LABELS))
    monkeypatch.setattr(contents, "read", lambda *_: images.CONTENTS)
    monkeypatch.setattr(command, "prepare", lambda _: PREPARED)
    monkeypatch.setattr(pushing, "push", push)
    return targets


def green(env: dict[str, str], **change: Any) -> None:
    contract = contract_report.contract_of(PROJECT.root / "tests/image")
    report = contract_report.ContractReport(
        image=images.local(LABELS).image_id, arch="sdxl", trial=False, lock=LOCK, contract=contract, whole=True,
        passed=9, seconds=1, at=contract_report.now(),
    )  # fmt: skip
    contract_report.write(env, report.model_copy(update=change))


def request(fake: FakeRegistry, **change: Any) -> PublishRequest:
    return replace(PublishRequest("sdxl", fake.reference.repository, no_sign=True), **change)


def test_publishes_three_tags_the_moving_one_last(
    registry: FakeRegistry, pushed: list[str], env: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    green(env)
    command.publish(PROJECT, request(registry, as_json=True), env)
    assert pushed == [FIXED]
    found = json.loads(capsys.readouterr().out)
    assert found["reference"] == f"{registry.reference.repository}@{DIGEST}"
    assert found["tags"] == [FIXED, "sdxl-0.1.0", "sdxl"]
    assert {registry.manifests[tag] for tag in found["tags"]} == {registry.manifests[DIGEST]}
    assert [line for line in registry.requests if line.startswith("PUT")] == [
        "PUT /v2/me/gesso/manifests/sdxl-0.1.0", "PUT /v2/me/gesso/manifests/sdxl",
    ]  # fmt: skip


def test_a_second_publish_writes_nothing(registry: FakeRegistry, pushed: list[str], env: dict[str, str]) -> None:
    green(env)
    command.publish(PROJECT, request(registry), env)
    pushed.clear()
    registry.requests.clear()
    command.publish(PROJECT, request(registry), env)
    assert pushed == []
    assert not [line for line in registry.requests if line.startswith(("PUT", "POST", "PATCH"))]


def test_a_fixed_tag_of_another_image_is_refused_before_the_push(
    registry: FakeRegistry, pushed: list[str], env: dict[str, str]
) -> None:
    green(env)
    registry.add_image(images.remote(layers=2), "sdxl-0.1.0")
    with pytest.raises(PublishError, match="is never moved"):
        command.publish(PROJECT, request(registry), env)
    assert pushed == []


def test_one_of_the_fixed_tags_exists(registry: FakeRegistry, pushed: list[str], env: dict[str, str]) -> None:
    """Another engine would compress the same layers differently: the existing image stays, all tags point to it."""
    green(env)
    registry.add_image(images.remote(LABELS), "sdxl-0.1.0")
    command.publish(PROJECT, request(registry), env)
    assert pushed == []
    assert registry.manifests[FIXED] == registry.manifests["sdxl-0.1.0"] == registry.manifests["sdxl"]


def test_another_publish_in_between(
    registry: FakeRegistry, pushed: list[str], env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    green(env)
    other = images.remote(layers=2)

    def push(*_: Any) -> str:
        registry.add_image(images.remote(LABELS), FIXED)
        registry.add_image(other, "sdxl-0.1.0")
        return DIGEST

    monkeypatch.setattr(pushing, "push", push)
    with pytest.raises(PublishError, match="meanwhile, and is never moved"):
        command.publish(PROJECT, request(registry), env)
    assert registry.manifests["sdxl-0.1.0"] == registry.manifests[other.digest]
    assert "sdxl" not in registry.manifests


def test_the_moving_tag_moves(registry: FakeRegistry, pushed: list[str], env: dict[str, str]) -> None:
    green(env)
    registry.add_image(images.remote(layers=2), "sdxl")
    command.publish(PROJECT, request(registry), env)
    assert registry.manifests["sdxl"] == registry.manifests[DIGEST]


def test_a_stale_report_is_refused(registry: FakeRegistry, pushed: list[str], env: dict[str, str]) -> None:
    green(env, contract="of last month")
    with pytest.raises(CheckError, match="the contract has changed since it was tested"):
        command.publish(PROJECT, request(registry), env)
    assert (pushed, registry.requests) == ([], [])


def test_the_image_read_back_must_be_the_pushed_one(
    registry: FakeRegistry, pushed: list[str], env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    green(env)
    other = images.remote(layers=2)

    def push(*_: Any) -> str:
        registry.add_image(other, FIXED)
        return other.digest

    monkeypatch.setattr(pushing, "push", push)
    with pytest.raises(PublishError, match="the registry's copy differs"):
        command.publish(PROJECT, request(registry), env)
    assert "sdxl" not in registry.manifests


def test_a_dry_run_prints_everything_and_writes_nothing(
    registry: FakeRegistry, pushed: list[str], env: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    registry.add_image(images.remote(layers=2), "flux")
    with pytest.raises(CheckError, match="the image was never tested"):
        command.publish(PROJECT, request(registry, dry_run=True, no_sign=False), env)
    output = capsys.readouterr().out
    for text in (f"{FIXED}  new, never moved", "sdxl  new", "1 of 3 to push", "MISSING  the image was never tested",
                  "2 python", "NO SIGNER GIVEN", "push        0.0 MB  COPY part2 /2"):  # fmt: skip
        assert text in output, text
    assert pushed == []
    assert all(line.startswith(("GET", "HEAD")) for line in registry.requests)


def test_a_dry_run_as_json(
    registry: FakeRegistry, pushed: list[str], env: dict[str, str], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A secret in the image's history is not printed."""
    green(env)
    image = images.local(LABELS)
    layer = replace(image.layers[0], made_by=f"RUN HF_TOKEN={env['HF_TOKEN']} make")
    monkeypatch.setattr(local_image, "read", lambda *_: replace(image, layers=(layer, *image.layers[1:])))
    command.publish(PROJECT, request(registry, dry_run=True, as_json=True), env)
    output = capsys.readouterr().out
    assert env["HF_TOKEN"] not in output
    found = json.loads(output)
    assert found["layers"][0]["made_by"] == "RUN HF_TOKEN=*** make"
    assert found["tags"]["sdxl"] == {"moves": True, "there": None}
    assert found["missing"] == []


BAD: list[tuple[dict[str, Any], str, int]] = [
    ({"arch": "sd15"}, "no such architecture", 2),
    ({"registry": "ghcr.io/Me/Gesso"}, "in lower case", 2),
    ({"registry": "registry.invalid/gesso"}, "registry registry.invalid cannot be reached", 7),
    ({"registry": "127.0.0.1:1/gesso"}, "registry 127.0.0.1:1 cannot be reached", 7),
    ({"registry": "ghcr.io/me/gesso", "trial": True}, "a trial image is never published", 2),
    ({"no_sign": False}, "no signer is given", 2),
    ({"sign": "k"}, "exclude each other", 2),
    ({"no_sign": False, "keyless": True, "no_tlog": True}, "--no-tlog", 2),
    ({"no_sign": False, "sign": "/no/such/key"}, "no such file", 2),
    ({"layer_limit": 2000}, "over the registry's limit", 7),
    ({"vast": True}, "no host at Vast.ai can pull from this machine", 2),
    ({"vast": True, "registry": "ghcr.io/me/gesso"}, "there is no key for Vast.ai", 7),
]


@pytest.fixture
def no_retry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No retries for an unreachable registry; and a fake cosign."""
    program = tmp_path / "cosign"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("gesso.builder.registry.http.backoff", lambda _: iter(()))


@pytest.mark.usefixtures("no_retry")
@pytest.mark.parametrize("bad", BAD, ids=[message for _, message, _ in BAD])
def test_invalid_input(
    registry: FakeRegistry, pushed: list[str], env: dict[str, str], bad: tuple[dict[str, Any], str, int]
) -> None:
    """Each fails with its exit code and two lines, before anything is pushed."""
    change, message, code = {**bad[0]}, *bad[1:]
    green(env)
    follow_up = TemplateFollowUp(env) if change.pop("vast", False) else None
    with pytest.raises(GessoError) as error:
        command.publish(PROJECT, request(registry, **change), env, follow_up)
    assert message in error.value.message
    assert error.value.exit_code == code
    assert len(str(error.value).splitlines()) == 2
    assert pushed == []


def test_a_missing_login_names_the_login_command(
    registry: FakeRegistry, pushed: list[str], env: dict[str, str]
) -> None:
    green(env)
    registry.login = "basic"
    with pytest.raises(PublishError) as error:
        command.publish(PROJECT, request(registry), env)
    assert f"`docker login {registry.host}`" in error.value.next_step
    assert pushed == []


class Cosign:
    """A fake cosign with given results."""

    def __init__(self, signed: str, bills: list[Any], origins: list[Any]) -> None:
        self.signed = signed
        self.found = {"cyclonedx": bills, "slsaprovenance1": origins}

    def signature_error(self, *_: Any) -> str:
        return self.signed

    def statements(self, _who: Any, _image: Any, kind: str) -> tuple[list[Any], str]:
        return self.found[kind], "" if self.found[kind] else "no matching attestations"


@pytest.fixture
def published(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> Cosign:
    from tests.unit.builder.evidence.test_sbom import BILL, ORIGIN

    found = Cosign("", [json.loads(BILL)], [ORIGIN])
    pins = "".join(f"{d.name}=={d.version} \\\n    --hash=sha256:{'1' * 64}\n" for d in images.CONTENTS.python)
    monkeypatch.setattr(layer_files, "record", lambda *_: images.RECORD)
    monkeypatch.setattr(layer_files, "read", lambda *_: pins.encode())
    monkeypatch.setattr(cosign, "find", lambda _: found)
    return found


OWNER = Trusted(key="gesso.pub", log=False)


def test_verified(
    registry: FakeRegistry, published: Cosign, env: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    verify.verify(f"{registry.reference}:sdxl", OWNER, env, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert [check["what"] for check in found["checks"]] == ["signature", "labels", "sbom", "provenance"]
    assert found["image"].endswith(f"@{images.remote().digest}")


@pytest.mark.parametrize("damage", ["signature", "sbom", "provenance", "other sbom", "invalid sbom"])
def test_not_verified(
    registry: FakeRegistry, published: Cosign, env: dict[str, str], damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    match damage:
        case "signature":
            published.signed = "no signatures found"
        case "sbom":
            published.found["cyclonedx"] = []
        case "provenance":
            published.found["slsaprovenance1"] = []
        case "other sbom":
            published.found["cyclonedx"][0]["metadata"]["component"]["version"] = "sha256:other"
        case "invalid sbom":
            published.found["cyclonedx"][0]["unknown"] = 1
    with pytest.raises(VerifyError) as error:
        verify.verify(f"{registry.reference}:sdxl", OWNER, env, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("WRONG")).split()[1] == damage.rsplit(maxsplit=1)[-1]
    assert len([line for line in lines if line.startswith("ok")]) == 3
    assert len(str(error.value).splitlines()) == 2


def test_a_second_bill_by_the_same_signer_is_harmless(
    registry: FakeRegistry, published: Cosign, env: dict[str, str]
) -> None:
    published.found["cyclonedx"].insert(0, {"bomFormat": "CycloneDX"})
    verify.verify(f"{registry.reference}:sdxl", OWNER, env, as_json=False)


def test_no_image_to_verify(registry: FakeRegistry, published: Cosign, env: dict[str, str]) -> None:
    with pytest.raises(PublishError, match="the registry has no such image"):
        verify.verify(f"{registry.reference}:flux", OWNER, env, as_json=False)


def test_diff_reads_a_registry(
    registry: FakeRegistry, published: Cosign, env: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    registry.add_image(images.remote(layers=4), "newer")
    diff.diff(f"{registry.reference}:sdxl", f"{registry.reference}:newer", env, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["bytes"], [part["made_by"] for part in found["pulled"]]) == (400, ["COPY part3 /3"])
    with pytest.raises(PublishError, match="no such image"):
        diff.diff(f"{registry.reference}:sdxl", f"{registry.reference}:gone", env, as_json=True)


def test_no_signer_is_a_usage_error() -> None:
    with pytest.raises(ManifestError):
        PublishRequest("sdxl", "x").signer()
