"""Load files into one checked manifest: resolve `extends`, merge overlays, report every problem in one run."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gesso.errors import ManifestError
from gesso.manifest import cross_checks
from gesso.manifest.messages import dotted_path, innermost_errors, shorten, to_problem
from gesso.manifest.schema import NAMED_LISTS, Manifest
from gesso.manifest.yamlsource import Listing, Mapping, Mark, Problem, Scalar, Tree, locate, name_of, plain, read

if typing.TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Loaded:
    """A manifest that passed every check, and the source of each of its values."""

    manifest: Manifest
    tree: Tree
    files: tuple[Path, ...]


def load(path: Path, overlays: Sequence[Path] = (), *, root: Path | None = None) -> Loaded:
    """Load a manifest, merged with what it extends and then with the overlays in order.

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
            message = f"`{shorten(arch.value)}` in {path.name}; must be the file's own name, `{path.stem}`"
            problems.append(Problem(locate(tree, ("arch",)), "arch", message))
    if problems or manifest is None or tree is None:
        raise ManifestError(report(problems), "fix the lines above, then run this again (nothing was written)")
    return Loaded(manifest, tree, tuple(reader.files))


def report(problems: Iterable[Problem]) -> str:
    """Format the problems, one a line, in the order of files and lines."""
    ordered = sorted(set(problems), key=lambda p: (p.mark, p.key, p.message))
    count = len(ordered)
    head = f"the manifest has {count} problem{'s' * (count != 1)}:"
    return "\n".join([head, *(str(problem) for problem in ordered)])


class _Reader:
    """Reads chains of `extends` and collects the files and their problems."""

    def __init__(self, root: Path | None) -> None:
        self.root = (root or Path.cwd()).resolve()
        self.problems: list[Problem] = []
        self.files: list[Path] = []
        self.partial = False  # a file could not be read: its keys must not be reported as missing

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
        self.problems += _duplicate_names(tree)
        return self._extended(tree, resolved, (*seen, resolved))

    def _extended(self, tree: Mapping, path: Path, seen: tuple[Path, ...]) -> Tree | None:
        if "extends" not in tree.items:
            return tree
        base = tree.items["extends"]
        tree = _without(tree, "extends")
        if not (isinstance(base, Scalar) and isinstance(base.value, str) and base.value):
            return self._without_base(tree, base, "must be the name of a file, such as common.yaml")
        target = (path.parent / base.value).resolve()
        if target in seen:
            circle = " -> ".join(p.name for p in (*seen[seen.index(target) :], target))
            return self._without_base(tree, base, f"circular: {circle}")
        if not _is_file(target):
            return self._without_base(tree, base, f"no such file: {self._shown(target)}")
        below = self.chain(target, seen)
        return merge(below, tree) if isinstance(below, Mapping) else tree

    def _without_base(self, tree: Mapping, base: Tree, message: str) -> Tree:
        self.partial = True
        self.problems.append(Problem(base.mark, "extends", message))
        return tree

    def _shown(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long for any file system
        return False


def _duplicate_names(tree: Mapping) -> list[Problem]:
    problems = []
    for key in NAMED_LISTS:
        listing = tree.items.get(key)
        seen: dict[str, Mark] = {}
        for item in listing.items if isinstance(listing, Listing) else ():
            name = name_of(item)
            if name in seen:
                message = f"duplicate name; already used in line {seen[name].line}"
                problems.append(Problem(item.mark, f"{key}[{name}].name", message))
            elif name:
                seen[name] = item.mark
    return problems


def _without(tree: Mapping, key: str) -> Mapping:
    return Mapping({k: v for k, v in tree.items.items() if k != key}, tree.keys, tree.mark)


def merge(below: Mapping, above: Mapping) -> Mapping:
    """Merge `above` over `below`: mappings merge, lists of named items merge by name, all else is replaced."""
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
        name = name_of(item)
        at = next((i for i, old in enumerate(result) if name is not None and name_of(old) == name), None)
        old = None if at is None else result[at]
        if isinstance(item, Mapping) and plain(item).get("remove") is True:
            if at is not None:
                del result[at]
            else:  # removing an unknown name is a typing error: validate() reports it at this line
                result.append(item)
        elif isinstance(old, Mapping) and isinstance(item, Mapping) and at is not None:
            result[at] = merge(old, item)
        else:
            result.append(item)
    return Listing(tuple(result), above.mark)


def validate(tree: Mapping, *, partial: bool = False) -> tuple[Manifest | None, list[Problem]]:
    """Check a merged tree against the schema, then across its keys as far as they are valid.

    If the tree is `partial` (a file could not be read), nothing is reported as missing.
    """
    tree, unused = _drop_unused_removals(tree)
    problems = [] if partial else unused
    manifest: Manifest | None = None
    try:
        manifest = Manifest.model_validate(plain(tree))
    except ValidationError as error:
        errors = innermost_errors([dict(e) for e in error.errors(include_url=False)])
        problems += [to_problem(tree, e) for e in errors if not (partial and e["type"] == "missing")]
    problems += cross_checks.check(tree, partial=partial)
    return manifest, problems


def _drop_unused_removals(tree: Mapping) -> tuple[Mapping, list[Problem]]:
    """Drop each `remove` that merging did not use, and report it."""
    problems = []
    items = dict(tree.items)
    for key in NAMED_LISTS:
        listing = tree.items.get(key)
        if not isinstance(listing, Listing):
            continue
        remaining: list[Tree] = []
        for index, item in enumerate(listing.items):
            if not (isinstance(item, Mapping) and "remove" in item.items):
                remaining.append(item)
                continue
            found = plain(item)["remove"] is True
            message = f"no `{name_of(item)}` to remove" if found else "must be true, or omitted"
            path = (key, index, "remove")
            problems.append(Problem(locate(tree, path), dotted_path(tree, path), message))
            if not found:
                remaining.append(_without(item, "remove"))
        items[key] = Listing(tuple(remaining), listing.mark)
    return Mapping(items, tree.keys, tree.mark), problems
