"""Hardened starts: any user, a read-only root, no capabilities; and which program knows a secret."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from docker.models.images import Image

    from .conftest import Instance, Instances

STOP_WITHIN = 5.0  # seconds, of the ten that an engine gives before it kills
RANDOM_USER = "1000730000:0"  # as OpenShift assigns one
CLOSED: dict[str, Any] = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}
PEM = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0LXBlbS0wMTIzNDU2Nzg5\n-----END PRIVATE KEY-----"
SECRETS = {
    "GESSO_TOKEN": "gesso-token-0123456789", "OPEN_BUTTON_TOKEN": "open-button-0123456789",
    "VAST_API_KEY": "vast-key-0123456789", "CONTAINER_API_KEY": "container-key-0123456789",
    "CIVITAI_TOKEN": "civitai-0123456789", "HF_TOKEN": "hf_0123456789", "JUPYTER_TOKEN": "jupyter-0123456789",
    "PIP_INDEX_URL": "https://me:pip-password-0123@index.invalid/simple",
    "UV_DEFAULT_INDEX": "https://me:uv-password-0123@index.invalid/simple",
    "HTTPS_PROXY": "http://me:proxy-password-0123@proxy.invalid:3128", "no_proxy": "127.0.0.1,localhost",
    "OPENAI_API_KEY": "openai-0123456789", "MINE_PASSWORD": "password-0123456789", "SOME_PEM": PEM,
}  # fmt: skip
HIDDEN = {
    name: re.sub(r"\A\w+://me:|@.*", "", value).replace(PEM, "c2VjcmV0LXBlbS0wMTIzNDU2Nzg5")
    for name, value in SECRETS.items()
    if name != "no_proxy"
}
# Each process below the supervisor, its environment with it; sessions of `docker exec` are not among them.
ENVIRONMENTS = r"""
import os, pathlib
parents = {}
for entry in pathlib.Path("/proc").iterdir():
    if entry.name.isdigit():
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            pass
def below(pid):
    while pid in parents:
        if pid == top:
            return True
        pid = parents[pid]
    return False
commands = pathlib.Path("/proc").glob("[0-9]*/cmdline")
top = next(int(path.parent.name) for path in commands if b"/supervisord\0" in path.read_bytes())
for pid in sorted(parents):
    if below(pid):
        try:
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            env = pathlib.Path(f"/proc/{pid}/environ").read_bytes().replace(b"\n", b" ").split(b"\0")
        except OSError:
            continue
        print(b" ".join(words).decode(), "|", b" ".join(env).decode())
