"""What lets a stranger trust an image: a signature, its bill of materials and where it comes from, all by digest."""

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
    from gesso.builder.publish.request import Signer
    from gesso.builder.registry.reference import Reference


@dataclass(frozen=True)
class Evidence:
    """The bill of materials, and the provenance, as they are attached."""

    sbom: str
    provenance: str


def make(subject: Subject, contents: Contents, labels: Mapping[str, str], invocation: Mapping[str, Any],
         env: Mapping[str, str]) -> Evidence:  # fmt: skip
    """Make both; the same for the same image and command.

    Raises PublishError for a bill that is not what CycloneDX says it must be, or where either holds a secret.
    """
    bill = sbom.bill(subject, contents)
    if found := sbom.faults(bill):
        raise PublishError(f"the bill of materials is not valid: {found[0]}", "please open an issue with this message")
    origin = json.dumps(provenance.statement(subject, contents, labels, invocation, env), indent=1) + "\n"
    refuse_secrets({"the bill of materials": bill, "the provenance": origin, "a label": json.dumps(dict(labels))}, env)
    return Evidence(bill, origin)


def refuse_secrets(texts: Mapping[str, str], env: Mapping[str, str]) -> None:
    """See that no secret of this environment stands in what is about to be published.

    Raises PublishError; the secret is in no message.
    """
    for value in secret_values(env):
        where = [name for name, text in texts.items() if len(value) >= 6 and value in text]
        if where:
            names = [name for name in env if env[name] == value]
            raise PublishError(
                f"the value of {' or '.join(names)} stands in {' and in '.join(where)}",
                "take it out of the manifest, replace it where it came from, and build again",
            )


def attach(tool: Cosign, signer: Signer, public_key: str, image: Reference, evidence: Evidence,
           say: Callable[[str], None]) -> dict[str, str]:  # fmt: skip
    """Sign a digest and attach its evidence; give what became of each: `there` or `attached`.

    With a key, what it has signed before is not signed again. Without one that cannot be told from what anybody put
    there, so it is signed anew each time. Raises PublishError.
    """
    done: dict[str, str] = {}
    with cosign.as_file(public_key) if public_key else nullcontext() as path:
        mine = Trusted(key=path, log=signer.log) if path else None
        for name, kind, text in (("sbom", CYCLONEDX, evidence.sbom), ("provenance", SLSA, evidence.provenance)):
            if mine is not None and any(
                same(found, json.loads(text)) for found in tool.statements(mine, image, kind)[0]
            ):
                done[name] = "there"
                continue
            say(f"{name}: attaching it, signed")
            tool.attest(signer, image, kind, text)
            done[name] = "attached"
        if mine is not None and not tool.is_signed(mine, image):
            done["signature"] = "there"
        else:
            say("signing the digest")
            tool.sign(signer, image)  # last: whoever sees the signature finds the rest
            done["signature"] = "attached"
    return done


def same(found: Any, wanted: Any) -> bool:
    """Tell whether a predicate says the same; cosign leaves out or adds what is empty. Pure."""
    return bool(_bare(found) == _bare(wanted))


def _bare(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: kept for key, value in data.items() if (kept := _bare(value)) not in (None, {}, [], "")}
    return [_bare(item) for item in data] if isinstance(data, list) else data
