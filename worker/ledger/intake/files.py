"""The rows of files: waiting, vanished, or in the state in which they ended."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, bindparam, insert, or_, select, update
from sqlalchemy.orm import Session

from schema.database import Database, in_lists
from schema.models import Arrival, Instance, Study
from schema.vocabulary import FileState
from worker.ledger.intake.arrivals import Incoming, Registration, stored_path
from worker.ledger.transactions import Guard, reading, retried, writing, writing_rows

_UNREAD = and_(
    Arrival.state == FileState.QUARANTINED,
    Arrival.digest.is_(None),
    Arrival.size_bytes == bindparam("size_bytes"),
    Arrival.mtime_ns == bindparam("mtime_ns"),
)

#: The row of a path that waits, or was quarantined unread and is unchanged. Built once, because building the query
#: takes longer than running it.
_ARRIVAL = (
    select(Arrival).where(Arrival.path == bindparam("path"), or_(Arrival.state == FileState.WAITING, _UNREAD)).limit(1)
)


#: The same for many paths; of those that were quarantined, the changed ones too.
_ARRIVALS = select(Arrival.path, Arrival.id, Arrival.state, Arrival.size_bytes, Arrival.mtime_ns).where(
    Arrival.path.in_(bindparam("paths", expanding=True)),
    or_(Arrival.state == FileState.WAITING, and_(Arrival.state == FileState.QUARANTINED, Arrival.digest.is_(None))),
)

_GROWN = (
    update(Arrival)
    .where(Arrival.id == bindparam("key"))
    .values(size_bytes=bindparam("size"), mtime_ns=bindparam("mtime"), changed_at=bindparam("now"))
)


class UnendedRow(NamedTuple):
    """The row that waits for a file."""

    id: int
    size_bytes: int
    mtime_ns: int


def wait(database: Database, files: list[Incoming], now: datetime, guard: Guard | None = None) -> None:
    """Register files that have not settled yet: one WAITING row per path; `changed_at` is updated while it grows.

    Here and below, `guard` is asked in the transaction that writes.
    """
    for some in in_lists(files):
        with writing_rows(database, guard) as connection:
            grown, new = [], {}
            for file, row in zip(some, unended_rows(connection, some), strict=True):
                if row is None:
                    new[stored_path(file.path)] = arrival_values(file, now)
                elif (row.size_bytes, row.mtime_ns) != (file.size_bytes, file.mtime_ns):
                    grown.append({"key": row.id, "size": file.size_bytes, "mtime": file.mtime_ns, "now": now})
            if grown:
                connection.execute(_GROWN, grown)
            if new:
                connection.execute(insert(Arrival), list(new.values()))


def unended_rows(connection: Connection, files: Sequence[Incoming]) -> list[UnendedRow | None]:
    """For each file the row that waits for it, as `arrival_of` finds it; None: there is none."""
    paths = [stored_path(file.path) for file in files]
    rows = dict[tuple[object, ...], UnendedRow]()
    for path, key, state, size, mtime in connection.execute(_ARRIVALS, {"paths": paths}):
        is_waiting = state is FileState.WAITING
        rows[(path,) if is_waiting else (path, size, mtime)] = UnendedRow(key, size, mtime)
    return [
        rows.get((path,)) or rows.get((path, file.size_bytes, file.mtime_ns))
        for path, file in zip(paths, files, strict=True)
    ]


def hold(database: Database, file: Incoming, digest: str, now: datetime) -> None:
    """Register a received object as WAITING whose bytes are in the store: `held_files` gives it until it is booked."""
    with writing(database) as session:
        arrival = arrival_of(session, file, now)
        arrival.digest, arrival.in_store = digest, True


def held_files(database: Database) -> list[tuple[Incoming, str]]:
    """Every file of `hold` that is not booked yet, with its digest."""
    held = select(Arrival).where(Arrival.state == FileState.WAITING, Arrival.in_store).order_by(Arrival.id)
    with writing(database) as session:
        rows = [(Incoming(a.path, a.size_bytes, a.mtime_ns, a.priority), a.digest) for a in session.scalars(held)]
    return [(file, digest) for file, digest in rows if digest is not None]


def wait_below(database: Database, under: str) -> bool:
    """Whether files below the folder `under`, which ends in a slash, are WAITING."""
    with reading(database) as connection:
        return connection.execute(select(Arrival.id).where(*_waiting(under)).limit(1)).first() is not None


def record_vanished(
    database: Database, still_there: Callable[[str], bool], under: str, guard: Guard | None = None
) -> list[str]:
    """Register WAITING files below the folder `under` that no longer exist as VANISHED; returns their paths."""
    with writing(database, guard) as session:
        waiting = session.scalars(select(Arrival).where(*_waiting(under)))
        gone = [arrival for arrival in waiting if not still_there(arrival.path)]
        for arrival in gone:
            arrival.state, arrival.message = FileState.VANISHED, "gone before it had settled"
        return [arrival.path for arrival in gone]


def _waiting(under: str) -> tuple[ColumnElement[bool], ...]:
    """Which files are WAITING below a folder, whose path ends in a slash."""
    return Arrival.state == FileState.WAITING, Arrival.path.startswith(under, autoescape=True)


def record_vanished_file(database: Database, file: Incoming, now: datetime, guard: Guard | None = None) -> Registration:
    """Register a file that was gone before it could be read."""
    with writing(database, guard) as session:
        arrival = arrival_of(session, file, now)
        close(arrival, FileState.VANISHED, None, "gone before it could be read", None, None)
        return Registration(FileState.VANISHED, None, "gone before it could be read")


@retried
def quarantine(
    database: Database, file: Incoming, code: str, message: str, digest: str | None, now: datetime, *, in_store: bool,
    guard: Guard | None = None,
) -> Registration:  # fmt: skip
    """Register a file that can never be read and names no study."""
    with writing(database, guard) as session:
        arrival = arrival_of(session, file, now)
        arrival.digest, arrival.in_store = digest, in_store
        close(arrival, FileState.QUARANTINED, code, message, None, None)
        return Registration(FileState.QUARANTINED, None, message, in_store)


def booked_below(database: Database, folder: str) -> dict[str, tuple[int, int]]:
    """Path -> size and mtime of the files that were booked below `folder`, which ends in a slash, as last recorded."""
    ended = Arrival.state.not_in((FileState.WAITING, FileState.VANISHED))
    statement = select(Arrival.path, Arrival.size_bytes, Arrival.mtime_ns).where(ended).order_by(Arrival.id)
    with reading(database) as connection:
        return {path: (size, mtime) for path, size, mtime in connection.execute(statement) if path.startswith(folder)}


def arrival_of(session: Session, file: Incoming, now: datetime) -> Arrival:
    """The row that waits for this file; else a new one."""
    path = stored_path(file.path)
    lies_there = {"path": path, "size_bytes": file.size_bytes, "mtime_ns": file.mtime_ns}
    arrival = session.scalars(_ARRIVAL, lies_there).one_or_none()
    if arrival is None:
        arrival = Arrival(**arrival_values(file, now))
        session.add(arrival)
    return arrival


def arrival_values(file: Incoming, now: datetime) -> dict[str, Any]:
    """The columns of a file that is seen for the first time."""
    return {
        "path": stored_path(file.path),
        "size_bytes": file.size_bytes,
        "mtime_ns": file.mtime_ns,
        "state": FileState.WAITING,
        "in_store": False,
        "priority": file.priority,
        "seen_at": now,
        "changed_at": now,
    }


def close(
    arrival: Arrival,
    state: FileState,
    code: str | None,
    message: str | None,
    study: Study | None,
    instance: Instance | None,
) -> None:
    """Write the state in which a file ended."""
    arrival.state, arrival.code, arrival.message = state, code, message
    arrival.study, arrival.instance = study, instance
