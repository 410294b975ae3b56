"""Install and start a Docker engine where none runs: on Debian and Ubuntu, as root. Each step is reported."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from gesso import proc, report
from gesso.builder.image import engine
from gesso.errors import BuildError

ENGINE_FOLDER = Path("/opt/gesso-engine")  # Docker's programs on a Debian whose own are too old
_PLUGINS = Path("/usr/local/lib/docker/cli-plugins")
_DEPENDENCIES = ("ca-certificates", "containerd", "iptables", "mmdebstrap", "runc")
_DOCKER_PACKAGES = ("docker.io", "docker-cli", "docker-buildx")
_APT = {"DEBIAN_FRONTEND": "noninteractive"}
_START_TIMEOUT = 60  # seconds


def ensure() -> None:
    """Ensure that an engine with buildx runs; install and start one where that is allowed.

    Raises BuildError with the commands to run where it is not.
    """
    try:
        engine.find()
    except BuildError as error:
        report.progress(f"engine: {error.message}")
        if not may_bring_up():
            raise
    else:
        return
    install()
    start()
    found = engine.find()
    report.progress(f"engine: Docker {found.version} with buildx {found.buildx} is up")


def may_bring_up() -> bool:
    """Check that this is root on a Debian-like Linux, and that no other engine is configured."""
    elsewhere = os.environ.get("DOCKER_HOST") or os.environ.get("DOCKER_CONTEXT")
    return sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get") is not None and not elsewhere


def install() -> None:
    """Install what is missing: Debian 13's and Ubuntu's packages; on Debian 12 those of Debian 13, unpacked apart."""
    missing = [name for name in _DEPENDENCIES if not proc.run(["dpkg", "-s", name]).ok]
    if missing:
        report.progress(f"engine: apt-get install {' '.join(missing)}")
        _apt("update", "-qq")
        _apt("install", "-qq", "-y", "--no-install-recommends", *missing)
    if shutil.which("dockerd") or (ENGINE_FOLDER / "dockerd").is_file():
        _link_programs()
        return
    _apt("update", "-qq")
    if _has_candidate("docker-buildx"):
        names = [name for name in _DOCKER_PACKAGES if _has_candidate(name)]
        report.progress(f"engine: apt-get install {' '.join(names)}")
        _apt("install", "-qq", "-y", "--no-install-recommends", *names)
    else:
        report.progress(
            f"engine: this Debian's Docker has no buildx; unpacking Debian 13's packages in {ENGINE_FOLDER}"
        )
        _unpack_from_trixie()
    _link_programs()


def start() -> None:
    """Start the daemon, by systemd where it runs, else in the background, and wait until it responds."""
    if Path("/run/systemd/system").is_dir() and not (ENGINE_FOLDER / "dockerd").is_file():
        report.progress("engine: systemctl start docker")
        proc.run(["systemctl", "start", "docker"], timeout=_START_TIMEOUT)
    else:
        daemon = shutil.which("dockerd") or str(ENGINE_FOLDER / "dockerd")
        log = Path("/var/log/dockerd.log")
        report.progress(f"engine: starting {daemon} (its log: {log})")
        proc.detach([daemon], log, env={"PATH": f"{ENGINE_FOLDER}:{os.environ['PATH']}"})
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        if proc.run(["docker", "version", "--format", "{{.Server.Version}}"], timeout=20).ok:
            return
        time.sleep(0.5)
    raise BuildError(f"dockerd did not start within {_START_TIMEOUT} s", "read /var/log/dockerd.log")


def _apt(*args: str) -> None:
    result = proc.run(["apt-get", *args], env=_APT, timeout=900)
    if not result.ok:
        raise BuildError(f"apt-get {args[0]}: {result.tail(2)}", "fix the machine's package sources, then retry")


def _has_candidate(package: str) -> bool:
    result = proc.run(["apt-cache", "policy", package])
    return "Candidate:" in result.stdout and "Candidate: (none)" not in result.stdout


def _unpack_from_trixie() -> None:
    """Fetch three packages with a separate apt configuration, and unpack them; nothing of Debian 13 is installed."""
    mirror = engine.debian_mirror()
    if mirror is None:
        raise BuildError("this machine's Debian mirror is unknown", "install Docker Engine yourself, then retry")
    for folder in ("apt/lists/partial", "apt/cache/archives/partial", "debs", "root"):
        (ENGINE_FOLDER / folder).mkdir(parents=True, exist_ok=True)
    sources = ENGINE_FOLDER / "apt" / "sources.list"
    sources.write_text(f"deb {mirror} trixie main\n", encoding="utf-8")
    options = [
        f"Dir::Etc::sourcelist={sources}", "Dir::Etc::sourceparts=-", f"Dir::State::Lists={ENGINE_FOLDER}/apt/lists",
        f"Dir::Cache={ENGINE_FOLDER}/apt/cache", "APT::Sandbox::User=root",
    ]  # fmt: skip
    apt = ["apt-get", *(arg for option in options for arg in ("-o", option))]
    for args in ([*apt, "update", "-qq"], [*apt, "download", "-qq", *_DOCKER_PACKAGES]):
        result = proc.run(args, cwd=ENGINE_FOLDER / "debs", timeout=900)
        if not result.ok:
            raise BuildError(f"apt-get for Debian 13: {result.tail(2)}", "check the network, then retry")
    for package in sorted((ENGINE_FOLDER / "debs").glob("*.deb")):
        if not proc.run(["dpkg", "-x", package, ENGINE_FOLDER / "root"], timeout=120).ok:
            raise BuildError(f"{package.name} cannot be unpacked", f"remove {ENGINE_FOLDER}, then retry")
    for name in ("usr/bin/docker", "usr/sbin/docker-proxy", "usr/sbin/dockerd"):
        program = ENGINE_FOLDER / "root" / name
        _link(ENGINE_FOLDER / program.name, program)


def _link_programs() -> None:
    """Link `docker` and buildx into the system's paths, unless it has its own."""
    if (ENGINE_FOLDER / "docker").exists() and shutil.which("docker") is None:
        _link(Path("/usr/local/bin/docker"), ENGINE_FOLDER / "docker")
    buildx = ENGINE_FOLDER / "root/usr/libexec/docker/cli-plugins/docker-buildx"
    if buildx.is_file() and not proc.run(["docker", "buildx", "version"]).ok:
        _PLUGINS.mkdir(parents=True, exist_ok=True)
        _link(_PLUGINS / "docker-buildx", buildx)


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)


if __name__ == "__main__":
    with report.exit_codes():
        ensure()
