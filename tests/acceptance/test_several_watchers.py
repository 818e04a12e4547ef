"""Two `worker watch` on one inbox, with PostgreSQL: one is killed, or stopped for a while, in the middle."""

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from schema.database import Database
from tests.acceptance.installation import QUICK, Installation, events, wait_until
from tests.watched_inbox import another
from worker.intake.read_ahead import TOGETHER
from worker.ledger.intake import inbox_shares
from worker.ledger.intake.inbox_shares import SHARES
from worker.monitoring.inbox_watchers import check_watchers
from worker.monitoring.reconciliation import reconcile
from worker.runtime.children import child
from worker.settings import Settings
from worker.store import OBJECTS
from worker.store.folder import FolderStore

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("kind", ["postgresql"])]

FILES, FOLDERS = 200, 20

#: Shares change hands soon.
EAGER = {**QUICK, "SCREENING_HEARTBEAT_S": "0.5"}


class TwoWatchers:
    """Two watchers, each with a state folder of its own; what they share is inbox, store, database and broker."""

    def __init__(self, folder: Path, database_url: str, broker_url: str, lease_s: int) -> None:
        self.folder, self.inbox = folder, folder / "inbox"
        self.store = FolderStore(folder / "store")
        self.database = Database(database_url)
        self.settings = Settings(home=folder / "none", database=database_url, broker=broker_url)
        urls = {"SCREENING_DATABASE": database_url, "SCREENING_BROKER": broker_url}
        common = {**EAGER, **urls, "SCREENING_STORE": str(self.store.folder), "SCREENING_LEASE_S": str(lease_s)}
        self.sites = [Installation(folder / name, common) for name in ("one", "two")]
        self.logs = [folder / "one.log", folder / "two.log"]
        self.inbox.mkdir()

    @contextmanager
    def running(self) -> Iterator[list["subprocess.Popen[bytes]"]]:
        """Both processes, once each holds its half."""
        with ExitStack() as stack:
            processes = [
                stack.enter_context(child(site.command("watch", self.inbox), log, 30, site.environment()))
                for site, log in zip(self.sites, self.logs, strict=True)
            ]
            wait_until(lambda: sorted(self.shares().values()) == [SHARES // 2] * 2, 60)
            yield processes

    def shares(self) -> dict[int, int]:
        """The shares that each watcher holds, by its process."""
        return {held.pid: held.shares for held in inbox_shares.watcher_shares(self.database) if held.host}

    def drop(self) -> None:
        for number in range(FILES):
            path = self.inbox / f"ward {number % FOLDERS}" / f"{number}.part"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(another(number))
            path.rename(path.with_suffix(".dcm"))

    def booked(self) -> Counter[str]:
        with self.database.reading() as connection:
            return Counter(connection.scalars(text("SELECT state FROM arrival")))

    def until_booked(self, enough: Callable[[int], bool]) -> None:
        wait_until(lambda: enough(self.booked()["accepted"]), 60)

    def prove_whole(self) -> None:
        """Each image is in the ledger once, in the store with its bytes, and no longer in the inbox."""
        wait_until(lambda: not list(self.inbox.rglob("*.dcm")), 60)
        with self.database.reading() as connection:
            rows = connection.execute(text("SELECT sop_instance_uid, digest, crc FROM instance")).all()
        assert len(rows) == len({row.sop_instance_uid for row in rows}) == FILES
        for row in rows:
            self.store.get(OBJECTS, row.digest, row.crc)
        account = reconcile(self.database, self.store)
        assert account.holds, account


@pytest.fixture
def both(request: pytest.FixtureRequest, tmp_path: Path, database_url: str, broker: Settings) -> Iterator[TwoWatchers]:
    both = TwoWatchers(tmp_path, database_url, broker.broker_url, getattr(request, "param", 30))
    with closing(both.database):
        yield both


def test_each_takes_its_half_and_no_file_is_booked_twice(both: TwoWatchers) -> None:
    with both.running() as (one, two):
        both.drop()
        both.until_booked(lambda accepted: accepted == FILES)
        both.prove_whole()
        assert both.booked() == {"accepted": FILES}
        (words,) = check_watchers(both.settings)
        assert words.count(f"{SHARES // 2} of {SHARES} shares") == 2
        one.send_signal(signal.SIGTERM)
        wait_until(lambda: both.shares() == {two.pid: SHARES}, 60)
        assert one.wait(30) == 0
    by_each = [sum(event["event"] == "file_booked" for event in events(log)) for log in both.logs]
    assert min(by_each) > 0
    assert sum(by_each) == FILES


def test_the_files_of_a_killed_watcher_are_taken_in_by_the_other(both: TwoWatchers) -> None:
    with both.running() as (one, two):
        both.drop()
        both.until_booked(lambda accepted: accepted >= FILES // 10)
        one.kill()
        one.wait()
        both.until_booked(lambda accepted: accepted == FILES)
        wait_until(lambda: both.shares() == {two.pid: SHARES}, 60)
        both.prove_whole()
    ended = both.booked()
    # what it had booked, and not yet taken out of the inbox, came once more
    assert ended.keys() <= {"accepted", "duplicate"}
    assert ended["duplicate"] <= TOGETHER


@pytest.mark.parametrize("both", [6], indirect=True)
def test_a_watcher_that_was_stopped_past_its_lease_does_no_harm(both: TwoWatchers) -> None:
    with both.running() as (one, two):
        both.drop()
        both.until_booked(lambda accepted: accepted >= FILES // 10)
        os.kill(one.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: both.shares() == {two.pid: SHARES}, 60)
            both.until_booked(lambda accepted: accepted == FILES)
        finally:
            os.kill(one.pid, signal.SIGCONT)
        wait_until(lambda: sorted(both.shares().values()) == [SHARES // 2] * 2, 60)
        both.prove_whole()
        assert one.poll() is None, "it goes on"
    ended = both.booked()
    assert ended.keys() <= {"accepted", "duplicate"}
    assert ended["duplicate"] <= TOGETHER
