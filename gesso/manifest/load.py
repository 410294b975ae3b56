"""From files to one checked manifest: `extends`, overlays, and every problem in one run."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from gesso.errors import ManifestError
from gesso.manifest.schema import PATTERNS_IN_WORDS, Family, Kind, Manifest, Tier
from gesso.manifest.yamlsource import Listing, Mapping, Mark, Problem, Scalar, Tree, locate, plain, read

if typing.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NAMED_LISTS = ("models", "nodes")  # lists of named things: an overlay changes them by name
# The Krita plugin takes the first file under vae/ that one of these is part of for its Flux VAE (1.53.0).
KRITA_FLUX_VAE_PATTERNS = ("flux-", "flux_", "flux/", "flux1", "ae.s")


@dataclass(frozen=True)
class Loaded:
    """A manifest that passed every check, and where each of its values came from."""

    manifest: Manifest
    tree: Tree
    files: tuple[Path, ...]


def load(path: Path, overlays: Sequence[Path] = (), *, root: Path | None = None) -> Loaded:
    """Load a manifest with what it extends and the overlays, in order, merged last.

    Paths in messages are relative to `root`. Raises ManifestError that lists every problem, one a line.
    """
    reader = _Reader(root)
    tree = reader.chain(path)
    for overlay in overlays:
        above = reader.chain(overlay)
        if isinstance(tree, Mapping) and isinstance(above, Mapping):
            tree = merge(tree, above)
    problems = reader.problems
    manifest: Manifest | None = None
    if isinstance(tree, Mapping):
        manifest, found = validate(tree, partial=reader.partial)
        problems += found
        arch = tree.items.get("arch")
        if isinstance(arch, Scalar) and isinstance(arch.value, str) and arch.value != path.stem:
            message = f"`{_short(arch.value)}` in {path.name}; must be the file's own name, `{path.stem}`"
            problems.append(Problem(locate(tree, ("arch",)), "arch", message))
    if problems or manifest is None or tree is None:
        raise ManifestError(report(problems), "mend the lines above, then run this again (nothing was written)")
    return Loaded(manifest, tree, tuple(reader.files))


def report(problems: Iterable[Problem]) -> str:
    """Give the problems as text, one a line, in the order of files and lines."""
    ordered = sorted(set(problems), key=lambda p: (p.mark, p.key, p.message))
    count = len(ordered)
    head = f"the manifest has {count} problem{'s' * (count != 1)}:"
    return "\n".join([head, *(str(problem) for problem in ordered)])


class _Reader:
    """Reads chains of `extends`, and remembers the files and what was wrong with them."""

    def __init__(self, root: Path | None) -> None:
        self.root = (root or Path.cwd()).resolve()
        self.problems: list[Problem] = []
        self.files: list[Path] = []
        self.partial = False  # a file could not be read: what it says is not missing

    def chain(self, path: Path, seen: tuple[Path, ...] = ()) -> Tree | None:
        resolved = path.resolve()
        name = self._shown(resolved)
        tree, problems = read(resolved, shown_as=name)
        self.problems += problems
        self.files.append(resolved)
        if not isinstance(tree, Mapping):
            self.partial = True
            if tree is not None:
                self.problems.append(Problem(tree.mark, "", "must be a mapping of keys to values"))
            return None
        self.problems += _repeated_names(tree)
        return self._extended(tree, resolved, (*seen, resolved))

    def _extended(self, tree: Mapping, path: Path, seen: tuple[Path, ...]) -> Tree | None:
        if "extends" not in tree.items:
            return tree
        base = tree.items["extends"]
        tree = _without(tree, "extends")
        if not (isinstance(base, Scalar) and isinstance(base.value, str) and base.value):
            return self._alone(tree, base, "must be the name of a file, such as common.yaml")
        target = (path.parent / base.value).resolve()
        if target in seen:
            circle = " -> ".join(p.name for p in (*seen[seen.index(target) :], target))
            return self._alone(tree, base, f"circular: {circle}")
        if not target.is_file():
            return self._alone(tree, base, f"no such file: {self._shown(target)}")
        below = self.chain(target, seen)
        return merge(below, tree) if isinstance(below, Mapping) else tree

    def _alone(self, tree: Mapping, base: Tree, message: str) -> Tree:
        self.partial = True
        self.problems.append(Problem(base.mark, "extends", message))
        return tree

    def _shown(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def _repeated_names(tree: Mapping) -> list[Problem]:
    problems = []
    for key in NAMED_LISTS:
        listing = tree.items.get(key)
        seen: dict[str, Mark] = {}
        for item in listing.items if isinstance(listing, Listing) else ():
            name = _name_of(item)
            if name in seen:
                message = f"duplicate name; it stands in line {seen[name].line} already"
                problems.append(Problem(item.mark, f"{key}[{name}].name", message))
            elif name:
                seen[name] = item.mark
    return problems


def _without(tree: Mapping, key: str) -> Mapping:
    return Mapping({k: v for k, v in tree.items.items() if k != key}, tree.keys, tree.mark)


def _name_of(item: Tree) -> str | None:
    name = item.items.get("name") if isinstance(item, Mapping) else None
    return name.value if isinstance(name, Scalar) and isinstance(name.value, str) else None


def merge(below: Mapping, above: Mapping) -> Mapping:
    """Lay one mapping over another: mappings merge, lists of named things merge by name, all else is replaced."""
    items = dict(below.items)
    for key, value in above.items.items():
        old = items.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            items[key] = merge(old, value)
        elif key in NAMED_LISTS and isinstance(old, Listing) and isinstance(value, Listing):
            items[key] = _merge_named(old, value)
        else:
            items[key] = value
    return Mapping(items, {**below.keys, **above.keys}, above.mark)


def _merge_named(below: Listing, above: Listing) -> Listing:
    result = list(below.items)
    for item in above.items:
        name = _name_of(item)
        at = next((i for i, old in enumerate(result) if name is not None and _name_of(old) == name), None)
        old = None if at is None else result[at]
        if isinstance(item, Mapping) and plain(item).get("remove") is True:
            if at is not None:
                del result[at]
            else:  # taking out what is not there is a typing error: let validate() say so, at this line
                result.append(item)
        elif isinstance(old, Mapping) and isinstance(item, Mapping) and at is not None:
            result[at] = merge(old, item)
        else:
            result.append(item)
    return Listing(tuple(result), above.mark)


def validate(tree: Mapping, *, partial: bool = False) -> tuple[Manifest | None, list[Problem]]:
    """Check a merged tree against the schema, and what only the whole can tell as far as its parts are sound.

    Of a `partial` tree a file is not there: that explains what is missing from it.
    """
    tree, leftovers = _without_removals(tree)
    problems = [] if partial else leftovers
    manifest: Manifest | None = None
    try:
        manifest = Manifest.model_validate(plain(tree))
    except ValidationError as error:
        own = _own_errors([dict(e) for e in error.errors(include_url=False)])
        problems += [_problem(tree, e) for e in own if not (partial and e["type"] == "missing")]
    problems += _cross_check(tree, partial=partial)
    return manifest, problems


def _without_removals(tree: Mapping) -> tuple[Mapping, list[Problem]]:
    """Take out each `remove` that merging did not use, and say so."""
    problems = []
    items = dict(tree.items)
    for key in NAMED_LISTS:
        listing = tree.items.get(key)
        if not isinstance(listing, Listing):
            continue
        kept: list[Tree] = []
        for index, item in enumerate(listing.items):
            if not (isinstance(item, Mapping) and "remove" in item.items):
                kept.append(item)
                continue
            found = plain(item)["remove"] is True
            message = f"no `{_name_of(item)}` to remove" if found else "must be true, or left out"
            path = (key, index, "remove")
            problems.append(Problem(locate(tree, path), _dotted(tree, path), message))
            if not found:
                kept.append(_without(item, "remove"))
        items[key] = Listing(tuple(kept), listing.mark)
    return Mapping(items, tree.keys, tree.mark), problems


class _Part(BaseModel):
    """What the checks of the whole need of one model; the rest of it may be wrong."""

    name: str
    kind: Kind
    family: Family
    tier: Tier


def _cross_check(tree: Mapping, *, partial: bool) -> Iterable[Problem]:
    def problem(path: tuple[str | int, ...], message: str) -> Problem:
        return Problem(locate(tree, path), _dotted(tree, path), message)

    data = plain(tree)
    family, vae, models = data.get("family"), data.get("vae"), data.get("models")
    listed = models if isinstance(models, list) else []
    parts: dict[int, _Part] = {}
    for index, item in enumerate(listed):
        with contextlib.suppress(ValidationError):
            parts[index] = _Part.model_validate(item)
    allowed = (family, "any", *(["sdxl-refiner"] if family == "sdxl" else []))
    for index, model in parts.items():
        if family in typing.get_args(Family) and model.family not in allowed:
            message = f"{model.name} is of family {model.family}; this image is locked to {family}"
            yield problem(("models", index, "family"), message)
        trap = any(pattern in model.name for pattern in KRITA_FLUX_VAE_PATTERNS)
        if family == "flux" and model.kind == "vae" and trap and isinstance(vae, str) and model.name != vae:
            message = f"Krita would take {model.name} for the Flux VAE; give it another name"
            yield problem(("models", index, "name"), message)
    if partial or not listed or len(parts) < len(listed):
        return
    at, locked = next(((i, m) for i, m in parts.items() if m.name == vae), (0, None))
    if isinstance(vae, str) and (locked is None or locked.kind != "vae"):
        yield problem(("vae",), f"`{_short(vae)}` must be the name of a model of kind vae and tier required")
    elif locked is not None and locked.tier != "required":
        yield problem(("models", at, "tier"), f"`{locked.tier}` is not allowed for the locked VAE; must be required")
    if not any(m.kind in {"checkpoint", "diffusion_model"} and m.tier == "required" for m in parts.values()):
        yield problem(("models",), "no checkpoint or diffusion_model of tier required: Krita would have nothing to run")


def _own_errors(errors: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Leave out what is only the echo of an error further in: pydantic calls a list empty when its items failed."""
    for error in errors:
        path = error["loc"]
        echo = any(len(o["loc"]) > len(path) and o["loc"][: len(path)] == path for o in errors)
        if not (error["type"] == "too_short" and echo):
            yield error