"""


def _ready(mine: Instance) -> None:
    """Wait, and ask through the public port."""
    mine.wait_until_healthy()
    assert requests.get(f"{mine.url}/{mine.token}/system_stats", timeout=30).status_code == 200
    assert requests.get(f"{mine.url}/system_stats", timeout=30).status_code == 401


def _ended(instances: Instances, image: Image, **options: Any) -> str:
    """Start what cannot work, and return what it says."""
    mine = instances.start(image, **options)
    assert mine.container.wait(timeout=60)["StatusCode"] == 1
    text = mine.logs()
    mine.container.remove(force=True, v=True)
    assert "Traceback" not in text
    assert "open an issue" not in text
    return text


def test_as_kubernetes_starts_it(image: Image, instances: Instances) -> None:
    """With emptyDir volumes: open to everybody, and nothing of the image in them."""
    volumes = {
        instances.volume(mode="0777"): {"bind": path, "mode": "rw,nocopy"} for path in ("/run", "/tmp", "/workspace")
    }
    mine = instances.start(image, user=RANDOM_USER, volumes=volumes, **CLOSED)
    _ready(mine)
    assert "answers" in mine.run("gesso status").stdout
    assert mine.run("gesso url").stdout.endswith(f"{mine.token}\n")
    assert "To see the GUI" in mine.run("gesso logs comfyui").stdout
    mine.container.remove(force=True)


@pytest.mark.parametrize("user", ["0", "1000:1000", RANDOM_USER])
def test_nothing_but_the_workspace_is_writable(image: Image, instances: Instances, user: str) -> None:
    volumes = {instances.volume(): {"bind": "/workspace", "mode": "rw"}}
    mine = instances.start(image, user=user, volumes=volumes, **CLOSED)
    _ready(mine)
    assert "answers" in mine.run("gesso status").stdout
    assert "To see the GUI" in mine.run("gesso logs comfyui").stdout
    assert mine.run("gesso heal --dry-run").rc == 0
    mine.container.restart(timeout=20)
    _ready(mine)
    mine.container.remove(force=True)


def test_what_cannot_work_is_one_sentence(image: Image, instances: Instances) -> None:
    text = _ended(instances, image, read_only=True)
    assert "Read-only file system" in text
    assert "-v DATA:/workspace" in text
    text = _ended(instances, image, read_only=True, user="1000:1000")
    assert "-v DATA:/workspace" in text
    used = instances.volume()
    _ready(first := instances.start(image, volumes={used: {"bind": "/workspace", "mode": "rw"}}))
    first.container.remove(force=True)
    text = _ended(instances, image, user="1000:1000", volumes={used: {"bind": "/workspace", "mode": "rw"}})
    assert "user 1000 may not write there" in text
    assert "fsGroup" in text
    assert "--user" in text


def test_a_user_that_cannot_repair_says_so(image: Image, instances: Instances) -> None:
    """/opt belongs to root: the guard refuses the start in words."""
    mine = instances.start(image, user="1000:1000")
    _ready(mine)
    break_it = "echo '# changed' >> $(echo /opt/venv/lib/python3*/site-packages/sqlalchemy/__init__.py)"
    root: Any = mine.container.exec_run(["gesso", "status"], user="0")
    assert "answers" in root.output.decode(), "root finds the instance of another user"
    done: Any = mine.container.exec_run(["sh", "-c", break_it], user="0")
    assert done.exit_code == 0
    mine.supervisor("restart comfyui")
    found = mine.wait_for_state("failed", within=60)
    assert "fresh instance" in found["next"]
    healed = mine.run("gesso heal")
    assert healed.rc == 1, "and not 124: it must not wait for a start that is refused again"
    log = healed.stdout + healed.stderr + mine.run("gesso logs comfyui").stdout
    assert "Traceback" not in log
    mine.container.remove(force=True, v=True)


def test_a_full_folder_for_temporary_files(image: Image, instances: Instances) -> None:
    mine = instances.start(image, read_only=True, tmpfs={"/workspace": "", "/run": "", "/tmp": "size=4k"})
    _ready(mine)
    assert mine.run("gesso status").rc == 0
    mine.container.remove(force=True)


# --- secrets


@pytest.mark.parametrize("named", ["", "OPENAI_API_KEY"])
def test_programs_know_no_secret(image: Image, instances: Instances, named: str) -> None:
    """Not the supervisor, Caddy, ComfyUI with its node packs, the log; and not the agent's own environment."""
    mine = instances.start(image, env={**SECRETS, "GESSO_COMFY_ENV": named})
    _ready(mine)
    listed = _environments(mine)
    programs = {"supervisord", "gesso agent", "caddy run", "ComfyUI/main.py", "tail -q"}
    assert {each for each in programs if any(each in line.partition("|")[0] for line in listed)} == programs
    for line in listed:
        command, _, env = line.partition("|")
        seen = [name for name, value in HIDDEN.items() if value in env]
        assert seen == ([named] if named and "ComfyUI/main.py" in command else []), command
    caddy = next(env for command, _, env in (line.partition("|") for line in listed) if "caddy run" in command)
    assert len(caddy.split()) == 7, "Caddy gets only what it needs"
    files = mine.run("cat /etc/environment; cat /var/log/gesso/*").stdout + mine.logs()
    assert [name for name, value in HIDDEN.items() if value in files] == []
    mine.container.remove(force=True, v=True)


