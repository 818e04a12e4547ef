"""End-to-end throughput of a running service, beside its roofline and two other ways, in one run on the same files.

    python -m tests.benchmarks.throughput [--studies N] [--write]

Files are written to a temporary folder (16 MB each, and as much again for the store), and are warm in the page cache.
The service is `worker run`; the batch is handed to it by `worker screen`. JPEG 2000 studies are fewer: one takes a
second to encode.
"""

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tests.benchmarks.machine import Watch, machine, warm_memory
from tests.benchmarks.service import Run, running
from tests.benchmarks.stages import Costs, measure_stages, roofline
from tests.benchmarks.studies import write_studies
from tests.benchmarks.ways import keras_s, plain_s
from worker import settings as settings_module
from worker.model import open_model

RESULT = Path(__file__).parent / "results" / "throughput.json"

#: Whose versions move the numbers.
LIBRARIES = ("numpy", "opencv-python-headless", "imagecodecs", "pydicom", "onnxruntime-gpu", "celery", "sqlalchemy")

#: Files on which the other ways are measured, one after another, and how many of them are compressed.
SOME, SOME_COMPRESSED = 30, 10


@dataclass(frozen=True)
class Found:
    """What was measured."""

    copied: Run  #: in mode `copy`, as `worker screen` does
    left: Run  #: in mode `leave`: read in place
    costs: Costs
    plain_s: float
    keras_s: float
    compressed: Run
    plain_compressed_s: float


def measured(folder: Path, model: Path, studies: int, compressed: int, *, is_warmed: bool) -> Found:
    """Every measurement, on files that are written below `folder`."""
    names = ("copied", "left", "compressed")
    sources = {name: folder / name for name in names}
    for source in sources.values():
        source.mkdir()
    copied = write_studies(sources["copied"], studies)
    write_studies(sources["left"], studies, first=studies)
    squeezed = write_studies(sources["compressed"], compressed, first=2 * studies, jpeg2000=True)
    with running(folder) as service:
        if is_warmed:
            warm_memory(folder)
        runs = {
            "copied": service.screen(sources["copied"], studies),
            "left": service.screen(sources["left"], studies, SCREENING_INBOX_MODE="leave"),
            "compressed": service.screen(sources["compressed"], compressed),
        }
    return Found(
        **runs,
        costs=measure_stages(copied, folder / "alone", model),
        plain_s=plain_s(copied[:SOME], model),
        keras_s=keras_s(copied[:SOME]),
        plain_compressed_s=plain_s(squeezed[:SOME_COMPRESSED], model),
    )


def outcome(found: Found, facts: dict[str, Any], model: Path) -> dict[str, Any]:
    """Everything measured, as plain values; ratios first, since absolute times vary from machine to machine."""
    studies = found.copied.studies
    ceiling = roofline(found.costs, studies, facts["cores"])
    opened = open_model(model, provider="cpu")
    rate = found.copied.studies_per_s
    return {
        "of_roofline": round(rate / ceiling, 3),
        "times_the_plain_way": round(rate * found.plain_s, 2),
        "times_the_keras_way": round(rate * found.keras_s, 2),
        "jpeg2000_times_the_plain_way": round(found.compressed.studies_per_s * found.plain_compressed_s, 2),
        "studies_per_s": round(rate, 2),
        "left_in_place_studies_per_s": round(found.left.studies_per_s, 2),
        "jpeg2000_studies_per_s": round(found.compressed.studies_per_s, 2),
        "roofline_studies_per_s": round(ceiling, 2),
        "plain_ms": round(found.plain_s * 1e3, 1),
        "keras_ms": round(found.keras_s * 1e3, 1),
        "jpeg2000_plain_ms": round(found.plain_compressed_s * 1e3, 1),
        "stages_ms": {stage: round(s / studies * 1e3, 2) for stage, s in found.costs.wall_s.items()},
        "stages_cpu_ms": {stage: round(s / studies * 1e3, 2) for stage, s in found.costs.cpu_s.items()},
        "runs": {name: _rounded(asdict(getattr(found, name))) for name in ("copied", "left", "compressed")},
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
@click.option("--warm/--no-warm", "is_warmed", default=True, help="Fill the page cache first.")
@click.option("--write", is_flag=True, help="Keep the result in tests/benchmarks/results/throughput.json.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of tables.")
def main(studies: int, compressed: int, is_warmed: bool, write: bool, as_json: bool) -> None:
    """Measure, compare, print."""
    model = settings_module.load().model
    with tempfile.TemporaryDirectory(prefix="screening-bench-") as name:
        watch = Watch()
        values = measured(Path(name), model, studies, compressed, is_warmed=is_warmed)
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
