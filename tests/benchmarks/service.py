"""A running `worker run` to measure: one study is screened first, and its database is queried."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from sqlalchemy import func, select

from schema import models
from schema.database import Database
from schema.vocabulary import UNDERWAY, FileState, StudyState
from tests.acceptance.installation import BUSY, Installation, wait_until
from tests.benchmarks.studies import write_studies
from worker.ledger import decisions
from worker.runtime.children import child
from worker.settings import Settings
from worker.store import OBJECTS, OVERLAYS

#: How long to wait before a run counts as stuck: a start, and one study.
START_S, LONGEST_STUDY_S = 90.0, 5.0

#: Time between two looks at the database.
LOOK_S = 0.25

#: A watcher that waits for nothing, because each file is whole when it gets its name. Zero is no time of quiet.
AT_ONCE = {
    "SCREENING_FILE_QUIET_S": "0.05",
    "SCREENING_STUDY_QUIET_S": "0.05",
    "SCREENING_SCAN_INTERVAL_S": "0.2",
}

#: Number of the study that is screened first, beyond all that are measured.
WARM_UP = 90_000


@dataclass(frozen=True)
class Run:
    """One batch, by the clock of the service's own database."""

    studies: int
    drop_to_last_row_s: float  #: dropped, or first arrival seen -> last screening committed
    taking_in_s: float  #: from the same moment -> last arrival seen, or booked
    linked: int = 0  #: files that the store holds as they were dropped, by another name

    @property
    def studies_per_s(self) -> float:
        """The throughput."""
        return self.studies / self.drop_to_last_row_s


