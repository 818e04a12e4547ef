"""A service over ten thousand images: STAT behind a backlog, memory, and the rates of one and two worker processes.

    python -m tests.benchmarks.endurance [--studies N] [--images N] [--stat N] [--write]

A folder of uncompressed studies (16 MB each) is watched in place and queued while no queue worker runs; then STAT
studies are dropped behind it. Afterwards the same studies are screened repeatedly. Needs room for all of them.
"""

import random
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import Any

import click
import numpy as np
from sqlalchemy import func, select

from schema import models
from schema.database import Database
from schema.vocabulary import Priority, StudyState
from tests.acceptance.installation import Installation, celery, wait_until
from tests.benchmarks.machine import Watch, machine, tell
from tests.benchmarks.service import LONGEST_STUDY_S, START_S, Service
from tests.benchmarks.studies import write_studies
from worker.ledger.connect import open_database
from worker.runtime.children import child
from worker.settings import Settings

RESULT = Path(__file__).parent / "results" / "endurance.json"
LIBRARIES = ("numpy", "opencv-python-headless", "onnxruntime-gpu", "celery", "sqlalchemy")

#: No waiting for quiet files: these are known to be whole.
QUICK = {
    "SCREENING_PROVIDER": "cpu",
    "SCREENING_INBOX_MODE": "leave",
    "SCREENING_FILE_QUIET_S": "0.1",
    "SCREENING_STUDY_QUIET_S": "0.1",
    "SCREENING_SCAN_INTERVAL_S": "0.5",
}

#: Longest time between two STAT studies.
STAT_EVERY_S = 1.0

#: Images between two looks at the memory.
SAMPLE_IMAGES = 100

#: Studies screened for one rate, after those that warm a worker; and how often both rates are measured, in turns.
RATE_STUDIES, WARM_STUDIES, RATE_ROUNDS = 300, 20, 3


@contextmanager
def queue_worker(site: Installation, processes: int) -> Iterator[int]:
    """A Celery worker of the installation; its process ID."""
    log = site.home / "logs" / f"bench_{processes}.log"
    with child(celery(processes), log, START_S, site.environment()) as process:
        yield process.pid


def stat_latencies(service: Service, count: int) -> list[float]:
    """Drop STAT studies at random moments; seconds from settled to committed row, for each."""
    stat = service.inbox / "stat"
    stat.mkdir()
    dice = random.Random(3)
    drawer = service.inbox / ".drawer"  # hidden: they are drawn before, and renamed into place
    drawer.mkdir()
    for path in write_studies(drawer, count, first=50_000):
        sleep(dice.uniform(0, STAT_EVERY_S))
        path.rename(stat / path.name)
    found: list[float] = []

    def are_all_there() -> bool:
        with service.database.writing() as session:
            rows = session.execute(
                select(models.Study.settles_at, models.Study.screened_at).where(models.Study.priority == Priority.STAT)
            ).all()
        found[:] = [(at - settled).total_seconds() for settled, at in rows if at is not None]
        return len(found) == count

    wait_until(are_all_there, START_S + count * LONGEST_STUDY_S)
    return found


def resident_mib(pid: int) -> float:
    """Memory of a process without what it shares with others."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def pool_of(pid: int) -> list[int]:
    """The worker processes of a Celery worker."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return [int(one) for one in children if Path(f"/proc/{one}/task/{one}/children").read_text(encoding="utf-8")]


def memory(service: Service, pid: int, images: int) -> list[list[float]]:
    """Screen stored studies until `images` are screened; MiB of each worker process, every `SAMPLE_IMAGES` images."""
    uids, pool = service.study_uids(), pool_of(pid)
    samples, done = list[list[float]](), 0
    while done < images:
        some = uids[done % len(uids) :][:SAMPLE_IMAGES]
        service.rescreen(some)
        service.wait(len(some))
        done += len(some)
        samples.append([round(resident_mib(one), 1) for one in pool])
    assert pool_of(pid) == pool, "a worker process was lost"
    return samples


def rate(service: Service, processes: int) -> float:
    """Studies a second of a queue worker over a backlog that is queued before it starts, intake aside."""
    uids = service.study_uids()[: WARM_STUDIES + RATE_STUDIES]
    service.rescreen(uids)
    wait_until(lambda: _queued(service.database) == len(uids), START_S)
    moment = datetime.now(UTC)
    with queue_worker(service.site, processes):
        service.wait(len(uids))
    return service.rate_since(moment, min(WARM_STUDIES, len(uids) // 2))


def measured(folder: Path, studies: int, images: int, stat: int) -> dict[str, Any]:
    """The whole run."""
    archive = folder / "archive"
    archive.mkdir()
    write_studies(archive, studies)
    site = Installation(folder / "home", QUICK)
    database = open_database(Settings(home=site.home))
    with (
        child(site.command("watch", archive), folder / "watch.log", START_S, site.environment()) as watcher,
        closing(database),
    ):
        service = Service(site, archive, database, watcher.pid)
        wait_until(lambda: _queued(database) == studies, START_S + studies * LONGEST_STUDY_S)
        with queue_worker(site, 2) as pid:
            wait_until(lambda: bool(service.study_uids()), START_S)
            latencies = stat_latencies(service, stat)
            behind = studies
            service.wait(studies)
            samples = memory(service, pid, images)
        rounds = [{processes: rate(service, processes) for processes in (1, 2)} for _ in range(RATE_ROUNDS)]
    per_process = np.asarray(samples)
    thousand = max(1, len(samples) // 10)
    second, last = per_process[thousand : 2 * thousand].mean(axis=0), per_process[-thousand:].mean(axis=0)
    return {
        "stat_settled_to_row_s": {
            "p50": round(float(np.percentile(latencies, 50)), 3),
            "p95": round(float(np.percentile(latencies, 95)), 3),
            "most": round(max(latencies), 3),
            "n": len(latencies),
            "behind": behind,
        },
        "memory": {
            "images": len(samples) * SAMPLE_IMAGES,
            "last_tenth_over_second": [round(float(value), 4) for value in last / second],
            "most_mib": float(per_process.max()),
            "mib_by_hundred_images": samples,
        },
        "rescreened_per_s": {
            str(processes): round(statistics.median(each[processes] for each in rounds), 2) for processes in (1, 2)
        },
        "two_processes_over_one": round(statistics.median(each[2] / each[1] for each in rounds), 3),
        "two_processes_over_one_of_rounds": [round(each[2] / each[1], 3) for each in rounds],
    }


def _queued(database: Database) -> int:
    with database.writing() as session:
        return int(session.scalar(select(func.count()).where(models.Study.state == StudyState.QUEUED)) or 0)


@click.command()
@click.option("--studies", default=1000, show_default=True, type=click.IntRange(min=20), help="The backlog.")
@click.option("--images", default=10_000, show_default=True, type=click.IntRange(min=200), help="For the memory.")
@click.option("--stat", default=40, show_default=True, type=click.IntRange(min=2), help="STAT studies.")
@click.option("--write", is_flag=True, help="Keep the result in tests/benchmarks/results/endurance.json.")
def main(studies: int, images: int, stat: int, write: bool) -> None:
    """Measure, print."""
    with tempfile.TemporaryDirectory(prefix="screening-endurance-") as name:
        watch = Watch()
        found = measured(Path(name), studies, images, stat)
        found["machine"] = machine(watch.share_taken_by_others(), LIBRARIES)
    found["measured_on"] = datetime.now(UTC).date().isoformat()
    tell(found, RESULT if write else None)


if __name__ == "__main__":
    main()
