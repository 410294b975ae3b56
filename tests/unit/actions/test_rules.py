"""The workflows follow the project's rules; and each rule detects its mutants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from gesso.settings import Project

from . import rules
from .places import GITHUB, ROOT, WORKFLOWS, changed, text_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ARCHS = Project(ROOT).archs()
RULES: dict[str, Callable[[str], list[str]]] = {
    "pins": rules.pins,
    "permissions": rules.permissions,
    "triggers": rules.triggers,
    "interpolation": rules.interpolation,
    "hygiene": rules.hygiene,
    "architectures": lambda text: rules.architectures(text, ARCHS),
    "commands": rules.commands,
}
CHECKOUT = "3d3c42e5aac5ba805825da76410c181273ba90b1"


def test_all_workflows_and_calls_are_found() -> None:
    assert [path.stem for path in WORKFLOWS] == ["check", "locks", "publish"]
    found = {name: [call for _, script in rules.scripts(rules.parse(text_of(name))) for call in rules.calls(script)]
             for name in ("check", "locks", "publish")}  # fmt: skip
    assert {name: len(calls) for name, calls in found.items()} == {"check": 5, "locks": 2, "publish": 6}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_follows_a_rule(path: Path, rule: str) -> None:
    assert RULES[rule](path.read_text(encoding="utf-8")) == []


# (rule, workflow, original text, mutant's text, expected problem)
MUTANTS = [
    ("pins", "check", f"@{CHECKOUT} # v7.0.1", "@v7", "not pinned by commit"),
    ("pins", "check", f"@{CHECKOUT} # v7.0.1", "@main # v7.0.1", "not pinned by commit"),
    ("pins", "check", f"@{CHECKOUT} # v7.0.1", f"@{CHECKOUT[:12]} # v7.0.1", "not pinned by commit"),
    ("pins", "check", f"@{CHECKOUT} # v7.0.1", f"@{CHECKOUT}", "not pinned by commit"),
    ("pins", "check", f"actions/checkout@{CHECKOUT}", "docker://alpine:3", "not pinned by commit"),
    ("permissions", "check", "permissions: {}", "permissions: write-all", "by default"),
    ("permissions", "check", "permissions: {}\n", "", "by default"),
    ("permissions", "check", "permissions: {}", "permissions: {contents: read, packages: read}", "by default"),
    ("permissions", "check", "packages: read", "packages: write", "images: may write packages"),
    ("permissions", "locks", "contents: read", "contents: write", "resolve: may write contents"),
    ("permissions", "publish", "packages: write", "contents: write\n      packages: write",
     "image: may write contents"),
    ("permissions", "publish", "    permissions:\n      contents: read\n    outputs", "    outputs", "archs: has no"),
    ("permissions", "publish", "    permissions:\n      contents: read\n    outputs",
     "    permissions: write-all\n    outputs", "archs: has no"),
    ("triggers", "check", "  pull_request:", "  pull_request_target:", "trigger pull_request_target"),
    ("triggers", "check", "  pull_request:", "  workflow_run:", "trigger workflow_run"),
    ("triggers", "locks", "  workflow_dispatch:", "  issue_comment:", "trigger issue_comment"),
    ("interpolation", "check", "run: python3 build.py test\n", "run: python3 build.py test ${{ github.head_ref }}\n",
     "project: ${{ in run"),
    ("interpolation", "check", 'archs=$(python3', "echo '${{ github.event.pull_request.title }}'; archs=$(python3",
     "archs: ${{ in run"),
    ("interpolation", "publish", "env:\n      ARCH", "env:\n      KEY: ${{ secrets.KEY }}\n      ARCH",
     "outside of a step"),
    ("interpolation", "publish", "name: Make room", "name: Make room for ${{ secrets.KEY }}",
     "outside of env and with"),
    ("hygiene", "locks", "persist-credentials: false", "persist-credentials: true", "the checkout keeps its token"),
    ("hygiene", "check", "        with:\n          persist-credentials: false\n", "", "the checkout keeps its token"),
    ("hygiene", "check", "    timeout-minutes: 45\n", "", "project: no timeout"),
    ("hygiene", "check", "ubuntu-24.04", "ubuntu-latest", "runs on ubuntu-latest"),
    ("hygiene", "check", "concurrency:\n  group", "env:\n  group", "no concurrency group"),
    ("hygiene", "check", "    shell: bash", "    shell: sh", "pipefail"),
    ("architectures", "check", "fromJSON(needs.archs.outputs.archs)", "fromJSON('[\"sdxl\"]')", "names sdxl"),
    ("commands", "check", "build.py archs", "build.py architectures", "no task architectures"),
    ("commands", "check", "${TRIAL:+--trial}", "${TRIAL:+--trail}", "No idea what '--trail' is"),
    ("commands", "check", '--cache-from "', '--cache-form "', "No idea what '--cache-form' is"),
    ("commands", "check", 'test --arch "$ARCH"', 'test "$ARCH"', "No idea what '$ARCH' is"),
    ("commands", "locks", "--summary out/summary.md", "--summary", "needed value"),
    ("commands", "publish", "--no-cache", "--no-cash", "No idea what '--no-cash' is"),
    ("commands", "publish", "--keyless --json", "--keyles --json", "--keyles"),
    ("commands", "publish", "--issuer https", "--issure https", "--issure"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "name", "old", "new", "problem"), MUTANTS)
def test_a_rule_detects(rule: str, name: str, old: str, new: str, problem: str) -> None:
    found = RULES[rule](changed(name, old, new))
    assert found
    assert problem in " ".join(found)


def test_every_rule_has_a_mutant() -> None:
    assert {mutant[0] for mutant in MUTANTS} == set(RULES)


def test_an_action_is_pinned_to_one_commit_everywhere() -> None:
    found = set[tuple[str, str, str]]().union(*(rules.pinned(path.read_text(encoding="utf-8")) for path in WORKFLOWS))
    assert len(found) == len({action for action, _, _ in found}) >= 7
    assert len(found) == len({commit for _, commit, _ in found})


def test_no_permission_is_listed_that_no_job_requests() -> None:
    """An unused entry of the table would let a permission come back unnoticed."""
    requested = {
        (path.stem, name): {permission for permission, level in job["permissions"].items() if level == "write"}
        for path in WORKFLOWS
        for name, job in rules.parse(path.read_text(encoding="utf-8"))["jobs"].items()
    }
    assert {key: writes for key, writes in requested.items() if writes} == rules.WRITES


def test_the_workflow_that_a_script_starts_exists() -> None:
    """propose-locks.sh starts check.yml by name, with one of its inputs."""
    assert "gh workflow run check.yml --ref" in (GITHUB / "propose-locks.sh").read_text(encoding="utf-8")
    assert "--raw-field real=true" in (GITHUB / "propose-locks.sh").read_text(encoding="utf-8")
    assert "real" in rules.parse(text_of("check"))["on"]["workflow_dispatch"]["inputs"]


def test_dependabot_updates_only_actions() -> None:
    """Python packages are updated by `invoke lock`: two updaters would conflict."""
    data = yaml.safe_load((GITHUB / "dependabot.yml").read_text(encoding="utf-8"))
    assert [(each["package-ecosystem"], each["directory"]) for each in data["updates"]] == [("github-actions", "/")]


def test_the_docs_list_every_workflow_and_its_settings() -> None:
    text = (ROOT / "docs/maintainer.md").read_text(encoding="utf-8")
    for path in WORKFLOWS:
        assert f"`{path.name}`" in text
        for name in rules.settings(path.read_text(encoding="utf-8")):
            assert f"`{name}`" in text, f"{path.name} needs {name}, and docs/maintainer.md does not list it"


def test_settings_of_a_workflow_are_found() -> None:
    assert rules.settings("a: ${{ secrets.KEY }}\nb: ${{ vars.WHERE && secrets.OTHER }}\n") == {"KEY", "WHERE", "OTHER"}
