"""Config and history are those of the rendered Dockerfile: environment, entry, health, port, labels, steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import dockerfile as instructions

if TYPE_CHECKING:
    from .expected import Expected
    from .image_snapshot import ImageSnapshot

REVISION = "org.opencontainers.image.revision"  # the commit that it was built from: not the one that is tested


def settings(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Compare every key of the config, except the labels."""
    declared = instructions.config_of(expected.steps(snapshot))
    found = snapshot.config["config"]
    base = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    env = dict(pair.split("=", 1) for pair in found.get("Env") or [])
    should = {name: value.replace("$PATH", base["PATH"]) for name, value in (base | declared["Env"]).items()}
    problems = [f"ENV {name} is {env.get(name, 'not set')}, not {should.get(name, 'set at all')}"
                for name in sorted(env.keys() | should.keys()) if env.get(name) != should.get(name)]  # fmt: skip
    others = declared.keys() - {"Env", "Labels"}
    return problems + [f"{key} is {found.get(key)}, not {declared[key]}" for key in sorted(others)
                       if (found.get(key) or None) != (declared[key] or None)]  # fmt: skip


def labels(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Compare the labels."""
    declared = instructions.config_of(expected.steps(snapshot))["Labels"]
    found = snapshot.config["config"].get("Labels") or {}
    names = (declared.keys() | found.keys()) - {REVISION}
    return [f"LABEL {name} is {found.get(name, 'not set')}, not {declared.get(name, 'set at all')}"
            for name in sorted(names) if found.get(name) != declared.get(name)]  # fmt: skip


def history(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Compare the commands that made each layer: the history has exactly the Dockerfile's steps, in order."""
    declared = [step.as_history for step in expected.steps(snapshot) if step.word in {"RUN", "COPY", "WORKDIR"}]
    rows = [row for row in snapshot.config["history"] if row.get("comment") == "buildkit.dockerfile.v0"]
    made = [" ".join(row["created_by"].removesuffix("# buildkit").split()) for row in rows]
    found = [text for text in made if text.split(" ", 1)[0] in {"RUN", "COPY", "ADD", "WORKDIR"}]
    problems = [f"layer {at}: `{is_[:90]}`, not `{should[:90]}`"
                for at, (is_, should) in enumerate(zip(found, declared, strict=False)) if is_ != should]  # fmt: skip
    if len(found) != len(declared):
        problems.append(f"{len(found)} steps that make layers, the Dockerfile has {len(declared)}")
    strangers = [row for row in snapshot.config["history"] if row not in rows and not row.get("empty_layer")]
    if len(strangers) != base_layers(snapshot, expected) or snapshot.config["history"][: len(strangers)] != strangers:
        problems.append("there are layers that no Dockerfile made")
    return problems


def base_layers(snapshot: ImageSnapshot, expected: Expected) -> int:
    """Return how many of the lowest layers are the base image's: those before the Dockerfile's first step."""
    first = next(step.as_history for step in expected.steps(snapshot) if step.word in {"RUN", "COPY", "WORKDIR"})
    layers = 0
    for row in snapshot.config["history"]:
        if " ".join(row.get("created_by", "").removesuffix("# buildkit").split()) == first:
            return layers
        layers += not row.get("empty_layer", False)
    return 0  # no such step: no layer is known to be the base's


def final_layer(snapshot: ImageSnapshot, expected: Expected) -> list[str]:
    """Check that the last layer restores SQLAlchemy, and changes nothing else."""
    site = f"opt/venv/lib/python{expected.manifest.python.version}/site-packages"
    top = {path: entry for path, entry in snapshot.parts[-1].items() if entry.kind != "folder"}
    if f"{site}/sqlalchemy/orm/__init__.py" not in top:
        return ["the last layer does not install SQLAlchemy"]
    own = (f"{site}/sqlalchemy/", f"{site}/sqlalchemy-")
    return [f"the last layer changes {path}" for path in sorted(top) if not path.startswith(own)]
