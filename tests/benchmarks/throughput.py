"""End-to-end throughput of a running service, its roofline and two other programs, on the same files.

    python -m tests.benchmarks.throughput [--studies N] [--compressed N] [--rounds N] [--write]

Ours, the roofline and the other ways are measured in turns, for a virtual machine is not as fast at one minute as at
the next: ratios are of one round, what is told is their median, and each round is kept. Ours is `worker run` on an
inbox in mode `move` (which links the files into the store), `copy` and `leave`, from the moment at which the files are
renamed into the inbox, whole and on the disk, to the last committed row. Nothing is waited for but a few hundredths of
a second for quiet files. Files are written to a temporary folder (16 MB each, and as much twice more for copies and the
store: 20 GB), and are warm in the page cache. JPEG 2000 and HTJ2K studies are fewer: one takes up to a second to
encode.

For HTJ2K the plain way needs `pylibjpeg` and `pylibjpeg-openjpeg`, which this project does not: without them that row
is left out. `pip install --no-deps --target FOLDER pylibjpeg pylibjpeg-openjpeg`, and then PYTHONPATH=FOLDER.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tests.benchmarks.machine import Watch, machine, warm_memory
from tests.benchmarks.rounds import OURS, Round, measure_round, middle, ms_a_study, write_files
from worker.inference.model import open_model
from worker.runtime import configuration

RESULT = Path(__file__).parent / "results" / "throughput.json"

#: Libraries whose versions change the numbers.
LIBRARIES = ("numpy", "opencv-python-headless", "imagecodecs", "pydicom", "onnxruntime-gpu", "celery", "sqlalchemy")


def measured(folder: Path, model: Path, studies: int, compressed: int, rounds: int, *, is_warmed: bool) -> list[Round]:
    """Every round, on files that are written below `folder` once."""
    if is_warmed:
        warm_memory(folder)
    files = write_files(folder, studies, compressed)
    found = []
    for turn in range(rounds):
        sys.stderr.write(f"round {turn + 1} of {rounds}\n")
        found.append(measure_round(folder, files, model, turn))
    return found


def outcome(rounds: Sequence[Round], facts: dict[str, Any], model: Path) -> dict[str, Any]:
    """Everything measured, as plain values; ratios first, since absolute times vary from machine to machine."""
    opened = open_model(model, provider="cpu")
    told = [each.told(facts["cores"]) for each in rounds]
    return {
        **middle(told),
        "linked": {name: sum(each.ours[name].linked for each in rounds) for name in OURS},
        "studies": {name: sum(each.ours[name].studies for each in rounds) for name in OURS},
        "stages_ms": ms_a_study(rounds, "wall_s"),
        "stages_cpu_ms": ms_a_study(rounds, "cpu_s"),
        "rounds": told,
        "runs": {name: [_rounded(asdict(each.ours[name])) for each in rounds] for name in OURS},
        "input": "DICOM, 3056x2544, 12 bits, one image a study, on the disk, page cache warm",
        "model": {"name": opened.card.name, "digest": opened.digest},
        "machine": facts,
        "measured_on": datetime.now(UTC).date().isoformat(),
    }


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}


def show(found: dict[str, Any], console: Console) -> None:
    """The outcome as two tables."""
    stages = Table("stage, alone on one core", "ms a study", "of it CPU", title="Roofline")
    for stage, ms in found["stages_ms"].items():
        stages.add_row(stage, f"{ms:.1f}", f"{found['stages_cpu_ms'][stage]:.1f}")
    stages.add_section()
    total = sum(found["stages_ms"].values())
    stages.add_row("together", f"{total:.1f}", f"{sum(found['stages_cpu_ms'].values()):.1f}")
    table = Table(
        "what", "studies/s", "linked", "times the plain way", title="Drop to last committed row, heat maps included"
    )
    for name, (kind, mode) in OURS.items():
        linked = f"{found['linked'][name]} of {found['studies'][name]}"
        ratios = [each["times_the_plain_way"].get(name) for each in found["rounds"]]
        compared = "it has no decoder"
        if all(ratios):
            compared = f"{found['times_the_plain_way'][name]:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        table.add_row(f"{kind}, mode {mode}", f"{found['studies_per_s'][name]:.1f}", linked, compared)
    for kind, ms in found["plain_ms"].items():
        table.add_row(f"{kind}, the plain way", f"{1e3 / ms:.1f}", "", "")
    table.add_row("uncompressed, the Keras way", f"{1e3 / found['keras_ms']:.1f}", "", "")
    table.caption = (
        f"mode move: {found['times_the_keras_way']:.1f} times the Keras way, {found['of_roofline']:.0%} of the roofline"
        f" of {found['roofline_studies_per_s']:.1f} ({found['of_roofline_reading_once']:.0%} of one that reads a file"
        f" once); {found['machine']['share_taken_by_others']:.0%} of the cores' time went to other programs meanwhile"
    )
    for each in (stages, table):
        for column in each.columns[1:]:
            column.justify = "right"
        console.print(each)


@click.command()
@click.option("--studies", default=400, show_default=True, type=click.IntRange(min=2), help="Uncompressed ones.")
@click.option(
    "--compressed", default=200, show_default=True, type=click.IntRange(min=2), help="JPEG 2000 ones, and HTJ2K ones."
)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1), help="Turns of all ways.")
@click.option("--warm/--no-warm", "is_warmed", default=True, help="Fill the page cache first.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Where inbox and store are made.")
@click.option("--write", is_flag=True, help="Keep the result in tests/benchmarks/results/throughput.json.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of tables.")
def main(
    studies: int, compressed: int, rounds: int, folder: Path | None, *, is_warmed: bool, write: bool, as_json: bool
) -> None:
    """Measure, compare, print."""
    model = configuration.load().model
    with tempfile.TemporaryDirectory(prefix="screening-bench-", dir=folder) as name:
        watch = Watch()
        values = measured(Path(name), model, studies, compressed, rounds, is_warmed=is_warmed)
        facts = machine(watch.share_taken_by_others(), LIBRARIES)
    found = outcome(values, facts, model)
    text = json.dumps(found, indent=2)
    if write:
        RESULT.write_text(text + "\n", encoding="utf-8")
    if as_json:
        click.echo(text)
    else:
        show(found, Console(width=110 if not sys.stdout.isatty() else None))


if __name__ == "__main__":
    main()
