"""End-to-end throughput of `worker screen`, beside its roofline and the plain way, all in one run on the same files.

    python -m tests.benchmarks.throughput [--studies N] [--write]

Files are written to a temporary folder (16 MB each, and as much again for the store), and are warm in the page cache.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from schema import models
from schema.database import Database
from schema.vocabulary import StudyState
from tests.benchmarks.machine import Watch, machine
from tests.benchmarks.stages import Costs, measure_plain, measure_stages, roofline
from tests.benchmarks.studies import write_studies
from worker import settings as settings_module
from worker.model import open_model

RESULT = Path(__file__).parent / "results" / "throughput.json"

#: The program is stopped, and its children with it, when it takes longer than any honest run.
START_S, LONGEST_STUDY_S = 60.0, 5.0

#: Whose versions move the numbers.
LIBRARIES = ("numpy", "opencv-python-headless", "imagecodecs", "pydicom", "onnxruntime-gpu", "celery", "sqlalchemy")


@dataclass(frozen=True)
class Run:
    """One run of `worker screen`, by the clock of its own database."""

    studies: int
    drop_to_last_row_s: float  #: first arrival seen -> last screening committed
    taking_in_s: float  #: first arrival seen -> last arrival seen
    command_s: float  #: the whole command, start of the interpreter to the printed list

    @property
    def studies_per_s(self) -> float:
        """What a hospital would call the throughput."""
        return self.studies / self.drop_to_last_row_s


def screen(folder: Path, home: Path, model: Path, count: int) -> Run:
    """Run the real program on the folder; raises SystemExit unless every study was screened and has its overlay."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SCREENING_")}
    environment |= {"SCREENING_HOME": str(home), "SCREENING_MODEL": str(model), "SCREENING_PROVIDER": "cpu"}
    began = datetime.now(UTC)
    command = [sys.executable, "-m", "worker", "screen", str(folder), "--json"]
    patience_s = START_S + count * LONGEST_STUDY_S
    try:
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=patience_s
        )
    except subprocess.TimeoutExpired:
        sys.exit(f"`worker screen` did not end within {patience_s:.0f} s: it waits for something that does not come")
    command_s = (datetime.now(UTC) - began).total_seconds()
    if ended.returncode != 0:
        sys.exit(f"`worker screen` ended with {ended.returncode}: {ended.stderr.strip()}")
    database = Database(settings_module.Settings(home=home).database_url)
    with database.writing() as session:
        first, last_seen = session.execute(
            select(func.min(models.Arrival.seen_at), func.max(models.Arrival.seen_at))
        ).one()
        last = session.scalars(select(func.max(models.Screening.screened_at))).one()
        screened = session.scalar(select(func.count()).where(models.Study.state == StudyState.SCREENED))
        drawn = session.scalar(select(func.count(models.Finding.overlay_digest)))
    database.close()
    if (screened, drawn) != (count, count):
        sys.exit(f"of {count} studies {screened} were screened and {drawn} have an overlay: no number comes of that")
    return Run(count, (last - first).total_seconds(), (last_seen - first).total_seconds(), command_s)


def outcome(run: Run, costs: Costs, plain_s: float, facts: dict[str, Any], model: Path) -> dict[str, Any]:
    """Everything measured, as plain values; ratios first, since absolute times vary from machine to machine."""
    ceiling = roofline(costs, run.studies, facts["cores"])
    opened = open_model(model, provider="cpu")
    return {
        "of_roofline": round(run.studies_per_s / ceiling, 3),
        "times_the_plain_way": round(run.studies_per_s * plain_s, 2),
        "studies_per_s": round(run.studies_per_s, 2),
        "roofline_studies_per_s": round(ceiling, 2),
        "plain_ms": round(plain_s * 1e3, 1),
        "stages_ms": {stage: round(s / run.studies * 1e3, 2) for stage, s in costs.wall_s.items()},
        "stages_cpu_ms": {stage: round(s / run.studies * 1e3, 2) for stage, s in costs.cpu_s.items()},
        "run": {name: round(value, 2) for name, value in asdict(run).items()},
        "input": "uncompressed DICOM, 3056x2544, 12 bits, one image a study, page cache warm",
        "model": {"name": opened.card.name, "digest": opened.digest},
        "machine": facts,
        "measured_on": datetime.now(UTC).date().isoformat(),
    }


def show(found: dict[str, Any], console: Console) -> None:
    """The outcome as two tables."""
    stages = Table("stage, alone on one core", "ms a study", "of it CPU", title="Roofline")
    for stage, ms in found["stages_ms"].items():
        stages.add_row(stage, f"{ms:.1f}", f"{found['stages_cpu_ms'][stage]:.1f}")
    stages.add_section()
    total = sum(found["stages_ms"].values())
    stages.add_row("together", f"{total:.1f}", f"{sum(found['stages_cpu_ms'].values()):.1f}")
    table = Table("what", "studies/s", "compared", title=f"{found['run']['studies']} studies, heat maps included")
    table.add_row("worker screen, drop to last committed row", f"{found['studies_per_s']:.1f}", "")
    table.add_row(
        f"roofline on {found['machine']['cores']} cores",
        f"{found['roofline_studies_per_s']:.1f}",
        f"reached {found['of_roofline']:.0%}",
    )
    table.add_row("plain way", f"{1e3 / found['plain_ms']:.1f}", f"{found['times_the_plain_way']:.1f} times as fast")
    table.caption = (
        f"{found['machine']['share_taken_by_others']:.0%} of the cores' time went to other programs meanwhile"
    )
    for each in (stages, table):
        for column in each.columns[1:]:
            column.justify = "right"
        console.print(each)


@click.command()
@click.option("--studies", default=100, show_default=True, type=click.IntRange(min=2), help="How many to screen.")
@click.option("--write", is_flag=True, help="Keep the result in tests/benchmarks/results/throughput.json.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of tables.")
def main(studies: int, write: bool, as_json: bool) -> None:
    """Measure, compare, print."""
    model = settings_module.load().model
    with tempfile.TemporaryDirectory(prefix="screening-bench-") as name:
        folder = Path(name) / "inbox"
        folder.mkdir()
        paths = write_studies(folder, studies)
        watch = Watch()
        run = screen(folder, Path(name) / "home", model, studies)
        costs = measure_stages(paths, Path(name) / "alone", model)
        plain_s = measure_plain(paths, model)
        facts = machine(watch.share_taken_by_others(), LIBRARIES)
        found = outcome(run, costs, plain_s, facts, model)
    text = json.dumps(found, indent=2)
    if write:
        RESULT.write_text(text + "\n", encoding="utf-8")
    if as_json:
        click.echo(text)
    else:
        show(found, Console(width=100 if not sys.stdout.isatty() else None))


if __name__ == "__main__":
    main()
