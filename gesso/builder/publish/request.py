"""The request of `invoke publish`, and its validation. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gesso.builder.evidence.signer import Signer
from gesso.builder.image.bake import LAYER_LIMIT
from gesso.errors import ManifestError


@dataclass(frozen=True)
class PublishRequest:
    """The flags of `invoke publish`. Exactly one of `sign` (a key), `keyless` and `no_sign` is required."""

    arch: str
    registry: str
    overlays: tuple[str, ...] = ()
    image: str = ""
    trial: bool = False
    dry_run: bool = False
    as_json: bool = False
    sign: str = ""
    keyless: bool = False
    no_sign: bool = False
    no_tlog: bool = False
    layer_limit: int = LAYER_LIMIT

    @property
    def signed(self) -> str:
        """Who signs, as text for a terminal."""
        if self.no_sign:
            return "by nobody: nothing is attached (--no-sign)"
        if self.sign:
            return f"by {self.sign}"
        return "by the identity that is logged in here (--keyless)" if self.keyless else "NO SIGNER GIVEN"

    def signer(self) -> Signer | None:
        """Return the signer; None where nobody signs.

        Raises ManifestError where the flags name none, or more than one.
        """
        if bool(self.sign) + self.keyless + self.no_sign > 1:
            raise ManifestError("--sign, --keyless and --no-sign exclude each other", "pass one of them")
        if self.keyless and self.no_tlog:
            raise ManifestError(
                "--keyless needs the public transparency log, which --no-tlog turns off", "sign with a key"
            )
        if self.sign or self.keyless:
            return Signer(self.sign, log=not self.no_tlog)
        if not self.no_sign and not self.dry_run:
            raise ManifestError(
                "no signer is given", "pass --sign KEY (a file, or a KMS), --keyless, or --no-sign for no signature"
            )
        return None
