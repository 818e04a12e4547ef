"""Twenty readers at once, each a page a second, the page on one core and a worker on the other; then the page's memory
after ten thousand pages and two thousand pictures.

    python -m tests.benchmarks.page_readers [--on sqlite|postgresql] [--studies N] [--unread N] [--seconds N] [--write]

The readers run on the page's core, PostgreSQL on both. The worker's rate is measured by `worker screen` on its core,
alone and beside the readers; a machine of one core is refused.
"""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from schema.database import Database
from schema.migrate import upgrade
from schema.vocabulary import Role
from tests.benchmarks.archive import empty_database
from tests.benchmarks.archive_rows import fill
from tests.benchmarks.machine import Watch, machine, tell
from tests.benchmarks.page import Client, large_image, memory_mib, served
from tests.benchmarks.studies import write_studies
from tests.conftest import POSTGRESQL, SQLITE
from tests.reading_room import PASSWORD_HASH
from worker.ledger.reading_room import accounts
from worker.settings import Settings

RESULT = Path(__file__).parent / "results" / "page_readers.json"

READERS = 20

#: What a reader asks for in turn, a page a second.
PATHS = ("/", "/study/{uid}")

#: Different images that the pictures are of, and pages for each picture.
IMAGES, PAGES_A_PICTURE = 40, 5

#: Memory counts as flat when the last fifth of the pages adds at most this share to what the first two fifths left.
FLAT = 1.03


def percentile(times_s: list[float], share: float) -> float:
    """In ms."""
    return round(1e3 * sorted(times_s)[int(share * (len(times_s) - 1))], 1)


def read(
    client: Client, is_over: Callable[[int], bool], offset_s: float, uids: list[str], taken: dict[str, list[float]]
) -> None:
    """One reader: a page each second by the clock; one that is late asks at once."""
    began = time.monotonic() + offset_s
    for number in itertools.takewhile(lambda number: not is_over(number), itertools.count()):
        time.sleep(max(0.0, began + number - time.monotonic()))
        path = PATHS[number % len(PATHS)]
        asked = time.perf_counter()
        answer = client.ask("GET", path.format(uid=uids[number % len(uids)]))
        assert answer.status == 200, answer.status
        taken[path].append(time.perf_counter() - asked)


def logged_in(port: int) -> list[Client]:
    """Readers, one after the other: at most two hashes are computed at a time."""
    clients = [Client(port) for _ in range(READERS)]
    for client in clients:
        client.log_in()
    return clients


def readers(clients: list[Client], is_over: Callable[[int], bool], uids: list[str]) -> dict[str, Any]:
    """Median and 95th percentile of each page, asked for until it is over after so many."""
    taken: dict[str, list[float]] = {path: [] for path in PATHS}
    with ThreadPoolExecutor(READERS) as pool:
        reading = [
            pool.submit(read, client, is_over, n / READERS, uids[n::READERS], taken) for n, client in enumerate(clients)
        ]
        for each in reading:
            each.result()
    return {
        path: {"median_ms": percentile(times, 0.5), "p95_ms": percentile(times, 0.95), "asked": len(times)}
        for path, times in taken.items()
    }


