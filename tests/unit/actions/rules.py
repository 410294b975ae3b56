"""Our own rules for the workflows in .github: what linters do not know. Each gives a line for all that is wrong."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

import yaml
from invoke.collection import Collection
from invoke.exceptions import ParseError
from invoke.parser import Parser

import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

Workflow = dict[str, Any]

TRIGGERS = {"push", "pull_request", "schedule", "workflow_dispatch"}
# Who may write what, and nobody else: a new right is a decision, to be made here, too.
WRITES = {
    ("check", "cache"): {"packages"},
    ("locks", "propose"): {"contents", "pull-requests", "actions"},
    ("publish", "image"): {"packages", "id-token"},
}
_PINNED = re.compile(r"[\w.-]+/[\w./-]+@(?P<commit>[0-9a-f]{40})\s+# (?P<version>v\d+\.\d+\.\d+)\Z")
_TASKS = Collection.from_module(tasks)
_CALL = re.compile(r"(?:python3 build\.py|\binvoke)(?P<words>[^\n;|&)]*)")


def parse(text: str) -> Workflow:
    """Read a workflow with every scalar as text: `on` stays a word."""
    loaded: Workflow = yaml.load(text, Loader=yaml.BaseLoader)  # makes nothing but text
    return loaded


def steps(workflow: Workflow) -> Iterator[tuple[str, Workflow]]:
    for name, job in workflow["jobs"].items():
        for step in job.get("steps", ()):
            yield name, step


def scripts(workflow: Workflow) -> Iterator[tuple[str, str]]:
    """Give the job and the text of every `run:`."""
    return ((job, step["run"]) for job, step in steps(workflow) if "run" in step)


def pins(text: str) -> list[str]:
    """Every action is pinned by a commit, and says which version that is."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*(?:- )?uses:\s*(?P<what>.*)", line):
            what = match["what"]
            if not what.startswith("./") and not _PINNED.match(what):
                found.append(f"line {number}: not pinned by commit with a version comment: {what}")
    return found


def pinned(text: str) -> set[tuple[str, str, str]]:
    """Give each action, its commit and the version that it is said to be."""
    return {
        (line.split("@")[0].split()[-1], match["commit"], match["version"])
        for line in text.splitlines()
        if "uses:" in line and (match := _PINNED.search(line.split("uses:")[1].strip()))
    }


def rights(text: str) -> list[str]:
    """Nothing may be done that is not asked for by a job, and none asks for more than the table above says."""
    workflow = parse(text)
    found = []
    if workflow.get("permissions") not in ({}, {"contents": "read"}):
        found.append("the workflow gives its jobs more than nothing, or does not say")
    for name, job in workflow["jobs"].items():
        asked = job.get("permissions")
        if not isinstance(asked, dict):
            found.append(f"{name}: says no permissions of its own")
            continue
        writes = {right for right, level in asked.items() if level == "write"}
        if more := writes - WRITES.get((workflow["name"], name), set()):
            found.append(f"{name}: may write {', '.join(sorted(more))}")
    return found


def triggers(text: str) -> list[str]:
    """No event that runs a stranger's code with this repository's rights."""
    on = parse(text)["on"]
    names = {on} if isinstance(on, str) else set(on)
    return [f"trigger {name}" for name in sorted(names - TRIGGERS)]


def interpolation(text: str) -> list[str]:
    """No `${{ }}` in a script: what stands there would be code. And no secret but in one step's env or with."""
    workflow = parse(text)
    found = [f"{job}: ${{{{ in run" for job, script in scripts(workflow) if "${{" in script]
    outside = yaml.safe_dump({**workflow, "jobs": {n: {**j, "steps": []} for n, j in workflow["jobs"].items()}})
    if "secrets." in outside or "secrets[" in outside or "github.token" in outside:
        found.append("a secret outside of a step")
    for job, step in steps(workflow):
        elsewhere = str({key: value for key, value in step.items() if key not in {"env", "with"}})
        if "secrets." in elsewhere or "github.token" in elsewhere:
            found.append(f"{job}: a secret outside of env and with")
    return found


def hygiene(text: str) -> list[str]:
    """A checkout keeps no token; jobs end; scripts stop at the first failure, in a pipe too; runners do not change."""
    workflow = parse(text)
    found = []
    for job, step in steps(workflow):
        is_checkout = step.get("uses", "").startswith("actions/checkout@")
        if is_checkout and step.get("with", {}).get("persist-credentials") != "false":
            found.append(f"{job}: the checkout keeps its token")
    for name, job in workflow["jobs"].items():
        if not job.get("timeout-minutes", "").isdigit():
            found.append(f"{name}: no timeout")
        if not re.fullmatch(r"ubuntu-\d\d\.\d\d", str(job.get("runs-on"))):
            found.append(f"{name}: runs on {job.get('runs-on')}")
    if "group" not in workflow.get("concurrency", {}):
        found.append("no concurrency group")
    if workflow.get("defaults") != {"run": {"shell": "bash"}}:
        found.append("no `defaults: run: shell: bash`, which sets pipefail")
    return found


def architectures(text: str, archs: list[str]) -> list[str]:
    """Which architectures there are stands in manifests/, and nowhere twice."""
    return [f"names {arch}" for arch in archs if re.search(rf"\b{re.escape(arch)}\b", text)]


def commands(text: str) -> list[str]:
    """Every call of a task in a script is one that invoke takes."""
    found = []
    for job, script in scripts(parse(text)):
        found += [f"{job}: {problem}" for call in calls(script) if (problem := refused(call))]
    return found


def calls(script: str) -> list[list[str]]:
    """Give the words of each call of build.py or invoke; flags that depend on a variable are taken as given."""
    joined = script.replace("\\\n", " ")
    plain = re.sub(r"\$\{\w+:\+(--[\w-]+)\}", r"\1", joined)
    return [shlex.split(match["words"].split(">")[0]) for match in _CALL.finditer(plain)]


def refused(words: list[str]) -> str:
    """Say why invoke would not take these words, as build.py hands them on; nothing where it would."""
    words = ["build", *words] if not words or words[0].startswith("-") else words
    if words[0] not in _TASKS.task_names:
        return f"no task {words[0]}"
    try:
        given = Parser(contexts=_TASKS.to_contexts()).parse_argv(words)
    except ParseError as error:
        return f"{' '.join(words)}: {error}"
    return "" if len(given) == 1 else f"{' '.join(words)}: {len(given)} tasks at once"


def settings(text: str) -> set[str]:
    """Name the secrets and variables that a repository must have for a workflow."""
    return set(re.findall(r"\b(?:secrets|vars)\.(\w+)", text))
