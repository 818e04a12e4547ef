"""The results of `make bench` as the table of tests/benchmarks/README.md, and as a plot: the targets and the results.

    python -m tests.benchmarks.table           # the table, as Markdown
    python -m tests.benchmarks.table --write   # puts it into the page
    python -m tests.benchmarks.table --check   # exits with 1 when the page has another; `make check` runs it
    python -m tests.benchmarks.table --plot deploy/pictures/speed.png

All numbers come from tests/benchmarks/results.
"""

from pathlib import Path
from textwrap import fill

import click

from tests.benchmarks.measures import rows

PAGE = Path(__file__).parent / "README.md"

#: The lines of the page around the table.
BEGIN, END = "<!-- python -m tests.benchmarks.table -->\n", "<!-- end of the table -->"

#: Characters of a line beside a bar.
LABEL = 60


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
    """How much of each target was reached, as bars; the line is the target."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    found = [row for row in rows() if row.target is not None and row.value is not None][::-1]
    figure, axes = plt.subplots(figsize=(10, 0.42 * len(found) + 1))
    colours = ["#2a7f62" if row.is_met else "#c1440e" for row in found]
    axes.barh([fill(row.what.replace("`", ""), LABEL) for row in found], [row.reached for row in found], color=colours)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xlabel("reached / asked for")
    axes.set_xlim(0, 1.2 * max(row.reached for row in found))
    axes.set_ylim(-0.6, len(found) - 0.4)
    axes.tick_params(axis="y", labelsize=8)
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
