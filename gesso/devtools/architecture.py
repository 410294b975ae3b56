"""Draw the rooms (packages) of the code and the imports between them as docs/img/rooms.svg, from the syntax trees."""

from __future__ import annotations

import ast
import html
import textwrap
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
PICTURE = PACKAGE.parent / "docs" / "img" / "rooms.svg"
GROUND = "ground floor"
SHARED = ("workflow", "models", "manifest", GROUND)
_WINGS = ("builder", "runtime")
_FOOT, _OF_FOOT = "layout", ("atomic", "layout", "locks")  # single modules at the bottom of the runtime, drawn as one
_NOT_DRAWN = ("devtools",)  # nothing imports it
_WIDTH, _GAP, _LINE, _TITLE = 400, 26, 15, 24  # px: a box, between boxes, a line of text, a title
_LEFT, _MIDDLE, _TOP = 170, 120, 90  # px: margin for the outer arrows, between the columns, at the top
_CAPTION = (
    "An arrow is an import; arrows that others imply are omitted. Below: the packages that builder and runtime share."
)
_COLOURS = {"builder": "#f6e3c5", "runtime": "#cfe3f1", "shared": "#e4e4e4"}


@dataclass(frozen=True)
class Room:
    """A folder of modules (or the ground floor), and the rooms that it imports."""

    name: str
    modules: tuple[str, ...]
    imports: frozenset[str]

    @property
    def wing(self) -> str:
        """The column in which it is drawn."""
        return next(
            (wing for wing in _WINGS if self.name.split("/")[0] == wing), "runtime" if self.name == "cli" else ""
        )


@dataclass(frozen=True)
class _Box:
    x: int
    y: int
    width: int
    height: int
    room: Room
    lines: tuple[str, ...]


def generated() -> dict[Path, str]:
    """Return the picture's path and expected text for the current code."""
    return {PICTURE: draw(rooms(PACKAGE))}


def room_of(parts: tuple[str, ...]) -> str:
    """Return a module's room from its path below the package: ("builder", "lock", "resolve") -> "builder/lock"."""
    if parts[0] in _WINGS:
        at_foot = parts[0] == "runtime" and parts[1:2] and parts[1] in _OF_FOOT
        return f"{parts[0]}/{_FOOT}" if at_foot else "/".join(parts[:2])
    return parts[0] if len(parts) > 1 or parts[0] in {*SHARED, "cli", *_NOT_DRAWN} else GROUND


def rooms(package: Path) -> dict[str, Room]:
    """Read every module's imports; return the rooms by name."""
    modules = {
        path.relative_to(package).with_suffix("").parts: ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(package.rglob("*.py"))
    }
    names: dict[str, list[str]] = {}
    imports: dict[str, set[str]] = {}
    for parts, tree in modules.items():
        own = parts[:-1] if parts[-1] == "__init__" else parts
        if not own:
            continue
        room = room_of(own)
        if parts[-1] not in {"__init__", "__main__"}:
            names.setdefault(room, []).append("/".join(own[room.count("/") + 1 :]) or own[-1])
        for module in _imported(tree, package.name, modules):
            imports.setdefault(room, set()).add(room_of(module))
    return {
        name: Room(name, tuple(found), frozenset(imports.get(name, set()) - {name}))
        for name, found in sorted(names.items())
        if name not in _NOT_DRAWN
    }


