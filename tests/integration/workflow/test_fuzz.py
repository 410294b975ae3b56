"""No input causes a traceback: it is read, or refused with a message."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gesso.workflow import check as checks
from gesso.workflow import command
from gesso.workflow.command import for_host
from gesso.workflow.graph import GraphError
from gesso.workflow.object_info import NodeClasses
from tests.unit.workflow.graphs import GOLD, PROJECT, load, recorded_classes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
NAMES = st.sampled_from(
    ["VAELoader", "VAEDecode", "KSampler", "CheckpointLoaderSimple", "Reroute", "PrimitiveNode", "Note", "sub",
     "LoraLoader", "BatchLatentsNode", "ComfySwitchNode", "ETN_KritaOutput", "LatentBatch", "UNETLoader", "KritaInput",
     "\ud800", ""]
)  # fmt: skip
INPUTS = st.sampled_from(
    ["vae", "samples", "model", "positive", "latent_image", "vae_name", "latents.a", "on_true", "clip"]
)
IDS = st.sampled_from(["1", "2", "3", 1, 2, 3, "9"])
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
)
VALUE = JSON | st.tuples(IDS, st.integers(-2, 4) | SCALARS).map(list) | st.sampled_from(["flux_vae.safetensors"])


def table(optional: dict[str, Any], **required: Any) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(required, optional=optional)


API = st.dictionaries(
    IDS.map(str),
    table({
        "class_type": NAMES | SCALARS, "inputs": st.dictionaries(INPUTS, VALUE) | JSON,
        "_meta": table({"title": SCALARS}) | JSON,
    }),
    max_size=5,
)  # fmt: skip
SOCKET = JSON | table({
    "name": INPUTS | SCALARS, "type": st.sampled_from(["VAE", "LATENT", "*"]) | SCALARS,
    "link": st.integers(0, 5) | SCALARS, "widget": JSON,
})  # fmt: skip
END = IDS | st.sampled_from([-10, -20])
NODE = JSON | table(
    {
        "mode": st.sampled_from([0, 2, 4]) | SCALARS, "inputs": st.lists(SOCKET, max_size=4) | JSON,
        "outputs": st.lists(SOCKET, max_size=3) | JSON, "widgets_values": st.lists(VALUE, max_size=5) | JSON,
        "title": SCALARS,
    },
    id=END, type=NAMES,
)  # fmt: skip
SLOT = st.integers(-1, 3)
LINK = (
    JSON
    | st.tuples(st.integers(0, 5), END, SLOT, END, SLOT, st.just("VAE")).map(list)
    | table({}, id=st.integers(0, 5), origin_id=END, origin_slot=SLOT, target_id=END, target_slot=SLOT)
)
GRAPH: dict[str, Any] = {"nodes": st.lists(NODE, max_size=5), "links": st.lists(LINK, max_size=6)}
ENDS = st.lists(SOCKET, max_size=3)
INNER = table({"inputs": ENDS, "outputs": ENDS}, id=st.just("sub"), **GRAPH)
EDITOR = table({"definitions": JSON | table({}, subgraphs=st.lists(INNER | JSON, max_size=2))}, **GRAPH)
LIMITS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def survive(text: str) -> None:
    arch, classes = on_host_once()
    for definitions in (classes, NodeClasses({})):
        try:
            found = checks.check(checks.read(text, "x.json", definitions), definitions, arch)
        except GraphError as error:
            str(error).encode("utf-8")
            continue
        for finding in found.findings:
            assert "\n" not in str(finding)
            str(finding).encode("utf-8")
        json.dumps(command.as_json(found, strict=True))
        command.as_text(found).encode("utf-8")
        assert checks.differences(found.graph, found.graph) == []


_ONCE: list[Any] = []


def on_host_once() -> Any:
    if not _ONCE:
        _ONCE.append(for_host(PROJECT, "sdxl"))
    return _ONCE[0]


@given(st.text(max_size=200))
@LIMITS
def test_any_text(text: str) -> None:
    survive(text)


@given(JSON)
@LIMITS
def test_any_json(data: Any) -> None:
    survive(json.dumps(data))


@given(API)
@LIMITS
def test_anything_like_the_api_format(data: Any) -> None:
    survive(json.dumps(data))


@given(EDITOR)
@LIMITS
def test_anything_like_the_editors_format(data: Any) -> None:
    survive(json.dumps(data))


Path = tuple[Any, ...]


def _paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """Yield the path of every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*at, key)
        yield from _paths(item, (*at, key))


def _container(value: Any, at: Path) -> Any:
    """Return the container of a path; None if an earlier change removed it."""
    try:
        for key in at[:-1]:
            value = value[key]
        value[at[-1]]
    except (LookupError, TypeError):
        return None
    return value if isinstance(value, dict | list) else None


MANGLE: tuple[Callable[[random.Random], Any], ...] = (
    lambda _: None, lambda r: r.randint(-3, 40), lambda _: [], lambda _: {}, lambda _: "VAELoader", lambda _: 1e308,
    lambda r: [str(r.randint(1, 30)), r.randint(-1, 3)], lambda _: float("nan"), lambda _: "\ud800\x1b[2J",
    lambda _: True, lambda _: 10**400,
)  # fmt: skip


@pytest.mark.no_cover  # like the generated inputs of hypothesis
def test_gold_graphs_with_holes() -> None:
    """Real graphs with one to six values broken: closer to users' files than generated ones."""
    rng = random.Random(4)
    graphs = [load(name, suffix) for name in GOLD for suffix in (".json", ".api.json")]
    sources = [(json.dumps(graph), list(_paths(graph))) for graph in graphs]
    broken = 0
    for _ in range(1000):
        text, paths = rng.choice(sources)
        data = json.loads(text)
        for _ in range(rng.randint(1, 6)):
            at = rng.choice(paths)
            if (container := _container(data, at)) is None:
                continue
            broken += 1
            if rng.random() < 0.2:
                del container[at[-1]]
            else:
                container[at[-1]] = rng.choice(MANGLE)(rng)
        survive(json.dumps(data))
    assert broken > 3000


@given(JSON)
@LIMITS
def test_any_object_info_of_a_comfyui(data: Any) -> None:
    """A running ComfyUI may return anything."""
    raw = {"VAEDecode": data, "KSampler": {"input": data, "output": data, "input_order": data}}
    raw["VAELoader"] = {"input": {"required": {"vae_name": data}, "optional": data}, "output": ["VAE"]}
    classes = NodeClasses(raw)
    for suffix in (".json", ".api.json"):
        text = json.dumps(load("krita_gold_standard_sdxl", suffix))
        checks.check(checks.read(text, "x.json", classes), classes, on_host_once()[0])
    assert recorded_classes()
