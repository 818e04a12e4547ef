"""End-to-end throughput of a running service, its roofline and two other programs, on the same files.

    python -m tests.benchmarks.throughput [--studies N] [--rounds N] [--write]

Ours, the roofline and the other ways are measured in turns, on other files each time, for a virtual machine is not as
fast at one minute as at the next; what is told is the median of the rounds, and each of them is kept.
Files are written to a temporary folder (16 MB each, and as much again for the store), and are warm in the page cache.
The service is `worker run`; the batch is handed to it by `worker screen`. JPEG 2000 studies are fewer: one takes a
second to encode.
"""

import json
import statistics
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tests.benchmarks.machine import Watch, machine, warm_memory
from tests.benchmarks.service import Run, Service, running
from tests.benchmarks.stages import Costs, measure_stages, roofline
from tests.benchmarks.studies import write_studies
from tests.benchmarks.ways import keras_s, plain_s
from worker.inference.model import open_model
from worker.runtime import configuration

RESULT = Path(__file__).parent / "results" / "throughput.json"

#: Libraries whose versions change the numbers.
LIBRARIES = ("numpy", "opencv-python-headless", "imagecodecs", "pydicom", "onnxruntime-gpu", "celery", "sqlalchemy")

#: Files of a round on which each stage is measured alone, and the other ways; and compressed ones, once.
SOME_STAGES, SOME, SOME_COMPRESSED = 60, 15, 10

#: The number of the rounds' first study, beyond those that are measured once.
FIRST = 10_000


@dataclass(frozen=True)
class Round:
    """Ours and the others on the same files, one after the other."""

    copied: Run  #: in mode `copy`, as `worker screen` does
    costs: Costs
    plain_s: float
    keras_s: float

    @property
    def alone(self) -> int:
        """Studies whose stages were measured alone."""
        return min(SOME_STAGES, self.copied.studies)

    def told(self, cores: int) -> dict[str, float]:
        """As plain values."""
        rate, ceiling = self.copied.studies_per_s, roofline(self.costs, self.alone, cores)
        return {
            "of_roofline": round(rate / ceiling, 3),
            "times_the_plain_way": round(rate * self.plain_s, 2),
            "times_the_keras_way": round(rate * self.keras_s, 2),
            "studies_per_s": round(rate, 2),
            "roofline_studies_per_s": round(ceiling, 2),
            "plain_ms": round(self.plain_s * 1e3, 1),
            "keras_ms": round(self.keras_s * 1e3, 1),
        }


@dataclass(frozen=True)
class Found:
    """What was measured."""

    rounds: list[Round]
    left: Run  #: in mode `leave`: read in place
    compressed: Run
    plain_compressed_s: float

    def ms_a_study(self, clock: str) -> dict[str, float]:
        """What each stage costs by a clock of `Costs`."""
        studies = sum(each.alone for each in self.rounds)
        sums = Counter[str]()
        for each in self.rounds:
            sums.update(getattr(each.costs, clock))
        return {stage: round(s / studies * 1e3, 2) for stage, s in sums.items()}


def measured(folder: Path, model: Path, studies: int, compressed: int, rounds: int, *, is_warmed: bool) -> Found:
    """Every measurement, on files that are written below `folder`."""
    left, squeezed = folder / "left", folder / "compressed"
    for source in (left, squeezed):
        source.mkdir()
    few = write_studies(squeezed, compressed, first=studies, jpeg2000=True)[:SOME_COMPRESSED]
    with running(folder) as service:
        if is_warmed:
            warm_memory(folder)
        firsts = range(FIRST, FIRST + rounds * studies, studies)
        turns = [_round(service, folder, model, range(first, first + studies)) for first in firsts]
        write_studies(left, studies)  # as late as this, so that they are in the page cache
        return Found(
            turns,
            left=service.screen(left, studies, SCREENING_INBOX_MODE="leave"),
            compressed=service.screen(squeezed, compressed),
            plain_compressed_s=plain_s(few, model),
        )


