"""The account of a chaos run: what was lost, doubled or failed, what was repeated, and the duration of each fault."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from schema.database import Database
from tests.chaos.crew import STARTED, Entry
from tests.chaos.faults import (
    ARCHIVE_AWAY,
    ARCHIVE_REFUSES,
    CHILD_KILLED,
    NETWORK_CUT,
    NETWORK_SILENT,
    PAGE_KILLED,
    RECEIVER_KILLED,
    REDIS_FLUSHED,
    REDIS_RESTARTED,
    SENDER_KILLED,
    WATCHER_KILLED,
    WORKER_KILLED,
    Injected,
)
from tests.chaos.outside import Outside

#: What shows that a fault is over: an event, of the member that was killed where one was.
SIGNS = {
    WORKER_KILLED: ("study_claimed", "study_left_alone"),
    CHILD_KILLED: ("study_claimed", "study_left_alone"),
    WATCHER_KILLED: ("file_booked",),
    RECEIVER_KILLED: ("object_booked",),
    SENDER_KILLED: ("result_dispatched",),
    PAGE_KILLED: ("request",),
    ARCHIVE_AWAY: ("result_dispatched",),
    ARCHIVE_REFUSES: ("result_dispatched",),
    NETWORK_CUT: ("study_claimed", "study_left_alone"),
    NETWORK_SILENT: ("study_claimed", "study_left_alone"),
}

DOUBLED = """
    SELECT COUNT(*) FROM (
        SELECT 1 FROM screening GROUP BY study_id, revision, model_digest HAVING COUNT(*) > 1) AS doubled
"""
CURRENT = """
    SELECT study.study_uid, study.state, screening.revision = study.revision AS is_current
    FROM study LEFT JOIN screening ON screening.id = study.current_screening_id
"""


@dataclass(frozen=True)
class Recovery:
    """One kind of fault: how often, and how long until it was over (what could be seen of it)."""

    kind: str
    injected: int
    recovered_s: list[float]


@dataclass(frozen=True)
class Account:
    """The end of a run."""

    studies: int
    screened: int
    lost: int  #: valid studies without a result for their newest images
    doubled: int  #: (study, revision, model) with more than one result
    failed: int
    quarantined: int
    reconciles: bool  #: `worker reconcile` exits 0
    results: int
    claims: int
    redeliveries: int  #: studies that came to a worker again, by message
    repeated_executions: int  #: claims beyond one a result
    results_dropped: int  #: of executions whose claim was taken back meanwhile, for a lapsed lease or a new image
    seconds: float
    recoveries: list[Recovery]
    outside: Outside

    @property
    def is_whole(self) -> bool:
        """Whether every promise held."""
        inside = (self.screened, self.lost, self.doubled, self.failed, self.reconciles)
        return inside == (self.studies, 0, 0, 0, True) and self.outside.is_whole

    @property
    def last_line(self) -> str:
        """The sentence of the run."""
        return f"{self.screened} screened, {self.lost} lost, {self.doubled} doubled, {self.failed} failed"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "is_whole": self.is_whole, "last_line": self.last_line}


def take(
    database: Database,
    study_uids: Sequence[str],
    entries: Sequence[Entry],
    injected: Sequence[Injected],
    outside: Outside,
    *,
    reconciles: bool,
    seconds: float,
) -> Account:
    """Add up database and logs."""
    with database.reading() as connection:
        states = {uid: (state, is_current) for uid, state, is_current in connection.execute(text(CURRENT))}
        doubled = int(connection.execute(text(DOUBLED)).scalar_one())
        results = int(connection.execute(text("SELECT COUNT(*) FROM screening")).scalar_one())
        quarantined = int(
            connection.execute(text("SELECT COUNT(*) FROM arrival WHERE state = 'quarantined'")).scalar_one()
        )
    ours = [states.get(uid, ("missing", False)) for uid in study_uids]
    screened = sum(state == "screened" and bool(is_current) for state, is_current in ours)
    failed = sum(state == "failed" for state, _ in ours)
    seen = Counter(entry.event for entry in entries)
    deliveries = seen["study_claimed"] + seen["study_left_alone"]
    return Account(
        studies=len(study_uids),
        screened=screened,
        lost=len(study_uids) - screened - failed,
        doubled=doubled,
        failed=failed,
        quarantined=quarantined,
        reconciles=reconciles,
        results=results,
        claims=seen["study_claimed"],
        redeliveries=deliveries - results,
        repeated_executions=seen["study_claimed"] - results,
        results_dropped=seen["study_overtaken"],
        seconds=round(seconds, 1),
        recoveries=recoveries(entries, injected),
        outside=outside,
    )


def recoveries(entries: Sequence[Entry], injected: Sequence[Injected]) -> list[Recovery]:
    """How long each fault took to be over, from the moment when what was away had come back."""
    times: dict[str, list[float]] = defaultdict(list)
    for fault in sorted(injected, key=lambda one: one.began_s):
        times[fault.kind] += [round(at - fault.ended_s, 1) for at in [_over_at(fault, entries)] if at is not None]
    counts = Counter(fault.kind for fault in injected)
    return [Recovery(kind, count, times[kind]) for kind, count in counts.items()]


def _over_at(fault: Injected, entries: Sequence[Entry]) -> float | None:
    later = [e for e in entries if e.at_s >= fault.ended_s and e.fields.get("state") != "due"]  # due: tried in vain
    if fault.kind in (REDIS_RESTARTED, REDIS_FLUSHED):  # over when everything it took away has its result
        ends = {e.fields["study_uid"]: e.at_s for e in entries if e.event == "study_screened"}
        waited_for = [ends[uid] for uid in fault.queued if ends.get(uid, 0.0) >= fault.ended_s]
        return max(waited_for, default=None)
    signs = SIGNS.get(fault.kind, ("study_screened",))
    ours = [entry for entry in later if fault.member in (None, entry.member)]
    starts = (entry.at_s for entry in ours if entry.event == STARTED)
    again_s = fault.ended_s if fault.member is None or fault.kind == CHILD_KILLED else next(starts, float("inf"))
    return next((e.at_s for e in ours if e.event in signs and e.at_s >= again_s), None)


def show(account: Account) -> None:
    """Print the table, and the sentence last."""
    table = Table("fault", "injected", "seen to recover", "median s", "longest s")
    for recovery in account.recoveries:
        times = recovery.recovered_s
        median_s, longest_s = (f"{median(times):.1f}", f"{max(times):.1f}") if times else ("", "")
        table.add_row(recovery.kind, str(recovery.injected), str(len(times)), median_s, longest_s)
    console = Console()
    console.print(table)
    console.print(
        f"{account.studies} valid studies in {account.seconds:.0f} s; {account.results} results,"
        f" {account.redeliveries} redeliveries, {account.repeated_executions} repeated executions"
        f" ({account.results_dropped} of them came to a result, which was dropped); {account.quarantined} files that"
        f" are no images quarantined; `worker reconcile` {'holds' if account.reconciles else 'does NOT hold'}",
        soft_wrap=True,
    )
    for line in account.outside.lines:
        console.print(line, soft_wrap=True)
    console.print(account.last_line)
