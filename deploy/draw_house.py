"""Draws the house from its real imports: pictures/house.svg. The same code gives the same bytes, so a test can hold it.

python -m deploy.draw_house           (from the root of the checkout, with the test extra installed)
"""

import ast
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

import grimp

from deploy.floors import Arrows, Plan, plan, reduced, storeys

PICTURE = Path(__file__).parent / "pictures" / "house.svg"

#: Rooms that anybody may enter: no arrows are drawn to them.
HALLS = frozenset({"worker.errors", "schema.vocabulary"})

BOX_W, BOX_H, BEND_W, GAP, FLOOR_H = 160, 66, 6, 14, 104
MARGIN, HEAD, BETWEEN, FOOT = 20, 30, 64, 72
TEXT_COLUMNS, TEXT_LINES = 27, 3

#: Building -> heading, fill of its rooms, line, ground it stands on.
BUILDINGS = {
    "worker": ("worker: the hospital", "#e7f0fa", "#2b6cb0", "#f6fafe"),
    "schema": ("schema: the ground floor", "#eceff1", "#546e7a", "#f7f9fa"),
    "trainer": ("trainer: the lab", "#fdf0e0", "#c05621", "#fffaf3"),
}


@dataclass(frozen=True)
class House:
    """The rooms and who imports whom, folders taken as one room."""

    rooms: frozenset[str]
    imports: Arrows

    @property
    def drawn(self) -> Arrows:
        """The arrows worth drawing: no halls, nothing that other arrows imply."""
        return reduced(frozenset((a, b) for a, b in self.imports if b not in HALLS))


def read_house() -> House:
    """The house as it is imported today; imports for type checkers alone do not count."""
    graph = grimp.build_graph(*BUILDINGS, exclude_type_checking_imports=True, cache_dir=None)
    rooms, imports = set(), set()
    for module in graph.modules:
        room = room_of(module)
        if room is None:
            continue
        rooms.add(room)
        targets = {room_of(target) for target in graph.find_modules_directly_imported_by(module)}
        imports |= {(room, target) for target in targets if target not in (None, room)}
    return House(frozenset(rooms), frozenset(imports))


def room_of(module: str) -> str | None:
    """`worker.imaging.dicom` is in the room `worker.imaging`; packages and `__main__` are doors, no rooms."""
    names = module.split(".")
    return None if len(names) < 2 or names[1] == "__main__" else ".".join(names[:2])


def draw(house: House) -> str:
    """The picture, as SVG: the lab above the hospital, the hospital above the ground floor."""
    lab, hospital = _layout(house, ("trainer",)), _layout(house, ("worker", "schema"))
    width = max(_width(lab), _width(hospital)) + 2 * MARGIN
    lab_end = MARGIN + HEAD + len(lab.floors) * FLOOR_H
    end = lab_end + BETWEEN + HEAD + len(hospital.floors) * FLOOR_H
    parts = [
        *_plot(lab, "trainer", width, lab_end),
        *_plot(hospital, "worker", width, end),
        *_plot(hospital, "schema", width, end),
        *_rooms(house, lab, width, lab_end),
        *_rooms(house, hospital, width, end),
        *_borrowing(house, width, lab_end),
        *_legend(house, width, end),
    ]
    return "\n".join((*_opening(width, end + FOOT), *parts, "</svg>", ""))


def _layout(house: House, buildings: tuple[str, ...]) -> Plan:
    """The buildings above one another, the last one at the bottom."""
    floor: dict[str, int] = {}
    for building in reversed(buildings):
        rooms = {room for room in house.rooms if room.startswith(f"{building}.")}
        inside = frozenset((a, b) for a, b in house.drawn if a in rooms and b in rooms)
        floor |= storeys(rooms, inside, ground=max(floor.values(), default=-1) + 1)
    arrows = frozenset((a, b) for a, b in house.drawn if a in floor and b in floor)
    return plan(floor, arrows, BOX_W, BEND_W, GAP)


def _width(layout: Plan) -> float:
    return max(x for point, x in layout.x.items() if "@" not in point) + BOX_W / 2


def _left(layout: Plan, width: float) -> float:
    """Where a layout begins so that it stands in the middle of the picture."""
    return (width - _width(layout)) / 2


def _top(level: int, end: float) -> float:
    """Upper edge of the boxes on this floor of a layout that ends at `end`."""
    return end - (level + 1) * FLOOR_H + (FLOOR_H - BOX_H) / 2


