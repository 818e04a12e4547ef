"""The whole service on one machine, with a GPU or without: so many processes, each with so many studies at a time.

    python -m tests.benchmarks.gpu_pipeline --processes 16 --at-once 1 --provider cuda [--studies N] [--compressed N]
        [--rescreen] [--leave] [--folder FOLDER] [--setting SCREENING_NAME=VALUE]... [--write]

Studies are written first (16 MB each, as much again for the store unless they are left in place), then handed to a
`worker run`: first the uncompressed ones, then the JPEG 2000 ones. With `--rescreen` each kind is judged once more,
which is everything but the intake. A folder in memory (/dev/shm) leaves the disk out. Prints one JSON object.
"""

import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click
from sqlalchemy import select

from schema import models
from tests.benchmarks.load import Load
from tests.benchmarks.machine import cores, machine, tell
from tests.benchmarks.service import Service, running
from tests.benchmarks.studies import UID_ROOT, write_all
from tests.phantoms import EXPLICIT_LITTLE, JPEG_2000_LOSSLESS
from worker.screening.timings import Stage

RESULT = Path(__file__).parent / "results" / "gpu_pipeline.json"

LIBRARIES = ("numpy", "opencv-python-headless", "imagecodecs", "pydicom", "onnxruntime-gpu", "celery", "sqlalchemy")

#: Workers that are busy for a smaller share of the time than this wait for the intake.
FULL = 0.7


def judged(service: Service, since: datetime, slots: int, elapsed_s: float | None = None) -> dict[str, Any]:
    """Rates and times from the results since a moment. `slots`: how many studies the service screens at a time.

    `elapsed_s`: left out, from the first claim to the last row.
    """
    row = models.Screening
    columns = {str(stage): getattr(row, f"{stage}_s") for stage in Stage}
    with service.database.writing() as session:
        rows = session.execute(
            select(row.screened_at, row.worked_s, row.batch_size, row.provider, *columns.values()).where(
                row.screened_at >= since
            )
        ).all()
    claimed = min(one.screened_at - timedelta(seconds=one.worked_s) for one in rows)
    elapsed_s = elapsed_s or (max(one.screened_at for one in rows) - claimed).total_seconds()
    worked = sum(one.worked_s for one in rows)
    seconds = {stage: sum(getattr(one, f"{stage}_s") or 0.0 for one in rows) for stage in columns}
    seconds["claim, judge, wait"] = worked - sum(seconds.values())
    full = worked / (elapsed_s * slots)
    return {
        "studies": len(rows),
        "studies_per_s": round(len(rows) / elapsed_s, 2),
        "elapsed_s": round(elapsed_s, 2),
        "stages_ms_a_study": {stage: round(s / len(rows) * 1e3, 2) for stage, s in seconds.items()},
        "stages_share_of_cores": {stage: round(s / (elapsed_s * cores()), 3) for stage, s in seconds.items()},
        "hands_full_share": round(full, 3),
        "limited_by": max(seconds, key=lambda stage: seconds[stage]) if full >= FULL else "intake or offers",
        "batch_sizes": dict(sorted(Counter(str(one.batch_size) for one in rows).items())),
        "providers": sorted({one.provider for one in rows}),
    }


def handed_over(service: Service, folder: Path, count: int, slots: int, settings: dict[str, str]) -> dict[str, Any]:
    """A folder, from its files in the inbox to the last row."""
    load, since = Load(service.pid), datetime.now(UTC)
    run = service.screen(folder, count, **settings)
    found = judged(service, since, slots, run.drop_to_last_row_s)
    return {**found, "taking_in_s": round(run.taking_in_s, 2), **load.told(count)}


def rescreened(service: Service, numbers: range, slots: int) -> dict[str, Any]:
    """The same studies once more, without intake; from first claim to last result."""
    load, since = Load(service.pid), datetime.now(UTC)
    service.rescreen([f"{UID_ROOT}.{number + 1}" for number in numbers])
    service.wait(len(numbers))
    return {**judged(service, since, slots), **load.told(len(numbers))}


def measured(
    folder: Path, kinds: dict[str, range], settings: dict[str, str], slots: int, *, is_left: bool, is_again: bool
) -> dict[str, Any]:
    """Every run, by its name."""
    for kind, numbers in kinds.items():
        write_all(folder / kind, numbers, JPEG_2000_LOSSLESS if kind == "jpeg2000" else EXPLICIT_LITTLE)
    modes = {"SCREENING_INBOX_MODE": "leave"} if is_left else {}
    found = dict[str, Any]()
    with running(folder, **settings) as service:
        for kind, numbers in kinds.items():
            found[kind] = handed_over(service, folder / kind, len(numbers), slots, modes)
            if is_again:
                found[f"{kind}, again"] = rescreened(service, numbers, slots)
    return found


def _settings(_: object, __: object, pairs: Sequence[str]) -> dict[str, str]:
    if not all(pair.startswith("SCREENING_") and "=" in pair for pair in pairs):
        raise click.BadParameter("write SCREENING_NAME=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)


Counted = partial(click.IntRange, min=1)


@click.command()
@click.option("--processes", default=cores(), show_default=True, type=Counted())
@click.option("--at-once", default=1, show_default=True, type=Counted(max=16), help="Studies a process has in hand.")
@click.option("--provider", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--studies", default=600, show_default=True, type=click.IntRange(min=2), help="Uncompressed ones.")
@click.option("--compressed", default=100, show_default=True, type=click.IntRange(min=0), help="JPEG 2000 ones.")
@click.option("--rescreen", "is_again", is_flag=True, help="Judge all once more, without intake.")
@click.option("--leave", "is_left", is_flag=True, help="Leave the files in place: nothing is copied.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="An empty folder to write to, kept; else a temporary one."
)
@click.option("--setting", "settings", multiple=True, callback=_settings, help="SCREENING_NAME=VALUE for the service.")
@click.option("--write", "is_kept", is_flag=True, help="Keep the result in tests/benchmarks/results/gpu_pipeline.json.")
def main(
    processes: int, at_once: int, provider: str, studies: int, compressed: int, is_again: bool, is_left: bool,
    folder: Path | None, settings: dict[str, str], is_kept: bool,
) -> None:  # fmt: skip
    """Write, screen, print."""
    asked = {
        "SCREENING_PROCESSES": str(processes),
        "SCREENING_STUDIES_AT_ONCE": str(at_once),
        "SCREENING_PROVIDER": provider,
        **settings,
    }
    kinds = {"uncompressed": range(studies), "jpeg2000": range(studies, studies + compressed)}
    kinds = {kind: numbers for kind, numbers in kinds.items() if numbers}
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    place = tempfile.TemporaryDirectory(prefix="screening-gpu-") if folder is None else nullcontext(folder)
    with place as name:
        runs = measured(Path(name), kinds, asked, processes * at_once, is_left=is_left, is_again=is_again)
    facts = machine(0.0, LIBRARIES)
    del facts["share_taken_by_others"]  # the service's processes would be counted too
    found = {"settings": asked, "is_left": is_left, "runs": runs, "machine": facts}
    found["measured_on"] = datetime.now(UTC).date().isoformat()
    tell(found, RESULT if is_kept else None)


if __name__ == "__main__":
    main()