def test_secrets_survive_the_supervisor(image: Image, instances: Instances) -> None:
    """The agent starts everything again with the environment that the container was started with."""
    script = "touch /.launch; entrypoint.sh; exec sleep infinity"
    mine = instances.start(image, env=SECRETS, entrypoint=["sh", "-c", script])
    _ready(mine)
    before = mine.run("cat /run/gesso/supervisord.pid").stdout
    mine.run(f"kill -9 {before}")
    deadline = time.monotonic() + 60
    while mine.run("cat /run/gesso/supervisord.pid").stdout == before and time.monotonic() < deadline:
        time.sleep(0.2)
    _ready(mine)
    for line in _environments(mine):
        assert [name for name, value in HIDDEN.items() if value in line] == [], line.partition("|")[0]
    kept = mine.run("stat -c %a /run/gesso/environment.json; cat /run/gesso/environment.json").stdout
    assert kept.startswith("600\n")
    assert {name for name, value in HIDDEN.items() if value in kept} == set(HIDDEN)
    mine.container.remove(force=True, v=True)


def test_a_session_without_the_variables_has_the_token(image: Image, instances: Instances) -> None:
    mine = instances.start(image, env={**SECRETS, "PUBLIC_IPADDR": "203.0.113.9"})
    _ready(mine)
    clean = "env -i PATH=$PATH"
    assert mine.run(f"{clean} gesso url").stdout == f"http://203.0.113.9:8188/{mine.token}\n"
    assert mine.run(f"{clean} gesso fetch").rc == 0
    mine.container.remove(force=True, v=True)


def _environments(mine: Instance) -> list[str]:
    mine.put("/tmp/environments.py", ENVIRONMENTS.encode())
    script = ["/usr/bin/python3", "-I", "/tmp/environments.py"]
    # Root without CAP_SYS_PTRACE cannot read that of ComfyUI's user, who in turn can read no other.
    answers: list[Any] = [mine.container.exec_run(script, user=user) for user in ("0", "18188")]
    return [line for answer in answers for line in answer.output.decode().splitlines()]


# --- the user of ComfyUI

SNOOP = b"""\
import os, pathlib, socket
def attempt(name, function):
    try:
        function()
        print(f"snoop: {name}: done", flush=True)
    except OSError as error:
        print(f"snoop: {name}: {error.strerror}", flush=True)
def connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
for path in ("/workspace/gesso/token", "/run/gesso/token", "/run/gesso/environment.json", "/run/gesso/Caddyfile"):
    attempt(path, pathlib.Path(path).read_bytes)
attempt("list", lambda: os.listdir("/run/gesso"))
attempt("environ", pathlib.Path("/proc/1/environ").read_bytes)
for name in ("agent", "supervisor"):
    attempt(name, lambda: connect(f"/run/gesso/{name}.sock"))
attempt("kill", lambda: os.kill(1, 0))
attempt("opt", lambda: pathlib.Path("/opt/ComfyUI/main.py").open("ab"))
attempt("root", lambda: os.setuid(0))
attempt("replace", lambda: os.rename("/workspace/gesso", "/workspace/gone"))
for name in ("output/x", "input/x", "user/x", "models/vae/x", "models/new-kind", "gesso/home/x"):
    attempt(f"own {name}", pathlib.Path("/workspace", name).touch)
attempt("own home", lambda: (pathlib.Path.home() / "y").touch())
attempt("own preview", lambda: pathlib.Path("/run/gesso/comfyui/x").touch())
attempt("own ckpts", lambda: pathlib.Path("/opt/ComfyUI/custom_nodes/comfyui_controlnet_aux/ckpts/x").touch())
print("snoop: user", os.getuid(), os.getgid(), os.getgroups(), flush=True)
NODE_CLASS_MAPPINGS = {}
"""
WAIT = ["sh", "-c", "while ! test -e /tmp/go; do sleep 0.1; done; exec entrypoint.sh"]