def _plot(layout: Plan, building: str, width: float, end: float) -> Iterator[str]:
    """The ground a building stands on, and its heading."""
    heading, _, line, ground = BUILDINGS[building]
    levels = [
        n for n, row in enumerate(layout.floors) if any(p.startswith(f"{building}.") for p in row if "@" not in p)
    ]
    is_upper = max(levels) == len(layout.floors) - 1
    top = end - (max(levels) + 1) * FLOOR_H - (HEAD if is_upper else -6)
    bottom = end - min(levels) * FLOOR_H
    yield (
        f'<rect x="{MARGIN / 2:g}" y="{top:g}" width="{width - MARGIN:g}" height="{bottom - top:g}" rx="10"'
        f' fill="{ground}" stroke="{line}" stroke-opacity="0.5"/>'
    )
    at = f'x="{MARGIN:g}"' if is_upper else f'x="{width - MARGIN:g}" text-anchor="end"'  # arrows come in on the left
    yield f'<text {at} y="{top + 25:g}" class="plot" fill="{line}">{escape(heading)}</text>'


def _rooms(house: House, layout: Plan, width: float, end: float) -> Iterator[str]:
    """Arrows first, then the rooms over them."""
    left = _left(layout, width)
    level = {point: n for n, row in enumerate(layout.floors) for point in row}
    for arrow, way in sorted(layout.ways.items()):
        yield _arrow(layout, arrow, way, level, left, end)
    for point in sorted(layout.x):
        if "@" not in point:
            yield from _room(house, point, left + layout.x[point] - BOX_W / 2, _top(level[point], end))


def _arrow(
    layout: Plan, arrow: tuple[str, str], way: tuple[str, ...], level: dict[str, int], left: float, end: float
) -> str:
    """A smooth line from the lower edge of the importer to the upper edge of the imported."""
    x = {point: left + layout.x[point] for point in way}
    x[way[0]] += _port(layout, [w for w in layout.ways.values() if w[0] == way[0]], way, 1)
    x[way[-1]] += _port(layout, [w for w in layout.ways.values() if w[-1] == way[-1]], way, -2)
    y = {point: _top(level[point], end) for point in way}
    path = [f"M{x[way[0]]:g} {y[way[0]] + BOX_H:g}"]
    for here, there in pairwise(way):
        upper, lower = y[here] + BOX_H, y[there] - (5 if there == way[-1] else 0)
        middle = (upper + lower) / 2
        path.append(f"C{x[here]:g} {middle:g} {x[there]:g} {middle:g} {x[there]:g} {lower:g}")
        if there != way[-1]:
            path.append(f"V{y[there] + BOX_H:g}")
    colour = BUILDINGS[arrow[0].split(".")[0]][2]
    return f'<path d="{"".join(path)}" stroke="{colour}" class="arrow" marker-end="url(#{arrow[0].split(".")[0]})"/>'


def _port(layout: Plan, ways: list[tuple[str, ...]], way: tuple[str, ...], neighbour: int) -> float:
    """How far from a room's middle this arrow leaves or lands: side by side, in the order of the next points."""
    ordered = sorted(ways, key=lambda w: (layout.x[w[neighbour]], w))
    room = min(22.0, (BOX_W - 24) / max(1, len(ordered)))
    return (ordered.index(way) - (len(ordered) - 1) / 2) * room


def _room(house: House, room: str, x: float, y: float) -> Iterator[str]:
    building, name = room.split(".")
    _, fill, line, _ = BUILDINGS[building]
    borrowed = any(b == room and a.startswith("trainer.") for a, b in house.imports) and building != "trainer"
    edge = BUILDINGS["trainer"][2] if borrowed else line
    dash = ' stroke-dasharray="5 3"' if room in HALLS else ""
    files, text = _describe(room)
    box = (
        f'width="{BOX_W}" height="{BOX_H}" rx="5" fill="{fill}" stroke="{edge}" stroke-width="{1.8 if borrowed else 1}"'
    )
    imports = ", ".join(sorted(b for a, b in house.imports if a == room)) or "nothing of ours"
    yield f"<g><title>{escape(room)} imports {escape(imports)}</title>"
    if files > 1:
        yield f'<rect x="{x + 4:g}" y="{y + 4:g}" {box}/>'
    yield f'<rect x="{x:g}" y="{y:g}" {box}{dash}/>'
    yield f'<text x="{x + 9:g}" y="{y + 17:g}" class="room">{escape(name)}{"/" if files > 1 else ""}</text>'
    for number, row in enumerate(text):
        yield f'<text x="{x + 9:g}" y="{y + 31 + 12.5 * number:g}" class="says">{escape(row)}</text>'
    yield "</g>"


