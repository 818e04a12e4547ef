"""Registers files of studies of which nothing is known yet: many in one transaction, by statements without the ORM.

Knows only plain arrivals: a whole image under a UID of its own. `register` knows all others.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from schema.models import Arrival, Instance, Series, Study
from schema.vocabulary import FileState, Priority, Reason, StudyState
from worker.imaging.instance import Instance as Header
from worker.ledger.intake.arrivals import Receipt, Registration
from worker.ledger.intake.files import arrival_values, unended_rows
from worker.ledger.worklist.ordering import StudyRow, place_of
from worker.ledger.worklist.overdue import overdue_at
from worker.settings import Settings

#: What must be the same in all headers of a study, so that the order of its files decides nothing.
COMMON = ("patient_id", "issuer_of_patient_id", "accession_number", "study_date", "study_time")

#: The statements are built once, because building one takes longer than running it.
_KNOWN_STUDIES = select(Study.study_uid).where(Study.study_uid.in_(bindparam("uids", expanding=True)))
_KNOWN_IMAGES = select(Instance.sop_instance_uid).where(
    Instance.sop_instance_uid.in_(bindparam("uids", expanding=True))
)
_STUDY_KEYS = select(Study.study_uid, Study.id).where(Study.study_uid.in_(bindparam("uids", expanding=True)))
_SERIES_KEYS = select(Series.study_id, Series.series_uid, Series.id).where(
    Series.study_id.in_(bindparam("studies", expanding=True))
)
_IMAGE_KEYS = select(Instance.sop_instance_uid, Instance.id).where(
    Instance.series_id.in_(bindparam("series", expanding=True))
)
_CLOSE = (
    update(Arrival)
    .where(Arrival.id == bindparam("key"))
    .values({name: bindparam(f"its_{name}") for name in ("state", "code", "message", "digest", "in_store")})
    .values(study_id=bindparam("its_study"), instance_id=bindparam("its_image"))
)


def of_new_studies(connection: Connection, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Those of the files whose study and image are unknown, and which agree with the other files of their study."""
    images = Counter(receipt.header.sop_instance_uid for receipt in receipts)
    paths = Counter(receipt.file.path for receipt in receipts)
    studies = defaultdict[str, list[Receipt]](list)
    for receipt in receipts:
        studies[receipt.header.study_uid].append(receipt)
    known = {
        *connection.scalars(_KNOWN_STUDIES, {"uids": list(studies)}),
        *connection.scalars(_KNOWN_IMAGES, {"uids": list(images)}),
    }

    def is_plain(receipt: Receipt) -> bool:
        image = receipt.header.sop_instance_uid
        is_single = images[image] == 1 and paths[receipt.file.path] == 1
        return is_single and image not in known and not receipt.unreadable

    found: list[Receipt] = []
    for study_uid, files in studies.items():
        do_agree = len({_common(receipt) for receipt in files}) == 1
        if study_uid not in known and do_agree and all(map(is_plain, files)):
            found += files
    return found


def add(
    connection: Connection, receipts: Sequence[Receipt], settings: Settings, now: datetime, is_silent: bool
) -> list[Registration]:
    """Register files that `of_new_studies` has found; the registrations are in their order."""
    firsts = dict[str, Receipt]()  # by study, in the order in which the files came: the studies are offered in it
    for receipt in receipts:
        firsts.setdefault(receipt.header.study_uid, receipt)
    rows = [_study_row(receipt, settings, now, is_silent) for receipt in firsts.values()]
    connection.execute(insert(Study), rows)
    studies = _keys(connection.execute(_STUDY_KEYS, {"uids": list(firsts)}))
    series_headers = dict[tuple[int, str], Header]()  # by study and series: the header of its first file
    for receipt in receipts:
        header = receipt.header
        series_headers.setdefault((studies[header.study_uid], header.series_uid), header)
    connection.execute(
        insert(Series), [{"study_id": study, **series_values(header)} for (study, _), header in series_headers.items()]
    )
    asked = {"studies": list(studies.values())}
    series = {(study, uid): key for study, uid, key in connection.execute(_SERIES_KEYS, asked)}
    keys = [series[studies[r.header.study_uid], r.header.series_uid] for r in receipts]
    connection.execute(
        insert(Instance),
        [{"series_id": key, **instance_values(r, now)} for key, r in zip(keys, receipts, strict=True)],
    )
    images = _keys(connection.execute(_IMAGE_KEYS, {"series": list(series.values())}))
    registrations = [
        Registration(FileState.ACCEPTED, r.header.study_uid, "; ".join(r.header.notes), r.left_at is None)
        for r in receipts
    ]
    _close_arrivals(connection, receipts, studies, images, now)
    return registrations


