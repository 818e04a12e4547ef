"""How an inbox is divided among several watchers: for `worker check`, and as a metric."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection

from schema.database import HEAD
from worker.errors import ScreeningError
from worker.ledger.connect import unopened
from worker.ledger.database_clock import database_now
from worker.ledger.intake import inbox_shares
from worker.ledger.intake.inbox_shares import NAMED_FOR, SHARES, WatcherShares
from worker.ledger.schema_revision import revision
from worker.settings import Settings


def check_watchers(settings: Settings) -> list[str]:
    """A sentence for each inbox that watchers may share; none where a private broker serves a single watcher, and none
    where the database cannot be asked, which is a finding of its own."""
    if settings.is_embedded or settings.lacks_database:
        return []
    with closing(unopened(settings)) as database:
        try:
            found = inbox_shares.watcher_shares(database) if revision(database) == HEAD else []
            moment = database_now(database)
        except ScreeningError:
            return []
    return [
        f"{inbox}: " + "; ".join(_words(each, moment) for each in found if each.inbox == inbox)
        for inbox in dict.fromkeys(each.inbox for each in found)
    ]


def metrics(connection: Connection) -> Iterator[Metric]:
    """Shares by machine: watchers of one machine count together, because the numbers of their processes change."""
    shares = GaugeMetricFamily(
        "screening_inbox_shares",
        "Shares of an inbox, by the machine that takes their files in",
        labels=["inbox", "host"],
    )
    counted = Counter[tuple[str, str]]()
    for each in inbox_shares.read_watcher_shares(connection):
        counted[each.inbox, each.host or "nobody"] += each.shares
    for labels, count in counted.items():
        shares.add_metric(list(labels), count)
    yield shares


def _words(each: WatcherShares, moment: datetime) -> str:
    part = f"{each.shares} of {SHARES} shares"
    if each.host is None or each.lease_until is None:
        return (
            f"nobody takes in {part}, until a watcher comes (without one, the inbox is named for {NAMED_FOR.days} days)"
        )
    if each.has_left:
        return f"{each.host} has left, at {each.lease_until:%Y-%m-%d %H:%M} UTC"
    silent = (
        "" if each.lease_until >= moment else f", but has given no sign since {each.lease_until:%Y-%m-%d %H:%M} UTC"
    )
    return f"{each.host} (process {each.pid}) takes in {part} of its folders{silent}"