def _round(service: Service, folder: Path, model: Path, numbers: range) -> Round:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        paths = write_studies(Path(name), len(numbers), first=numbers.start)
        ours = service.screen(Path(name), len(paths))
        with tempfile.TemporaryDirectory(dir=folder) as alone:
            costs = measure_stages(paths[:SOME_STAGES], Path(alone), model)
        return Round(ours, costs, plain_s(paths[:SOME], model), keras_s(paths[:SOME]))


def outcome(found: Found, facts: dict[str, Any], model: Path) -> dict[str, Any]:
    """Everything measured, as plain values; ratios first, since absolute times vary from machine to machine."""
    opened = open_model(model, provider="cpu")
    rounds = [each.told(facts["cores"]) for each in found.rounds]
    middle = {name: round(statistics.median(each[name] for each in rounds), 3) for name in rounds[0]}
    return {
        **middle,
        "jpeg2000_times_the_plain_way": round(found.compressed.studies_per_s * found.plain_compressed_s, 2),
        "left_in_place_studies_per_s": round(found.left.studies_per_s, 2),
        "jpeg2000_studies_per_s": round(found.compressed.studies_per_s, 2),
        "jpeg2000_plain_ms": round(found.plain_compressed_s * 1e3, 1),
        "stages_ms": found.ms_a_study("wall_s"),
        "stages_cpu_ms": found.ms_a_study("cpu_s"),
        "rounds": rounds,
        "runs": {
            "copied": [_rounded(asdict(each.copied)) for each in found.rounds],
            **{name: _rounded(asdict(getattr(found, name))) for name in ("left", "compressed")},
        },
        "input": "uncompressed DICOM, 3056x2544, 12 bits, one image a study, page cache warm",
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
    table = Table("what", "studies/s", "compared", title="Drop to last committed row, heat maps included")
    reached = f"{found['of_roofline']:.0%} of {found['roofline_studies_per_s']:.1f}"
    compressed = found["jpeg2000_times_the_plain_way"]
    table.add_row("uncompressed, copied into the store", f"{found['studies_per_s']:.1f}", f"roofline: {reached}")
    table.add_row("the plain way", f"{1e3 / found['plain_ms']:.1f}", f"ours: {found['times_the_plain_way']:.1f} times")
    table.add_row("the Keras way", f"{1e3 / found['keras_ms']:.1f}", f"ours: {found['times_the_keras_way']:.1f} times")
    table.add_row("uncompressed, left in place", f"{found['left_in_place_studies_per_s']:.1f}", "")
    table.add_row("JPEG 2000 lossless", f"{found['jpeg2000_studies_per_s']:.1f}", f"plain way: {compressed:.1f} times")
    table.caption = (
        f"{found['machine']['share_taken_by_others']:.0%} of the cores' time went to other programs meanwhile"
    )
    for each in (stages, table):
        for column in each.columns[1:]:
            column.justify = "right"
        console.print(each)


@click.command()
@click.option("--studies", default=300, show_default=True, type=click.IntRange(min=2), help="How many to screen.")
@click.option(
    "--compressed", default=60, show_default=True, type=click.IntRange(min=2), help="How many JPEG 2000 ones."
)
@click.option(
    "--rounds", default=5, show_default=True, type=click.IntRange(min=1), help="Turns of ours and the others."
)
@click.option("--warm/--no-warm", "is_warmed", default=True, help="Fill the page cache first.")
@click.option("--write", is_flag=True, help="Keep the result in tests/benchmarks/results/throughput.json.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of tables.")
def main(studies: int, compressed: int, rounds: int, is_warmed: bool, write: bool, as_json: bool) -> None:
    """Measure, compare, print."""
    model = configuration.load().model
    with tempfile.TemporaryDirectory(prefix="screening-bench-") as name:
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
        show(found, Console(width=100 if not sys.stdout.isatty() else None))


if __name__ == "__main__":
    main()