def _with_pack(image: Image, instances: Instances, pack: bytes, **options: Any) -> Instance:
    """Start an instance with one more node pack."""
    mine = instances.start(image, entrypoint=WAIT, **options)
    if pack:
        mine.run("mkdir /opt/ComfyUI/custom_nodes/test-pack")
        mine.put("/opt/ComfyUI/custom_nodes/test-pack/__init__.py", pack)
    mine.run("touch /tmp/go")
    mine.wait_until_healthy()
    mine.token = mine.run("gesso url").stdout.strip().rpartition("/")[2]
    _ready(mine)
    return mine


def test_a_node_pack_cannot_reach_the_token(image: Image, instances: Instances) -> None:
    mine = _with_pack(image, instances, SNOOP, env={"GESSO_TOKEN": ""})
    log = mine.run("gesso logs comfyui").stdout
    found = dict(re.findall(r"^snoop: (.*): (.*)$", log, re.MULTILINE))
    assert len(found) == 21
    assert {name for name, how in found.items() if how == "done"} == {name for name in found if name.startswith("own ")}
    assert "snoop: user 18188 18188 []" in log
    assert "runs as root" not in log
    mine.wait_until_complete()
    assert mine.run("stat -c %u /workspace/models/vae/* | sort -u").stdout.split() == ["0", "18188"]
    mine.container.restart(timeout=20)
    _ready(mine)
    mine.container.remove(force=True, v=True)


def test_a_volume_that_root_used_is_handed_over(image: Image, instances: Instances) -> None:
    volume = {instances.volume(): {"bind": "/workspace", "mode": "rw"}}
    first = instances.start(image, env={"GESSO_COMFY_USER": "root"}, volumes=volume)
    _ready(first)
    assert "GESSO_COMFY_USER=root" in first.run("gesso logs comfyui").stdout
    first.run("touch /workspace/output/mine.png /workspace/user/theirs; chown 1000 /workspace/user/theirs")
    assert first.run("stat -c %u /workspace/user/comfyui.db").stdout.strip() == "0"
    first.container.remove(force=True)
    mine = instances.start(image, volumes=volume)
    _ready(mine)
    owners = mine.run("stat -c %u /workspace/user/comfyui.db /workspace/output/mine.png /workspace/user/theirs").stdout
    assert owners.split() == ["18188", "18188", "1000"], "only what belonged to root"
    mine.container.remove(force=True)


def test_where_the_user_cannot_be_changed_it_says_so(image: Image, instances: Instances) -> None:
    volume = {instances.volume(): {"bind": "/workspace", "mode": "rw"}}
    mine = instances.start(image, volumes=volume, **CLOSED)
    _ready(mine)
    assert "comfyui: runs as root, and node packs can read the token" in mine.run("gesso logs comfyui").stdout
    mine.container.remove(force=True)


# --- the end

STUBBORN = b"""\
import asyncio, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal = asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler = lambda *_: None
print("stubborn: is here", flush=True)
NODE_CLASS_MAPPINGS = {}
"""
BUSY = b"""\
import threading
def work():
    while True:
        sum(range(100_000))
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
NODE_CLASS_MAPPINGS = {}
"""


@pytest.mark.parametrize("pack", [b"", STUBBORN, BUSY], ids=["quiet", "ignores-sigterm", "busy"])
def test_it_stops_within_five_seconds(image: Image, instances: Instances, pack: bytes) -> None:
    mine = _with_pack(image, instances, pack)
    assert ("stubborn: is here" in mine.run("gesso logs comfyui").stdout) == (pack == STUBBORN)
    started = time.monotonic()
    mine.container.stop(timeout=30)
    took = time.monotonic() - started
    mine.container.reload()
    assert mine.container.attrs["State"]["ExitCode"] == 0
    assert took <= STOP_WITHIN
    if pack == STUBBORN:
        assert took >= 2, "nothing ignored the signal"
    mine.container.remove(force=True, v=True)
