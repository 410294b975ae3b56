"""The workflows for users keep our rules; and each rule catches what it is for."""

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
    "rights": rules.rights,
    "triggers": rules.triggers,
    "interpolation": rules.interpolation,
    "hygiene": rules.hygiene,
    "architectures": lambda text: rules.architectures(text, ARCHS),
    "commands": rules.commands,
}
CHECKOUT = "3d3c42e5aac5ba805825da76410c181273ba90b1"


def test_there_is_something_to_check() -> None:
    assert [path.stem for path in WORKFLOWS] == ["check", "locks", "publish"]
    found = {name: [call for _, script in rules.scripts(rules.parse(text_of(name))) for call in rules.calls(script)]
             for name in ("check", "locks", "publish")}  # fmt: skip
    assert {name: len(calls) for name, calls in found.items()} == {"check": 5, "locks": 2, "publish": 6}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_keeps_a_rule(path: Path, rule: str) -> None:
    assert RULES[rule](path.read_text(encoding="utf-8")) == []


# (rule, workflow, what stands there, what the mutant has instead, what must be said of it)
MUTANTS = [
    ("pins", "check", f"@{CHECKOUT} # v7.0.1", "@v7", "not pinned by commit"),
    ("pins", "check", f"@{CHECKOUT} # v7.0.1", "@main # v7.0.1", "not pinned by commit"),
    ("pins", "check", f"@{CHECKOUT} # v7.0.1", f"@{CHECKOUT[:12]} # v7.0.1", "not pinned by commit"),
    ("pins", "check", f"@{CHECKOUT} # v7.0.1", f"@{CHECKOUT}", "not pinned by commit"),
    ("pins", "check", f"actions/checkout@{CHECKOUT}", "docker://alpine:3", "not pinned by commit"),
    ("rights", "check", "permissions: {}", "permissions: write-all", "more than nothing"),
    ("rights", "check", "permissions: {}\n", "", "more than nothing"),
    ("rights", "check", "permissions: {}", "permissions: {contents: read, packages: read}", "more than nothing"),
    ("rights", "check", "packages: read", "packages: write", "images: may write packages"),
    ("rights", "locks", "contents: read", "contents: write", "resolve: may write contents"),
    ("rights", "publish", "packages: write", "contents: write\n      packages: write", "image: may write contents"),
    ("rights", "publish", "    permissions:\n      contents: read\n    outputs", "    outputs", "archs: says no"),
    ("rights", "publish", "    permissions:\n      contents: read\n    outputs",
     "    permissions: write-all\n    outputs", "archs: says no"),
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


@pytest.mark.parametrize(("rule", "name", "old", "new", "said"), MUTANTS)
def test_a_rule_catches(rule: str, name: str, old: str, new: str, said: str) -> None:
    found = RULES[rule](changed(name, old, new))
    assert found
    assert said in " ".join(found)


def test_every_rule_has_a_mutant() -> None:
    assert {mutant[0] for mutant in MUTANTS} == set(RULES)


def test_an_action_is_pinned_to_one_commit_everywhere() -> None:
    found = set[tuple[str, str, str]]().union(*(rules.pinned(path.read_text(encoding="utf-8")) for path in WORKFLOWS))
    assert len(found) == len({action for action, _, _ in found}) >= 7
    assert len(found) == len({commit for _, commit, _ in found})


def test_no_right_is_given_that_nobody_asks_for() -> None:
    """A line of the table that no job needs any more would let one come back unseen."""
    asked = {
        (path.stem, name): {right for right, level in job["permissions"].items() if level == "write"}
        for path in WORKFLOWS
        for name, job in rules.parse(path.read_text(encoding="utf-8"))["jobs"].items()
    }
    assert {key: writes for key, writes in asked.items() if writes} == rules.WRITES


def test_what_a_script_starts_is_there() -> None:
    """The locks' pull request starts check.yml by name, with an input of it."""
    assert "gh workflow run check.yml --ref" in (GITHUB / "propose-locks.sh").read_text(encoding="utf-8")
    assert "--raw-field real=true" in (GITHUB / "propose-locks.sh").read_text(encoding="utf-8")
    assert "real" in rules.parse(text_of("check"))["on"]["workflow_dispatch"]["inputs"]


def test_dependabot_moves_the_actions_and_nothing_else() -> None:
    """Python is moved by `invoke lock`: two movers would fight."""
    data = yaml.safe_load((GITHUB / "dependabot.yml").read_text(encoding="utf-8"))
    assert [(each["package-ecosystem"], each["directory"]) for each in data["updates"]] == [("github-actions", "/")]


def test_the_docs_name_every_workflow_and_all_that_it_needs() -> None:
    told = (ROOT / "docs/maintainer.md").read_text(encoding="utf-8")
    for path in WORKFLOWS:
        assert f"`{path.name}`" in told
        for name in rules.settings(path.read_text(encoding="utf-8")):
            assert f"`{name}`" in told, f"{path.name} needs {name}, and docs/maintainer.md does not say so"


def test_what_a_workflow_needs_is_found() -> None:
    assert rules.settings("a: ${{ secrets.KEY }}\nb: ${{ vars.WHERE && secrets.OTHER }}\n") == {"KEY", "WHERE", "OTHER"}
