"""`invoke vast`: flags, offers with estimates, and a template from a registry to Vast.ai, end to end."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gesso import report
from gesso.builder.commands import check, publish
from gesso.builder.vast import api_key, offers
from gesso.builder.vast import command as task
from gesso.builder.vast.api import Api
from gesso.builder.vast.api_key import Key
from gesso.builder.vast.offers import Load
from gesso.builder.vast.request import VastRequest
from gesso.builder.vast.template import records
from gesso.errors import CheckError, ManifestError, PublishError
from gesso.settings import Project, Selection
from tests.integration.builder.fake_market import offer
from tests.integration.builder.fake_vast import KEY, FakeVast
from tests.local_server import answering

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gesso.builder.lock.lock_files import Locked
    from gesso.manifest.schema import Manifest

ROOT = Path(__file__).resolve().parents[4]
PROJECT = Project(ROOT)
LOAD = Load(3_500_000_000, 6_900_000_000, 13_000_000_000)
GOLDEN = Path(__file__).parent / "golden/offers.txt"


@pytest.fixture
def api(service: FakeVast, progress: list[str], monkeypatch: pytest.MonkeyPatch) -> Api:
    found = Api(service.url, Key(KEY), progress.append, service.clock)
    monkeypatch.setattr(Api, "of", classmethod(lambda *_: found))
    return found


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (VastRequest("machines"), "vast machines: no such action"),
        (VastRequest("template"), "vast template needs --image"),
        (VastRequest("offers", dry_run=True), "--dry-run is for `vast template`"),
        (VastRequest("template", image="a/b", limit="3"), "--limit is for `vast offers`"),
        (VastRequest("offers", limit="0"), "must be 1 to 1000"),
        (VastRequest("offers", limit="1001"), "must be 1 to 1000"),
        (VastRequest("offers", limit="-1"), "must be 1 to 1000"),
        (VastRequest("offers", limit="٣"), "must be 1 to 1000"),
        (VastRequest("offers", arch="sd15"), "no such architecture"),
        (VastRequest("template", image="ghcr.io/x/y@sha256:12"), "is not a sha256 digest"),
    ],
)
def test_invalid_flags(flags: VastRequest, why: str) -> None:
    with pytest.raises(ManifestError, match=why):
        task.run(PROJECT, flags, {"VAST_API_KEY": KEY}, lambda _: None)


def test_the_search_is_the_templates_own(service: FakeVast, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    service.market.offers = [offer(1)]
    task.run(PROJECT, VastRequest("offers", limit="7", as_json=True), {}, lambda _: None)
    (request,) = service.requests
    body = json.loads(request.removeprefix("POST /api/v0/bundles/ "))
    assert body["gpu_ram"] == {"gte": 10000}
    assert body["cuda_max_good"] == {"gte": 13.0}
    assert body["verified"] == {"eq": True}
    assert body["rentable"] == {"eq": True}
    assert body["rented"] == {"eq": False}
    assert (body["limit"], body["type"], body["order"]) == (7, "on-demand", [["dph_total", "asc"]])
    assert body["allocated_storage"] == body["disk_space"]["gte"], "priced with the disk that it needs"
    found = json.loads(capsys.readouterr().out)
    assert found["asked"] == body
    assert [row["id"] for row in found["offers"]] == [1]


def test_the_estimate_adds_up() -> None:
    seconds = offers.seconds_to_ready(LOAD, 800.0)
    assert seconds == pytest.approx((16.5e9 * 8) / (800e6 * 0.7) + 6.9e9 / 150e6 + 45)
    assert offers.seconds_to_ready(LOAD, 400.0) > seconds
    assert offers.seconds_to_ready(replace(LOAD, models=0), 800.0) < seconds
    assert offers.seconds_to_ready(replace(LOAD, compressed=0), 800.0) < seconds
    assert offers.seconds_to_ready(replace(LOAD, unpacked=0), 800.0) < seconds


def test_the_cheapest_to_get_ready_comes_first(service: FakeVast, api: Api) -> None:
    service.market.offers = [
        offer(1, dph_total=0.2, inet_down=100.0),  # cheap by the hour, and slow
        offer(2, dph_total=0.4, inet_down=5000.0, inet_down_cost=0.0),
        offer(3, dph_total=0.4, inet_down=5000.0, inet_down_cost=0.02),  # the same, with paid traffic
    ]
    found, unreadable = offers.search(api, offers.query({}, 40, 20), LOAD)
    assert [o.number for o in found] == [2, 1, 3]
    assert unreadable == 0
    assert found[0].dollars_to_ready == pytest.approx(0.4 * found[0].seconds / 3600, abs=1e-4)
    assert found[2].dollars_to_ready == pytest.approx(found[0].dollars_to_ready + 0.02 * 16.5, abs=1e-3)


@pytest.mark.parametrize(
    "changed",
    [{"inet_down": 0}, {"inet_down": None}, {"inet_down": "fast"}, {"inet_down": "inf"}, {"dph_total": None},
     {"dph_total": "much"}, {"dph_total": -1}, {"dph_total": "1e999"}, {"id": None}],
)  # fmt: skip
def test_an_offer_without_an_estimate_is_left_out_and_reported(
    service: FakeVast, api: Api, capsys: pytest.CaptureFixture[str], progress: list[str], changed: dict[str, Any]
) -> None:
    service.market.offers = [offer(1, **changed), offer(2)]
    task.run(PROJECT, VastRequest("offers"), {}, progress.append)
    out = capsys.readouterr().out
    assert "2  RTX 4090" in out
    assert progress == ["vast: left out 1 offers without a price or a bandwidth"]


def test_invalid_rows_are_counted(service: FakeVast, api: Api) -> None:
    service.market.offers = [None, 7, {}, offer(2)]
    found, unreadable = offers.search(api, offers.query({}, 40, 20), LOAD)
    assert ([o.number for o in found], unreadable) == ([2], 3)


def test_the_table(service: FakeVast, api: Api) -> None:
    service.market.offers = [
        offer(1),
        offer(22, gpu_name="RTX 3080\x1b[31m", gpu_ram=10240, dph_total=0.091, inet_down=620.4, cuda_max_good=13.1,
              geolocation=None, reliability2=0.95),
        offer(333, inet_down=8000.0, dph_total=1.1),
    ]  # fmt: skip
    found, _ = offers.search(api, offers.query({}, 40, 20), LOAD)
    text = offers.table(found, LOAD) + "\n\n" + offers.assumptions(replace(LOAD, exact=False)) + "\n"
    if os.environ.get("GESSO_GOLDEN") == "write":
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
    assert "\x1b" not in text


def test_without_offers_the_conditions_are_printed(
    service: FakeVast, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    task.run(PROJECT, VastRequest("offers", arch="flux"), {}, lambda _: None)
    assert "no offer fits now; required: gpu_ram {'gte': 16000}" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{}", '{"offers": {}}', "[]", "<html>"])
def test_an_invalid_response_is_not_an_empty_list(service: FakeVast, api: Api, text: str) -> None:
    service.responses = [(200, text)]
    with pytest.raises(PublishError, match="offers: "):
        task.run(PROJECT, VastRequest("offers"), {}, lambda _: None)


def test_a_search_changes_nothing_and_is_retried(service: FakeVast, api: Api) -> None:
    service.responses = [(502, ""), (500, "")]
    assert offers.search(api, offers.query({}, 40, 20), LOAD) == ([], 0)
    service.responses = [(502, "")] * 3
    with pytest.raises(PublishError, match=r"offers: Vast.ai responded with HTTP 502\n"):
        offers.search(api, offers.query({}, 40, 20), LOAD)


def test_sizes_come_from_the_record_of_the_last_publish(
    service: FakeVast, api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task.run(PROJECT, VastRequest("offers", as_json=True), {}, lambda _: None)
    assert "(an estimate; pass --image" in json.loads(capsys.readouterr().out)["assumed"]
    record = records.Record(arch="sdxl", name="n" * 3, hash_id="h", id=1, content="c", image=f"r/i@sha256:{'a' * 64}",
                            compressed=4_000_000_000, unpacked=9_000_000_000)  # fmt: skip
    records.write(tmp_path / "sdxl.vast.json", record)
    monkeypatch.setattr(records, "path_of", lambda _: tmp_path / "sdxl.vast.json")
    task.run(PROJECT, VastRequest("offers", as_json=True), {}, lambda _: None)
    assumed = json.loads(capsys.readouterr().out)["assumed"]
    assert "4.0 GB of image pulled and" in assumed
    assert "9.0 GB unpacked" in assumed


def test_a_record_is_beside_its_lock(tmp_path: Path) -> None:
    assert records.path_of(Selection(PROJECT, "sdxl")) == ROOT / "manifests/locks/sdxl.vast.json"
    overlay = tmp_path / "mine.yaml"
    assert records.path_of(Selection(PROJECT, "flux", (overlay,))) == tmp_path / "mine.flux.vast.json"


class FakeRegistry:
    """A fake registry with one image, with any labels."""

    def __init__(self, labels: dict[str, str]) -> None:
        config = {"architecture": "amd64", "os": "linux", "config": {"Labels": labels},
                  "rootfs": {"type": "layers", "diff_ids": [f"sha256:{'1' * 64}"]}}  # fmt: skip
        self.blob = json.dumps(config).encode()
        kind = "application/vnd.oci.image.manifest.v1+json"
        self.manifest = json.dumps({
            "schemaVersion": 2, "mediaType": kind,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": len(self.blob),
                       "digest": f"sha256:{hashlib.sha256(self.blob).hexdigest()}"},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": 3_000_000_000,
                        "digest": f"sha256:{'2' * 64}"}],
        }).encode()  # fmt: skip
        self.kind = kind
        self.digest = f"sha256:{hashlib.sha256(self.manifest).hexdigest()}"
        self.repository = ""

    @contextmanager
    def running(self) -> Iterator[FakeRegistry]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                last = self.path.rsplit("/", 1)[-1]
                blobs = {outer.digest: outer.manifest, "sdxl": outer.manifest,
                         f"sha256:{hashlib.sha256(outer.blob).hexdigest()}": outer.blob}  # fmt: skip
                data = b"{}" if self.path == "/v2/" else blobs.get(last)
                self.send_response(404 if data is None else 200)
                self.send_header("Content-Type", outer.kind if data == outer.manifest else "application/json")
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, *_: Any) -> None:
                pass

        with answering(Handler) as port:
            self.repository = f"127.0.0.1:{port}/someone/gesso"
            yield self


def labels(prepared: tuple[Manifest, Locked], **changed: str) -> dict[str, str]:
    return {"dev.gesso.arch": "sdxl", "dev.gesso.lock": prepared[1].lock.sha256, "dev.gesso.trial": "false", **changed}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"dev.gesso.arch": "flux"}, "dev.gesso.arch is flux, not sdxl"),
        ({"dev.gesso.lock": "0" * 64}, "dev.gesso.lock is 000"),
        ({"dev.gesso.trial": "true"}, "dev.gesso.trial is true, not false"),
        ({"dev.gesso.trial": ""}, "dev.gesso.trial is missing"),
    ],
)
def test_a_template_is_not_made_of_another_image(
    sdxl: tuple[Manifest, Locked], changed: dict[str, str], why: str
) -> None:
    with FakeRegistry(labels(sdxl, **changed)).running() as registry, pytest.raises(CheckError, match=why):
        task.published_image(f"{registry.repository}@{registry.digest}", *sdxl, {})


def test_an_image_requested_by_tag_is_used_by_digest(sdxl: tuple[Manifest, Locked]) -> None:
    with FakeRegistry(labels(sdxl)).running() as registry:
        found = task.published_image(f"{registry.repository}:sdxl", *sdxl, {})
        assert found.reference == f"{registry.repository}@{registry.digest}"
        assert found.tags == ("sdxl",)
        assert found.compressed == 3_000_000_000 + len(registry.blob) + len(registry.manifest)
        assert found.unpacked == 2 * found.compressed, "an estimate: no engine has it"
        with pytest.raises(PublishError, match="the registry has no such image"):
            task.published_image(f"{registry.repository}:flux", *sdxl, {})


def test_the_size_on_disk_is_that_in_the_record(sdxl: tuple[Manifest, Locked]) -> None:
    """Otherwise the template of one image would differ between machines."""
    with FakeRegistry(labels(sdxl)).running() as registry:
        reference = f"{registry.repository}@{registry.digest}"
        record = records.Record(arch="sdxl", name="n", hash_id="h", id=1, content="c", image=reference,
                                compressed=3_000_000_000, unpacked=6_700_000_000)  # fmt: skip
        assert task.published_image(reference, *sdxl, {}, record).unpacked == 6_700_000_000
        of_another = record.model_copy(update={"image": f"{registry.repository}@sha256:{'0' * 64}"})
        found = task.published_image(reference, *sdxl, {}, of_another)
        assert found.unpacked == 2 * found.compressed


def test_end_to_end(
    service: FakeVast, sdxl: tuple[Manifest, Locked], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """From the registry to Vast.ai and into the record; exit codes, and errors in two lines."""
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("vast:\n  name: mine\n")
    monkeypatch.setattr(Api, "of", classmethod(lambda cls, env, on_progress: cls(
        api_key.base_url(env), api_key.find(env), on_progress, service.clock)))  # fmt: skip
    monkeypatch.setenv("VAST_URL", service.url)

    def invoke(what: str, *, key: str = KEY, **flags: Any) -> tuple[int, str, str]:
        monkeypatch.setenv("VAST_API_KEY", key)
        code = 0
        try:
            with report.exit_codes():
                publish.vast(VastRequest(what, overlays=(str(overlay),), **flags))
        except SystemExit as ended:
            code = int(str(ended.code))
        return code, *capsys.readouterr()

    with FakeRegistry(labels(sdxl)).running() as registry:
        image = f"{registry.repository}@{registry.digest}"
        code, out, _ = invoke("template", image=image, dry_run=True)
        assert code == 0
        assert "template  mine: would be created" in out
        assert "## Connect Krita" in out
        assert not service.market.templates
        code, out, err = invoke("template", image=image, key="another-key-9876543210")
        assert (code, out) == (7, "")
        assert len(err.splitlines()) == 2
        assert "does not accept the key (401: Invalid user key)" in err
        code, out, _ = invoke("template", image=image, as_json=True)
        assert code == 0
        assert json.loads(out)["state"] == "created"
        assert json.loads((tmp_path / "mine.sdxl.vast.json").read_text())["image"] == image
        code, out, _ = invoke("template", image=image)
        assert "mine: up to date: nothing was written" in out
    service.market.offers = [offer(5)]
    code, out, _ = invoke("offers")
    assert code == 0
    assert " 5  RTX 4090" in out


def test_check_reports_an_invalid_template(tmp_path: Path) -> None:
    overlay = tmp_path / "older.yaml"
    overlay.write_text('hardware:\n  cuda: "12.8"\n')
    (problem,) = check._problems_of(Selection(PROJECT, "sdxl", (overlay,)))
    assert problem.startswith("hardware.cuda is 12.8, but the locked torch is built for CUDA 13.0")
    assert check._problems_of(Selection(PROJECT, "sdxl")) == []


def test_the_task_itself() -> None:
    command = [sys.executable, "-m", "invoke", "vast", "machines", "--limit", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("gesso: vast machines: no such action; --limit 0: must be 1 to 1000\n  next: ")
