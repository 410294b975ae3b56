"""supervisord.conf: works for any user and any run folder, keeps secrets from Caddy, and stops within seconds."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path

import pytest

from gesso.runtime.services.supervisord import GROUP, GROUPED

ROOT = Path(__file__).resolve().parents[4]
FILES = {
    "image": ROOT / "images/rootfs/opt/gesso/etc/supervisord.conf",
    "trial": ROOT / "images/standin/mirror/supervisor.conf",
}


def _read(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(" ;",))
    parser.read(FILES[name], encoding="utf-8")
    return parser


def test_the_programs_stop_at_the_same_time() -> None:
    conf = _read("image")
    assert set(conf[f"group:{GROUP}"]["programs"].split(",")) == GROUPED
    assert {name.partition(":")[2] for name in conf.sections() if name.startswith("program:")} == GROUPED


@pytest.mark.parametrize("name", FILES)
def test_no_program_delays_the_end(name: str) -> None:
    """supervisord takes up to a second to see the signal, and one to see the end: five seconds in all."""
    conf = _read(name)
    waits = {
        section: int(conf[section].get("stopwaitsecs", "10")) for section in conf.sections() if "program:" in section
    }
    waits.pop("program:log", None)  # `tail` ends at once
    assert max(waits.values()) <= 2, waits


@pytest.mark.parametrize("name", FILES)
def test_no_user_and_no_folder_is_fixed(name: str) -> None:
    conf = _read(name)
    assert not [section for section in conf.sections() if "user" in conf[section]]
    text = FILES[name].read_text(encoding="utf-8")
    fixed = re.findall(r"^.*(?:/run/gesso|/var/log).*$", text, re.MULTILINE)
    assert fixed == ["serverurl=unix:///run/gesso/supervisor.sock"] * (name == "image"), "only a person's supervisorctl"


def test_caddy_gets_only_what_it_needs() -> None:
    words = shlex.split(_read("image")["program:gate"]["command"])
    assert words[:2] == ["env", "-i"]
    program = words.index("/opt/gesso/bin/gate.py")
    assert words[program + 1] == "caddy"
    given = [word.partition("=")[0] for word in words[2:program]]
    mark = "SUPERVISOR_SERVER_URL"  # by which the next boot finds it
    assert given == [mark, "PATH", "HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "GOMEMLIMIT", "GOGC"]
    assert "environment" not in _read("image")["program:gate"]
