"""SSH: addresses, the command line, error messages, and commands through a fake `ssh`."""

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
from gesso.builder.remote.ssh import Connection, Target
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
def test_invalid_addresses(text: str) -> None:
    with pytest.raises(ManifestError, match="not an SSH address") as raised:
        ssh.parse(text)
    assert raised.value.exit_code == 2
    assert "\x1b" not in str(raised.value)


@given(st.text())
def test_no_valid_address_is_an_option_or_more_than_one_word(text: str) -> None:
    try:
        target = ssh.parse(text)
    except ManifestError:
        return
    for word in (target.host, target.user or "x"):
        assert not word.startswith("-")
        assert shlex.quote(word) in {word, f"'{word}'"}
        assert not set(word) & set(" \t\n;&|<>$`\\\"'*?!(){}#~/")


def test_the_command_line() -> None:
    argv = ssh.ssh_argv(Target("2001:db8::9", "root", 22), "do it", accept_new=False)
    assert argv[0] == "ssh"
    assert argv[-7:] == ["-p", "22", "-l", "root", "--", "2001:db8::9", "do it"]
    assert {"-oStrictHostKeyChecking=yes", "-oBatchMode=yes", "-oForwardAgent=no", "-oConnectTimeout=15"} <= set(argv)
    assert "-oStrictHostKeyChecking=accept-new" in ssh.ssh_argv(Target("h"), "x", accept_new=True)
    assert not {"-p", "-l"} & set(ssh.ssh_argv(Target("h"), "x", accept_new=True)), "ssh's own configuration decides"


# Output of OpenSSH 9, and the error that it becomes.
OUTPUTS = {
    "No ED25519 host key is known for [127.0.0.1]:40022 and you have requested strict checking.\n"
    "Host key verification failed.": ("its host key is unknown", "--accept-new-host-key"),
    "@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@@@\nHost key verification failed.": (
        "its host key has changed", "ssh-keygen -R '[203.0.113.9]:40022'"),
    "root@203.0.113.9: Permission denied (publickey).": ("access denied", "ssh-add -l"),
    "Received disconnect from 203.0.113.9: Too many authentication failures": ("access denied", "public key"),
    "ssh: connect to host 203.0.113.9 port 40022: Connection refused": ("connection refused", "check address and port"),
    "ssh: connect to host 203.0.113.9 port 40022: No route to host": ("unreachable", "check address"),
    "ssh: connect to host 203.0.113.9 port 40022: Network is unreachable": ("unreachable: ", "check address"),
    "ssh: connect to host 203.0.113.9 port 40022: Connection timed out": ("no response", "check address"),
    "Connection timed out during banner exchange": ("no response", "check address"),
    "ssh: Could not resolve hostname nowhere: Name or service not known": ("no such host", "check the name"),
    "kex_exchange_identification: Connection closed by remote host": ("not an SSH server", "check address"),
    "Timeout, server 203.0.113.9 not responding.": ("the connection was lost", "continues there by itself"),
    "client_loop: send disconnect: Broken pipe": ("the connection was lost", "continues there by itself"),
    "/root/.ssh/config: line 3: Bad configuration option: x": ("error in ssh's configuration", "correct it"),
    "something new": ("ssh failed: something new", "plain `ssh`"),
    "": ("without a message", "plain `ssh`"),
}  # fmt: skip


@pytest.mark.parametrize("output", OUTPUTS)
def test_errors_of_ssh(output: str) -> None:
    error = ssh.connection_error(Target("203.0.113.9", "root", 40022), output)
    why, step = OUTPUTS[output]
    assert why in error.message
    assert error.message.startswith("root@203.0.113.9:40022: ")
    assert step in error.next_step
    assert error.exit_code == 7


def test_a_program_runs_there_in_any_shell() -> None:
    source = "import sys\nprint(sys.argv[1:], 'it\\'s \"quoted\" $HOME `id` !')\n"
    command = ssh.python_command(sys.executable, source, ["a b", "$HOME", "--", "é'"])
    assert "\n" not in command
    for shell in ("sh", "bash"):
        done = subprocess.run([shell, "-c", command], capture_output=True, text=True, check=True)
        assert done.stdout == "['a b', '$HOME', '--', \"é'\"] it's \"quoted\" $HOME `id` !\n"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake `ssh` that runs the remote command here."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


def test_a_connection(fake: Path) -> None:
    connection, lines, errors = Connection(Target("h")), list[str](), list[str]()
    done = connection.run(
        "cat; echo more >&2; exit 3", stdin=b"one\ntwo\n", on_line=lines.append, on_error=errors.append
    )
    assert (done.code, lines, errors) == (3, ["one", "two"], ["more"])


def test_a_failure_of_ssh_itself(fake: Path) -> None:
    with pytest.raises(PublishError, match="h: connection refused"):
        Connection(Target("h")).run("echo 'ssh: connect to host h port 22: Connection refused' >&2; exit 255")


def test_no_ssh_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PublishError, match="ssh is not installed on this machine") as raised:
        Connection(Target("h")).run("true")
    assert "openssh-client" in raised.value.next_step
