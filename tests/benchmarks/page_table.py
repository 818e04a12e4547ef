"""The results of the page's benchmarks as the table of tests/benchmarks/README.md.

    python -m tests.benchmarks.page_table           # the table, as Markdown
    python -m tests.benchmarks.page_table --write   # puts it into the page; `make check` compares them

All numbers come from `page.json`, `page_readers.json` and `page_viewer.json` in tests/benchmarks/results; a file that
is not there gives no rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click

from tests.benchmarks.measures import result
from tests.benchmarks.table import PAGE

#: The lines of the page around the table.
BEGIN, END = "<!-- python -m tests.benchmarks.page_table -->\n", "<!-- end of the page's table -->"

KINDS = ("sqlite", "postgresql")


@dataclass(frozen=True)
class Row:
    """A measure on both databases, and the most that its worse number may be."""

    what: str
    shown: tuple[str, ...]  #: on SQLite, on PostgreSQL
    worst: float
    wanted: float
    unit: str = " ms"
    is_floor: bool = False  #: `wanted` is the least

    def markdown(self) -> str:
        """The row of the table."""
        is_met = self.worst >= self.wanted if self.is_floor else self.worst <= self.wanted
        sign = "≥ " if self.is_floor else ""
        missed = "" if is_met else ": **missed**"
        return f"| {self.what} | {' | '.join(self.shown)} | {sign}{self.wanted:g}{self.unit}{missed} |"


def timed(what: str, times: list[dict[str, Any]], wanted: float) -> Row:
    """Median and 95th percentile; the latter counts."""
    shown = tuple(f"{each['median_ms']:g} / {each['p95_ms']:g}" for each in times)
    return Row(what, shown, max(each["p95_ms"] for each in times), wanted)


#: Keys of a database's results -> the measure and the most that its 95th percentile may be.
PAGES = {
    "list": ("list, first 50", 60), "not_modified": ("poll, unchanged (304)", 10),
    "poll": ("poll, of a list that changes (a 304, or its first 50)", 60),
    "search": ("search to one study", 60), "study": ("study without pixels", 60),
    "verdict_to_next": ("verdict to the next study's page", 150),
}  # fmt: skip


def of_pages() -> Iterator[Row]:
    """One reader."""
    found = [result("page")[kind] for kind in KINDS]
    yield from of_requests("", found)
    for name in (name for name in found[0] if name.startswith("beside_")):
        yield from of_requests(f"... {name.replace('_', ' ')}: ", [each[name] for each in found])
    for syntax, what, wanted in (
        ("native", "3056 × 2544, 12 bits: half-size picture, first time (once)", 1000),
        ("jpeg2000", "the same as JPEG 2000", 1600),
    ):
        first = [each[syntax]["first_half_ms"] for each in found]
        yield Row(what, tuple(f"{ms:g}" for ms in first), max(first), wanted)
    yield timed("half-size picture, decoded before", [each["native"]["half"] for each in found], 200)
    yield timed("packed pixels, decoded before", [each["native"]["pixels"] for each in found], 300)


def of_requests(prefix: str, found: list[dict[str, Any]]) -> Iterator[Row]:
    """What was measured on both databases."""
    for key, (what, wanted) in PAGES.items():
        if all(key in each for each in found):
            yield timed(f"{prefix}{what}", [each[key] for each in found], wanted)


def of_readers() -> Iterator[Row]:
    """Twenty at once."""
    found = [result("page_readers")[kind] for kind in KINDS]
    for part, where in (("alone", "20 readers"), ("beside_a_worker", "20 readers beside a worker")):
        for path, what in (("/", "list"), ("/study/{uid}", "study")):
            yield timed(f"{where}: {what}", [each[part][path] for each in found], 120)
    kept = [each["studies_a_second_beside"] / each["studies_a_second_alone"] for each in found]
    shown = tuple(f"{share:.2f}" for share in kept)
    yield Row("screening beside 20 readers, of its rate alone", shown, round(min(kept), 3), 0.9, "", is_floor=True)
    memory = [[mib for key, mib in each["memory_mib"].items() if key != "is_flat"] for each in found]
    last = next(key for key in reversed(found[0]["memory_mib"]) if key != "is_flat").partition("_")[2]
    flat = ["flat" if each["memory_mib"]["is_flat"] else "**not flat**" for each in found]
    yield Row(
        f"memory after a fifth, two fifths, ... of {int(last):,} pages and a fifth as many pictures",
        tuple(f"{', '.join(map(str, mib))}: {how}" for mib, how in zip(memory, flat, strict=True)),
        max(max(mib) for mib in memory), 300, " MiB",
    )  # fmt: skip


def of_viewer() -> Iterator[Row]:
    """In Chromium, where the database does not matter."""
    found = result("page_viewer")
    for syntax, name, seen, full in (("native", "3056 × 2544", 1000, 1200), ("jpeg2000", "as JPEG 2000", 1600, 2000)):
        for key, what, wanted in (
            ("first_seen", "first seen", seen), ("full", "full depth", full), ("full_prefetched", "fetched ahead", 300),
        ):  # fmt: skip
            row = timed(f"in Chromium, {name}: {what}", [found[syntax][key]], wanted)
            yield Row(row.what, (*row.shown, ""), row.worst, wanted)
    for key, what in (("step_fit", "fitted"), ("step_full", "at 1:1")):
        row = timed(f"one step of the window, {found[key]['canvas_pixels']:,} pixels, {what}", [found[key]], 16)
        yield Row(row.what, (*row.shown, ""), row.worst, 16)


def table() -> str:
    """The table, as Markdown, and how busy other programs kept the machine meanwhile."""
    lines = ["| median / 95th percentile, ms | SQLite | PostgreSQL | wanted |", "|---|---|---|---|"]
    shares = []
    for name, rows in (("page", of_pages), ("page_readers", of_readers), ("page_viewer", of_viewer)):
        found = result(name)
        if found and (name == "page_viewer" or set(KINDS) <= found.keys()):
            lines += [row.markdown() for row in rows()]
            shares.append(f"{100 * found['machine']['share_taken_by_others']:.0f} % (`{name}`)")
    return "\n".join([*lines, "", f"Other programs took {', '.join(shares)} of the cores meanwhile.", ""])


def with_table(text: str) -> str:
    """The page with the table of today's results between its two lines."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


@click.command()
@click.option("--write", is_flag=True, help="Put the table into the page.")
def main(write: bool) -> None:
    """Print it, or put it into the page."""
    if write:
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        click.echo(table(), nl=False)


if __name__ == "__main__":
    main()
