"""Response times of the page over a ledger of a million studies, and of a large picture; whole requests.

    python -m tests.benchmarks.page [--on sqlite|postgresql] [--studies N] [--unread N] [--rounds N] [--write]

`worker web` is a process of its own, asked over one connection on this machine: first while nothing else writes, then
while another process books 100 images a second, without files, as the archive benchmark does.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import click
import numpy as np

from schema.database import Database
from schema.migrate import upgrade
from schema.vocabulary import Role
from tests.benchmarks.archive import LIBRARIES, empty_database
from tests.benchmarks.archive_rows import fill
from tests.benchmarks.intake_load import PER_S, take_in
from tests.benchmarks.machine import Watch, machine
from tests.conftest import POSTGRESQL, SQLITE
from tests.phantoms import EXPLICIT_LITTLE, JPEG_2000_LOSSLESS, dicom_file, window
from tests.reading_room import PASSWORD, PASSWORD_HASH
from worker.imaging.image_file import read_instance
from worker.ledger.intake import register
from worker.ledger.intake.arrivals import Incoming, Receipt
from worker.ledger.reading_room import accounts
from worker.settings import Settings
from worker.store import OBJECTS, open_store

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

RESULT = Path(__file__).parent / "results" / "page.json"

PARTS = ("half", "pixels")

SYNTAXES = {"native": EXPLICIT_LITTLE, "jpeg2000": JPEG_2000_LOSSLESS}

T = TypeVar("T")

#: Of fewer answers no 95th percentile is told.
FEWEST = 20

#: Longer than any measurement beside it lasts.
LONG_S = 3600

#: A large detector's image, 12 bits.
ROWS, COLUMNS = 3056, 2544


class Client:
    """One connection with its cookies."""

    def __init__(self, port: int) -> None:
        self.port, self.cookie, self.csrf = port, "", ""
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(self, method: str, path: str, fields: dict[str, str] | None = None, **headers: str) -> Any:
        body = None if fields is None else urlencode(fields | {"csrf": self.csrf})
        said = {"Accept-Encoding": "zstd, gzip", "Sec-Fetch-Site": "same-origin", "Cookie": self.cookie, **headers}
        if body is not None:
            said["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            self.connection.request(method, path, body, said)
            got = self.connection.getresponse()
        except http.client.RemoteDisconnected:  # it was idle for half a minute: a browser opens another one, too
            self.connection.close()
            self.connection.request(method, path, body, said)
            got = self.connection.getresponse()
        got.text = got.read()  # type: ignore[attr-defined]
        for name, value in got.getheaders():
            if name == "set-cookie" and "Max-Age=0" not in value:
                self.cookie = value.partition(";")[0]
        return got

    def log_in(self) -> None:
        text = self.ask("GET", "/login").text.decode()
        self.csrf = re.findall(r'name="csrf" value="([^"]*)"', text)[0]
        self.ask("POST", "/login", {"name": "bench", "password": PASSWORD, "next": "/"})
        self.csrf = re.findall(r'data-csrf="([^"]*)"', self.ask("GET", "/").text.decode())[0]


def timed(rounds: int, pid: int, work: Callable[[int], object]) -> dict[str, float]:
    """Median and 95th percentile in ms; and the processor time of the page, which other programs do not lengthen."""
    work(0)
    spent_s = processor_s(pid)
    times = [elapsed_ms(work, n)[0] for n in range(rounds)]
    return spread(times) | {"processor_ms": round(1000 * (processor_s(pid) - spent_s) / rounds, 1)}


def elapsed_ms(work: Callable[[int], T], n: int) -> tuple[float, T]:
    """How long a piece of work takes, and what it gives."""
    began = time.perf_counter()
    found = work(n)
    return 1000 * (time.perf_counter() - began), found


def spread(times: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile, in ms."""
    ordered = sorted(times)
    return {
        "median_ms": round(statistics.median(ordered), 1), "p95_ms": round(ordered[int(0.95 * (len(ordered) - 1))], 1)
    }  # fmt: skip


def of_polls(rounds: int, poll: Callable[[int], int]) -> dict[str, dict[str, float]]:
    """Polls that were answered with 304 (`not_modified`), if they are enough; all polls, where the list changed
    meanwhile: some of these are answered with its rows."""
    poll(0)
    answers = [elapsed_ms(poll, n) for n in range(rounds)]
    unchanged = [took_ms for took_ms, status in answers if status == HTTPStatus.NOT_MODIFIED]
    found = {"not_modified": spread(unchanged)} if len(unchanged) >= FEWEST else {}
    return found if len(unchanged) == rounds else found | {"poll": spread([took_ms for took_ms, _ in answers])}


