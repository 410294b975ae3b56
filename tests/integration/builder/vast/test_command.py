"""`invoke vast`: flags, offers with their estimates, and a template from a registry to Vast.ai, as people run it."""

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
from gesso.builder import commands
from gesso.builder.vast import api_key, offers
from gesso.builder.vast import command as task
from gesso.builder.vast.api import Api
from gesso.builder.vast.api_key import Key
from gesso.builder.vast.offers import Load
from gesso.builder.vast.request import Wish, grant
from gesso.builder.vast.template import records
from gesso.errors import CheckError, ManifestError, PublishError
from gesso.settings import Project, Selection
from tests.integration.builder.fake_market import offer
from tests.integration.builder.fake_vast import KEY, VastLike
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
def api(service: VastLike, said: list[str], monkeypatch: pytest.MonkeyPatch) -> Api:
    found = Api(service.url, Key(KEY), said.append, service.clock)
    monkeypatch.setattr(Api, "of", classmethod(lambda *_: found))
    return found


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        (Wish("machines"), "vast machines: no such thing"),
        (Wish("template"), "vast template needs --image"),
        (Wish("offers", dry_run=True), "--dry-run is for `vast template`"),
        (Wish("template", image="a/b", limit="3"), "--limit is for `vast offers`"),
        (Wish("offers", limit="0"), "must be 1 to 1000"),
        (Wish("offers", limit="1001"), "must be 1 to 1000"),
        (Wish("offers", limit="-1"), "must be 1 to 1000"),
        (Wish("offers", limit="٣"), "must be 1 to 1000"),
        (Wish("offers", arch="sd15"), "no such architecture"),
        (Wish("template", image="ghcr.io/x/y@sha256:12"), "is no sha256 digest"),
    ],
)
def test_flags_that_cannot_be(wish: Wish, why: str) -> None:
    with pytest.raises(ManifestError, match=why):
        task.run(PROJECT, wish, {"VAST_API_KEY": KEY}, lambda _: None)