def study_values(header: Header, priority: Priority, settings: Settings, now: datetime) -> dict[str, Any]:
    """The columns of a new study before its first image."""
    return {
        "study_uid": header.study_uid,
        **{name: getattr(header, name) for name in COMMON},
        "state": StudyState.RECEIVED,
        "revision": 0,
        "priority": priority,
        "received_at": now,
        "asked_at": now,
        "asked_because": Reason.NEW_IMAGES,
        "settles_at": now,
        "attempts": 0,
        "overdue_at": overdue_at(priority, settings, now),
        "result_due_at": now + timedelta(seconds=settings.result_due_s),
    }


def series_values(header: Header) -> dict[str, Any]:
    """The columns of a series, without its study."""
    names = ("series_uid", "modality", "manufacturer", "station_name", "device_serial_number")
    return {name: getattr(header, name) for name in names}


def instance_values(receipt: Receipt, now: datetime) -> dict[str, Any]:
    """The columns of a received image, without its series."""
    header = receipt.header
    names = (
        "sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "modality", "body_part", "view",
        "photometric_interpretation", "age_years", "rows", "columns",
    )  # fmt: skip
    return {
        **{name: getattr(header, name) for name in names},
        "digest": receipt.digest,
        "crc": receipt.crc,
        "size_bytes": receipt.file.size_bytes,
        "left_at": receipt.left_at,
        "container": str(header.container),
        "unreadable": receipt.unreadable,
        "superseded": False,
        "notes": list(header.notes),
        "received_at": now,
    }


def settles_at(settings: Settings, asked_at: datetime, now: datetime, is_settled: bool) -> datetime:
    """When a study may be offered whose newest image came now."""
    quiet = timedelta(seconds=settings.study_quiet_s)
    longest = timedelta(seconds=settings.study_longest_wait_s)
    return now if is_settled else min(now + quiet, asked_at + longest)


def _keys(rows: Iterable[Row[str, int]]) -> dict[str, int]:
    return {uid: key for uid, key in rows}  # noqa: C416 mypy does not take a Row for a pair


def _common(receipt: Receipt) -> tuple[object, ...]:
    return (*(getattr(receipt.header, name) for name in COMMON), receipt.file.priority, receipt.is_settled)


def _study_row(receipt: Receipt, settings: Settings, now: datetime, is_silent: bool) -> dict[str, Any]:
    row = study_values(receipt.header, receipt.file.priority, settings, now)
    row |= {"revision": 1, "settles_at": settles_at(settings, now, now, receipt.is_settled)}
    nothing: dict[str, Any] = {"id": 0, "conflict": None, "failure_code": None, "not_assessable_at": None}
    decisive = {name: row[name] for name in StudyRow.__dataclass_fields__ if name not in nothing}
    place = place_of(StudyRow(**decisive, **nothing), None, now, is_silent)
    return row | vars(place)


def _close_arrivals(
    connection: Connection, receipts: Sequence[Receipt], studies: dict[str, int], images: dict[str, int], now: datetime
) -> None:
    """Write the files as accepted, in the rows that wait for them, else in new ones."""
    waiting = unended_rows(connection, [receipt.file for receipt in receipts])
    closed, opened = [], []
    for row, receipt in zip(waiting, receipts, strict=True):
        values = {
            "state": FileState.ACCEPTED, "code": None, "message": "; ".join(receipt.header.notes) or None,
            "digest": receipt.digest, "in_store": receipt.left_at is None,
        }  # fmt: skip
        study, image = studies[receipt.header.study_uid], images[receipt.header.sop_instance_uid]
        if row is None:
            opened.append({**arrival_values(receipt.file, now), **values, "study_id": study, "instance_id": image})
        else:
            its = {f"its_{name}": value for name, value in values.items()}
            closed.append({"key": row.id, **its, "its_study": study, "its_image": image})
    if closed:
        connection.execute(_CLOSE, closed)
    if opened:
        connection.execute(insert(Arrival), opened)
