"""`gesso verify` and `gesso fetch` as people and scripts use them: exit codes, JSON, names, and what goes wrong."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gesso import report
from gesso.cli import models
from gesso.cli.main import main
from gesso.runtime import variables
from gesso.runtime.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[3]
DATA = {
    "required": b"PK\x03\x04 required",
    "recommended": b"PK\x03\x04 recommended",
    "optional": b"PK\x03\x04 optional",
}
NAMES = {
    "required": "upscale_models/one.pth",
    "recommended": "upscale_models/two.pth",
    "optional": "upscale_models/three.pth",
}


def entry(which: str, source: str = "https://huggingface.co/o/r/resolve/main/f", **more: Any) -> dict[str, Any]:
    return {
        "name": NAMES[which], "sources": [source], "sha256": hashlib.sha256(DATA[which]).hexdigest(),
        "size": len(DATA[which]), "kind": "upscale_model", "family": "any", "tier": which, "license": "MIT",
        "allow_pickle": "small enough for a test",
    } | more  # fmt: skip


class Instance:
    """A record and a models folder, with a method to run a command on them."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._capsys = root, capsys
        self.models, self.record = root / "models", root / "build.json"
        self.err = ""

    def write(self, *entries: Any) -> None:
        self.record.write_text(json.dumps({"arch": "sdxl", "models": list(entries)}))

    def put(self, *tiers: str) -> None:
        for tier in tiers:
            path = self.models / NAMES[tier]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(DATA[tier])

    def run(self, command: str, *arguments: str) -> tuple[int, str]:
        """Return the exit code and stdout; `err` holds stderr."""
        try:
            code = main([command, *arguments, "--record", str(self.record), "--models", str(self.models)])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 99
        out, self.err = self._capsys.readouterr()
        return code, out


def found(out: str) -> list[tuple[str, str]]:
    """Return status and name from each line of the table."""
    names = "|".join(map(re.escape, NAMES.values()))
    return re.findall(rf"^([a-z-]+) .*?({names})", out, re.MULTILINE)


@pytest.fixture
def instance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Instance:
    made = Instance(tmp_path, capsys)
    made.write(*(entry(tier) for tier in DATA))
    return made


# ── verify ──


def test_all_in_place_is_0_with_a_line_per_model(instance: Instance) -> None:
    instance.put(*DATA)
    code, out = instance.run("verify")
    assert (code, instance.err) == (0, "")
    assert found(out) == [("ok", name) for name in NAMES.values()]
    assert "(optional)" in out
    assert "receipt" in instance.run("verify")[1]


def test_a_missing_required_model_is_5_with_a_next_step(instance: Instance) -> None:
    instance.put("recommended")
    code, out = instance.run("verify")
    assert code == 5
    assert found(out)[0] == ("missing", NAMES["required"])
    assert "next: run `gesso fetch`" in out


def test_a_missing_optional_model_is_not_an_error(instance: Instance) -> None:
    instance.put("required")
    assert instance.run("verify")[0] == 0


@pytest.mark.parametrize("tier", DATA)
def test_a_bad_file_is_5_whatever_its_tier(instance: Instance, tier: str) -> None:
    instance.put(*DATA)
    (instance.models / NAMES[tier]).write_bytes(DATA[tier][:-1] + b"!")
    code, out = instance.run("verify")
    assert code == 5
    assert [each for each in found(out) if each[0] != "ok"] == [("wrong-hash", NAMES[tier])]
    assert "next: run `gesso fetch`" in out


def test_headers_alone_prove_nothing_and_are_1(instance: Instance) -> None:
    instance.put(*DATA)
    code, out = instance.run("verify", "--header")
    assert (code, out.count("unproven")) == (1, 3)
    (instance.models / NAMES["optional"]).write_bytes(b"<html>")
    assert instance.run("verify", "--header")[0] == 5


def test_full_hashes_models_with_a_valid_receipt(instance: Instance) -> None:
    instance.put(*DATA)
    instance.run("verify")
    assert {m["by"] for m in json.loads(instance.run("verify", "--json")[1])["models"]} == {"receipt"}
    assert {m["by"] for m in json.loads(instance.run("verify", "--json", "--full")[1])["models"]} == {"hash"}


