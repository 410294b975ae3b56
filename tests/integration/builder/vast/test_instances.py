"""Vast.ai's client, against a server that behaves as Vast.ai does: its rates, its late results, its refusals."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.builder.vast import api_key
from gesso.builder.vast.api import wait_of
from gesso.builder.vast.api_key import Key
from gesso.builder.vast.instances import LONGEST, Instance, Vast, described
from gesso.errors import PublishError
from tests.integration.builder.fake_vast import KEY, VastLike, instance

GOLDEN = Path(__file__).parent / "requests.golden"
TOO_OFTEN = (429, "API requests too frequent: endpoint threshold=3.0")


def test_every_request_is_as_recorded(service: VastLike, vast: Vast) -> None:
    """`GESSO_GOLDEN=write` writes it anew, and the difference is to be read."""
    vast.instance(7)
    vast.command(7, "ls -lLnd /opt/gesso/build.json")
    vast.command(7, "rm /workspace/models/vae/x.safetensors")
    vast.command(7, "du -sb /workspace")
    vast.reboot(7)
    text = "\n".join(service.asked) + "\n"
    if os.environ.get("GESSO_GOLDEN") == "write":
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
    assert set(service.authorizations) == {f"Bearer {KEY}"}


@pytest.mark.parametrize(
    ("changed", "address"),
    [
        ({}, ("203.0.113.9", 40022)),
        ({"ports": None}, ("ssh4.vast.ai", 10022)),
        ({"ports": {"22/tcp": []}}, ("ssh4.vast.ai", 10022)),
        ({"public_ipaddr": None}, ("ssh4.vast.ai", 10022)),
        ({"ports": None, "ssh_host": None}, ("", 0)),
        ({"ports": None, "ssh_port": None}, ("", 0)),
        ({"ports": {"22/tcp": [{"HostPort": "70000"}]}}, ("", 0)),
    ],
)
def test_where_its_sshd_is(service: VastLike, vast: Vast, changed: dict[str, object], address: tuple[str, int]) -> None:
    service.instances[7] = instance(**changed)
    found = vast.instance(7)
    assert (found.host, found.port) == address
    assert (found.number, found.status, found.image) == (7, "running", "ghcr.io/someone/gesso:sdxl")


def test_an_answer_without_its_envelope() -> None:
    assert described(3, {"actual_status": None, "cur_state": "stopped"}) == Instance(3, "stopped")


def test_a_result_comes_later_and_without_the_hosts_path(service: VastLike, vast: Vast) -> None:
    service.later = 5
    said = vast.command(7, "ls -lLnd /opt/gesso/build.json /workspace/none")
    assert said.splitlines()[0] == "-rw-r--r-- 1 0 0 9000 Nov 25 04:45 /opt/gesso/build.json"
    assert "overlay2" not in said


def test_a_result_that_never_comes(service: VastLike, vast: Vast) -> None:
    service.later = 10**6
    before = service.time
    with pytest.raises(PublishError, match=r"instance 7: `ls`: Vast.ai gave no result within 90 s"):
        vast.command(7, "ls /")
    assert 90 <= service.time - before < 100


def test_two_commands_are_apart(service: VastLike, vast: Vast, said: list[str]) -> None:
    service.later = 0
    for _ in range(4):
        vast.command(7, "ls /")
    assert said == [], "the service had to refuse"


def test_asked_too_often_it_waits_and_says_so(service: VastLike, vast: Vast, said: list[str]) -> None:
    vast.instance(7)
    assert vast.instance(7).runs
    assert said == ["vast: too many requests; going on in 3 s"]


def test_the_wait_grows_and_ends(service: VastLike, vast: Vast) -> None:
    service.instead = [TOO_OFTEN] * 99
    with pytest.raises(PublishError, match=r"instance 7: Vast.ai refused 8 times"):
        vast.instance(7)
    assert service.waited == [3, 4, 8, 16, 32, 60, 60, 60]
    assert len(service.asked) == 8


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("API requests too frequent: endpoint threshold=3.0", 3), ("threshold=7.5", 7.5), ("{}", 3), ("", 3),
     ("threshold=0.1", 3), ("threshold=9999", 60)],
)  # fmt: skip
def test_how_long_a_refusal_asks_to_wait(text: str, seconds: float) -> None:
    assert wait_of(text) == seconds


@given(st.text())
def test_no_text_of_a_refusal_makes_it_hasty(text: str) -> None:
    assert 3 <= wait_of(text) <= 60


def test_a_wrong_key(service: VastLike) -> None:
    other = Vast(service.url, Key("another-key-9876543210"), clock=service.clock)
    with pytest.raises(
        PublishError, match=r"instance 7: Vast.ai does not accept the key \(401: Invalid user key\)"
    ) as e:
        other.instance(7)
    assert "VAST_API_KEY" in e.value.next_step
    assert len(service.asked) == 1, "asked again, though no time can mend it"


def test_an_unknown_instance(service: VastLike, vast: Vast) -> None:
    with pytest.raises(PublishError, match=r"instance 8: Vast.ai knows none of that number"):
        vast.instance(8)
    with pytest.raises(PublishError, match=r"instance 8: reboot: Vast.ai does not know it: Instance 8 not found"):
        vast.reboot(8)


def test_a_stopped_instance(service: VastLike, vast: Vast) -> None:
    service.instances[7] = instance(actual_status="exited")
    with pytest.raises(PublishError, match=r"instance 7 is not running: its status is exited") as e:
        vast.running(7)
    assert "start it" in e.value.next_step
    with pytest.raises(PublishError, match=r"instance 7: `ls`: Vast.ai refuses \(400: the instance is not running\)"):
        vast.command(7, "ls /")


@pytest.mark.parametrize(
    ("status", "text"),
    [(200, ""), (200, "<html>"), (200, "[]"), (200, "null"), (200, "{}"), (200, json.dumps({"success": False})),
     (200, json.dumps({"success": "true"})), (302, "{}"), (400, "{}"), (410, "gone"), (500, "{}"), (502, "")],
)  # fmt: skip
def test_nothing_but_success_is_success(service: VastLike, vast: Vast, status: int, text: str) -> None:
    for change in (lambda: vast.reboot(7), lambda: vast.command(7, "rm /x")):
        service.instead = [(status, text)]
        with pytest.raises(PublishError, match=r"instance 7: "):
            change()
    assert len(service.asked) == 2, "a change was asked for again, though it may have been made"


def test_why_it_was_not_done_is_said_but_never_the_key(service: VastLike, vast: Vast) -> None:
    service.instead = [(200, json.dumps({"success": False, "msg": f"key {KEY} is busy"}))]
    with pytest.raises(PublishError, match=r"Vast.ai did not do it: key \*\*\* is busy"):
        vast.reboot(7)
    service.instead = [(400, json.dumps({"msg": f"bad {KEY}"}))]
    with pytest.raises(PublishError, match=r"refuses \(400: bad \*\*\*\)"):
        vast.reboot(7)
    assert KEY not in repr(vast)


def test_a_server_that_fails_is_asked_again_where_that_changes_nothing(service: VastLike, vast: Vast) -> None:
    service.instead = [(502, ""), (500, "")]
    assert vast.instance(7).runs
    service.instead = [(502, "")] * 3
    with pytest.raises(PublishError, match=r"instance 7: Vast.ai answers 502"):
        vast.instance(7)


def test_nobody_answers(service: VastLike) -> None:
    nobody = Vast("http://127.0.0.1:9", Key(KEY), clock=service.clock)
    with pytest.raises(PublishError, match=r"instance 7: Vast.ai cannot be reached: ConnectionError"):
        nobody.instance(7)
    with pytest.raises(PublishError, match=r"whether it was done is not known"):
        nobody.reboot(7)


@pytest.mark.parametrize(
    "url", ["http://example.com/x", "ftp://example.com", "https://user:pw@example.com/", "file:///etc/passwd", "", 7]
)
def test_a_result_elsewhere_than_it_may_be(service: VastLike, vast: Vast, url: object) -> None:
    service.instead = [(200, json.dumps({"success": True, "result_url": url}))]
    with pytest.raises(PublishError, match=r"gave no address for its result"):
        vast.command(7, "ls /")


@pytest.mark.parametrize(
    "text", ["cat /x", "ls /x; reboot", "ls `x`", "ls $(x)", "ls /x | y", "ls", "ls /" + LONGEST * "x"]
)
def test_what_is_no_command_is_never_sent(service: VastLike, vast: Vast, text: str) -> None:
    with pytest.raises(PublishError, match=r"runs only ls, rm and du"):
        vast.command(7, text)
    assert service.asked == []


def test_where_the_key_is_found(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}

    def key(env: dict[str, str]) -> str:
        return api_key.find(env).hidden("from-the-environment from-the-client from-the-old-file")

    with pytest.raises(PublishError, match=r"there is no key for Vast.ai"):
        api_key.find(home)
    (tmp_path / ".vast_api_key").write_text("from-the-old-file\n")
    assert key(home) == "from-the-environment from-the-client ***"
    (tmp_path / ".config/vastai").mkdir(parents=True)
    (tmp_path / ".config/vastai/vast_api_key").write_text("from-the-client\n")
    assert key(home) == "from-the-environment *** from-the-old-file"
    assert key({**home, "VAST_API_KEY": "from-the-environment"}) == "*** from-the-client from-the-old-file"


@pytest.mark.parametrize("key", ["two words", "short", "line\nline-line", "kéy-kéy-kéy"])
def test_what_cannot_be_a_key_is_not_shown(key: str) -> None:
    with pytest.raises(PublishError, match=r"VAST_API_KEY: holds no key of Vast.ai") as e:
        api_key.find({"VAST_API_KEY": key})
    assert key not in str(e.value)


@pytest.mark.parametrize("url", ["http://example.com", "https://me@example.com", "example.com", "https://x/?key=1"])
def test_an_address_that_would_show_the_key(url: str) -> None:
    with pytest.raises(PublishError, match=r"VAST_URL"):
        api_key.base({"VAST_URL": url})


def test_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert api_key.base({}) == "https://console.vast.ai"
    assert api_key.base({"VAST_URL": "http://127.0.0.1:8080/"}) == "http://127.0.0.1:8080"


def test_no_netrc_takes_the_keys_place(
    service: VastLike, vast: Vast, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    vast.command(7, "ls /")  # the server asserts that results are asked for without any
    assert service.authorizations == [f"Bearer {KEY}"]