def _imported(tree: ast.AST, package: str, modules: dict[tuple[str, ...], ast.Module]) -> list[tuple[str, ...]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            base = tuple((node.module or "").split(".")[1:])
            for alias in node.names:
                whole = (*base, alias.name)
                found.append(whole if whole in modules or (*whole, "__init__") in modules else base)
    return [module for module in found if module]


def reduced(found: dict[str, Room]) -> dict[str, set[str]]:
    """Return the arrows that no other path implies."""

    def reach(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
        below = {each for each in found[name].imports if each in found and each not in seen}
        return below.union(*(reach(each, seen | {name}) for each in below))

    return {
        name: {
            each
            for each in room.imports & found.keys()
            if not any(each in reach(other) for other in room.imports & found.keys() if other != each)
        }
        for name, room in found.items()
    }


def _levels(names: list[str], arrows: dict[str, set[str]]) -> list[str]:
    """Sort the rooms of a column, importers first."""

    def height(name: str, above: tuple[str, ...] = ()) -> int:  # `above` ends a cycle, which the tests refuse
        below = [each for each in arrows[name] if each in names and each not in above]
        return 1 + max((height(each, (*above, name)) for each in below), default=0)

    return sorted(names, key=lambda name: (-height(name), name))


def draw(found: dict[str, Room]) -> str:
    """Return the picture as SVG; deterministic."""
    arrows = reduced(found)
    boxes: dict[str, _Box] = {}
    foot = _TOP
    for column, wing in enumerate(_WINGS):
        y = _TOP
        for name in _levels([name for name, room in found.items() if room.wing == wing], arrows):
            boxes[name] = _box(found[name], _LEFT + column * (_WIDTH + _MIDDLE), y, _WIDTH)
            y += boxes[name].height + _GAP
        foot = max(foot, y)
    y = foot + 40
    for name in SHARED:
        boxes[name] = _box(found[name], _LEFT, y, 2 * _WIDTH + _MIDDLE)
        y += boxes[name].height + _GAP
    width = 2 * (_LEFT + _WIDTH) + _MIDDLE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" viewBox="0 0 {width} {y}"',
        ' font-family="sans-serif" font-size="12" role="img" aria-labelledby="title">',
        '<title id="title">The rooms of gesso and what they import</title>',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">',
        '<path d="M0 0 L8 4 L0 8 z" fill="#444"/></marker></defs>',
        f'<rect width="{width}" height="{y}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="36" font-size="20" font-weight="bold">builder: on your machine</text>',
        f'<text x="{_LEFT + _WIDTH + _MIDDLE}" y="36" font-size="20" font-weight="bold">runtime: in an instance</text>',
        f'<text x="{_LEFT}" y="60" fill="#444">{_CAPTION}</text>',
        *(_arrow(boxes[name], boxes[other]) for name in boxes for other in sorted(arrows[name]) if other in boxes),
        *(line for name in boxes for line in _shown(boxes[name])),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _box(room: Room, x: int, y: int, width: int) -> _Box:
    text = ", ".join(room.modules)
    lines = tuple(textwrap.wrap(text, max(20, (width - 24) // 7), break_long_words=False))
    return _Box(x, y, width, _TITLE + 10 + _LINE * len(lines), room, lines)


def _shown(box: _Box) -> list[str]:
    colour = _COLOURS[box.room.wing or "shared"]
    place = f'x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}"'
    x, y = box.x + 12, box.y + _TITLE + 10
    return [
        f'<rect {place} rx="6" fill="{colour}" stroke="#666"/>',
        f'<text x="{x}" y="{box.y + 18}" font-weight="bold" font-size="14">{html.escape(box.room.name)}</text>',
        *(
            f'<text x="{x}" y="{y + _LINE * number}" fill="#333">{html.escape(line)}</text>'
            for number, line in enumerate(box.lines)
        ),
    ]


def _arrow(start: _Box, end: _Box) -> str:
    style = 'fill="none" stroke="#444" stroke-width="1.2" marker-end="url(#head)"'
    below = end.y - (start.y + start.height)
    if 0 <= below <= _GAP and start.x == end.x:
        x = start.x + start.width // 2
        return f'<path d="M{x} {start.y + start.height} L{x} {end.y}" {style}/>'
    if start.room.wing and not end.room.wing:  # from a wing to a shared room: down between the columns
        left = start.room.wing == "builder"
        x = start.x + start.width if left else start.x
        lane = _LEFT + _WIDTH + (12 if left else _MIDDLE - 12) + (1 if left else -1) * 12 * SHARED.index(end.room.name)
        y = start.y + start.height // 2
        return f'<path d="M{x} {y} L{lane} {y + 10} L{lane} {end.y}" {style}/>'
    left = start.room.wing == "builder"
    x, out = (start.x, -1) if left else (start.x + start.width, 1)
    y1, y2 = start.y + start.height // 2 + 4, end.y + end.height // 2 - 4
    bend = x + out * min(_LEFT - 12, 22 + (y2 - y1) // 5)
    return f'<path d="M{x} {y1} C{bend} {y1} {bend} {y2} {x} {y2}" {style}/>'


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
