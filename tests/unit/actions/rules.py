"""The project's own rules for the workflows in .github. Each returns one line per problem."""

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
# Write permissions by workflow and job, and no others: a new one is a decision, to be recorded here.
WRITES = {
    ("check", "cache"): {"packages"},
    ("locks", "propose"): {"contents", "pull-requests", "actions"},
    ("publish", "image"): {"packages", "id-token"},
}
_PINNED = re.compile(r"[\w.-]+/[\w./-]+@(?P<commit>[0-9a-f]{40})\s+# (?P<version>v\d+\.\d+\.\d+)\Z")
_TASKS = Collection.from_module(tasks)
_CALL = re.compile(r"(?:python3 build\.py|\binvoke)(?P<arguments>[^\n;|&)]*)")


def parse(text: str) -> Workflow:
    """Parse a workflow with every scalar as text: `on` is not a boolean."""
    loaded: Workflow = yaml.load(text, Loader=yaml.BaseLoader)  # creates only strings
    return loaded


def steps(workflow: Workflow) -> Iterator[tuple[str, Workflow]]:
    for name, job in workflow["jobs"].items():
        for step in job.get("steps", ()):
            yield name, step


def scripts(workflow: Workflow) -> Iterator[tuple[str, str]]:
    """Return the job and the script of every `run:`."""
    return ((job, step["run"]) for job, step in steps(workflow) if "run" in step)


def pins(text: str) -> list[str]:
    """Every action is pinned by a commit, with its version as a comment."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*(?:- )?uses:\s*(?P<what>.*)", line):
            what = match["what"]
            if not what.startswith("./") and not _PINNED.match(what):
                found.append(f"line {number}: not pinned by commit with a version comment: {what}")
    return found


def pinned(text: str) -> set[tuple[str, str, str]]:
    """Return each action, its commit and its version comment."""
    return {
        (line.split("@")[0].split()[-1], match["commit"], match["version"])
        for line in text.splitlines()
        if "uses:" in line and (match := _PINNED.search(line.split("uses:")[1].strip()))
    }


def permissions(text: str) -> list[str]:
    """Workflows grant nothing by default; each job requests its permissions, and only those in the table above."""
    workflow = parse(text)
    found = []
    if workflow.get("permissions") not in ({}, {"contents": "read"}):
        found.append("the workflow grants permissions by default, or does not set any")
    for name, job in workflow["jobs"].items():
        requested = job.get("permissions")
        if not isinstance(requested, dict):
            found.append(f"{name}: has no permissions of its own")
            continue
        writes = {right for right, level in requested.items() if level == "write"}
        if more := writes - WRITES.get((workflow["name"], name), set()):
            found.append(f"{name}: may write {', '.join(sorted(more))}")
    return found


def triggers(text: str) -> list[str]:
    """No event that runs untrusted code with this repository's permissions."""
    on = parse(text)["on"]
    names = {on} if isinstance(on, str) else set(on)
    return [f"trigger {name}" for name in sorted(names - TRIGGERS)]


def interpolation(text: str) -> list[str]:
    """No `${{ }}` in a script, where it would become code. Secrets only in a step's env or with."""
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
    """Checkouts keep no token; jobs time out; scripts stop at the first failure, also in a pipe; runners are pinned."""
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
    """The list of architectures is manifests/ alone: no workflow names one."""
    return [f"names {arch}" for arch in archs if re.search(rf"\b{re.escape(arch)}\b", text)]


def commands(text: str) -> list[str]:
    """Every call of a task in a script is valid for invoke."""
    found = []
    for job, script in scripts(parse(text)):
        found += [f"{job}: {problem}" for call in calls(script) if (problem := refused(call))]
    return found


def calls(script: str) -> list[list[str]]:
    """Return the arguments of each call of build.py or invoke; conditional flags count as set."""
    joined = script.replace("\\\n", " ")
    plain = re.sub(r"\$\{\w+:\+(--[\w-]+)\}", r"\1", joined)
    return [shlex.split(match["arguments"].split(">")[0]) for match in _CALL.finditer(plain)]


def refused(arguments: list[str]) -> str:
    """Return why invoke would refuse these arguments as build.py passes them on; empty where it would not."""
    arguments = ["build", *arguments] if not arguments or arguments[0].startswith("-") else arguments
    if arguments[0] not in _TASKS.task_names:
        return f"no task {arguments[0]}"
    try:
        given = Parser(contexts=_TASKS.to_contexts()).parse_argv(arguments)
    except ParseError as error:
        return f"{' '.join(arguments)}: {error}"
    return "" if len(given) == 1 else f"{' '.join(arguments)}: {len(given)} tasks at once"


def settings(text: str) -> set[str]:
    """Return the names of the secrets and variables that a workflow needs."""
    return set(re.findall(r"\b(?:secrets|vars)\.(\w+)", text))
