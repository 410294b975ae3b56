"""Bring up a Docker engine where none answers: on Debian and Ubuntu, as root, saying each thing it does."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from gesso import proc, report
from gesso.builder.image import engine
from gesso.errors import BuildError

OWN = Path("/opt/gesso-engine")  # where Docker's programs are unpacked on a Debian whose own are too old
_PLUGINS = Path("/usr/local/lib/docker/cli-plugins")
_NEEDED = ("ca-certificates", "containerd", "iptables", "mmdebstrap", "runc")
_PACKAGED = ("docker.io", "docker-cli", "docker-buildx")
_APT = {"DEBIAN_FRONTEND": "noninteractive"}
_ANSWER_WITHIN = 60  # seconds for dockerd to come up


def ensure() -> None:
    """See that an engine with buildx answers, bringing one up where that is allowed.

    Raises BuildError with the lines to run where it is not.
    """
    try:
        engine.find()
    except BuildError as error:
        report.say(f"engine: {error.message}")
        if not may_bring_up():
            raise
    else:
        return
    install()
    start()
    found = engine.find()
    report.say(f"engine: Docker {found.version} with buildx {found.buildx} is up")


def may_bring_up() -> bool:
    """Tell whether this is root on a Debian-like Linux, and nobody chose an engine elsewhere."""
    elsewhere = os.environ.get("DOCKER_HOST") or os.environ.get("DOCKER_CONTEXT")
    return sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get") is not None and not elsewhere


def install() -> None:
    """Install what is missing: Debian 13's and Ubuntu's own packages, or on Debian 12 those of Debian 13, apart."""
    missing = [name for name in _NEEDED if not proc.run(["dpkg", "-s", name]).ok]
    if missing:
        report.say(f"engine: apt-get install {' '.join(missing)}")
        _apt("update", "-qq")
        _apt("install", "-qq", "-y", "--no-install-recommends", *missing)
    if shutil.which("dockerd") or (OWN / "dockerd").is_file():
        _link_programs()
        return
    _apt("update", "-qq")
    if _has_candidate("docker-buildx"):
        names = [name for name in _PACKAGED if _has_candidate(name)]
        report.say(f"engine: apt-get install {' '.join(names)}")
        _apt("install", "-qq", "-y", "--no-install-recommends", *names)
    else:
        report.say(f"engine: this Debian's Docker has no buildx; unpacking Debian 13's beside the system, in {OWN}")
        _unpack_from_trixie()
    _link_programs()


def start() -> None:
    """Start the daemon, by systemd where it runs, else in the background, and wait for its answer."""
    if Path("/run/systemd/system").is_dir() and not (OWN / "dockerd").is_file():
        report.say("engine: systemctl start docker")
        proc.run(["systemctl", "start", "docker"], timeout=_ANSWER_WITHIN)
    else:
        daemon = shutil.which("dockerd") or str(OWN / "dockerd")
        log = Path("/var/log/dockerd.log")
        report.say(f"engine: starting {daemon} (its log: {log})")
        proc.detach([daemon], log, env={"PATH": f"{OWN}:{os.environ['PATH']}"})
    deadline = time.monotonic() + _ANSWER_WITHIN
    while time.monotonic() < deadline:
        if proc.run(["docker", "version", "--format", "{{.Server.Version}}"], timeout=20).ok:
            return
        time.sleep(0.5)
    raise BuildError(f"dockerd does not answer after {_ANSWER_WITHIN} s", "read /var/log/dockerd.log; it says why")


def _apt(*words: str) -> None:
    result = proc.run(["apt-get", *words], env=_APT, timeout=900)
    if not result.ok:
        raise BuildError(f"apt-get {words[0]}: {result.tail(2)}", "mend the machine's package sources, then again")


def _has_candidate(package: str) -> bool:
    result = proc.run(["apt-cache", "policy", package])
    return "Candidate:" in result.stdout and "Candidate: (none)" not in result.stdout


def _unpack_from_trixie() -> None:
    """Fetch three packages through an apt of its own, and unpack them; nothing of Debian 13 is installed."""
    mirror = engine.debian_mirror()
    if mirror is None:
        raise BuildError("this machine's Debian mirror is not known", "install Docker Engine yourself, then again")
    for folder in ("apt/lists/partial", "apt/cache/archives/partial", "debs", "root"):
        (OWN / folder).mkdir(parents=True, exist_ok=True)
    sources = OWN / "apt" / "sources.list"
    sources.write_text(f"deb {mirror} trixie main\n", encoding="utf-8")
    options = [
        f"Dir::Etc::sourcelist={sources}", "Dir::Etc::sourceparts=-", f"Dir::State::Lists={OWN}/apt/lists",
        f"Dir::Cache={OWN}/apt/cache", "APT::Sandbox::User=root",
    ]  # fmt: skip
    apt = ["apt-get", *(word for option in options for word in ("-o", option))]
    for words in ([*apt, "update", "-qq"], [*apt, "download", "-qq", *_PACKAGED]):
        result = proc.run(words, cwd=OWN / "debs", timeout=900)
        if not result.ok:
            raise BuildError(f"apt-get for Debian 13: {result.tail(2)}", "check the network, then run this again")
    for package in sorted((OWN / "debs").glob("*.deb")):
        if not proc.run(["dpkg", "-x", package, OWN / "root"], timeout=120).ok:
            raise BuildError(f"{package.name} cannot be unpacked", f"remove {OWN}, then run this again")
    for name in ("usr/bin/docker", "usr/sbin/docker-proxy", "usr/sbin/dockerd"):
        program = OWN / "root" / name
        _link(OWN / program.name, program)


def _link_programs() -> None:
    """Make `docker` and its buildx found by everybody on this machine, unless they have their own."""
    if (OWN / "docker").exists() and shutil.which("docker") is None:
        _link(Path("/usr/local/bin/docker"), OWN / "docker")
    buildx = OWN / "root/usr/libexec/docker/cli-plugins/docker-buildx"
    if buildx.is_file() and not proc.run(["docker", "buildx", "version"]).ok:
        _PLUGINS.mkdir(parents=True, exist_ok=True)
        _link(_PLUGINS / "docker-buildx", buildx)


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)


if __name__ == "__main__":
    with report.exit_codes():
        ensure()
