"""Parse the rendered Dockerfile: the instructions of the final image in order, and the config that they result in."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import Any

_FLAG = re.compile(r"--[a-z-]+=\S+\s+|--link\s+")
_SECONDS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}  # in nanoseconds, as in the config


@dataclass(frozen=True)
class Step:
    """One instruction without its flags: `RUN` `apt-get update`."""

    word: str
    text: str

    @property
    def as_history(self) -> str:
        """Return how BuildKit writes it into an image's history, with single blanks."""
        text = {"RUN": f"RUN /bin/sh -c {self.text}", "COPY": f"COPY {self.text}"}.get(self.word)
        return " ".join((text or f"{self.word} {self.text}").split())


def steps(dockerfile: str) -> tuple[Step, ...]:
    """Return the instructions of the last stage and of its parent stages, the oldest first."""
    stages: dict[str, list[Step]] = {}
    parents: dict[str, str] = {}
    name = ""
    for line in _joined(dockerfile):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            parent, _, name = rest.partition(" AS ")
            stages[name], parents[name] = [], parent
        else:
            bare = rest.strip()
            while word != "HEALTHCHECK" and (flag := _FLAG.match(bare)):
                bare = bare[flag.end() :]
            stages[name].append(Step(word, bare))
    chain = [name]
    while parents[chain[0]] in stages:
        chain.insert(0, parents[chain[0]])
    return tuple(step for stage in chain for step in stages[stage])


def _joined(dockerfile: str) -> list[str]:
    lines, block = [], ""
    for line in dockerfile.splitlines():
        if line.lstrip().startswith("#") or not line.strip():
            continue
        if line.endswith("\\"):
            block += line[:-1]
            continue
        lines.append(block + line)
        block = ""
    return lines


def config_of(found: tuple[Step, ...]) -> dict[str, Any]:
    """Return the image config that the instructions result in, in the engine's own keys."""
    env: dict[str, str] = {}
    labels: dict[str, str] = {}
    config: dict[str, Any] = {"ExposedPorts": {}, "Entrypoint": None, "Cmd": None, "Healthcheck": None,
                              "WorkingDir": "", "User": "", "Volumes": None, "OnBuild": None,
                              "Shell": None, "StopSignal": None}  # fmt: skip
    for step in found:
        match step.word:
            case "ENV":
                env |= dict(pair.split("=", 1) for pair in shlex.split(step.text))
            case "LABEL":
                labels |= dict(pair.split("=", 1) for pair in shlex.split(step.text))
            case "EXPOSE":
                config["ExposedPorts"] |= {f"{port}/tcp": {} for port in step.text.split()}
            case "WORKDIR":
                config["WorkingDir"] = step.text
            case "ENTRYPOINT":
                config["Entrypoint"] = json.loads(step.text)
            case "CMD":
                config["Cmd"] = json.loads(step.text)
            case "USER":
                config["User"] = step.text
            case "HEALTHCHECK":
                config["Healthcheck"] = _health(step.text)
    return {**config, "Env": env, "Labels": labels}


def _health(text: str) -> dict[str, Any]:
    options, _, command = text.partition("CMD ")
    given = dict(word.removeprefix("--").split("=", 1) for word in options.split())
    return {
        "Test": ["CMD", *json.loads(command)],
        "Interval": _nanoseconds(given["interval"]),
        "Timeout": _nanoseconds(given["timeout"]),
        "StartPeriod": _nanoseconds(given["start-period"]),
        "Retries": int(given["retries"]),
    }


def _nanoseconds(text: str) -> int:
    match = re.fullmatch(r"(\d+)(ms|s|m|h)", text)
    assert match, text
    return int(match[1]) * _SECONDS[match[2]]
