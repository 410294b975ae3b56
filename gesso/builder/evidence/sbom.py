"""SBOM (bill of materials) of an image in CycloneDX format, reproducible. Pure."""

from __future__ import annotations

import functools
import json
import re
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cyclonedx.validation.json import JsonStrictValidator

    from gesso.builder.evidence.contents import Contents, Distribution

VERSION = SchemaVersion.V1_6
_GITHUB = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?\Z")


@dataclass(frozen=True)
class Subject:
    """The described image: repository, manifest digest, version, creation time (RFC 3339)."""

    repository: str
    digest: str
    version: str
    created: str


def bill(subject: Subject, contents: Contents) -> str:
    """Return the SBOM as JSON."""
    root = _root(subject, contents)
    own = Component(name="gesso", type=ComponentType.APPLICATION, version=subject.version, bom_ref="gesso")
    components = [
        *(_python(each, "venv", "/opt/venv") for each in contents.python),
        *(_python(each, "gesso", "/opt/gesso/venv") for each in contents.own_python),
        *_debian(contents),
        _source("ComfyUI", contents.record["comfyui"], ComponentType.APPLICATION),
        *(_source(name, source, ComponentType.LIBRARY) for name, source in contents.record["nodes"].items()),
        *(_model(model, contents.record["baked"]) for model in contents.record["models"]),
        *(_workflow(name, digest) for name, digest in contents.record["workflows"].items()),
    ]
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{subject.repository}@{subject.digest}"),
        metadata=BomMetaData(component=root, tools=ToolRepository(components=[own]), timestamp=_time(subject.created)),
        components=components,
    )
    bom.register_dependency(root, components)
    return make_outputter(bom, OutputFormat.JSON, VERSION).output_as_string(indent=1) + "\n"


def schema_errors(text: str) -> list[str]:
    """Validate an SBOM strictly against CycloneDX's schema; return the errors."""
    found = _schema().validate_str(text, all_errors=True)
    return [str(error.data).partition("\n")[0][:200] for error in found or ()]


@functools.cache
def _schema() -> JsonStrictValidator:
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415 - its import compiles grammars for a second

    return JsonStrictValidator(VERSION)


def count_components(text: str) -> dict[str, int]:
    """Count the components of an SBOM, by kind."""
    kinds = {"venv": "python", "gesso": "gesso's own python", "deb": "debian", "source": "sources", "model": "models",
             "workflow": "workflows"}  # fmt: skip
    found = [component["bom-ref"].partition(":")[0] for component in json.loads(text).get("components") or ()]
    return {name: found.count(kind) for kind, name in kinds.items()}


def _root(subject: Subject, contents: Contents) -> Component:
    qualifiers = {"arch": "amd64", "repository_url": subject.repository}
    name = subject.repository.rpartition("/")[2]
    return Component(
        name=subject.repository,
        type=ComponentType.CONTAINER,
        version=subject.digest,
        bom_ref="image",
        hashes=[_sha256(subject.digest.removeprefix("sha256:"))],
        purl=PackageURL("oci", None, name, subject.digest, qualifiers),
        properties=_properties(
            arch=contents.record["arch"],
            lock=contents.record["lock"],
            version=subject.version,
            trial=str(contents.record["trial"]).lower(),
            base=contents.record["base"].get("digest") or contents.record["base"].get("bootstrap") or "",
        ),
    )


def _python(each: Distribution, group: str, where: str) -> Component:
    return Component(
        name=each.name,
        type=ComponentType.LIBRARY,
        version=each.version,
        bom_ref=f"{group}:{each.name}",
        purl=PackageURL("pypi", None, each.name, each.version),
        hashes=map(_sha256, each.hashes),
        properties=_properties(where=where),
    )


def _debian(contents: Contents) -> Iterable[Component]:
    for each in contents.debian:
        qualifiers = {"arch": each.architecture} | ({"distro": contents.codename} if contents.codename else {})
        yield Component(
            name=each.name,
            type=ComponentType.LIBRARY,
            version=each.version,
            bom_ref=f"deb:{each.name}:{each.architecture}",
            purl=PackageURL("deb", "debian", each.name, each.version, qualifiers),
            properties=_properties(source=each.source) if each.source else (),
        )


def _source(name: str, source: Mapping[str, Any], kind: ComponentType) -> Component:
    """Describe source code by its commit; a stand-in's, which is in the project, by its path."""
    git, commit = source.get("git"), source.get("commit")
    references, purl = [], None
    if git and commit:
        hub = _GITHUB.match(git)
        purl = (
            PackageURL("github", hub[1].lower(), hub[2].lower(), commit)
            if hub
            else PackageURL("generic", None, name, commit, {"vcs_url": f"git+{git}@{commit}"})
        )
        references = [ExternalReference(type=ExternalReferenceType.VCS, url=XsUri(git))]
    details = {key: str(source[key]) for key in ("ref", "tree", "path") if source.get(key)}
    return Component(
        name=name,
        type=kind,
        version=commit,
        bom_ref=f"source:{name}",
        purl=purl,
        external_references=references,
        properties=_properties(**details),
    )


def _model(model: Mapping[str, Any], baked: Iterable[str]) -> Component:
    digest = _sha256(model["sha256"])
    return Component(
        name=model["name"],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        version=model["sha256"],
        bom_ref=f"model:{model['name']}",
        hashes=[digest],
        licenses=[LicenseFactory().make_from_string(model["license"])] if model.get("license") else (),
        external_references=[
            ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(url), hashes=[digest])
            for url in model["sources"]
        ],
        properties=_properties(
            size=str(model.get("size") or "unknown"),
            kind=model["kind"],
            family=model["family"],
            tier=model["tier"],
            gated=str(bool(model.get("gated"))).lower(),
            where="a layer of the image" if model["name"] in baked else "fetched at first start",
        ),
    )


def _workflow(name: str, digest: str) -> Component:
    return Component(name=name, type=ComponentType.DATA, bom_ref=f"workflow:{name}", hashes=[_sha256(digest)])


def _properties(**values: str) -> list[Property]:
    return [Property(name=f"gesso:{name}", value=value) for name, value in values.items()]


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _time(created: str) -> datetime:
    """Parse RFC 3339; engines write nanoseconds, Python parses microseconds."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", created))