def test_the_search_is_the_templates_own(service: VastLike, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    service.market.offers = [offer(1)]
    task.run(PROJECT, Wish("offers", limit="7", as_json=True), {}, lambda _: None)
    (asked,) = service.asked
    body = json.loads(asked.removeprefix("POST /api/v0/bundles/ "))
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


def test_the_cheapest_to_get_ready_comes_first(service: VastLike, api: Api) -> None:
    service.market.offers = [
        offer(1, dph_total=0.2, inet_down=100.0),  # cheap by the hour, and slow
        offer(2, dph_total=0.4, inet_down=5000.0, inet_down_cost=0.0),
        offer(3, dph_total=0.4, inet_down=5000.0, inet_down_cost=0.02),  # the same, and takes money for what comes
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
def test_an_offer_that_cannot_be_reckoned_is_left_out_and_said(
    service: VastLike, api: Api, capsys: pytest.CaptureFixture[str], said: list[str], changed: dict[str, Any]
) -> None:
    service.market.offers = [offer(1, **changed), offer(2)]
    task.run(PROJECT, Wish("offers"), {}, said.append)
    out = capsys.readouterr().out
    assert "2  RTX 4090" in out
    assert said == ["vast: 1 offers without a price or a speed are left out"]


def test_a_row_that_is_none(service: VastLike, api: Api) -> None:
    service.market.offers = [None, 7, {}, offer(2)]
    found, unreadable = offers.search(api, offers.query({}, 40, 20), LOAD)
    assert ([o.number for o in found], unreadable) == ([2], 3)


def test_the_table(service: VastLike, api: Api) -> None:
    service.market.offers = [
        offer(1),
        offer(22, gpu_name="RTX 3080\x1b[31m", gpu_ram=10240, dph_total=0.091, inet_down=620.4, cuda_max_good=13.1,
              geolocation=None, reliability2=0.95),
        offer(333, inet_down=8000.0, dph_total=1.1),
    ]  # fmt: skip
    found, _ = offers.search(api, offers.query({}, 40, 20), LOAD)
    text = offers.table(found, LOAD) + "\n\n" + offers.assumed(replace(LOAD, exact=False)) + "\n"
    if os.environ.get("GESSO_GOLDEN") == "write":
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
    assert "\x1b" not in text


def test_no_offer_is_said_with_what_was_asked(service: VastLike, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    task.run(PROJECT, Wish("offers", arch="flux"), {}, lambda _: None)
    assert "no offer fits now; asked for: gpu_ram {'gte': 16000}" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{}", '{"offers": {}}', "[]", "<html>"])
def test_an_answer_without_offers_is_no_empty_list(service: VastLike, api: Api, text: str) -> None:
    service.instead = [(200, text)]
    with pytest.raises(PublishError, match="offers: "):
        task.run(PROJECT, Wish("offers"), {}, lambda _: None)


def test_a_search_changes_nothing_so_it_is_asked_again(service: VastLike, api: Api) -> None:
    service.instead = [(502, ""), (500, "")]
    assert offers.search(api, offers.query({}, 40, 20), LOAD) == ([], 0)
    service.instead = [(502, "")] * 3
    with pytest.raises(PublishError, match=r"offers: Vast.ai answers 502\n"):
        offers.search(api, offers.query({}, 40, 20), LOAD)


def test_sizes_come_from_what_was_published_last(
    service: VastLike, api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task.run(PROJECT, Wish("offers", as_json=True), {}, lambda _: None)
    assert "(guessed: give --image" in json.loads(capsys.readouterr().out)["assumed"]
    record = records.Record(arch="sdxl", name="n" * 3, hash_id="h", id=1, content="c", image=f"r/i@sha256:{'a' * 64}",
                            compressed=4_000_000_000, unpacked=9_000_000_000)  # fmt: skip
    records.write(tmp_path / "sdxl.vast.json", record)
    monkeypatch.setattr(records, "path_of", lambda _: tmp_path / "sdxl.vast.json")
    task.run(PROJECT, Wish("offers", as_json=True), {}, lambda _: None)
    assumed = json.loads(capsys.readouterr().out)["assumed"]
    assert "4.0 GB of image pulled and" in assumed
    assert "9.0 GB unpacked" in assumed


def test_a_record_lies_beside_its_lock(tmp_path: Path) -> None:
    assert records.path_of(Selection(PROJECT, "sdxl")) == ROOT / "manifests/locks/sdxl.vast.json"
    overlay = tmp_path / "mine.yaml"
    assert records.path_of(Selection(PROJECT, "flux", (overlay,))) == tmp_path / "mine.flux.vast.json"


class RegistryLike:
    """A registry with one image, whose labels can be anything."""

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
    def running(self) -> Iterator[RegistryLike]:
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
        ({"dev.gesso.trial": ""}, "dev.gesso.trial is not there"),
    ],
)
def test_a_template_is_not_made_of_another_image(
    sdxl: tuple[Manifest, Locked], changed: dict[str, str], why: str
) -> None:
    with RegistryLike(labels(sdxl, **changed)).running() as registry, pytest.raises(CheckError, match=why):
        task.pushed(f"{registry.repository}@{registry.digest}", *sdxl, {})


def test_an_image_is_named_by_digest_also_where_it_was_asked_for_by_tag(sdxl: tuple[Manifest, Locked]) -> None:
    with RegistryLike(labels(sdxl)).running() as registry:
        found = task.pushed(f"{registry.repository}:sdxl", *sdxl, {})
        assert found.reference == f"{registry.repository}@{registry.digest}"
        assert found.tags == ("sdxl",)
        assert found.compressed == 3_000_000_000 + len(registry.blob) + len(registry.manifest)
        assert found.unpacked == 2 * found.compressed, "nobody here has it: guessed"
        with pytest.raises(PublishError, match="the registry has no such image"):
            task.pushed(f"{registry.repository}:flux", *sdxl, {})


def test_what_an_image_takes_on_disk_is_what_its_publish_wrote_down(sdxl: tuple[Manifest, Locked]) -> None:
    """Else the template of the same image would be another one, by who asks and what images they have."""
    with RegistryLike(labels(sdxl)).running() as registry:
        reference = f"{registry.repository}@{registry.digest}"
        record = records.Record(arch="sdxl", name="n", hash_id="h", id=1, content="c", image=reference,
                                compressed=3_000_000_000, unpacked=6_700_000_000)  # fmt: skip
        assert task.pushed(reference, *sdxl, {}, record).unpacked == 6_700_000_000
        of_another = record.model_copy(update={"image": f"{registry.repository}@sha256:{'0' * 64}"})
        found = task.pushed(reference, *sdxl, {}, of_another)
        assert found.unpacked == 2 * found.compressed


def test_as_people_run_it(
    service: VastLike, sdxl: tuple[Manifest, Locked], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """From the registry to Vast.ai and into the record: exit codes, and two lines for an error."""
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("vast:\n  name: mine\n")
    monkeypatch.setattr(Api, "of", classmethod(lambda cls, env, say: cls(
        api_key.base(env), api_key.find(env), say, service.clock)))  # fmt: skip
    monkeypatch.setenv("VAST_URL", service.url)

    def invoke(what: str, *, key: str = KEY, **flags: Any) -> tuple[int, str, str]:
        monkeypatch.setenv("VAST_API_KEY", key)
        code = 0
        try:
            with report.exit_codes():
                grant(Wish(what, overlays=(str(overlay),), **flags))
        except SystemExit as ended:
            code = int(str(ended.code))
        return code, *capsys.readouterr()

    with RegistryLike(labels(sdxl)).running() as registry:
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
        assert "mine: as wanted already: nothing was written" in out
    service.market.offers = [offer(5)]
    code, out, _ = invoke("offers")
    assert code == 0
    assert " 5  RTX 4090" in out


def test_check_tells_a_template_that_cannot_be(tmp_path: Path) -> None:
    overlay = tmp_path / "older.yaml"
    overlay.write_text('hardware:\n  cuda: "12.8"\n')
    (problem,) = commands._problems_of(Selection(PROJECT, "sdxl", (overlay,)))
    assert problem.startswith("hardware.cuda is 12.8, but the locked torch is built for CUDA 13.0")
    assert commands._problems_of(Selection(PROJECT, "sdxl")) == []


def test_the_task_itself() -> None:
    command = [sys.executable, "-m", "invoke", "vast", "machines", "--limit", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("gesso: vast machines: no such thing; --limit 0: must be 1 to 1000\n  next: ")