def _dotted(tree: Tree, path: tuple[str | int, ...]) -> str:
    """Give the path as people read it: things in lists by their name, where they have one."""
    text = ""
    here: Tree | None = tree
    for step in path:
        if isinstance(here, Mapping):
            here = here.items.get(str(step))
        elif isinstance(here, Listing) and isinstance(step, int) and step < len(here.items):
            here = here.items[step]
        else:
            here = None
        if isinstance(step, int):
            text += f"[{(_name_of(here) if here else None) or step}]"
        else:
            text += f"{'.' * bool(text)}{step}"
    return text


def _problem(tree: Mapping, error: dict[str, Any]) -> Problem:
    path = tuple(error["loc"])
    return Problem(locate(tree, path), _dotted(tree, path), _say(error, path))


def _say(error: dict[str, Any], path: tuple[str | int, ...]) -> str:
    given, context = error.get("input"), error.get("ctx", {})
    kind = error["type"]
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if kind == "string_pattern_mismatch":
        return f"`{_short(given)}` is not allowed; must be {PATTERNS_IN_WORDS[context['pattern']]}"
    if kind == "value_error":
        shown = "" if given is None or isinstance(given, dict) else f"`{_short(given)}` "
        return f"{shown}{context['error']}"
    expected = str(context.get("expected", "")).replace("'", "")
    simple = {
        "missing": "missing; it is required",
        "literal_error": f"`{_short(given)}` is not allowed; allowed: {expected}",
        "bool_type": f"`{_short(given)}` is not allowed; allowed: true, false",
        "int_type": f"must be a whole number without quotes, not {_kind_of(given)}",
        "greater_than": f"`{_short(given)}` is not allowed; must be more than {context.get('gt')}",
        "string_type": f"must be text, not {_kind_of(given)}{'; put it in quotes' * isinstance(given, int)}",
        "tuple_type": f"must be a list, not {_kind_of(given)}",
        "model_type": f"must be a mapping of keys to values, not {_kind_of(given)}",
        "model_attributes_type": f"must be a mapping of keys to values, not {_kind_of(given)}",
        "too_short": "must not be empty",
        "string_too_short": f"too short; give at least {context.get('min_length')} characters",
    }
    return simple.get(kind, str(error["msg"]))


