"""A loopback HTTP mirror for model files that misbehaves on request. It needs only the standard library.

`python images/standin/mirror --root DIR` serves a folder; tests use `Mirror` and `behaviour`.
"""

from .behaviours import BEHAVIOURS, Behaviour, Scope, behaviour, describe, names
from .content import Content
from .content_faults import FAMILIES, safetensors
from .server import Mirror
from .state import Record

__all__ = [
    "BEHAVIOURS",
    "FAMILIES",
    "Behaviour",
    "Content",
    "Mirror",
    "Record",
    "Scope",
    "behaviour",
    "describe",
    "names",
    "safetensors",
]
