"""Response times of the page over a ledger of a million studies, and of a large picture; whole requests.

    python -m tests.benchmarks.page [--on sqlite|postgresql] [--studies N] [--unread N] [--rounds N] [--write]

`worker web` is a process of its own, asked over one connection on this machine. Nothing else writes meanwhile.
"""

import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click
import numpy as np

from schema.database import Database
from schema.migrate import upgrade
from schema.vocabulary import Role
from tests.benchmarks.archive import LIBRARIES, empty_database
from tests.benchmarks.archive_rows import fill
from tests.benchmarks.machine import Watch, machine
from tests.conftest import POSTGRESQL, SQLITE
from tests.phantoms import JPEG_2000_LOSSLESS, dicom_file, window
from tests.reading_room import PASSWORD, PASSWORD_HASH
from worker.imaging.reading import read_instance
from worker.ledger import accounts, register
from worker.ledger.arrivals import Incoming, Receipt
from worker.settings import Settings
from worker.store import OBJECTS, open_store

RESULT = Path(__file__).parent / "results" / "page.json"

PARTS = ("half", "pixels")

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


def timed(rounds: int, work: Callable[[int], object]) -> dict[str, float]:
    """Median and 95th percentile in ms."""
    work(0)
    times = []
    for n in range(rounds):
        began = time.perf_counter()
        work(n)
        times.append(1000 * (time.perf_counter() - began))
    times.sort()
    return {"median_ms": round(statistics.median(times), 1), "p95_ms": round(times[int(0.95 * (rounds - 1))], 1)}


def measured(url: str, folder: Path, studies: int, unread: int, rounds: int) -> dict[str, Any]:
    """All times on one database."""
    upgrade(url)
    database = Database(url)
    fill(database, studies, unread)
    settings = Settings(home=folder, database=url)
    accounts.add(database, "bench", Role.READER, PASSWORD_HASH, "bench", datetime.now(UTC))
    rng = np.random.default_rng(1)
    smooth = np.add.outer(np.arange(ROWS), np.arange(COLUMNS)) // 2
    digests = {}
    for name, syntax in (("native", None), ("jpeg2000", JPEG_2000_LOSSLESS)):
        pixels = ((smooth + rng.integers(0, 24, smooth.shape)) % 4096).astype(np.uint16)
        elements: dict[str, Any] = {} if syntax is None else {"syntax": syntax}
        elements |= {"StudyInstanceUID": f"1.2.3.{len(name)}", "SOPInstanceUID": f"1.2.3.{len(name)}.1"}
        content = dicom_file(pixels, bits=12, **window(2048, 4096), **elements)
        digests[name] = open_store(settings).put(OBJECTS, content)
        receipt = Receipt(Incoming(f"/{name}", len(content), 1), read_instance(content), digests[name], is_settled=True)
        register.register(database, receipt, settings, datetime.now(UTC))
    environment = os.environ | {
        "SCREENING_HOME": str(folder), "SCREENING_DATABASE": url, "SCREENING_WEB_PORT": "0",
        "SCREENING_LOG_LEVEL": "ERROR",
    }  # fmt: skip
    command = [sys.executable, "-m", "worker", "web"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as served:
        assert served.stderr is not None
        try:
            port = int(re.findall(r":(\d+)/", served.stderr.readline())[0])
            found = of_pages(port, rounds) | of_pictures(port, digests)
            found["memory_mib"] = memory_mib(served.pid)
        finally:
            served.terminate()
    database.close()
    return found


def of_pages(port: int, rounds: int) -> dict[str, Any]:
    client = Client(port)
    client.log_in()
    tag = client.ask("GET", "/rows").getheader("ETag")
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
        "list": timed(rounds, lambda _: client.ask("GET", "/")),
        "not_modified": timed(rounds, lambda _: client.ask("GET", "/rows", **{"If-None-Match": tag})),
        "search": timed(rounds, lambda n: client.ask("POST", "/search", {"words": f"A{n * 7919 + 1}"})),
        "study": timed(rounds, lambda n: client.ask("GET", f"/study/{uids[n % 50]}")),
    }
    for n in range(50):
        verdict(n)
    took.sort()
    found["verdict_to_next"] = {"median_ms": round(statistics.median(took), 1), "p95_ms": round(took[47], 1)}
    return found


def of_pictures(port: int, digests: dict[str, str]) -> dict[str, Any]:
    """The first request decodes; the others find the picture in memory."""
    client, found = Client(port), {}
    client.log_in()
    for name, digest in digests.items():
        began = time.perf_counter()
        client.ask("GET", f"/picture/{digest}/half")
        first = round(1000 * (time.perf_counter() - began), 1)
        half, pixels = (lambda _, d=digest, part=part: client.ask("GET", f"/picture/{d}/{part}") for part in PARTS)
        found[name] = {"first_half_ms": first, "half": timed(20, half), "pixels": timed(20, pixels)}
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