def test_a_wrong_size_in_the_lock_is_reported_and_is_not_an_error(instance: Instance) -> None:
    size = len(DATA["required"])
    instance.write(entry("required", size=825_798_408))
    instance.put("required")
    data = (
        f"825,798,408 bytes said by the lock (unconfirmed), the file has {size}: its SHA-256 is right; "
        "`invoke lock` corrects it"
    )
    for arguments in ([], ["--full"], ["--header"]):
        code, out = instance.run("verify", *arguments)
        assert (code, found(out)) == (0, [("ok", NAMES["required"])])
        assert data in out
    assert json.loads(instance.run("verify", "--json")[1])["models"][0]["remark"] == data
    assert data in instance.run("fetch")[1] + instance.err
    assert data in json.loads(instance.run("fetch", "--json")[1])["models"][0]["note"]
    assert data in instance.run("fetch", "--events")[1]


def test_the_shape_of_verify_s_json(instance: Instance) -> None:
    instance.put("required")
    (instance.models / NAMES["recommended"]).write_bytes(b"<html>")
    code, out = instance.run("verify", "--json", "--full")
    data = json.loads(out)
    assert code == 5
    assert data.keys() == {"ok", "level", "models"}
    assert (data["ok"], data["level"]) == (False, "full")
    assert [m["status"] for m in data["models"]] == ["ok", "html", "missing"]
    first = data["models"][0]
    assert first.keys() == {"name", "tier", "status", "evidence", "next_step", "by", "size", "remark"}
    assert (first["name"], first["tier"], first["by"]) == (NAMES["required"], "required", "hash")
    instance.put(*DATA)
    assert json.loads(instance.run("verify", "--json")[1])["ok"] is True


def test_names_and_tiers_choose(instance: Instance) -> None:
    instance.put("recommended")
    assert instance.run("verify", "two.pth")[0] == 0
    assert instance.run("verify", "upscale_models/one.pth")[0] == 5
    names = [m["name"] for m in json.loads(instance.run("verify", "--json", "--tier", "recommended")[1])["models"]]
    assert names == [NAMES["required"], NAMES["recommended"]]


def test_an_unknown_name_is_2_with_a_suggestion(instance: Instance) -> None:
    assert instance.run("verify", "tow.pth") == (2, "")
    assert "no model is called tow.pth" in instance.err
    assert "two.pth" in instance.err


def test_no_models_is_not_an_error(instance: Instance) -> None:
    instance.write()
    code, out = instance.run("verify")
    assert (code, out.strip(), instance.err) == (0, "", "")
    assert json.loads(instance.run("verify", "--json")[1]) == {"level": "fast", "models": [], "ok": True}


