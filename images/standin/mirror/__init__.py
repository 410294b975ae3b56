"""A mirror for model files on the loopback, that misbehaves on request. The standard library is all it needs.

`python images/standin/mirror --root DIR` serves a folder; tests use `Mirror` and `behaviour`.
"""

from .behaviours import BEHAVIOURS, Behaviour, Scope, behaviour, describe, names
from .content import Content
from .faults import FAMILIES, safetensors
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
