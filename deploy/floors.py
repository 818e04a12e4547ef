"""Places rooms on floors: layered graph drawing (Sugiyama, Tagawa and Toda 1981), small and deterministic.

Knows names, arrows and widths; no colours and no code. A long arrow gets a `Bend` on every floor that it passes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Arrows = frozenset[tuple[str, str]]  #: (from the room that imports, to the room imported)

#: Sweeps over the floors that untangle the arrows, and that straighten them; more change nothing here.
UNTANGLING, STRAIGHTENING = 40, 60


@dataclass(frozen=True)
class Plan:
    """Where everything lies: floors from the ground up, x of each room and bend, and the way of each arrow."""

    floors: tuple[tuple[str, ...], ...]
    x: Mapping[str, float]
    ways: Mapping[tuple[str, str], tuple[str, ...]]  #: arrow -> rooms and bends on its way, from the top


def reduced(arrows: Arrows) -> Arrows:
    """The arrows that no chain of others implies (transitive reduction); the graph has no cycle."""
    below = {room: reachable(room, arrows) for room, _ in arrows}
    return frozenset(
        (a, b) for a, b in arrows if not any(b in below.get(c, ()) for other, c in arrows if other == a and c != b)
    )


def reachable(room: str, arrows: Arrows) -> frozenset[str]:
    """Every room that a chain of arrows leads to."""
    found: set[str] = set()
    edge = [room]
    while edge:
        here = edge.pop()
        new = {b for a, b in arrows if a == here} - found
        found |= new
        edge += new
    return frozenset(found)


def storeys(rooms: Iterable[str], arrows: Arrows, ground: int) -> dict[str, int]:
    """The floor of each room: `ground` or above all that it imports, and then as high as its importers allow."""
    floor = dict.fromkeys(sorted(rooms), ground)
    for _ in floor:
        for a, b in sorted(arrows):
            floor[a] = max(floor[a], floor[b] + 1)
    for room in sorted(floor, key=lambda r: (-floor[r], r)):
        importers = [floor[a] for a, b in arrows if b == room]
        if importers:
            floor[room] = max(floor[room], min(importers) - 1)
    return floor


def plan(floor: Mapping[str, int], arrows: Arrows, width_px: float, bend_px: float, gap_px: float) -> Plan:
    """Order the rooms of each floor so that few arrows cross, then move them so that the arrows run straight."""
    rows: list[list[str]] = [[] for _ in range(max(floor.values()) + 1)]
    for room in sorted(floor):
        rows[floor[room]].append(room)
    ways = {}
    for a, b in sorted(arrows):
        bends = [f"{a}>{b}@{level}" for level in range(floor[a] - 1, floor[b], -1)]
        for level, bend in zip(range(floor[a] - 1, floor[b], -1), bends, strict=True):
            rows[level].append(bend)
        ways[a, b] = (a, *bends, b)
    steps = [step for way in ways.values() for step in pairwise(way)]
    rows = _untangled(rows, steps)
    widths = {point: width_px if point in floor else bend_px for row in rows for point in row}
    return Plan(tuple(map(tuple, rows)), _straightened(rows, steps, widths, gap_px), ways)


def crossings(rows: Sequence[Sequence[str]], steps: Sequence[tuple[str, str]]) -> int:
    """How often two arrows cross between neighbouring floors."""
    at = {point: i for row in rows for i, point in enumerate(row)}
    level = {point: n for n, row in enumerate(rows) for point in row}
    by_level: dict[int, list[tuple[int, int]]] = {}
    for a, b in steps:
        by_level.setdefault(level[a], []).append((at[a], at[b]))
    return sum(
        (p[0] - q[0]) * (p[1] - q[1]) < 0 for found in by_level.values() for i, p in enumerate(found) for q in found[:i]
    )


def _untangled(rows: list[list[str]], steps: list[tuple[str, str]]) -> list[list[str]]:
    """Sort each floor by the mean place of its neighbours, up and down in turn; keep the best order met."""
    above, below = _neighbours(steps)
    best, fewest = [list(row) for row in rows], crossings(rows, steps)
    for sweep in range(UNTANGLING):
        is_upward = sweep % 2 == 0
        neighbours = below if is_upward else above
        for row in rows if is_upward else reversed(rows):
            at = {point: (i + 0.5) / len(each) for each in rows for i, point in enumerate(each)}
            row.sort(key=lambda p, at=at: (_mean([at[n] for n in neighbours.get(p, ())], at[p]), p))  # type: ignore[misc]
        _swapped(rows, steps)
        found = crossings(rows, steps)
        if found < fewest:
            best, fewest = [list(row) for row in rows], found
    return best


def _swapped(rows: list[list[str]], steps: list[tuple[str, str]]) -> None:
    """Swap neighbours wherever that removes a crossing."""
    fewest = crossings(rows, steps)
    for row in rows:
        for i in range(len(row) - 1):
            row[i], row[i + 1] = row[i + 1], row[i]
            found = crossings(rows, steps)
            if found < fewest:
                fewest = found
            else:
                row[i], row[i + 1] = row[i + 1], row[i]


def _straightened(
    rows: list[list[str]], steps: list[tuple[str, str]], widths: Mapping[str, float], gap_px: float
) -> dict[str, float]:
    """Pull every point to the middle of its neighbours as far as the others of its floor leave room."""
    above, below = _neighbours(steps)
    x: dict[str, float] = {}
    for row in rows:
        for i, point in enumerate(row):
            x[point] = (i - (len(row) - 1) / 2) * (widths[point] + gap_px)
    for sweep in range(STRAIGHTENING):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            beside = {p: [x[n] for n in row[max(0, i - 1) : i + 2] if n != p] for i, p in enumerate(row)}
            wanted = [
                _mean([x[n] for n in (*above.get(p, ()), *below.get(p, ()))], _mean(beside[p], x[p])) for p in row
            ]
            needed = [(widths[a] + widths[b]) / 2 + gap_px for a, b in pairwise(row)]
            x |= dict(zip(row, _spread(wanted, needed), strict=True))
    left = min(x[p] - widths[p] / 2 for p in x)
    return {point: round(at - left, 1) for point, at in x.items()}


def _spread(wanted: list[float], needed: list[float]) -> list[float]:
    """Positions nearest to `wanted` (least squares) that keep the distances `needed`: pool adjacent violators."""
    offsets = [0.0]
    for distance in needed:
        offsets.append(offsets[-1] + distance)
    blocks: list[list[float]] = []  # mean, count
    for want, offset in zip(wanted, offsets, strict=True):
        blocks.append([want - offset, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, count = blocks.pop()
            last = blocks[-1]
            blocks[-1] = [(last[0] * last[1] + mean * count) / (last[1] + count), last[1] + count]
    flat = [mean for mean, count in blocks for _ in range(int(count))]
    return [mean + offset for mean, offset in zip(flat, offsets, strict=True)]


def _neighbours(steps: list[tuple[str, str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for a, b in steps:
        above.setdefault(b, []).append(a)
        below.setdefault(a, []).append(b)
    return above, below


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