def screen(settings: Settings, files: Path, core: int) -> "subprocess.Popen[bytes]":
    """`worker screen` of a folder, begun on one core with all its children."""
    environment = os.environ | {"SCREENING_HOME": str(settings.home), "SCREENING_PROCESSES": "1"}
    if settings.database:
        environment["SCREENING_DATABASE"] = settings.database
    command = ["taskset", "-c", str(core), sys.executable, "-m", "worker", "screen", str(files)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def rate(settings: Settings, files: Path, core: int) -> float:
    """Studies a second."""
    began = time.monotonic()
    assert screen(settings, files, core).wait() == 0
    return round(len(list(files.iterdir())) / (time.monotonic() - began), 2)


def memory(client: Client, pid: int, uids: list[str], digests: list[str], pages: int) -> dict[str, Any]:
    """Resident memory, in MiB, after each fifth of the pages and pictures, and whether it is flat."""
    found: dict[str, Any] = {}
    for fifth in range(1, 6):
        for number in range(pages // 5):
            client.ask("GET", PATHS[number % 2].format(uid=uids[number % len(uids)]))
            if number % PAGES_A_PICTURE == 0:
                picture, part = digests[number // PAGES_A_PICTURE % len(digests)], ("half", "pixels")[number % 2]
                assert client.ask("GET", f"/picture/{picture}/{part}").status == 200
        found[f"after_{fifth * pages // 5}"] = memory_mib(pid)
    levels = list(found.values())
    return found | {"is_flat": levels[4] <= FLAT * levels[1]}


def measured(url: str, folder: Path, count: dict[str, int], cores: list[int]) -> dict[str, Any]:
    """All of it on one database. `count`: studies, unread, seconds, files, pages."""
    settings, (page_core, worker_core) = Settings(home=folder / "home", database=url), cores[:2]
    settings.home.mkdir()
    upgrade(url)
    with closing(Database(url)) as database:
        fill(database, count["studies"], count["unread"])
        accounts.add(database, "bench", Role.READER, PASSWORD_HASH, "bench", datetime.now(UTC))
        digests = [large_image(database, settings, "native", seed) for seed in range(IMAGES)]
    uids = [f"2.25.7{100000000 + count['studies'] - n}" for n in range(200)]
    files = count["files"]
    for number, part in enumerate(("alone", "beside")):
        (folder / part).mkdir()
        write_studies(folder / part, files, first=number * files)
    alone = rate(settings, folder / "alone", worker_core)
    found: dict[str, Any] = {"studies_a_second_alone": alone}
    os.sched_setaffinity(0, {page_core})
    with served(settings, {page_core}) as (port, pid):
        clients = logged_in(port)
        found["alone"] = readers(clients, lambda number: number >= count["seconds"], uids)
        began = time.monotonic()
        screening = screen(settings, folder / "beside", worker_core)
        ended: list[float] = []

        def is_screened(_number: int) -> bool:
            if screening.poll() is not None and not ended:
                ended.append(time.monotonic())
            return bool(ended)

        found["beside_a_worker"] = readers(clients, is_screened, uids)
        assert screening.returncode == 0
        found["studies_a_second_beside"] = round(files / (ended[0] - began), 2)
        found["memory_mib"] = memory(clients[0], pid, uids, digests, count["pages"])
    os.sched_setaffinity(0, cores)
    return found


@click.command()
@click.option("--on", "kinds", multiple=True, default=(SQLITE, POSTGRESQL), type=click.Choice([SQLITE, POSTGRESQL]))
@click.option("--studies", default=1_000_000, show_default=True)
@click.option("--unread", default=20_000, show_default=True)
@click.option("--seconds", default=60, show_default=True)
@click.option("--files", default=100, show_default=True, help="Studies that the worker screens, each time.")
@click.option("--pages", default=10_000, show_default=True, help="Pages before the last look at the memory.")
@click.option("--write", is_flag=True, help="Keep the result.")
def main(kinds: tuple[str, ...], write: bool, **count: int) -> None:
    """Measure, print, and keep the result if asked."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise click.ClickException("two cores are needed, one for the page and one for the worker")
    watch = Watch()
    found: dict[str, Any] = {"studies": count["studies"], "unread": count["unread"], "readers": READERS}
    for kind in kinds:
        with tempfile.TemporaryDirectory() as name, empty_database(kind, Path(name)) as url:
            found[kind] = measured(url, Path(name), count, cores)
    found["machine"] = machine(watch.share_taken_by_others(), ("sqlalchemy", "psycopg"))
    tell(found, RESULT if write else None)


if __name__ == "__main__":
    main()