def _unknown_key(path: tuple[str | int, ...]) -> str:
    word = str(path[-1])
    merging = ["extends"] if len(path) == 1 else ["remove"] if len(path) == 3 and path[0] in NAMED_LISTS else []
    allowed = sorted([*_fields_at(Manifest, path[:-1]), *merging])
    close = difflib.get_close_matches(word, allowed, 1)
    hint = f"did you mean `{close[0]}`? " if close else ""
    return f"unknown key; {hint}allowed: {', '.join(allowed)}"


def _fields_at(model: type[BaseModel], path: tuple[str | int, ...]) -> Iterable[str]:
    """Give the keys that the schema allows at `path`."""
    for step in path:
        if isinstance(step, int):
            continue
        field = model.model_fields.get(step)
        inner = [a for a in _types_in(field.annotation if field else None) if issubclass(a, BaseModel)]
        if not inner:
            return ()
        model = inner[0]
    return model.model_fields


def _types_in(annotation: Any) -> Iterable[type]:
    if isinstance(annotation, type):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _types_in(argument)


def _short(value: object) -> str:
    text = json.dumps(value) if value is None or isinstance(value, bool) else str(value)
    text = re.sub(r"//[^/\s]*@", "//...@", text)  # a password is not to be repeated in a log
    return text if len(text) <= 60 else f"{text[:57]}..."


def _kind_of(value: object) -> str:
    names = {
        "dict": "a mapping",
        "list": "a list",
        "int": "a number",
        "bool": "true/false",
        "NoneType": "null",
    }
    return names.get(type(value).__name__, "text")
