"""The results of `make bench` as the table of tests/benchmarks/README.md, and as a plot: the targets and the results.

    python -m tests.benchmarks.table           # the table, as Markdown
    python -m tests.benchmarks.table --write   # puts it into the page
    python -m tests.benchmarks.table --check   # exits with 1 when the page has another; `make check` runs it
    python -m tests.benchmarks.table --plot deploy/pictures/speed.png

All numbers come from tests/benchmarks/results.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent / "README.md"

#: The lines of the page around the table.
BEGIN, END = "<!-- python -m tests.benchmarks.table -->\n", "<!-- end of the table -->"

RLE, JPEG_LOSSLESS, JPEG_LS = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"


@dataclass(frozen=True)
class Row:
    """A measure, its target, and what came out."""

    what: str
    target: float
    value: float
    unit: str
    is_ceiling: bool = False  #: the target is the most that is allowed
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the target is reached."""
        return self.value <= self.target if self.is_ceiling else self.value >= self.target

    @property
    def reached(self) -> float:
        """How much of the target is reached; 1 and more is enough."""
        return self.target / self.value if self.is_ceiling else self.value / self.target

    def markdown(self) -> str:
        """The row of the table."""
        sign = "≤" if self.is_ceiling else "≥"
        verdict = "" if self.is_met else " **missed**"
        return f"| {self.what} | {sign} {self.target:g}{self.unit} | {self.value:g}{self.unit}{verdict} | {self.note} |"


def result(name: str) -> dict[str, Any]:
    """One file of results."""
    found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def rows() -> Iterator[Row]:
    """Every measure that has a target."""
    bulk, long, cold = result("throughput"), result("endurance"), result("cold")
    decoders, share = result("decoders")["syntaxes"], result("heat_share")
    studies = bulk["runs"]["copied"][0]["studies"]
    per_s = bulk["studies_per_s"]
    yield Row(
        f"{studies} uncompressed 3056 × 2544 studies, drop to committed row with heat maps, of the roofline",
        0.8, bulk["of_roofline"], "", note=f"{per_s:g} a second of {bulk['roofline_studies_per_s']:g}",
    )  # fmt: skip
    yield Row("the same against the plain way", 5, bulk["times_the_plain_way"], "×", note=f"{bulk['plain_ms']:g} ms")
    yield Row("the same against the Keras way", 15, bulk["times_the_keras_way"], "×", note=f"{bulk['keras_ms']:g} ms")
    yield Row(
        "JPEG 2000 lossless against the plain way", 15, bulk["jpeg2000_times_the_plain_way"], "×",
        note=f"{bulk['jpeg2000_studies_per_s']:g} a second; {bulk['jpeg2000_plain_ms']:g} ms",
    )  # fmt: skip
    rle = decoders[RLE]
    yield Row(
        "decode of RLE, exact, against pydicom's own",
        5,
        round(rle["plugins_ms"]["pydicom"] / rle["ours_ms"], 2),
        "×",
        note=f"{rle['ours_ms']:g} ms, {rle['plugins_ms']['pydicom']:g}; {rle['times_as_fast']:g}× with pylibjpeg-rle",
    )
    for name, uid, target in (
        ("JPEG Lossless", JPEG_LOSSLESS, 2),
        ("JPEG-LS", JPEG_LS, 1.5),
        ("JPEG 2000", JPEG_2000, 1.3),
    ):
        one = decoders[uid]
        yield Row(
            f"decode of {name}, exact, against pydicom's choice of GDCM, Pillow and pylibjpeg",
            target,
            one["times_as_fast"],
            "×",
            note=f"{one['ours_ms']:g} ms, {one['pydicom_ms']:g}",
        )
    reduced = result("reduced")["syntaxes"]["JPEG 2000 lossless"]["decode"]
    yield Row(
        "the same at reduced resolution, against in full",
        10,
        reduced["times_as_fast"],
        "×",
        note=f"{reduced['reduced_ms']:g} ms; not used by the shipped model (worker/imaging/README.md)",
    )
    stat = long["stat_settled_to_row_s"]
    yield Row(
        f"STAT study behind {stat['behind']:,} routine ones, settled to committed row, p95",
        1, stat["p95"], " s", is_ceiling=True, note=f"median {stat['p50']:g} s, n = {stat['n']}",
    )  # fmt: skip
    yield Row(
        "`worker screen` of one file, cold process to printed row", 3, cold["screen_first"]["median_s"], " s",
        is_ceiling=True, note=f"median of {cold['rounds']}; most {cold['screen_first']['most_s']:g} s",
    )  # fmt: skip
    memory = long["memory"]
    yield Row(
        f"memory of a worker over {memory['images']:,} images, last tenth over second",
        1.03, max(memory["last_tenth_over_second"]), "", is_ceiling=True,
    )  # fmt: skip
    yield Row("the same, most", 700, memory["most_mib"], " MiB", is_ceiling=True)
    yield Row(
        "two worker processes over one, on two cores", 1.8, long["two_processes_over_one"], "×",
        note=" and ".join(f"{rate:g}" for rate in long["rescreened_per_s"].values()) + " a second, intake aside",
    )  # fmt: skip
    yield Row(
        "heat map's share of inference", 2, round(share["share"] * 100, 2), " %", is_ceiling=True,
        note=f"{share['heat_map_ms']:g} of {share['inference_ms']:g} ms",
    )  # fmt: skip


def table() -> str:
    """The table, as Markdown."""
    lines = ["| measure | target | measured | |", "|---|---|---|---|", *(row.markdown() for row in rows())]
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """The page with the table of today's results between its two lines."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def plot(path: Path) -> None:
    """How much of each target was reached, as bars, on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    found = list(rows())[::-1]
    figure, axes = plt.subplots(figsize=(10, 0.42 * len(found) + 1))
    colours = ["#2a7f62" if row.is_met else "#c1440e" for row in found]
    axes.barh([row.what.replace("`", "") for row in found], [row.reached for row in found], color=colours)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("reached / asked for")
    axes.set_xlim(0.05, 2.5 * max(row.reached for row in found))
    for place, row in enumerate(found):
        axes.text(row.reached, place, f" {row.value:g}{row.unit}", va="center", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


@click.command()
@click.option("--write", is_flag=True, help="Put the table into the page.")
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw it as a PNG.")
def main(write: bool, picture: Path | None) -> None:
    """Print it, or do what the options say."""
    if picture is not None:
        plot(picture)
    if write:
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    elif picture is None:
        click.echo(table(), nl=False)


if __name__ == "__main__":
    main()
