"""What was asked of `invoke publish`, and whether it hangs together. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gesso.builder.image.bake import LAYER_LIMIT
from gesso.errors import ManifestError


@dataclass(frozen=True)
class Signer:
    """Who signs: a key (a file, or a KMS's address), or whoever the machine is logged in as; `log`: publicly."""

    key: str = ""
    log: bool = True


@dataclass(frozen=True)
class Wish:
    """What was asked for. `sign` is a key; without one `keyless` or `no_sign` must say what is meant."""

    arch: str
    registry: str
    overlays: tuple[str, ...] = ()
    image: str = ""
    trial: bool = False
    vast: bool = False
    dry_run: bool = False
    as_json: bool = False
    sign: str = ""
    keyless: bool = False
    no_sign: bool = False
    no_tlog: bool = False
    layer_limit: int = LAYER_LIMIT

    @property
    def signed(self) -> str:
        """Say to a person who signs."""
        if self.no_sign:
            return "by nobody: nothing is attached (--no-sign)"
        return (
            f"by {self.sign}" if self.sign else "by who runs this (--keyless)" if self.keyless else "NOT SAID by whom"
        )

    def signer(self) -> Signer | None:
        """Give who signs; None where nobody does.

        Raises ManifestError where that is not clear.
        """
        if bool(self.sign) + self.keyless + self.no_sign > 1:
            raise ManifestError("--sign, --keyless and --no-sign exclude each other", "give one of them")
        if self.keyless and self.no_tlog:
            raise ManifestError("--keyless lives from the public log: --no-tlog takes it away", "sign with a key")
        if self.sign or self.keyless:
            return Signer(self.sign, log=not self.no_tlog)
        if not self.no_sign and not self.dry_run:
            raise ManifestError(
                "who signs the image is not said", "--sign KEY (a file, or a KMS), --keyless, or --no-sign for none"
            )
        return None