def test_a_relative_models_folder(
    instance: Instance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    instance.put(*DATA)
    monkeypatch.chdir(instance.root)
    assert main(["verify", "--record", "build.json", "--models", "models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]


# ── a record that is broken, or none ──


BROKEN = {
    "no JSON": "{nonsense",
    "empty": "",
    "no UTF-8": "\udcff",
    "a list": "[1, 2]",
    "null": "null",
    "without models": '{"arch": "sdxl"}',
    "models null": '{"models": null}',
    "models a number": '{"models": 5}',
    "models a text": '{"models": "vae/a.sft"}',
    "models a table": '{"models": {"name": "vae/a.sft"}}',
    "nested deeply": '{"models": ' + "[" * 100_000,
    "entries that are none": '{"models": [1, null, []]}',
}


@pytest.mark.parametrize("command", ["verify", "fetch"])
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_record_is_2_and_named(instance: Instance, how: str, command: str) -> None:
    instance.record.write_bytes(BROKEN[how].encode("utf-8", "surrogateescape"))
    code, out = instance.run(command)
    assert (code, out) == (2, ""), instance.err
    assert str(instance.record) in instance.err
    assert "next: " in instance.err


def test_invalid_entries_are_2_and_each_is_named(instance: Instance) -> None:
    instance.write(entry("required"), entry("recommended", sha256="short"), entry("optional", tier="often"))
    assert instance.run("verify") == (2, "")
    assert f"{instance.record}: model {NAMES['recommended']}: sha256: " in instance.err
    assert f"{instance.record}: model {NAMES['optional']}: tier: " in instance.err
    assert NAMES["required"] not in instance.err


def test_no_record_is_2_and_suggests_arch(instance: Instance) -> None:
    instance.record.unlink()
    assert instance.run("verify") == (2, "")
    assert f"{instance.record}: No such file" in instance.err
    assert "--arch" in instance.err


# ── fetch ──


@pytest.fixture
def source() -> Iterator[Callable[[str], str]]:
    """Return a URL on this machine: a tier's bytes, `page` (a web page), and 404 for every other name."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = {**{f"/{tier}": data for tier, data in DATA.items()}, "/page": b"<!doctype html>Sign in"}
            data = body.get(self.path)
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield lambda name: f"http://127.0.0.1:{server.server_port}/{name}"
    server.shutdown()
    server.server_close()


def test_fetch_fetches_what_is_missing_and_then_nothing(instance: Instance, source: Callable[[str], str]) -> None:
    instance.put("optional")
    instance.write(*(entry(tier, source(tier)) for tier in DATA))
    code, out = instance.run("fetch")
    assert (code, out) == (0, "models: 2 fetched, 1 there; 29 B fetched\n"), instance.err
    for tier, data in DATA.items():
        assert (instance.models / NAMES[tier]).read_bytes() == data
    assert instance.run("verify")[0] == 0
    assert "receipt" in instance.run("verify")[1]
    assert instance.run("fetch") == (0, "models: 3 there; 0 B fetched\n")


def test_fetch_quarantines_a_bad_file_and_fetches_the_model(instance: Instance, source: Callable[[str], str]) -> None:
    instance.put("required")
    (instance.models / NAMES["required"]).write_bytes(b"<html>stub")
    instance.write(entry("required", source("required")))
    code, _ = instance.run("fetch")
    assert code == 0
    assert "bad, put aside: html" in instance.err
    assert (instance.models / NAMES["required"]).read_bytes() == DATA["required"]
    (kept,) = (instance.models / ".gesso" / "quarantine").iterdir()
    assert kept.read_bytes() == b"<html>stub"


def test_a_source_without_the_file_is_4_and_the_others_are_fetched(
    instance: Instance, source: Callable[[str], str]
) -> None:
    instance.write(entry("required", source("gone")), entry("optional", source("optional")))
    code, out = instance.run("fetch")
    assert code == 4
    assert out.startswith("models: 1 failed, 1 fetched")
    assert "HTTP 404" in instance.err
    assert "next: " in instance.err
    assert not (instance.models / NAMES["required"]).exists()
    assert (instance.models / NAMES["optional"]).read_bytes() == DATA["optional"]


def test_a_source_with_another_file_is_5(instance: Instance, source: Callable[[str], str]) -> None:
    instance.write(entry("required", source("page")))
    code, _ = instance.run("fetch")
    assert code == 5
    assert "web page" in instance.err
    assert not (instance.models / NAMES["required"]).exists()


def test_the_shape_of_fetch_s_json(instance: Instance, source: Callable[[str], str]) -> None:
    instance.write(entry("required", source("required")), entry("optional", source("gone")))
    code, out = instance.run("fetch", "--json")
    data = json.loads(out)
    assert code == 4
    assert data.keys() == {"ok", "models"}
    assert data["ok"] is False
    first, second = data["models"]
    assert first.keys() == {"name", "tier", "state", "source", "received", "seconds", "note"}
    assert (first["name"], first["state"], first["received"]) == (NAMES["required"], "fetched", len(DATA["required"]))
    assert first["source"] in source("required")
    assert second["state"] == "failed"
    assert second["error"].keys() == {"why", "message", "next"}
    assert second["error"]["why"] == "not-found"
    assert second["error"]["next"]


def test_events_are_a_line_of_json_each(instance: Instance, source: Callable[[str], str]) -> None:
    instance.write(entry("required", source("required")))
    code, out = instance.run("fetch", "--events")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert instance.err == ""
    assert {event["name"] for event in events} == {NAMES["required"]}
    assert events[0]["kind"] == "planned"
    assert events[-1]["kind"] == "done"
    assert events[-1]["done"] == len(DATA["required"])


def test_a_target_that_cannot_be_written_is_4_with_a_next_step(
    instance: Instance, source: Callable[[str], str]
) -> None:
    instance.models.mkdir()
    (instance.models / "upscale_models").touch()
    instance.write(entry("required", source("required")))
    code, _ = instance.run("fetch")
    assert code == 4
    assert "next: move away what stands there" in instance.err


# ── in a checkout, by architecture ──


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the project's manifests; the working directory is a folder within it."""
    root = tmp_path / "checkout"
    shutil.copytree(ROOT / "manifests", root / "manifests")
    shutil.copytree(ROOT / "workflows", root / "workflows")
    (root / "docs").mkdir()
    monkeypatch.chdir(root / "docs")
    return root


def by_arch(*arguments: str) -> int:
    try:
        return main(["verify", *arguments])
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 99


def test_by_architecture_from_anywhere_in_a_checkout(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["--arch", "sdxl"], ["--arch", "sdxl", "--trial"], ["--arch", "flux"]):
        assert by_arch(*arguments, "--models", str(tmp_path / "none"), "--json") == 5
        data = json.loads(capsys.readouterr().out)
        assert {m["status"] for m in data["models"]} == {"missing"}


def test_by_architecture_the_models_folder_must_be_named(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert by_arch("--arch", "sdxl") == 2
    assert "--models" in capsys.readouterr().err


def test_an_unknown_architecture_is_2(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert by_arch("--arch", "sd9", "--models", ".") == 2
    assert "choose one of: flux, sdxl" in capsys.readouterr().err


def test_outside_a_checkout_is_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert by_arch("--arch", "sdxl", "--models", ".") == 2
    assert "checkout of gesso" in capsys.readouterr().err


def test_without_a_lock_is_3_and_suggests_invoke_lock(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "manifests" / "locks" / "sdxl.lock.json").unlink()
    assert by_arch("--arch", "sdxl", "--models", ".") == 3
    assert "invoke lock --arch sdxl" in capsys.readouterr().err


def test_a_stale_lock_is_3_and_names_the_model(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = checkout / "manifests" / "locks" / "sdxl.lock.json"
    data = json.loads(lock.read_text())
    name = next(key for key in data["inputs"] if key.startswith("models "))
    data["inputs"][name] = "0" * 16
    data["inputs"]["python"] = "0" * 16  # which does not concern the models
    lock.write_text(json.dumps(data))
    assert by_arch("--arch", "sdxl", "--models", ".") == 3
    err = capsys.readouterr().err
    assert name in err
    assert "python" not in err


# ── help ──


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_names_both_commands_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    data = help_of(capsys)
    for part in ("fetch", "verify", "exit codes: 0 done", "4 fetch", "5 verify"):
        assert part in data, part


@pytest.mark.parametrize("command", ["fetch", "verify"])
def test_help_of_each_names_its_options(capsys: pytest.CaptureFixture[str], command: str) -> None:
    data = help_of(capsys, command)
    own = {"fetch": ["--events"], "verify": ["--full", "--header"]}[command]
    for part in (
        *own,
        "--json",
        "--tier",
        "--models",
        "--record",
        "--arch",
        "--overlay",
        "--trial",
        "MODEL",
        "exit codes",
    ):
        assert part in data, part


@pytest.mark.parametrize(
    "arguments", [["verify", "--full", "--header"], ["verify", "--tier", "often"], ["fetch", "--full"]]
)
def test_invalid_option_combinations_are_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_a_wrong_size_in_the_lock_is_reported_after_a_fetch(instance: Instance, source: Callable[[str], str]) -> None:
    instance.write(entry("required", source("required"), size=5))
    _, out = instance.run("fetch")
    assert "5 bytes said by the lock (unconfirmed), the file has" in instance.err
    assert "1 fetched" in out


# --- the instance's own environment


def test_a_fetch_knows_the_tokens_and_the_proxy_of_the_start(
    instance: Instance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A session's environment, and the agent's, have none of them."""
    layout = Layout(run=tmp_path / "run")
    layout.run.mkdir()
    start = {"HF_TOKEN": "hf_0123456789", "HTTPS_PROXY": "http://me:pw@proxy.invalid:1", "PATH": "/nowhere"}
    variables.store(layout, start)
    seen: list[dict[str, str]] = []

    def fetch(*_: Any, env: dict[str, str], **__: Any) -> list[Any]:
        seen.append(env)
        return []

    monkeypatch.setattr(models, "find_layout", lambda: layout)
    monkeypatch.setattr(models, "fetch", fetch)
    monkeypatch.setattr(report, "_hidden", set())
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "")  # restored at the end
    monkeypatch.delenv("HTTPS_PROXY")
    instance.write(entry("required"))
    assert instance.run("fetch")[0] == 0
    (env,) = seen
    assert env == {**start, **os.environ}
    assert env["PATH"] != "/nowhere"
    assert os.environ["HTTPS_PROXY"] == start["HTTPS_PROXY"], "Python reads it from there"
    assert "HF_TOKEN" not in os.environ
    assert report._hidden == {start["HF_TOKEN"], start["HTTPS_PROXY"]}
