"""Create an image's SBOM and provenance, attach them to its digest, and sign it."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gesso.builder.evidence import cosign, provenance, sbom
from gesso.builder.evidence.cosign import CYCLONEDX, SLSA, Trusted
from gesso.errors import PublishError
from gesso.redact import secret_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gesso.builder.evidence.contents import Contents
    from gesso.builder.evidence.cosign import Cosign
    from gesso.builder.evidence.sbom import Subject
    from gesso.builder.evidence.signer import Signer
    from gesso.builder.registry.reference import Reference


@dataclass(frozen=True)
class Evidence:
    """The SBOM and the provenance, as attached."""

    sbom: str
    provenance: str


def make(subject: Subject, contents: Contents, labels: Mapping[str, str], invocation: Mapping[str, Any],
         env: Mapping[str, str]) -> Evidence:  # fmt: skip
    """Create both, reproducibly: the same for the same image and command.

    Raises PublishError for an SBOM that violates CycloneDX's schema, or where either contains a secret.
    """
    bill = sbom.bill(subject, contents)
    if found := sbom.schema_errors(bill):
        raise PublishError(f"the bill of materials is not valid: {found[0]}", "please open an issue with this message")
    origin = json.dumps(provenance.statement(subject, contents, labels, invocation, env), indent=1) + "\n"
    refuse_secrets({"the bill of materials": bill, "the provenance": origin, "a label": json.dumps(dict(labels))}, env)
    return Evidence(bill, origin)


def refuse_secrets(texts: Mapping[str, str], env: Mapping[str, str]) -> None:
    """Raise PublishError where a text to publish contains a secret of this environment; the message does not."""
    for value in secret_values(env):
        where = [name for name, text in texts.items() if len(value) >= 6 and value in text]
        if where:
            names = [name for name in env if env[name] == value]
            raise PublishError(
                f"the value of {' or '.join(names)} is in {' and in '.join(where)}",
                "remove it from the manifest, revoke it, and build again",
            )


def attach(tool: Cosign, signer: Signer, public_key: str, image: Reference, evidence: Evidence,
           on_progress: Callable[[str], None]) -> dict[str, str]:  # fmt: skip
    """Sign a digest and attach its evidence; return the state of each: `there` or `attached`.

    With a key, existing signatures of that key are kept. Without one, anybody could have made an existing signature,
    so everything is signed each time. Raises PublishError.
    """
    done: dict[str, str] = {}
    with cosign.as_file(public_key) if public_key else nullcontext() as path:
        owner = Trusted(key=path, log=signer.log) if path else None
        for name, kind, text in (("sbom", CYCLONEDX, evidence.sbom), ("provenance", SLSA, evidence.provenance)):
            if owner is not None and any(
                is_same_predicate(found, json.loads(text)) for found in tool.statements(owner, image, kind)[0]
            ):
                done[name] = "there"
                continue
            on_progress(f"{name}: attaching, signed")
            tool.attest(signer, image, kind, text)
            done[name] = "attached"
        if owner is not None and not tool.signature_error(owner, image):
            done["signature"] = "there"
        else:
            on_progress("signing the digest")
            tool.sign(signer, image)  # last: a signed image has its evidence
            done["signature"] = "attached"
    return done


def is_same_predicate(actual: Any, expected: Any) -> bool:
    """Compare two predicates; cosign drops or adds empty values. Pure."""
    return bool(_without_empty(actual) == _without_empty(expected))


def _without_empty(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: item for key, value in data.items() if (item := _without_empty(value)) not in (None, {}, [], "")}
    return [_without_empty(item) for item in data] if isinstance(data, list) else data