def _describe(room: str) -> tuple[int, list[str]]:
    """How many files a room has, and the beginning of its docstring in a few short lines."""
    spec = find_spec(room)
    path = Path(spec.origin or "") if spec else Path()
    told = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].replace("\n", " ")
    for end in (". ", "; ", ": "):
        told = told.split(end)[0]
    lines = textwrap.wrap(told.rstrip(".").replace("`", ""), TEXT_COLUMNS)
    if len(lines) > TEXT_LINES:
        lines = [
            *lines[: TEXT_LINES - 1],
            textwrap.shorten(" ".join(lines[TEXT_LINES - 1 :]), TEXT_COLUMNS, placeholder=" …"),
        ]
    return sum(1 for _ in path.parent.glob("*.py")) if path.name == "__init__.py" else 1, lines


def _borrowing(house: House, width: float, top: float) -> Iterator[str]:
    """One broad arrow from the lab down to the hospital, and what it borrows there."""
    borrowed = sorted(
        {b.split(".")[1] for a, b in house.imports if a.startswith("trainer.") and b.startswith("worker.")}
    )
    x, tip = width / 2 - 190, top + BETWEEN - 6
    yield (
        f'<path d="M{x - 11:g} {top + 6:g}h22V{tip - 22:g}h13L{x:g} {tip:g}L{x - 24:g} {tip - 22:g}h13Z"'
        f' fill="{BUILDINGS["trainer"][2]}" fill-opacity="0.85"/>'
    )
    told = f"the lab borrows {', '.join(borrowed[:-1])} and {borrowed[-1]}"
    yield f'<text x="{x + 40:g}" y="{top + BETWEEN / 2 + 5:g}" class="room">{escape(told)}</text>'


def _legend(house: House, width: float, y: float) -> Iterator[str]:
    inside = [(a, b) for a, b in house.drawn if (a.split(".")[0] == "trainer") == (b.split(".")[0] == "trainer")]
    lines = (
        f"An arrow runs down from a room to one that it imports. Drawn: {len(inside)} of {len(house.imports)} imports"
        " between rooms; what other arrows imply is left out (transitive reduction).",
        "Dashed: open to everybody, no arrows drawn. Double edge: a folder. Orange edge in the hospital: the lab uses"
        " it too. The tooltip of a room lists all its imports.",
        "Made from the imports of the code by deploy/draw_house.py; a test keeps it true.",
    )
    for number, line in enumerate(lines):
        at = f'x="{width / 2:g}" y="{y + 24 + 17 * number:g}"'
        yield f'<text {at} class="note" text-anchor="middle">{escape(line)}</text>'


def _opening(width: float, height: float) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
        f' height="{height:g}" font-family="DejaVu Sans, Verdana, sans-serif">'
    )
    yield "<title>The rooms of chest-screening and who imports whom</title>"
    yield (
        "<style>.plot{font-size:17px;font-weight:bold;paint-order:stroke;stroke:#fff;stroke-width:5px}.room{font-size:13px;font-weight:bold;fill:#1a202c}"
        ".says{font-size:9.6px;fill:#2d3748}.note{font-size:12px;fill:#4a5568}.arrow{fill:none;stroke-width:1.3;"
        "stroke-opacity:.75}</style><defs>"
    )
    for building, (_, _, line, _) in BUILDINGS.items():
        yield (
            f'<marker id="{building}" viewBox="0 0 8 8" refX="3" refY="4" markerWidth="7" markerHeight="7"'
            f' orient="auto"><path d="M0 0L8 4L0 8Z" fill="{line}"/></marker>'
        )
    yield f'</defs><rect width="{width:g}" height="{height:g}" fill="#ffffff"/>'


def main() -> int:
    """Write the picture."""
    PICTURE.write_text(draw(read_house()), encoding="utf-8")
    sys.stdout.write(f"{PICTURE.name}: {PICTURE.stat().st_size:,} bytes\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
