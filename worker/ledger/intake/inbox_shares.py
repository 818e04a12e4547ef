"""The rows that divide an inbox among several watchers: its folders belong to shares, and each share to one watcher.

Each watcher has a lease. When it lapses, another watcher deletes its row and may then take its shares. Each transaction
that books a file locks the row of its own watcher: one that was stopped for longer than its lease books no file of a
share that another one has taken over. PostgreSQL ends a transaction that is idle for longer than the lease; until then
nobody takes over its shares.
"""

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, literal, select, update

from schema.database import Database
from schema.operations import InboxShare, InboxWatcher
from worker.errors import ShareLost
from worker.ledger.clocks import CLOCKS_DIFFER_S
from worker.ledger.transactions import reading, retried, writing_rows
from worker.runtime.pids import is_running, pid_space

#: The folders of an inbox are divided into this many shares; further watchers stand by.
SHARES = 16

#: An inbox that nobody watches is named in `worker check` for so long; then another inbox's watcher removes its rows.
NAMED_FOR = timedelta(days=7)

#: The process number of a watcher that has left: its row stays for a while, and its `lease_until` says when it left.
LEFT = 0


@dataclass(frozen=True)
class WatcherLease:
    """The lease of one watcher of an inbox; `holder` is new each time it joins."""

    inbox: str  #: its path as the ledger spells it
    host: str
    pid: int
    lease_s: float
    holder: str = ""  #: empty: it has not joined


@dataclass(frozen=True)
class Move:
    """What a watcher is to change."""

    take: tuple[int, ...] = ()
    give: tuple[int, ...] = ()


@dataclass(frozen=True)
class WatcherShares:
    """How many shares of an inbox a watcher holds; `host` is None for those that nobody holds."""

    inbox: str
    host: str | None
    pid: int
    shares: int
    lease_until: datetime | None

    @property
    def has_left(self) -> bool:
        """Whether the watcher gave everything back at `lease_until`, in place of falling silent."""
        return self.host is not None and self.pid == LEFT


def split(held: Mapping[int, str | None], watchers: Sequence[str], mine: str) -> Move:
    """What `mine` changes so that each of the watchers comes to hold an equal number of shares, or one more.

    `held`: the holder of each share, None where it is free. Nothing is taken from another watcher: who has too many
    gives them, and who has too few takes free ones.
    """
    each, over = divmod(len(held), len(watchers))
    quota = each + (sorted(watchers).index(mine) < over)
    own = sorted(share for share, holder in held.items() if holder == mine)
    free = sorted(share for share, holder in held.items() if holder is None)
    return Move(take=tuple(free[: max(0, quota - len(own))]), give=tuple(own[quota:]))


@retried  # two watchers may be the first ones at the same time
def follow(database: Database, lease: WatcherLease, now: datetime) -> tuple[WatcherLease, frozenset[int]]:
    """Prolong the lease, or join; remove lapsed watchers; take or give shares. Returns the lease, and its shares now.

    `now`: by the clock of the database, which is one for all machines.
    Call it between two bookings: a share that is given here may be taken by another watcher at once.
    """
    with writing_rows(database) as connection:
        lease = _prolong_or_join(connection, lease, now)
        _forget_unwatched(connection, now)
        found = _found(connection, lease.inbox)
        # read after the shares: a watcher that had one by then has a row now
        watchers = _living(connection, lease, now)
        held = {share: holder if holder in watchers else None for share, holder in found.items()}
        move = split(held, watchers, lease.holder)
        own = {share for share, holder in held.items() if holder == lease.holder}
        _give(connection, lease, move.give)
        return lease, frozenset(own.difference(move.give).union(_take(connection, lease, move.take, found)))


def prolong(database: Database, lease: WatcherLease, now: datetime) -> None:
    """Prolong the lease, if it was not taken away, without waiting for a booking."""
    with writing_rows(database) as connection:
        _prolong(connection, lease, now + timedelta(seconds=lease.lease_s))


def leave(database: Database, lease: WatcherLease, now: datetime) -> None:
    """Give everything back. The row stays and says when it left, until another watcher of the inbox sees it."""
    its = _its_row(lease)
    with writing_rows(database) as connection:
        connection.execute(select(InboxWatcher.holder).where(*its).with_for_update())  # waits for its last booking
        connection.execute(update(InboxWatcher).where(*its).values(lease_until=now, pid=LEFT))
        connection.execute(
            update(InboxShare)
            .where(InboxShare.inbox == lease.inbox, InboxShare.holder == lease.holder)
            .values(holder=None)
        )


def require(connection: Connection, lease: WatcherLease) -> None:
    """Raise ShareLost if the lease was taken away. Else its row is locked until this transaction ends.

    PostgreSQL ends a transaction whose program is stopped for longer than the lease.
    """
    row = select(InboxWatcher.holder).where(*_its_row(lease))
    if connection.dialect.name == "postgresql":
        limit = func.set_config("idle_in_transaction_session_timeout", f"{lease.lease_s * 1000:.0f}", literal(True))
        row = row.add_columns(limit).with_for_update(read=True, key_share=True)
    if connection.execute(row).first() is None:
        raise ShareLost("another watcher has taken over this one's share of the inbox: it goes on with a new share")


def watcher_shares(database: Database) -> list[WatcherShares]:
    """Every watcher of an inbox whose watchers divide it, and what nobody holds."""
    with reading(database) as connection:
        return read_watcher_shares(connection)


