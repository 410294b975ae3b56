"""SSH: addresses that are none, what is said to `ssh`, what it says, and a real conversation with a `ssh` of ours."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gesso.builder.remote import ssh
from gesso.builder.remote.ssh import Door, Target
from gesso.errors import ManifestError, PublishError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("root@203.0.113.9:40022", Target("203.0.113.9", "root", 40022)),
        ("root@ssh4.vast.ai:10022", Target("ssh4.vast.ai", "root", 10022)),
        ("user@[2001:db8::9]:22", Target("2001:db8::9", "user", 22)),
        ("[fe80::1%eth0]:22", Target("fe80::1%eth0", "", 22)),
        ("my-gpu_box", Target("my-gpu_box")),
        ("a@b", Target("b", "a")),
    ],
)
def test_addresses(text: str, target: Target) -> None:
    assert ssh.parse(text) == target
    assert str(target) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "-oProxyCommand=id", "root@-oProxyCommand=id", "-l@host", "root@host:0", "root@host:70000", "root@host:x",
        "root@host:22:22", "root@::1:22", "root@[::1", "root@[host]:22", "a b@c", "root@host;id", "root@$(id)", "root@",
        "@host", "root@host/", "ssh://root@host:22", "root@host\n", "root@hos\x1bt", "root@.host", "root@host-", "ä@b",
    ],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ManifestError, match="is no address") as raised:
        ssh.parse(text)
    assert raised.value.exit_code == 2
    assert "\x1b" not in str(raised.value)


@given(st.text())
def test_nothing_that_gets_through_is_an_option_or_more_than_one_word(text: str) -> None:
    try:
        target = ssh.parse(text)
    except ManifestError:
        return
    for word in (target.host, target.user or "x"):
        assert not word.startswith("-")
        assert shlex.quote(word) in {word, f"'{word}'"}
        assert not set(word) & set(" \t\n;&|<>$`\\\"'*?!(){}#~/")


def test_what_is_said_to_ssh() -> None:
    words = ssh.words(Target("2001:db8::9", "root", 22), "do it", accept_new=False)
    assert words[0] == "ssh"
    assert words[-7:] == ["-p", "22", "-l", "root", "--", "2001:db8::9", "do it"]
    assert {"-oStrictHostKeyChecking=yes", "-oBatchMode=yes", "-oForwardAgent=no", "-oConnectTimeout=15"} <= set(words)
    assert "-oStrictHostKeyChecking=accept-new" in ssh.words(Target("h"), "x", accept_new=True)
    assert not {"-p", "-l"} & set(ssh.words(Target("h"), "x", accept_new=True)), "its own settings have these"


# What OpenSSH 9 prints, and what is made of it.
SAID = {
    "No ED25519 host key is known for [127.0.0.1]:40022 and you have requested strict checking.\n"
    "Host key verification failed.": ("its host key is not known", "--accept-new-host-key"),
    "@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@@@\nHost key verification failed.": (
        "its host key is not the one that is known", "ssh-keygen -R '[203.0.113.9]:40022'"),
    "root@203.0.113.9: Permission denied (publickey).": ("it does not let us in", "ssh-add -l"),
    "Received disconnect from 203.0.113.9: Too many authentication failures": ("it does not let us in", "public key"),
    "ssh: connect to host 203.0.113.9 port 40022: Connection refused": ("connection refused", "check address and port"),
    "ssh: connect to host 203.0.113.9 port 40022: No route to host": ("there is no way to it", "check address"),
    "ssh: connect to host 203.0.113.9 port 40022: Network is unreachable": ("there is no way to it", "check address"),
    "ssh: connect to host 203.0.113.9 port 40022: Connection timed out": ("it does not answer", "check address"),
    "Connection timed out during banner exchange": ("it does not answer", "check address"),
    "ssh: Could not resolve hostname nowhere: Name or service not known": ("no such host", "check the name"),
    "kex_exchange_identification: Connection closed by remote host": ("no sshd, or hung up", "check address"),
    "Timeout, server 203.0.113.9 not responding.": ("the connection was lost", "goes on by itself"),
    "client_loop: send disconnect: Broken pipe": ("the connection was lost", "goes on by itself"),
    "/root/.ssh/config: line 3: Bad configuration option: x": ("ssh's own configuration", "correct it"),
    "something new": ("ssh failed: something new", "`ssh` alone"),
    "": ("it does not say why", "`ssh` alone"),
}  # fmt: skip


@pytest.mark.parametrize("output", SAID)
def test_what_ssh_says_in_plain_words(output: str) -> None:
    error = ssh.refused(Target("203.0.113.9", "root", 40022), output)
    why, step = SAID[output]
    assert why in error.message
    assert error.message.startswith("root@203.0.113.9:40022: ")
    assert step in error.next_step
    assert error.exit_code == 7


def test_a_program_is_run_there_whatever_the_shell() -> None:
    source = "import sys\nprint(sys.argv[1:], 'it\\'s \"quoted\" $HOME `id` !')\n"
    command = ssh.python(sys.executable, source, ["a b", "$HOME", "--", "é'"])
    assert "\n" not in command
    for shell in ("sh", "bash"):
        done = subprocess.run([shell, "-c", command], capture_output=True, text=True, check=True)
        assert done.stdout == "['a b', '$HOME', '--', \"é'\"] it's \"quoted\" $HOME `id` !\n"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `ssh` that runs the remote command here."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


def test_a_door(fake: Path) -> None:
    door, lines, errors = Door(Target("h")), list[str](), list[str]()
    done = door.run("cat; echo more >&2; exit 3", stdin=b"one\ntwo\n", on_line=lines.append, on_error=errors.append)
    assert (done.code, lines, errors) == (3, ["one", "two"], ["more"])


def test_what_ssh_itself_cannot(fake: Path) -> None:
    with pytest.raises(PublishError, match="h: nothing listens there"):
        Door(Target("h")).run("echo 'ssh: connect to host h port 22: Connection refused' >&2; exit 255")


def test_no_ssh_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PublishError, match="there is no ssh on this machine") as raised:
        Door(Target("h")).run("true")
    assert "openssh-client" in raised.value.next_step
