"""Whether results reach the archive: as metrics, and as one line of `worker check`."""

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection

from schema.vocabulary import DispatchState
from worker.errors import ScreeningError
from worker.ledger.clocks import now
from worker.ledger.connect import unopened
from worker.ledger.dispatch import undelivered
from worker.ledger.transactions import reading
from worker.settings import Settings

#: A result that is not sent after this time is reported.
LATE = timedelta(minutes=30)


def metrics(connection: Connection, moment: datetime) -> Iterator[Metric]:
    """Result objects by state, and how long the oldest one waits; 0 when none is due."""
    states = GaugeMetricFamily("screening_dispatches", "Result objects for the archive, by state", labels=["state"])
    found = dict(undelivered.counts(connection))
    for state in DispatchState:
        states.add_metric([state], found.get(state, 0))
    yield states
    yield GaugeMetricFamily(
        "screening_oldest_unsent_seconds", "Wait of the oldest result object that is not sent",
        value=_waited(connection, moment).total_seconds(),
    )  # fmt: skip


def check_sending(settings: Settings) -> tuple[bool, str] | None:
    """Whether results are sent, and a message with the remedy; None: none are to be sent, or there are no rows yet."""
    if not settings.send or settings.lacks_database:
        return None
    try:
        with closing(unopened(settings)) as database, reading(database) as connection:
            found, waited = dict(undelivered.counts(connection)), _waited(connection, now())
    except ScreeningError as error:
        return False, f"{error} [{error.code}]"
    stuck = sum(found.get(state, 0) for state in undelivered.NEED_A_PERSON)
    if stuck:
        return False, f"{stuck} results were refused or given up: `worker send --stuck`, mend it, `worker send --retry`"
    if waited > LATE:
        return False, f"a result has waited {waited.total_seconds():,.0f} s: see that `worker send` runs and its log"
    return True, f"{found.get(DispatchState.SENT, 0)} results sent, {found.get(DispatchState.DUE, 0)} due"


def _waited(connection: Connection, moment: datetime) -> timedelta:
    oldest = undelivered.oldest_due(connection)
    return max(timedelta(0), moment - oldest) if oldest else timedelta(0)