def read_watcher_shares(connection: Connection) -> list[WatcherShares]:
    """As `watcher_shares`."""
    watchers = connection.execute(
        select(
            InboxWatcher.inbox, InboxWatcher.holder, InboxWatcher.host, InboxWatcher.pid, InboxWatcher.lease_until
        ).order_by(InboxWatcher.inbox, InboxWatcher.host, InboxWatcher.pid)
    ).all()
    known = {(row.inbox, row.holder) for row in watchers}
    shares = Counter(
        (inbox, holder if (inbox, holder) in known else None)
        for inbox, holder in connection.execute(select(InboxShare.inbox, InboxShare.holder))
    )
    held = [WatcherShares(w.inbox, w.host, w.pid, shares[w.inbox, w.holder], w.lease_until) for w in watchers]
    free = [
        WatcherShares(inbox, None, 0, n, None) for (inbox, holder), n in sorted(shares.items(), key=str) if not holder
    ]
    return [*held, *free]


def _prolong(connection: Connection, lease: WatcherLease, until: datetime) -> bool:
    return connection.execute(update(InboxWatcher).where(*_its_row(lease)).values(lease_until=until)).rowcount > 0


def _its_row(lease: WatcherLease) -> tuple[ColumnElement[bool], ...]:
    """Which row is that of a watcher that has not left."""
    return InboxWatcher.inbox == lease.inbox, InboxWatcher.holder == lease.holder, InboxWatcher.pid != LEFT


def _prolong_or_join(connection: Connection, lease: WatcherLease, now: datetime) -> WatcherLease:
    """Prolong the lease, or join under a new name: shares of the old name then belong to nobody."""
    until = now + timedelta(seconds=lease.lease_s)
    if lease.holder and _prolong(connection, lease, until):
        return lease
    lease = replace(lease, holder=secrets.token_hex(16))
    row = {"inbox": lease.inbox, "holder": lease.holder, "host": lease.host, "pid": lease.pid, "pid_space": pid_space()}
    connection.execute(insert(InboxWatcher).values(**row, lease_until=until))
    return lease


def _living(connection: Connection, lease: WatcherLease, now: datetime) -> list[str]:
    """The watchers of the inbox. The rows of those that left, lapsed or are known to be dead are removed.

    A watcher that is booking just now is removed after that.
    """
    of_inbox = InboxWatcher.inbox == lease.inbox
    rows = connection.execute(
        select(InboxWatcher.holder, InboxWatcher.pid, InboxWatcher.pid_space, InboxWatcher.lease_until).where(of_inbox)
    ).all()
    latest = now + timedelta(seconds=lease.lease_s + CLOCKS_DIFFER_S)  # later: written before the clock was set back
    seen = {row.holder: row.lease_until for row in rows}
    ended = [
        row.holder for row in rows
        if row.holder != lease.holder
        and (row.pid == LEFT or not now <= row.lease_until <= latest or _is_dead(row.pid, row.pid_space))
    ]  # fmt: skip
    if not ended:
        return list(seen)
    locked = connection.execute(
        select(InboxWatcher.holder, InboxWatcher.lease_until)
        .where(of_inbox, InboxWatcher.holder.in_(ended))
        .with_for_update(skip_locked=True)
    ).all()
    removed = [holder for holder, until in locked if until == seen[holder]]  # else it has just prolonged it
    connection.execute(delete(InboxWatcher).where(of_inbox, InboxWatcher.holder.in_(removed)))
    return [holder for holder in seen if holder not in removed]


def _is_dead(pid: int, space: str) -> bool:
    return bool(space) and space == pid_space() and not is_running(pid)


def _found(connection: Connection, inbox: str) -> dict[int, str | None]:
    """The holder of each share as its row says, whether that still has a row or not."""
    rows = connection.execute(select(InboxShare.share, InboxShare.holder).where(InboxShare.inbox == inbox)).all()
    found: dict[int, str | None] = {share: holder for share, holder in rows}  # noqa: C416 mypy does not take a Row for a pair
    new = [share for share in range(SHARES) if share not in found]
    if new:
        connection.execute(insert(InboxShare), [{"inbox": inbox, "share": share} for share in new])
    return found | dict.fromkeys(new)


def _forget_unwatched(connection: Connection, now: datetime) -> None:
    """Remove the rows of inboxes that nobody has watched for NAMED_FOR; a later watcher makes them anew."""
    is_recent = InboxWatcher.lease_until.between(now - NAMED_FOR, now + NAMED_FOR)
    connection.execute(delete(InboxWatcher).where(~is_recent))
    unwatched = InboxShare.inbox.not_in(select(InboxWatcher.inbox))
    for inbox, holder in connection.execute(
        select(InboxShare.inbox, InboxShare.holder).where(unwatched).distinct()
    ).all():
        # by the holder found: a watcher that joins just now has made the shares that it takes its own
        connection.execute(delete(InboxShare).where(InboxShare.inbox == inbox, InboxShare.holder == holder))


def _take(
    connection: Connection, lease: WatcherLease, shares: Sequence[int], found: Mapping[int, str | None]
) -> list[int]:
    """Take free shares, but none that another watcher takes just now, or has taken since it was `found`."""
    if not shares:
        return []
    which = and_(InboxShare.inbox == lease.inbox, InboxShare.share.in_(shares))
    locked = select(InboxShare.share, InboxShare.holder).where(which).with_for_update(skip_locked=True)
    taken = [share for share, holder in connection.execute(locked) if holder == found[share]]
    connection.execute(
        update(InboxShare)
        .where(InboxShare.inbox == lease.inbox, InboxShare.share.in_(taken))
        .values(holder=lease.holder)
    )
    return taken


def _give(connection: Connection, lease: WatcherLease, shares: Sequence[int]) -> None:
    if shares:
        connection.execute(
            update(InboxShare).where(InboxShare.inbox == lease.inbox, InboxShare.share.in_(shares)).values(holder=None)
        )