@dataclass(frozen=True)
class Service:
    """The service, its inbox, and its process."""

    site: Installation
    inbox: Path
    database: Database
    pid: int

    def screen(self, folder: Path, count: int, **settings: str) -> Run:
        """Hand a folder over with `worker screen`; raises AssertionError unless every study is screened and drawn."""
        began = datetime.now(UTC)
        Installation(self.site.home, {**self.site.settings, **settings}).run(
            "screen", folder, "--json", patience_s=START_S + count * LONGEST_STUDY_S
        )
        first, last_seen = self._seen_since(began)
        last = self._screened_since(began, count)
        return Run(count, (last - first).total_seconds(), (last_seen - first).total_seconds())

    def drop(self, files: Sequence[Path]) -> Run:
        """Rename files, each of a study of its own, into the watched inbox; from then to their last row.

        Raises AssertionError as `screen`.
        """
        inodes = {path.stat().st_ino for path in files}
        began = datetime.now(UTC)
        for path in files:
            path.rename(self.inbox / path.name)
        self._wait_until(lambda: self._booked_since(began) == len(files), len(files))
        booked = datetime.now(UTC)
        self._wait_until(lambda: self._ended_since(began) == len(files), len(files))
        last = self._screened_since(began, len(files))
        stored = (self.site.home / "store" / OBJECTS).glob("??/*")
        linked = sum(path.stat().st_ino in inodes for path in stored)
        return Run(len(files), (last - began).total_seconds(), (booked - began).total_seconds(), linked)

    def _wait_until(self, is_so: Callable[[], bool], count: int) -> None:
        """Look at the database until it is so; raises AssertionError when that takes too long for `count` studies."""
        deadline = monotonic() + BUSY * (START_S + count * LONGEST_STUDY_S)
        while not is_so():
            assert monotonic() < deadline, f"some of {count} studies wait in vain"
            sleep(LOOK_S)

    def _booked_since(self, moment: datetime) -> int:
        """Files that were dropped since then and are taken in."""
        arrival = models.Arrival
        with self.database.reading() as connection:
            waits = arrival.state == FileState.WAITING
            return int(connection.scalar(select(func.count()).where(arrival.seen_at >= moment, ~waits)) or 0)

    def _ended_since(self, moment: datetime) -> int:
        """Studies with a result since then, and those that failed at any time."""
        with self.database.reading() as connection:
            screened = select(func.count()).where(models.Screening.screened_at >= moment)
            failed = select(func.count()).where(models.Study.state == StudyState.FAILED)
            return int(connection.scalar(screened) or 0) + int(connection.scalar(failed) or 0)

    def _seen_since(self, moment: datetime) -> tuple[datetime, datetime]:
        """When the first and the last file was seen."""
        seen_at = models.Arrival.seen_at
        with self.database.reading() as connection:
            first, last = connection.execute(
                select(func.min(seen_at), func.max(seen_at)).where(seen_at >= moment)
            ).one()
        return first, last

    def _screened_since(self, moment: datetime, count: int) -> datetime:
        """When the last of `count` studies was screened; raises AssertionError unless each is, and drawn."""
        ours = models.Screening.screened_at >= moment
        drawn_of = select(func.count(models.Finding.overlay_digest)).join(models.Screening).where(ours)
        with self.database.reading() as connection:
            last, screened = connection.execute(
                select(func.max(models.Screening.screened_at), func.count()).where(ours)
            ).one()
            drawn = connection.scalar(drawn_of)
        assert (screened, drawn) == (count, count), f"of {count} studies {screened} were screened, {drawn} drawn"
        assert isinstance(last, datetime)
        return last

    def study_uids(self) -> list[str]:
        """Every study that is screened."""
        with self.database.writing() as session:
            return list(
                session.scalars(select(models.Study.study_uid).where(models.Study.state == StudyState.SCREENED))
            )

    def rescreen(self, study_uids: list[str]) -> None:
        """Screen these again: reading, decoding, predicting, drawing and recording without intake."""
        settings = Settings(home=self.site.home)
        for study_uid in study_uids:
            assert decisions.rescreen(self.database, study_uid, settings, datetime.now(UTC)), study_uid

    def wait(self, count: int) -> None:
        """Return when no study waits; raises AssertionError when that takes too long for `count` studies."""
        self._wait_until(lambda: not self._waiting(), count)

    def _waiting(self) -> int:
        """Studies without a result that is in force."""
        with self.database.reading() as connection:
            return int(connection.scalar(select(func.count()).where(models.Study.state.in_(UNDERWAY))) or 0)

    def rate_since(self, moment: datetime, skipped: int = 0) -> float:
        """Studies a second from the first result after a moment to the last; the first `skipped` ones warm a worker."""
        at = models.Screening.screened_at
        with self.database.reading() as connection:
            found = connection.scalars(select(at).where(at >= moment).order_by(at)).all()[skipped:]
        return (len(found) - 1) / (found[-1] - found[0]).total_seconds()


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Service]:
    """A `worker run` on a state folder and an inbox below `folder`, that has screened one study already."""
    inbox, home = folder / "inbox", folder / "home"
    inbox.mkdir(exist_ok=True)
    make_store(home)
    plain = {"SCREENING_PROVIDER": "cpu", "SCREENING_SCAN_INTERVAL_S": "0.5", **settings}
    site = Installation(home, plain)
    with child(site.command("run", inbox), folder / "run.log", START_S, site.environment()) as process:
        warm_up = folder / "warm_up"
        if not warm_up.exists():
            warm_up.mkdir()
            write_studies(warm_up, 1, first=WARM_UP)
        wait_until(lambda: (home / "lock").exists(), START_S)
        site.run("screen", warm_up)
        with closing(Database(Settings(home=home).database_url)) as database:
            yield Service(site, inbox, database, process.pid)


def make_store(home: Path) -> None:
    """The folders of a store, as they are after the first hour of an installation."""
    store = home / "store"
    kinds = [store / OBJECTS, store / OVERLAYS]
    for folder in (home, store, *kinds, *(kind / f"{number:02x}" for kind in kinds for number in range(256))):
        folder.mkdir(exist_ok=True, mode=0o700)
