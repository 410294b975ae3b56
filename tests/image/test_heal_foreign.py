"""`invoke heal --ssh` makes a foreign ComfyUI serve Krita, changes nothing else there, and finds nothing afterwards."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import docker
import pytest

from gesso.builder.image.build import base_reference

from .foreign import COMFYUI, ENTRY, LOG, PYTHON, Foreign, context, old_sqlalchemy
from .options import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.images import Image

    from gesso.builder.lock.lock_files import Locked
    from gesso.manifest.schema import Manifest

    from .conftest import Instances

CHECKPOINT = f"{COMFYUI}/models/checkpoints/Juggernaut-XL-v9.safetensors"
TOOLING = f"{COMFYUI}/custom_nodes/comfyui-tooling-nodes"


@pytest.fixture(scope="module")
def made(
    client: docker.DockerClient,
    image: Image,
    locked: Locked,
    manifest: Manifest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Image, str]]:
    if not manifest.trial or manifest.arch != "sdxl":
        pytest.skip("made of the sdxl trial's parts: this was not run")
    wheel = old_sqlalchemy(tmp_path_factory.mktemp("wheel"))
    try:
        built, _ = client.images.build(
            fileobj=context(base_reference(locked), str(image.id), wheel), custom_context=True, rm=True,
            network_mode="host",
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - whatever it is: then nothing was tested, and that is no pass
        pytest.fail(f"no foreign instance could be made: {error}", pytrace=False)
    yield built, wheel.name
    with suppress(docker.errors.APIError):
        client.images.remove(str(built.id), force=True)


@pytest.fixture(scope="module")
def foreign(
    made: tuple[Image, str], instances: Instances, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Foreign]:
    """SQLAlchemy replaced under a running ComfyUI, a stub, no tooling nodes; started by nohup."""
    built, wheel = made
    ports = {"22/tcp": ("127.0.0.1", None)}
    mine = instances.start(built, entrypoint=["sh", "-c", ENTRY], ports=ports)
    there = Foreign(mine, tmp_path_factory.mktemp("ssh"), wheel)
    there.prepare()
    there.start()
    done = there.python(f"pip install -q --no-deps --no-index /srv/{wheel}")
    assert done.rc == 0, done.stderr
    mine.run(f"head -c 710000 /dev/zero > {CHECKPOINT}")
    yield there
    mine.container.remove(force=True, v=True)


def test_an_unknown_host_key_is_refused(foreign: Foreign) -> None:
    done = foreign.heal()
    assert done.returncode == 7
    assert "its host key is unknown" in done.stderr
    assert "--accept-new-host-key" in done.stderr
    assert not (foreign.folder / "known").exists()


def test_an_accepted_key_is_trusted_and_an_architecture_is_required(foreign: Foreign) -> None:
    for flags in (["--accept-new-host-key"], []):
        command, env = foreign.command(*flags)
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 2, done.stderr
        assert "not a gesso image" in done.stderr
        assert "--arch" in done.stderr
    assert foreign.instance.run("ls /root/.cache").stdout == ""


def test_a_dry_run_names_everything_and_changes_nothing(foreign: Foreign) -> None:
    before = _state(foreign)
    found = foreign.report("--dry-run")
    assert found["code"] == 1
    expected = {
        ("python", "sqlalchemy"),
        ("config", "constraints"),
        ("pack", "comfyui-tooling-nodes"),
        ("workflow", "krita_gold_standard_sdxl.json"),
        ("model", "Juggernaut-XL-v9.safetensors"),
    }
    assert expected <= {(damage["kind"], damage["name"].rpartition("/")[2]) for damage in found["damages"]}
    by_name = {damage["name"].rpartition("/")[2]: damage for damage in found["damages"]}
    assert "1.4.54" in by_name["sqlalchemy"]["found"]
    assert by_name["Juggernaut-XL-v9.safetensors"]["found"].startswith(("stub", "pickle", "malformed", "truncated"))
    assert _state(foreign) == before


def test_heal_makes_it_serve(foreign: Foreign, manifest: Manifest) -> None:
    freeze, pid = foreign.python("pip freeze").stdout.splitlines(), foreign.pid()
    found = foreign.report()
    assert found["code"] == 0, json.dumps(found, indent=1)
    assert found["restarted"] == 1
    after = foreign.python("pip freeze").stdout.splitlines()
    assert [line for line in freeze if "sqlalchemy" not in line.lower()] == [
        line for line in after if not line.startswith("SQLAlchemy==2.0.")
    ]
    assert len(after) == len(freeze)
    version = foreign.instance.run(f"{PYTHON} -c 'import sqlalchemy; print(sqlalchemy.__version__)'").stdout
    assert version.startswith("2.0.")
    classes = foreign.get_json("/object_info")
    assert set(manifest.classes) <= set(classes)
    assert foreign.pid() not in {"", pid}
    for model in manifest.models:
        output = foreign.instance.run(f"sha256sum {COMFYUI}/models/{model.name}").stdout
        assert output.split()[0] == model.sha256, model.name
    assert foreign.instance.run(f"ls {COMFYUI}/models/.gesso/quarantine").stdout.strip()
    for place in (f"{COMFYUI}/workflows", f"{COMFYUI}/user/default/workflows"):
        ours = (ROOT / "workflows" / "krita_gold_standard_sdxl.json").read_text()
        assert foreign.instance.run(f"cat {place}/krita_gold_standard_sdxl.json").stdout == ours
    assert "published SDXL 1 Paint" in foreign.instance.run("cat /root/.cache/gesso/reports/*.jsonl").stdout


def test_comfyui_was_restarted_in_the_same_way(foreign: Foreign) -> None:
    assert "TOKEN_OF_MINE=kept" in foreign.environ
    assert foreign.environ_now() == foreign.environ
    command = foreign.instance.run(f"tr '\\0' ' ' < /proc/{foreign.pid()}/cmdline").stdout
    assert command == f"{PYTHON} main.py --port 8188 --cpu "
    assert foreign.instance.run(f"readlink /proc/{foreign.pid()}/fd/1").stdout.strip() == LOG


def test_the_constraint_prevents_a_replacement(foreign: Foreign) -> None:
    done = foreign.python(f"pip install --no-deps --no-index /srv/{foreign.wheel}")
    assert done.rc != 0, done.stdout
    assert foreign.python("pip freeze").stdout.lower().count("sqlalchemy==2.0") == 1


def test_a_second_run_finds_nothing(foreign: Foreign) -> None:
    before = _state(foreign)
    found = foreign.report()
    assert (found["code"], found["damages"], found["restarted"]) == (0, [], 0)
    assert _state(foreign) == before


def test_it_leaves_one_private_bundle(foreign: Foreign) -> None:
    assert foreign.instance.run("stat -c %a /root/.cache/gesso").stdout == "700\n"
    assert len(foreign.instance.run("ls -d /root/.cache/gesso/heal-*/").stdout.split()) == 1
    assert foreign.instance.run("ls -A /root/.cache/gesso | grep new").stdout == ""
    second = foreign.heal("--dry-run")
    assert "bundle: exists already" in second.stderr


def test_a_dead_comfyui_is_started_as_seen_last(foreign: Foreign) -> None:
    foreign.instance.run(f"kill {foreign.pid()}; rm -rf {TOOLING}")
    found = foreign.report()
    assert found["code"] == 0, json.dumps(found, indent=1)
    assert {damage["name"] for damage in found["damages"]} == {"comfyui-tooling-nodes", "comfyui"}
    command = foreign.instance.run(f"tr '\\0' ' ' < /proc/{foreign.pid()}/cmdline").stdout
    assert command == f"{PYTHON} main.py --port 8188 --cpu "
    assert "ETN_LoadImageCache" in foreign.get_json("/object_info/ETN_LoadImageCache")


def test_events_are_passed_on_as_they_happen(foreign: Foreign) -> None:
    done = foreign.heal("--events", "--dry-run")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [events[0]["event"], events[-1]["event"]] == ["begun", "ended"]
    assert events[-1]["code"] == done.returncode == 0


def test_another_missing_pack_is_reported_with_a_next_step(foreign: Foreign) -> None:
    pack = f"{COMFYUI}/custom_nodes/ComfyUI_IPAdapter_plus"
    foreign.instance.run(f"mv {pack} /srv/")
    try:
        found = foreign.report()
        assert found["code"] == 1
        (damage,) = found["damages"]
        assert (damage["name"], damage["outcome"]) == ("ComfyUI_IPAdapter_plus", "failed")
        assert "install it" in damage["next"]
    finally:
        foreign.instance.run(f"mv /srv/ComfyUI_IPAdapter_plus {pack}")


def test_ctrl_c_ends_the_remote_heal_cleanly(foreign: Foreign) -> None:
    foreign.instance.run(f"rm {CHECKPOINT}")
    _misbehave(foreign, "stall")
    try:
        command, env = foreign.command("--arch", "sdxl", "--trial", "--events")
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        seen: list[dict[str, Any]] = []
        with process:
            for line in process.stdout or ():
                seen.append(json.loads(line))
                if (seen[-1]["event"], seen[-1].get("kind")) == ("repairing", "model"):
                    process.send_signal(signal.SIGINT)
            errors = process.stderr.read() if process.stderr is not None else ""
        assert process.returncode == 130, errors
        assert seen[-1]["event"] == "ended"
        assert seen[-1]["code"] == 130
        deadline = time.monotonic() + 30
        while foreign.instance.run("grep -l 'heal[.]py' /proc/[0-9]*/cmdline").stdout and time.monotonic() < deadline:
            time.sleep(0.2)
        assert foreign.instance.run("grep -l 'heal[.]py' /proc/[0-9]*/cmdline").stdout == ""
    finally:
        _misbehave(foreign, "healthy")
    assert foreign.report()["code"] == 0


def _misbehave(foreign: Foreign, behaviour: str) -> None:
    body = json.dumps({"path": "/checkpoints/Juggernaut-XL-v9.safetensors", "behaviour": behaviour})
    code = "import sys, urllib.request as r; r.urlopen(r.Request(sys.argv[1], sys.argv[2].encode(), method='POST'))"
    url = "http://127.0.0.1:18190/_mirror/behave"
    done = foreign.instance.host.run("python3 -c %s %s %s", code, url, body)
    assert done.rc == 0, done.stderr


def _state(foreign: Foreign) -> str:
    """Everything that a heal could touch: files with their times and inodes, packages, the process."""
    listed = foreign.instance.run(
        f"find /root/ComfyUI /root/venv /etc -not -name '*.pyc' -not -name __pycache__ -not -path '*/.gesso/*' "
        f"-not -path '{COMFYUI}/user/*' -type f -printf '%p %i %T@ %s\\n' | sort"
    ).stdout
    return f"{listed}\n{foreign.pid()}"
