"""What `worker check` says of an inbox whose watchers left."""

import os
import threading
from contextlib import closing

import attrs
import pytest

from schema.database import Database
from tests.ledger import Ledger
from worker.errors import ShareLost
from worker.ledger.intake import inbox_shares
from worker.ledger.intake.inbox_shares import SHARES, WatcherLease
from worker.ledger.transactions import writing_rows
from worker.monitoring.inbox_watchers import check_watchers


def said(desk: Ledger) -> dict[str, str]:
    """What is said of each inbox."""
    found = check_watchers(attrs.evolve(desk.settings, database=desk.database.url, broker="redis://queue/0"))
    return {inbox: words for inbox, _, words in (line.partition(": ") for line in found)}


@pytest.mark.parametrize("kind", ["postgresql"])
def test_an_inbox_is_named_although_its_two_watchers_left_at_the_same_moment(desk: Ledger) -> None:
    """As when both services are stopped at once: neither sees what the other has not committed yet."""
    leases = [
        inbox_shares.follow(desk.database, WatcherLease("/inbox", host, os.getpid(), 30.0), desk.clock())[0]
        for host in ("north", "south")
    ]
    together = threading.Barrier(2)

    def leave(lease: WatcherLease) -> None:
        with closing(Database(desk.database.url)) as database:
            inbox_shares.watcher_shares(database)  # connected
            together.wait(60)
            inbox_shares.leave(database, lease, desk.clock())

    threads = [threading.Thread(target=leave, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    inbox_shares.follow(desk.database, WatcherLease("/another", "north", os.getpid(), 30.0), desk.clock())
    words = said(desk)["/inbox"]
    assert words.startswith("north has left, at 2026-03-02 08:00 UTC; south has left, at 2026-03-02 08:00 UTC; nobody")
    _, held = inbox_shares.follow(desk.database, WatcherLease("/inbox", "north", os.getpid(), 30.0), desk.clock())
    assert len(held) == SHARES


def test_who_left_is_told_with_the_moment_and_who_fell_silent_in_other_words(desk: Ledger) -> None:
    left, _ = inbox_shares.follow(desk.database, WatcherLease("/left", "north", 4711, 30.0), desk.clock())
    inbox_shares.follow(desk.database, WatcherLease("/killed", "north", 4711, 30.0), desk.clock())
    desk.clock.forward(20)
    inbox_shares.leave(desk.database, left, desk.clock())
    desk.clock.forward(hours=1)
    inbox_shares.prolong(desk.database, left, desk.clock())  # as its thread may, which was about to
    words = said(desk)
    assert words["/left"].startswith(f"north has left, at 2026-03-02 08:00 UTC; nobody takes in {SHARES} of {SHARES}")
    assert "(process 4711) takes in 16 of 16 shares of its folders, but has given no sign since" in words["/killed"]


def test_who_left_books_nothing_more_and_joins_again_under_a_new_name(desk: Ledger) -> None:
    left, _ = inbox_shares.follow(desk.database, WatcherLease("/inbox", "here", os.getpid(), 30.0), desk.clock())
    inbox_shares.leave(desk.database, left, desk.clock())
    with pytest.raises(ShareLost), writing_rows(desk.database) as connection:
        inbox_shares.require(connection, left)
    again, held = inbox_shares.follow(desk.database, left, desk.clock())
    assert (len(held), again.holder != left.holder) == (SHARES, True)
    assert "has left" not in said(desk)["/inbox"]
