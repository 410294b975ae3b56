"""Findings of the workflow check: frozen data with stable codes. The caller prints them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "unknown"]
MAX_LENGTH = 120

# Every code with its meaning; docs/reference.md repeats this table, and a test compares the two.
CODES: dict[str, tuple[Severity, str]] = {
    "latent-vae": ("error", "a VAE decodes latents of another kind than its own"),
    "latent-model": ("error", "a model samples latents of another kind than its own"),
    "latent-node": ("error", "an empty latent with other channels than the model's"),
    "latent-mix": ("error", "latents, a VAE and a conditioning of different kinds meet in one node"),
    "text-family": ("error", "a prompt was encoded by the text encoders of another family"),
    "model-family": ("error", "models of two families, or an add-on (LoRA, ControlNet, …) for another one"),
    "file-missing": ("error", "a model file that the manifest does not have"),
    "file-family": ("error", "a model file of another family than the image's"),
    "vae-lock": ("error", "a VAE that is not the one which the manifest locks"),
    "krita-class": ("error", "a class where one of Krita's (ETN_…) belongs, or a Krita class that does not exist"),
    "no-output": ("error", "nothing reaches an ETN_KritaOutput"),
    "class-missing": ("error", "a class that the image's ComfyUI does not have"),
    "input-missing": ("error", "a required input that is not connected and has no value"),
    "input-unknown": ("error", "an input that the class does not have"),
    "input-type": ("error", "a link between an output and an input of different types"),
    "input-value": ("error", "a value that the class does not accept"),
    "cycle": ("error", "nodes that depend on each other"),
    "formats-differ": ("error", "the two files of a workflow describe different graphs"),
    "class-unknown": ("unknown", "a class whose effect on models and latents no rule describes"),
    "family-unknown": ("unknown", "a model, VAE or latent whose family cannot be determined"),
    "classes-unchecked": ("unknown", "classes and inputs were not checked against a ComfyUI"),
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding: where (file, node, edge), what was found, and what it should be."""

    code: str
    file: str
    what: str
    should: str
    node: str = ""
    title: str = ""
    edge: str = ""

    @property
    def severity(self) -> Severity:
        """Whether it is an error, or could not be decided."""
        return CODES[self.code][0]

    @property
    def is_error(self) -> bool:
        """Whether the graph is wrong, and not only unclear."""
        return self.severity == "error"

    def as_json(self) -> dict[str, Any]:
        """Return the documented keys of `--json`."""
        return {**asdict(self), "severity": self.severity}

    def __str__(self) -> str:
        where = f"node {self.node} {self.title!r}" if self.node else "the graph"
        edge = f", {self.edge}" if self.edge else ""
        return f"{self.file}: {where}{edge}: {self.code}: {self.what}; should be {self.should}"


def printable(value: object, max_length: int = MAX_LENGTH) -> str:
    """Return text from a graph in a form that is safe to print: no control characters, limited length."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: max_length + 1])
    return text if len(text) <= max_length else f"{text[:max_length]}…"