def processor_s(pid: int) -> float:
    """Processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(url: str, folder: Path, studies: int, unread: int, rounds: int) -> dict[str, Any]:
    """All times on one database."""
    upgrade(url)
    database = Database(url)
    fill(database, studies, unread)
    settings = Settings(home=folder, database=url)
    accounts.add(database, "bench", Role.READER, PASSWORD_HASH, "bench", datetime.now(UTC))
    digests = {name: large_image(database, settings, name, seed=1) for name in SYNTAXES}
    with served(settings) as (port, pid):
        found = of_pages(port, pid, rounds) | of_pictures(port, pid, digests)
        with intake(url, settings):
            found[f"beside_{PER_S}_images_a_second"] = of_pages(port, pid, rounds)
        found["memory_mib"] = memory_mib(pid)
    database.close()
    return found


def large_image(database: Database, settings: Settings, syntax: str, seed: int) -> str:
    """Take in a study of one large image, of 12 bits; its digest."""
    rng = np.random.default_rng(seed)
    smooth = np.add.outer(np.arange(ROWS), np.arange(COLUMNS)) // 2
    pixels = ((smooth + rng.integers(0, 24, smooth.shape)) % 4096).astype(np.uint16)
    uid = f"1.2.3.{len(syntax)}.{seed}"
    elements: dict[str, Any] = {
        "StudyInstanceUID": uid,
        "SeriesInstanceUID": f"{uid}.1",
        "SOPInstanceUID": f"{uid}.1.1",
    }
    content = dicom_file(pixels, SYNTAXES[syntax], bits=12, **window(2048, 4096), **elements)
    name = open_store(settings).put(OBJECTS, content)
    receipt = Receipt(Incoming(f"/{uid}", len(content), 1), read_instance(content), name, is_settled=True)
    register.register(database, receipt, settings, datetime.now(UTC))
    return name


@contextmanager
def served(settings: Settings, cores: set[int] | None = None) -> Iterator[tuple[int, int]]:
    """`worker web` on a free port, on these cores alone if any are named; (port, process)."""
    environment = os.environ | {
        "SCREENING_HOME": str(settings.home), "SCREENING_WEB_PORT": "0", "SCREENING_LOG_LEVEL": "ERROR"
    }  # fmt: skip
    if settings.database:
        environment["SCREENING_DATABASE"] = settings.database
    command = [sys.executable, "-m", "worker", "web"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        if cores is not None:
            os.sched_setaffinity(process.pid, cores)
        try:
            yield port_in(process.stderr), process.pid
        finally:
            process.terminate()


def port_in(said: Iterable[str]) -> int:
    """The port that a starting page names; what it said instead, if it names none."""
    lines = []
    for line in said:
        if found := re.search(r":(\d+)/", line):
            return int(found[1])
        lines.append(line)
    raise RuntimeError(f"the page does not start: {''.join(lines)}")


@contextmanager
def intake(url: str, settings: Settings) -> Iterator[None]:
    """Images are booked by another process while the block runs."""
    context = multiprocessing.get_context("spawn")
    told: Queue[dict[str, Any]] = context.Queue()
    process = context.Process(target=take_in, args=(url, settings, LONG_S, told), daemon=True)
    process.start()
    told.get(timeout=120)  # it is warm
    try:
        yield
    finally:
        process.terminate()
        process.join()


def of_pages(port: int, pid: int, rounds: int) -> dict[str, Any]:
    client = Client(port)
    client.log_in()
    tag = [client.ask("GET", "/rows").getheader("ETag")]

    def poll(_: int) -> int:
        """As a page does: with the tag of the last answer."""
        answer = client.ask("GET", "/rows", **{"If-None-Match": tag[0]})
        tag[0] = answer.getheader("ETag")
        return int(answer.status)

    uids = re.findall(r'data-uid="([^"]*)"', client.ask("GET", "/").text.decode())
    assert len(uids) == 50

    def verdict(n: int) -> None:
        opened = client.ask("GET", f"/study/{uids[n % 50]}").text.decode()
        fields = {name: re.findall(rf'name="{name}" value="([^"]*)"', opened)[0] for name in
                  ("revision", "screening", "review")}  # fmt: skip
        began[0] = time.perf_counter()
        sent = client.ask("POST", f"/study/{uids[n % 50]}/verdict", fields | {"outcome": "no_pneumonia"})
        assert sent.status == 303, sent.text
        client.ask("GET", sent.getheader("Location"))
        took.append(1000 * (time.perf_counter() - began[0]))

    began, took = [0.0], list[float]()
    found = {
        "list": timed(rounds, pid, lambda _: client.ask("GET", "/")),
        **of_polls(rounds, poll),
        "search": timed(rounds, pid, lambda n: client.ask("POST", "/search", {"words": f"A{n * 7919 + 1}"})),
        "study": timed(rounds, pid, lambda n: client.ask("GET", f"/study/{uids[n % 50]}")),
    }
    for n in range(50):
        verdict(n)
    found["verdict_to_next"] = spread(took)
    return found


def of_pictures(port: int, pid: int, digests: dict[str, str]) -> dict[str, Any]:
    """The first request decodes; the others find the picture in memory."""
    client, found = Client(port), {}
    client.log_in()
    for name, digest in digests.items():
        began = time.perf_counter()
        client.ask("GET", f"/picture/{digest}/half")
        first = round(1000 * (time.perf_counter() - began), 1)
        half, pixels = (lambda _, d=digest, part=part: client.ask("GET", f"/picture/{d}/{part}") for part in PARTS)
        found[name] = {"first_half_ms": first, "half": timed(20, pid, half), "pixels": timed(20, pid, pixels)}
        found[name]["packed_mb"] = round(len(client.ask("GET", f"/picture/{digest}/pixels").text) / 1e6, 1)
    return found


def memory_mib(pid: int) -> int:
    """Resident memory of the page's process."""
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))[0]) // 1024


@click.command()
@click.option("--on", "kinds", multiple=True, default=(SQLITE, POSTGRESQL), type=click.Choice([SQLITE, POSTGRESQL]))
@click.option("--studies", default=1_000_000, show_default=True)
@click.option("--unread", default=20_000, show_default=True)
@click.option("--rounds", default=100, show_default=True)
@click.option("--write", is_flag=True, help="Keep the result.")
def main(kinds: tuple[str, ...], studies: int, unread: int, rounds: int, write: bool) -> None:
    """Measure, print, and keep the result if asked."""
    result: dict[str, Any] = {"studies": studies, "unread": unread}
    watch = Watch()
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder, empty_database(kind, Path(folder)) as url:
            result[kind] = measured(url, Path(folder), studies, unread, rounds)
    result["machine"] = machine(watch.share_taken_by_others(), LIBRARIES)
    click.echo(json.dumps(result, indent=2))
    if write:
        RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
