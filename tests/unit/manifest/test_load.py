"""`extends`, overlays and merging: precedence, and that every problem is reported with its file."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gesso.errors import ManifestError
from gesso.manifest.load import load, merge, validate
from gesso.manifest.schema import Manifest, editor_schema
from gesso.manifest.yamlsource import Listing, Mapping, Mark, Scalar, Tree, parse, plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Write = Callable[[str, str | bytes], Path]
    Findings = Callable[..., list[str]]

PEN = """\
  - name: loras/pen.safetensors
    sources: [https://example.org/pen]
    sha256: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    kind: lora
    family: sdxl
    tier: optional
    license: MIT
"""


def names(listed: tuple[Any, ...]) -> list[str]:
    return [item.name for item in listed]


# -- precedence --------------------------------------------------------------------------------------------------


def test_the_extending_file_wins_along_the_chain(write: Write) -> None:
    write("low.yaml", "extends: good.yaml\ntitle: low\nhardware:\n  vram_gb: 10\napt: [low]\n")
    write("middle.yaml", "title: middle\nextends: low.yaml\nhardware:\n  cuda: 12.8\n")
    top = write("top.yaml", "extends: middle.yaml\narch: top\ntitle: the top\n")

    loaded = load(top)

    assert loaded.manifest.title == "the top"
    assert (loaded.manifest.hardware.vram_gb, loaded.manifest.hardware.cuda) == (10, "12.8")
    assert loaded.manifest.apt == ("low",)
    assert names(loaded.manifest.workflows) == ["gold"]
    assert [path.name for path in loaded.files] == ["top.yaml", "middle.yaml", "low.yaml", "good.yaml"]


def test_an_overlay_replaces_the_workflows_and_a_plain_name_has_a_derived_title(write: Write, tmp_path: Path) -> None:
    first = write("one.yaml", f"workflows: [{{name: gold, title: '{'9' * 60}'}}]\n")
    second = write("two.yaml", "workflows:\n  - my_own_sketch\n  - {name: gold, title: É 1 Paint}\n")
    good = tmp_path / "good.yaml"

    assert [w.shown_title for w in load(good).manifest.workflows] == ["Gold"]
    assert [w.shown_title for w in load(good, [first]).manifest.workflows] == ["9" * 60]
    assert [w.shown_title for w in load(good, [first, second]).manifest.workflows] == ["My own sketch", "É 1 Paint"]


def test_extends_is_relative_to_its_own_file(write: Write, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write("sub/base.yaml", "extends: ../good.yaml\n")

    assert load(write("a.yaml", "extends: sub/base.yaml\narch: a\n")).manifest.arch == "a"


def test_last_overlay_wins(write: Write, tmp_path: Path) -> None:
    one = write("one.yaml", "title: the first\nhardware: {vram_gb: 1}\n")
    two = write("two.yaml", "title: the second\n")
    good = tmp_path / "good.yaml"

    assert load(good, [one, two]).manifest.title == "the second"
    assert load(good, [two, one]).manifest.title == "the first"
    assert load(good, [one, two]).manifest.hardware.vram_gb == 1
    assert load(good, [one, two]).files == (good, one, two)


def test_overlay_may_extend_too(write: Write, tmp_path: Path) -> None:
    write("below.yaml", "title: below\nhardware: {vram_gb: 3}\n")
    overlay = write("overlay.yaml", "extends: below.yaml\ntitle: above\n")

    loaded = load(tmp_path / "good.yaml", [overlay])

    assert (loaded.manifest.title, loaded.manifest.hardware.vram_gb) == ("above", 3)


# -- merging ------------------------------------------------------------------------------------------------


def test_one_field_of_a_named_item_changes(write: Write, tmp_path: Path) -> None:
    good = load(tmp_path / "good.yaml").manifest
    overlay = write(
        "o.yaml", "models:\n  - {name: vae/lamp.safetensors, size: 7}\nnodes:\n  - {name: tooling, ref: v9}\n"
    )

    changed = load(tmp_path / "good.yaml", [overlay]).manifest

    assert changed.models[1] == good.models[1].model_copy(update={"size": 7})
    assert changed.models[0] == good.models[0]
    assert changed.nodes == (good.nodes[0].model_copy(update={"ref": "v9"}),)


def test_named_item_is_added_at_the_end(write: Write, tmp_path: Path) -> None:
    before = names(load(tmp_path / "good.yaml").manifest.models)

    after = names(load(tmp_path / "good.yaml", [write("o.yaml", "models:\n" + PEN)]).manifest.models)

    assert after == [*before, "loras/pen.safetensors"]


def test_named_item_is_removed(write: Write, tmp_path: Path) -> None:
    overlay = write("o.yaml", "models:\n  - {name: upscale_models/lens.pth, remove: true}\n")

    after = load(tmp_path / "good.yaml", [overlay]).manifest

    assert names(after.models) == ["checkpoints/desk.safetensors", "vae/lamp.safetensors"]


def test_item_is_removed_and_added_back_by_the_next_overlay(write: Write, tmp_path: Path) -> None:
    out = write("out.yaml", "nodes:\n  - {name: tooling, remove: true}\n")
    back = write("back.yaml", "nodes:\n  - {name: tooling, git: https://example.org/fork, ref: v2}\n")

    (node,) = load(tmp_path / "good.yaml", [out, back]).manifest.nodes

    assert (node.git, node.ref) == ("https://example.org/fork", "v2")


def test_removing_twice_is_reported_at_the_second(write: Write, findings: Findings, tmp_path: Path) -> None:
    one = write("one.yaml", "nodes:\n  - {name: tooling, remove: true}\n")
    two = write("two.yaml", "nodes:\n  - name: tooling\n    remove: true\n")

    assert findings(tmp_path / "good.yaml", one, two) == ["two.yaml:3: nodes[tooling].remove: no `tooling` to remove"]


def test_other_lists_are_replaced(write: Write, tmp_path: Path) -> None:
    overlay = write(
        "o.yaml",
        "classes: []\n"
        "apt: [git]\n"
        "python:\n  requirements: [numpy]\n  layers:\n    - {name: all, match: ['*']}\n"
        "models:\n  - {name: checkpoints/desk.safetensors, sources: [https://new.example.org/desk]}\n",
    )

    after = load(tmp_path / "good.yaml", [overlay]).manifest

    assert after.classes == ()
    assert after.apt == ("git",)
    assert after.python.requirements == ("numpy",)
    assert after.python.constraints == ("sqlalchemy>=2.0,<2.1",)
    assert [layer.name for layer in after.python.layers] == ["all"]
    assert after.models[0].sources == ("https://new.example.org/desk",)


def test_null_replaces(write: Write, tmp_path: Path) -> None:
    overlay = write(
        "o.yaml",
        "base: {image: null, bootstrap: trixie}\ncomfyui: {git: ~, ref: ~, path: images/stand}\n"
        "nodes:\n  - {name: tooling, requirements: null}\n",
    )

    after = load(tmp_path / "good.yaml", [overlay]).manifest

    assert (after.base.image, after.base.bootstrap) == (None, "trixie")
    assert (after.comfyui.git, after.comfyui.ref, after.comfyui.path) == (None, None, "images/stand")
    assert after.nodes[0].requirements is None


@pytest.mark.parametrize("name", ["x" * 300 + ".yaml", "/".join(["y" * 200] * 30)])
def test_a_file_name_that_is_too_long_does_not_exist(write: Write, findings: Findings, name: str) -> None:
    assert findings(write("o.yaml", f"extends: {name}\n"))[0].startswith("o.yaml:1: extends: no such file: ")


def test_empty_list_of_named_items_changes_nothing(write: Write, tmp_path: Path) -> None:
    overlay = write("o.yaml", "models: []\nnodes: []\n")

    assert load(tmp_path / "good.yaml", [overlay]).manifest == load(tmp_path / "good.yaml").manifest


# -- problems -----------------------------------------------------------------------------------------------


def test_problem_in_an_overlay_is_reported_with_its_own_file_and_line(
    write: Write, findings: Findings, tmp_path: Path
) -> None:
    overlay = write(
        "o.yaml",
        "# a note\n\nmodels:\n  - name: checkpoints/desk.safetensors\n\n    sha256: short\n"
        "hardware:\n  # another\n  vram_gb: 0\n",
    )

    assert findings(tmp_path / "good.yaml", overlay) == [
        (
            "o.yaml:6: models[checkpoints/desk.safetensors].sha256: "
            "`short` is not allowed; must be 64 lowercase hex digits"
        ),
        "o.yaml:9: hardware.vram_gb: `0` is not allowed; must be more than 0",
    ]


def test_all_problems_of_all_files_are_reported_in_one_run(write: Write, findings: Findings) -> None:
    base = write("base.yaml", "extends: good.yaml\ntitle: [a]\nfamily: sdxl\nfamily: sdxl\napt: [Caddy]\n")
    main = write("main.yaml", f"extends: {base.name}\narch: wrong\nvae: vae/no.safetensors\n")
    overlay = write("over.yaml", "workflows: [A]\nmodels:\n" + PEN.replace("family: sdxl", "family: sd15"))
    broken = write("zz.yaml", "a: [b\n")

    assert findings(main, overlay, broken) == [
        "base.yaml:2: title: must be text, not a list",
        "base.yaml:4: family: duplicate key; already used in line 3",
        "base.yaml:5: apt[0]: `Caddy` is not allowed; must be the name of a Debian package, such as libegl1",
        "main.yaml:2: arch: `wrong` in main.yaml; must be the file's own name, `main`",
        # and not of `vae`: the overlay that could not be read may have the model
        "over.yaml:1: workflows[0]: `A` is not allowed; must be at most 100 lowercase letters, digits and _",
        (
            "over.yaml:7: models[loras/pen.safetensors].family: "
            "loras/pen.safetensors is of family sd15; this image is locked to sdxl"
        ),
        "zz.yaml:1: not YAML: a bracket or quote is opened here and never closed",
    ]


def test_a_duplicate_key_does_not_hide_other_problems(write: Write, findings: Findings) -> None:
    path = write("a.yaml", "arch: a\narch: b\nvae: vae/missing.safetensors\nextends: good.yaml\n")

    assert findings(path) == [
        "a.yaml:2: arch: duplicate key; already used in line 1",
        "a.yaml:3: vae: `vae/missing.safetensors` must be the name of a model of kind vae and tier required",
    ]


def test_invalid_utf8_is_reported_with_its_line(write: Write, findings: Findings) -> None:
    assert findings(write("a.yaml", b"extends: good.yaml\narch: a\ntitle: caf\xe9\n")) == [
        "a.yaml:3: not UTF-8 (byte 37); save the file as UTF-8"
    ]


def test_all_missing_files_are_reported(findings: Findings, tmp_path: Path) -> None:
    assert findings(tmp_path / "a.yaml", tmp_path / "b.yaml") == [
        "a.yaml:1: no such file",
        "b.yaml:1: no such file",
    ]


def test_files_outside_the_root_are_shown_with_their_full_path(write: Write, tmp_path: Path) -> None:
    path = write("a.yaml", "")
    (tmp_path / "elsewhere").mkdir()

    with pytest.raises(ManifestError) as caught:
        load(path, root=tmp_path / "elsewhere")

    assert caught.value.message == f"the manifest has 1 problem:\n{path}:1: the file is empty"


def test_same_base_twice_is_not_circular(write: Write, tmp_path: Path) -> None:
    overlay = write("o.yaml", "extends: good.yaml\n")

    assert load(tmp_path / "good.yaml", [overlay]).manifest == load(tmp_path / "good.yaml").manifest


def test_circular_base_of_an_overlay_is_reported(write: Write, findings: Findings, tmp_path: Path) -> None:
    write("x.yaml", "extends: y.yaml\n")
    write("y.yaml", "extends: x.yaml\n")
    overlay = write("o.yaml", "extends: x.yaml\n")

    assert findings(tmp_path / "good.yaml", overlay) == ["y.yaml:1: extends: circular: x.yaml -> y.yaml -> x.yaml"]


def test_a_password_is_not_shown(write: Write, findings: Findings) -> None:
    text = "extends: good.yaml\narch: a\npython:\n  index: https://me:hunter2@example.org/simple\n"

    (line,) = findings(write("a.yaml", text))

    assert line.startswith("a.yaml:4: python.index: ")
    assert "hunter2" not in line


def test_empty_models_are_reported_once(write: Write, findings: Findings, tmp_path: Path) -> None:
    text = (tmp_path / "good.yaml").read_text()
    path = write("good.yaml", text[: text.index("models:")] + "models: []\n")

    (line,) = findings(path)

    assert line.endswith(": models: must not be empty")


@pytest.mark.parametrize(
    "value", ["{}", "[]", "[1]", "text", "5", "true", "null", "{a: {b: []}}", "[{name: x}, {name: [x]}, 1]"]
)
def test_any_wrong_type_anywhere_is_reported_and_never_raises(value: str, examples: Path) -> None:
    good, _ = parse((examples / "good.yaml").read_bytes(), "good.yaml")
    assert isinstance(good, Mapping)
    inner = ["hardware: {cuda: %s}", "python: {layers: %s}", "comfyui: {git: %s}", "base: {image: %s}"]
    for shape in [*(f"{key}: %s" for key in Manifest.model_fields), *inner]:
        overlay, _ = parse((shape % value).encode(), "o.yaml")
        assert isinstance(overlay, Mapping)

        manifest, problems = validate(merge(good, overlay))

        assert manifest is not None or problems
        assert not [p for p in problems if "Input should" in p.message], "pydantic's own messages must not be shown"


# -- laws of merging ----------------------------------------------------------------------------------------

NO_MARK = Mark("f", 1)


def grow(data: object, mark: Mark = NO_MARK) -> Tree:
    """Convert plain data to a tree, all of it at one mark."""
    if isinstance(data, dict):
        return Mapping({k: grow(v, mark) for k, v in data.items()}, dict.fromkeys(data, mark), mark)
    if isinstance(data, list):
        return Listing(tuple(grow(item, mark) for item in data), mark)
    assert data is None or isinstance(data, str | int)
    return Scalar(data, mark)


def grow_mapping(data: dict[str, Any], mark: Mark = NO_MARK) -> Mapping:
    tree = grow(data, mark)
    assert isinstance(tree, Mapping)
    return tree


WORD = st.sampled_from(["models", "nodes", "name", "a", "b", "remove"])
LEAF = st.sampled_from(["x", "y", 1, True, None])
VALUE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3), max_leaves=8
)
DICT = st.dictionaries(WORD, VALUE, max_size=4)


@settings(max_examples=30, deadline=None)
@given(DICT)
def test_merging_with_an_empty_overlay_changes_nothing(data: dict[str, Any]) -> None:
    assert plain(merge(grow_mapping(data), grow_mapping({}))) == data
    assert plain(merge(grow_mapping({}), grow_mapping(data))) == data


@settings(max_examples=30, deadline=None)
@given(DICT, DICT)
def test_merging_changes_neither_side_and_keeps_positions(low: dict[str, Any], high: dict[str, Any]) -> None:
    below, above = grow_mapping(low, Mark("low", 1)), grow_mapping(high, Mark("high", 1))

    both = merge(below, above)

    assert (plain(below), plain(above)) == (low, high)
    assert both.items.keys() == low.keys() | high.keys()
    assert {key: mark.file for key, mark in both.keys.items()} == {
        key: "high" if key in high else "low" for key in low.keys() | high.keys()
    }


MODEL = st.fixed_dictionaries({"name": st.sampled_from("abcd")}, optional={"size": st.integers(0, 3), "note": LEAF})
MODELS = st.lists(MODEL, max_size=4, unique_by=lambda model: str(model["name"]))


@settings(max_examples=40, deadline=None)
@given(MODELS, MODELS)
def test_named_lists_merge_by_name(low: list[dict[str, Any]], high: list[dict[str, Any]]) -> None:
    expected = {model["name"]: dict(model) for model in low}
    for model in high:
        expected[model["name"]] = {**expected.get(model["name"], {}), **model}

    both = merge(grow_mapping({"models": low}), grow_mapping({"models": high}))

    assert plain(both)["models"] == list(expected.values())


@settings(max_examples=40, deadline=None)
@given(st.permutations(["title", "vae", "apt", "hardware", "workflows"]))
def test_order_of_keys_does_not_matter(order: list[str]) -> None:
    values = {"title": "x", "vae": "y", "apt": ["z"], "hardware": {"cuda": "1.0"}, "workflows": ["w"]}
    below = grow_mapping({"title": "old", "hardware": {"vram_gb": 1}})

    assert plain(merge(below, grow_mapping({key: values[key] for key in order}))) == {
        **values,
        "hardware": {"vram_gb": 1, "cuda": "1.0"},
    }


def test_empty_overlay_file_of_each_kind(write: Write, tmp_path: Path) -> None:
    good = load(tmp_path / "good.yaml").manifest

    assert load(tmp_path / "good.yaml", [write("o.yaml", "{}\n")]).manifest == good
    for text in ("", "# nothing\n"):
        with pytest.raises(ManifestError, match=r"o\.yaml:1: the file is empty"):
            load(tmp_path / "good.yaml", [write("o.yaml", text)])


@pytest.mark.parametrize("cut", range(0, 60, 12))
def test_half_a_file_is_refused_with_problems_of_that_file(cut: int, write: Write, tmp_path: Path) -> None:
    lines = (tmp_path / "good.yaml").read_text().splitlines(keepends=True)
    path = write("good.yaml", "".join(itertools.islice(lines, cut)))

    with pytest.raises(ManifestError) as caught:
        load(path, root=tmp_path)

    tree, _ = parse(path.read_bytes(), "good.yaml")
    assert all(line.startswith("good.yaml:") for line in caught.value.message.splitlines()[1:])
    assert tree is not None or len(caught.value.message.splitlines()) == 2


@pytest.mark.parametrize("value", ["true", "false", "null", "7"])
def test_whether_a_size_is_confirmed_is_for_the_lock_to_say(
    write: Write, findings: Findings, tmp_path: Path, value: str
) -> None:
    path = write("o.yaml", f"models:\n  - name: vae/lamp.safetensors\n    size_confirmed: {value}\n")
    said = findings(tmp_path / "good.yaml", path)
    assert "o.yaml:3" in str(said)
    assert "is set by `invoke lock`; remove it" in str(said)


def test_no_message_and_no_schema_offers_it() -> None:
    assert "size_confirmed" not in json.dumps(editor_schema())
