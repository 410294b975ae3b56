"""The tables match the recorded ComfyUI: classes, inputs, kinds and outputs."""

from __future__ import annotations

import pytest

from gesso.models.identify.identity import CHANNELS
from gesso.workflow.families import latents_of
from gesso.workflow.findings import CODES, Finding, printable
from gesso.workflow.node_rules import RULES
from gesso.workflow.rules import parse, rule_of

from .graphs import PROJECT, recorded_classes

KINDS = {
    "MODEL": "M", "GUIDER": "M", "CLIP": "T", "VAE": "V", "LATENT": "L", "CONDITIONING": "C", "CONTROL_NET": "A",
    "STYLE_MODEL": "A", "MODEL_PATCH": "A", "IPADAPTER": "A", "INPAINT_PATCH": "A",
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_a_rule_matches_the_recorded_class(name: str) -> None:
    definition, rule = recorded_classes().get(name), rule_of(name)
    assert definition is not None, "no such class in the recordings"
    assert rule is not None
    recorded = {field.name: KINDS[field.type] for field in definition.inputs.values() if field.type in KINDS}
    declared = {i.name: i.kind for i in rule.inputs if i.kind not in {"", "*"} and not i.name.endswith("*")}
    assert declared == recorded
    for item in rule.inputs:
        field = definition.inputs[item.name.removesuffix(".*")]
        assert not item.folder or item.folder in field.folders
        assert item.folder or item.kind == "*" or item.optional != field.required
    assert len(rule.outputs) == len(definition.outputs)
    for output, type_ in zip(rule.outputs, definition.outputs, strict=True):
        assert output.kind in {"?", "*"} or output.kind == KINDS.get(type_, "")
        assert set(output.sources) <= {item.name for item in rule.inputs}


def test_every_recorded_class_that_handles_models_or_latents_has_a_rule() -> None:
    classes = recorded_classes()
    without = []
    for name in classes:
        definition = classes.get(name)
        assert definition is not None
        if {*definition.outputs, *(f.type for f in definition.inputs.values())} & set(KINDS) and name not in RULES:
            without.append(name)
    assert without == []


def test_families_have_the_channels_that_identify_knows() -> None:
    assert {family: latents_of(family).channels for family in CHANNELS} == CHANNELS


def test_a_rule_with_a_typo_is_refused() -> None:
    with pytest.raises(AssertionError):
        parse("model=M -> M=model")


def test_the_codes_are_documented() -> None:
    text = (PROJECT.root / "docs/reference.md").read_text(encoding="utf-8")
    for code, (severity, meaning) in CODES.items():
        assert f"| `{code}` | {severity} | {meaning} |" in text


def test_a_finding_names_file_node_edge_and_both_sides() -> None:
    finding = Finding(
        code="latent-vae", file="x.json", node="8", title="Decode", edge="vae", what="4 channels", should="16"
    )
    assert str(finding) == "x.json: node 8 'Decode', vae: latent-vae: 4 channels; should be 16"
    assert finding.as_json()["severity"] == "error"
    graph_wide = Finding(code="no-output", file="x.json", what="none", should="one")
    assert str(graph_wide) == "x.json: the graph: no-output: none; should be one"


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\nb", "\ud800", "x" * 1000, "\u202eabc"])
def test_a_graphs_own_text_cannot_reach_the_terminal_raw(text: str) -> None:
    safe = printable(text)
    assert safe.isprintable()
    assert len(safe) <= 121
    safe.encode("utf-8")
