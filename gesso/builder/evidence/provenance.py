"""SLSA provenance v1 of an image: its sources, the build's parameters, its builder. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gesso.redact import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gesso.builder.evidence.contents import Contents
    from gesso.builder.evidence.sbom import Subject

BUILD_TYPE = "urn:gesso:build:v1"
LOCAL = "urn:gesso:builder:somebodys-machine"


def statement(subject: Subject, contents: Contents, labels: Mapping[str, str], invocation: Mapping[str, Any],
              env: Mapping[str, str]) -> dict[str, Any]:  # fmt: skip
    """Return the predicate, reproducibly: the same for the same image and command.

    `invocation`: the parameters of the command. From the environment it takes the workflow's URL only.
    """
    record = contents.record
    revision = labels.get("org.opencontainers.image.revision")
    materials = [
        *([{"uri": "urn:gesso:source", "digest": {"gitCommit": revision}}] if revision else []),
        _base(record["base"]),
        {"uri": f"urn:gesso:lock:{record['arch']}", "digest": {"sha256": record["lock"]}},
        *(_source(name, source) for name, source in {"ComfyUI": record["comfyui"], **record["nodes"]}.items()),
    ]
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": redact(dict(invocation)),
            "internalParameters": {
                "gesso": subject.version,
                "lock": record["lock"],
                "python": record["python"]["version"],
            },
            "resolvedDependencies": materials,
        },
        "runDetails": {
            "builder": {"id": builder(env), "version": {"gesso": subject.version}},
            "metadata": {"finishedOn": _seconds(subject.created)},
        },
    }


def builder(env: Mapping[str, str]) -> str:
    """Return the builder's id: the workflow's URL in GitHub Actions, else a fixed one for any other machine."""
    if env.get("GITHUB_ACTIONS") == "true" and env.get("GITHUB_WORKFLOW_REF"):
        return f"{env.get('GITHUB_SERVER_URL', 'https://github.com')}/{env['GITHUB_WORKFLOW_REF']}"
    return LOCAL


def _base(base: Mapping[str, str]) -> dict[str, Any]:
    if base.get("digest"):
        return {"uri": f"pkg:docker/{base.get('image')}", "digest": {"sha256": base["digest"].removeprefix("sha256:")}}
    return {"uri": f"urn:gesso:base:bootstrap:{base.get('bootstrap')}"}


def _source(name: str, source: Mapping[str, str]) -> dict[str, Any]:
    if source.get("git") and source.get("commit"):
        return {"name": name, "uri": f"git+{source['git']}", "digest": {"gitCommit": source["commit"]}}
    return {"name": name, "uri": f"urn:gesso:source:{source.get('path', 'unknown')}"}


def _seconds(created: str) -> str:
    return re.sub(r"\.\d+", "", created)
