"""Vast.ai's client against a simulated Vast.ai: rate limits, late results, refusals."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.builder.vast import api_key
from gesso.builder.vast.api import retry_after
from gesso.builder.vast.api_key import Key
from gesso.builder.vast.instances import MAX_COMMAND, Instance, InstanceClient, parse_instance
from gesso.errors import PublishError
from tests.integration.builder.fake_vast import KEY, FakeVast, instance

GOLDEN = Path(__file__).parent / "requests.golden"
RATE_LIMITED = (429, "API requests too frequent: endpoint threshold=3.0")


def test_every_request_is_as_recorded(service: FakeVast, vast: InstanceClient) -> None:
    """`GESSO_GOLDEN=write` writes the file; review the difference."""
    vast.instance(7)
    vast.command(7, "ls -lLnd /opt/gesso/build.json")
    vast.command(7, "rm /workspace/models/vae/x.safetensors")
    vast.command(7, "du -sb /workspace")
    vast.reboot(7)
    text = "\n".join(service.requests) + "\n"
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
def test_the_ssh_address(
    service: FakeVast, vast: InstanceClient, changed: dict[str, object], address: tuple[str, int]
) -> None:
    service.instances[7] = instance(**changed)
    found = vast.instance(7)
    assert (found.host, found.port) == address
    assert (found.number, found.status, found.image) == (7, "running", "ghcr.io/someone/gesso:sdxl")


def test_a_response_without_its_envelope() -> None:
    assert parse_instance(3, {"actual_status": None, "cur_state": "stopped"}) == Instance(3, "stopped")


def test_a_result_is_polled_and_the_hosts_path_removed(service: FakeVast, vast: InstanceClient) -> None:
    service.polls_until_ready = 5
    output = vast.command(7, "ls -lLnd /opt/gesso/build.json /workspace/none")
    assert output.splitlines()[0] == "-rw-r--r-- 1 0 0 9000 Nov 25 04:45 /opt/gesso/build.json"
    assert "overlay2" not in output


def test_a_result_that_never_comes(service: FakeVast, vast: InstanceClient) -> None:
    service.polls_until_ready = 10**6
    before = service.time
    with pytest.raises(PublishError, match=r"instance 7: `ls`: Vast.ai returned no result within 90 s"):
        vast.command(7, "ls /")
    assert 90 <= service.time - before < 100


def test_commands_are_spaced(service: FakeVast, vast: InstanceClient, progress: list[str]) -> None:
    service.polls_until_ready = 0
    for _ in range(4):
        vast.command(7, "ls /")
    assert progress == [], "the rate limit was hit"


def test_a_rate_limit_is_waited_for_and_reported(service: FakeVast, vast: InstanceClient, progress: list[str]) -> None:
    vast.instance(7)
    assert vast.instance(7).is_running
    assert progress == ["vast: too many requests; retrying in 3 s"]


def test_the_backoff_grows_and_ends(service: FakeVast, vast: InstanceClient) -> None:
    service.responses = [RATE_LIMITED] * 99
    with pytest.raises(PublishError, match=r"instance 7: Vast.ai refused 8 times"):
        vast.instance(7)
    assert service.sleeps == [3, 4, 8, 16, 32, 60, 60, 60]
    assert len(service.requests) == 8


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("API requests too frequent: endpoint threshold=3.0", 3), ("threshold=7.5", 7.5), ("{}", 3), ("", 3),
     ("threshold=0.1", 3), ("threshold=9999", 60)],
)  # fmt: skip
def test_the_wait_after_a_429(text: str, seconds: float) -> None:
    assert retry_after(text) == seconds


@given(st.text())
def test_the_wait_is_within_limits_for_any_text(text: str) -> None:
    assert 3 <= retry_after(text) <= 60


def test_an_invalid_key(service: FakeVast) -> None:
    other = InstanceClient(service.url, Key("another-key-9876543210"), clock=service.clock)
    with pytest.raises(
        PublishError, match=r"instance 7: Vast.ai does not accept the key \(401: Invalid user key\)"
    ) as e:
        other.instance(7)
    assert "VAST_API_KEY" in e.value.next_step
    assert len(service.requests) == 1, "it was retried"


def test_an_unknown_instance(service: FakeVast, vast: InstanceClient) -> None:
    with pytest.raises(PublishError, match=r"instance 8: not found at Vast.ai"):
        vast.instance(8)
    with pytest.raises(PublishError, match=r"instance 8: reboot: not found at Vast.ai: Instance 8 not found"):
        vast.reboot(8)


def test_a_stopped_instance(service: FakeVast, vast: InstanceClient) -> None:
    service.instances[7] = instance(actual_status="exited")
    with pytest.raises(PublishError, match=r"instance 7 is not running: its status is exited") as e:
        vast.running(7)
    assert "start it" in e.value.next_step
    with pytest.raises(
        PublishError, match=r"instance 7: `ls`: Vast.ai refused the request \(400: the instance is not running\)"
    ):
        vast.command(7, "ls /")


@pytest.mark.parametrize(
    ("status", "text"),
    [(200, ""), (200, "<html>"), (200, "[]"), (200, "null"), (200, "{}"), (200, json.dumps({"success": False})),
     (200, json.dumps({"success": "true"})), (302, "{}"), (400, "{}"), (410, "gone"), (500, "{}"), (502, "")],
)  # fmt: skip
def test_only_success_is_success(service: FakeVast, vast: InstanceClient, status: int, text: str) -> None:
    for change in (lambda: vast.reboot(7), lambda: vast.command(7, "rm /x")):
        service.responses = [(status, text)]
        with pytest.raises(PublishError, match=r"instance 7: "):
            change()
    assert len(service.requests) == 2, "a change was retried, although it may have been made"


def test_the_reason_is_reported_without_the_key(service: FakeVast, vast: InstanceClient) -> None:
    service.responses = [(200, json.dumps({"success": False, "msg": f"key {KEY} is busy"}))]
    with pytest.raises(PublishError, match=r"Vast.ai did not confirm it: key \*\*\* is busy"):
        vast.reboot(7)
    service.responses = [(400, json.dumps({"msg": f"bad {KEY}"}))]
    with pytest.raises(PublishError, match=r"refused the request \(400: bad \*\*\*\)"):
        vast.reboot(7)
    assert KEY not in repr(vast)


def test_a_failed_read_is_retried(service: FakeVast, vast: InstanceClient) -> None:
    service.responses = [(502, ""), (500, "")]
    assert vast.instance(7).is_running
    service.responses = [(502, "")] * 3
    with pytest.raises(PublishError, match=r"instance 7: Vast.ai responded with HTTP 502"):
        vast.instance(7)


def test_unreachable(service: FakeVast) -> None:
    unreachable = InstanceClient("http://127.0.0.1:9", Key(KEY), clock=service.clock)
    with pytest.raises(PublishError, match=r"instance 7: Vast.ai cannot be reached: ConnectionError"):
        unreachable.instance(7)
    with pytest.raises(PublishError, match=r"it is unknown whether the change was made"):
        unreachable.reboot(7)


@pytest.mark.parametrize(
    "url", ["http://example.com/x", "ftp://example.com", "https://user:pw@example.com/", "file:///etc/passwd", "", 7]
)
def test_an_unsafe_result_url_is_refused(service: FakeVast, vast: InstanceClient, url: object) -> None:
    service.responses = [(200, json.dumps({"success": True, "result_url": url}))]
    with pytest.raises(PublishError, match=r"returned no valid URL for its result"):
        vast.command(7, "ls /")


@pytest.mark.parametrize(
    "text", ["cat /x", "ls /x; reboot", "ls `x`", "ls $(x)", "ls /x | y", "ls", "ls /" + MAX_COMMAND * "x"]
)
def test_other_commands_are_never_sent(service: FakeVast, vast: InstanceClient, text: str) -> None:
    with pytest.raises(PublishError, match=r"runs only ls, rm and du"):
        vast.command(7, text)
    assert service.requests == []


def test_sources_of_the_key(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}

    def key(env: dict[str, str]) -> str:
        return api_key.find(env).redact("from-the-environment from-the-client from-the-old-file")

    with pytest.raises(PublishError, match=r"there is no key for Vast.ai"):
        api_key.find(home)
    (tmp_path / ".vast_api_key").write_text("from-the-old-file\n")
    assert key(home) == "from-the-environment from-the-client ***"
    (tmp_path / ".config/vastai").mkdir(parents=True)
    (tmp_path / ".config/vastai/vast_api_key").write_text("from-the-client\n")
    assert key(home) == "from-the-environment *** from-the-old-file"
    assert key({**home, "VAST_API_KEY": "from-the-environment"}) == "*** from-the-client from-the-old-file"


@pytest.mark.parametrize("key", ["two words", "short", "line\nline-line", "kéy-kéy-kéy"])
def test_a_malformed_key_is_not_shown(key: str) -> None:
    with pytest.raises(PublishError, match=r"VAST_API_KEY: not a Vast.ai key") as e:
        api_key.find({"VAST_API_KEY": key})
    assert key not in str(e.value)


@pytest.mark.parametrize("url", ["http://example.com", "https://me@example.com", "example.com", "https://x/?key=1"])
def test_a_base_url_that_would_expose_the_key(url: str) -> None:
    with pytest.raises(PublishError, match=r"VAST_URL"):
        api_key.base_url({"VAST_URL": url})


def test_the_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    assert api_key.base_url({}) == "https://console.vast.ai"
    assert api_key.base_url({"VAST_URL": "http://127.0.0.1:8080/"}) == "http://127.0.0.1:8080"


def test_netrc_does_not_override_the_key(
    service: FakeVast, vast: InstanceClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    vast.command(7, "ls /")  # the server asserts that results are requested without a key
    assert service.authorizations == [f"Bearer {KEY}"]
