"""Images come at a steady rate, in a process of their own, while this one reads the worklist and reviews.

For each image it makes the calls to the ledger (`accepted_copies`, `register`, and once a second `offer`): no file is
read, hashed or stored, no study is screened. Each image is the only one of its study, which costs the ledger most.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from queue import Empty
from typing import TYPE_CHECKING, Any

from schema.database import Database
from schema.vocabulary import ReviewOutcome
from tests.benchmarks.laps import Laps
from tests.ledger import digest, image
from worker.ledger import decisions
from worker.ledger.intake import register
from worker.ledger.intake.arrivals import Incoming, Receipt
from worker.ledger.screening import outbox
from worker.settings import Settings
from worker.store import open_store
from worker.worklist import unread_list

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

PER_S = 100

#: How often this process looks at the next fifty and reviews the first of them, as a department of many readers does.
LOOKS_PER_S = 5

#: Before the clock starts, so that every statement is compiled.
WARM_UP = 50

#: How long the other process may take to start, and to end after its seconds are over.
PATIENCE_S = 120.0


def beside_intake(database: Database, settings: Settings, seconds: int) -> dict[str, Any]:
    """Read and review while another process takes images in for so long."""
    context = multiprocessing.get_context("spawn")
    told: Queue[dict[str, Any]] = context.Queue()
    process = context.Process(target=take_in, args=(database.url, settings, seconds, told), daemon=True)
    process.start()
    told.get(timeout=PATIENCE_S)  # it is warm
    looks, reviews = Laps(), Laps()
    for taken in _ticks(told, seconds):
        if taken is not None:
            process.join()
            return {"intake": taken, "next_50": looks.told(), "review": reviews.told()}
        with looks.lap():
            page = unread_list.entries(database, open_store(settings), 50)
        with reviews.lap():
            decisions.review(database, page[0].study_uid, ReviewOutcome.UNCERTAIN, "bench", None, datetime.now(UTC))
    raise TimeoutError("the process that takes images in did not end")


def take_in(url: str, settings: Settings, seconds: int, told: Queue[dict[str, Any]]) -> None:
    """The other process: book images by the clock; one that is late is booked at once."""
    database = Database(url)
    for number in range(WARM_UP):
        _book(database, settings, f"2.25.1{number:08d}", Laps())
    outbox.offer(database, datetime.now(UTC))
    told.put({})
    booked, offered = Laps(), Laps()
    began, behind_s = time.monotonic(), 0.0
    for number in range(seconds * PER_S):
        ahead_s = began + number / PER_S - time.monotonic()
        time.sleep(max(0.0, ahead_s))
        behind_s = max(behind_s, -ahead_s)
        _book(database, settings, f"2.25.2{number:08d}", booked)
        if number % PER_S == PER_S - 1:
            with offered.lap():
                outbox.offer(database, datetime.now(UTC))
    took_s = time.monotonic() - began
    database.close()
    told.put(
        {
            "images": seconds * PER_S,
            "images_per_s": round(seconds * PER_S / took_s, 1),
            "furthest_behind_s": round(behind_s, 2),
            "twins_and_register": booked.told(),
            "offer": offered.told(),
        }
    )


def _book(database: Database, settings: Settings, study_uid: str, booked: Laps) -> None:
    header = image(study_uid, f"{study_uid}.1.1")
    file = Incoming(f"/inbox/{study_uid}.dcm", 1, 1)
    with booked.lap():
        register.accepted_copies(database, header, digest(study_uid))
        receipt = Receipt(file, header, digest(study_uid), left_at=file.path, is_settled=True)
        register.register(database, receipt, settings, datetime.now(UTC))


def _ticks(told: Queue[dict[str, Any]], seconds: int) -> Iterator[dict[str, Any] | None]:
    """Nothing, LOOKS_PER_S times a second, until the other process has reported."""
    ends = time.monotonic() + seconds + PATIENCE_S
    while time.monotonic() < ends:
        try:
            yield told.get(timeout=1 / LOOKS_PER_S)
        except Empty:
            yield None
