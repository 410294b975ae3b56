"""Compare an image's labels, SBOM and provenance with its record. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gesso.builder.evidence.contents import Distribution

_LABELS = ("dev.gesso.arch", "dev.gesso.lock", "dev.gesso.trial", "dev.gesso.comfyui", "dev.gesso.sqlalchemy",
           "org.opencontainers.image.version")  # fmt: skip


def labels(found: Mapping[str, str], record: Mapping[str, Any], *, trial_allowed: bool) -> list[str]:
    """Compare the labels with the image's record; return the differences."""
    if missing := [name for name in _LABELS if not found.get(name)]:
        return [f"label {name} is missing" for name in missing]
    expected = {
        "dev.gesso.arch": record.get("arch"),
        "dev.gesso.lock": record.get("lock"),
        "dev.gesso.trial": str(record.get("trial")).lower(),
        "dev.gesso.comfyui": record.get("comfyui", {}).get("commit") or "stand-in",
        "dev.gesso.sqlalchemy": record.get("python", {}).get("pins", {}).get("sqlalchemy"),
        "org.opencontainers.image.version": record.get("gesso"),
    }
    wrong = [f"label {name} is {found[name]}, the image's record says {value}" for name, value in expected.items()
             if found[name] != value]  # fmt: skip
    if found["dev.gesso.trial"] != "false" and not trial_allowed:
        wrong.append("it is a trial image")
    return wrong


def bill(found: Mapping[str, Any], digest: str, record: Mapping[str, Any], pins: Iterable[Distribution]) -> list[str]:
    """Compare an SBOM with the image: digest, lock, models, pins, sources; return the differences."""
    root = found.get("metadata", {}).get("component", {})
    parts = {str(each.get("bom-ref")): each for each in found.get("components") or ()}
    wrong = [] if root.get("version") == digest else [f"it describes {root.get('version')}"]
    if (lock := _property(root, "lock")) != record.get("lock"):
        wrong.append(f"it was made for lock {lock}")
    expected = {f"model:{model['name']}": model["sha256"] for model in record["models"]}
    expected |= {f"workflow:{name}": sha256 for name, sha256 in record["workflows"].items()}
    wrong += _compare(expected, {name: _hash(part) for name, part in parts.items()}, ("model:", "workflow:"))
    expected = {f"venv:{pin.name}": pin.version for pin in pins}
    sources = {"ComfyUI": record["comfyui"], **record["nodes"]}
    expected |= {f"source:{name}": source.get("commit") or "" for name, source in sources.items()}
    versions = {name: str(part.get("version", "")) for name, part in parts.items()}
    return wrong + _compare(expected, versions, ("venv:", "source:"))


def provenance(found: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """Compare a provenance with the image's record: lock, sources, base; return the differences."""
    parts = found.get("buildDefinition", {}).get("resolvedDependencies") or ()
    digests = {str(each.get("name") or each.get("uri")): each.get("digest") or {} for each in parts}
    wrong = []
    if digests.get(f"urn:gesso:lock:{record['arch']}", {}).get("sha256") != record["lock"]:
        wrong.append("it was made for another lock")
    for name, source in {"ComfyUI": record["comfyui"], **record["nodes"]}.items():
        if source.get("commit") and digests.get(name, {}).get("gitCommit") != source["commit"]:
            wrong.append(f"{name} has another commit")
    base = record["base"].get("digest", "").removeprefix("sha256:")
    if base and not any(each.get("sha256") == base for each in digests.values()):
        wrong.append("its base differs")
    return wrong


def _compare(expected: Mapping[str, str], found: Mapping[str, str], kinds: tuple[str, ...]) -> list[str]:
    actual = {name: value for name, value in found.items() if name.startswith(kinds)}
    return (
        [f"{name} is missing" for name in sorted(expected.keys() - actual.keys())]
        + [f"{name} is not in the image" for name in sorted(actual.keys() - expected.keys())]
        + [f"{name} differs" for name in sorted(expected.keys() & actual.keys()) if expected[name] != actual[name]]
    )


def _property(part: Mapping[str, Any], name: str) -> str:
    found = (each.get("value") for each in part.get("properties") or () if each.get("name") == f"gesso:{name}")
    return str(next(found, ""))


def _hash(part: Mapping[str, Any]) -> str:
    return str(next((each.get("content") for each in part.get("hashes") or () if each.get("alg") == "SHA-256"), ""))
