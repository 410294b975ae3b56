"""The signing identity of an image. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Signer:
    """A signing identity: a key (a file or a KMS URI), else the account that this machine is logged in as.

    `log`: record the signature in the public transparency log.
    """

    key: str = ""
    log: bool = True
