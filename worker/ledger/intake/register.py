"""Registers files: each arrival gets exactly one state, each new image is added to its study."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from schema.database import Database
from schema.models import Arrival, Instance, Series, Study
from schema.vocabulary import FileState, Priority, Reason, StudyState
from worker.errors import CopyUnseen
from worker.imaging.instance import Instance as Header
from worker.imaging.stored_values.stalled_copy import LOWER_PART_EMPTY
from worker.ledger.intake import new_studies
from worker.ledger.intake.arrivals import AcceptedCopy, Correction, Receipt, Registration
from worker.ledger.intake.files import arrival_of, close
from worker.ledger.intake.new_studies import instance_values, series_values, settles_at, study_values
from worker.ledger.intake.restored_objects import RESTORED, screen_again
from worker.ledger.transactions import Guard, reading, retried, together, writing
from worker.ledger.worklist.ordering import current_screening, move, outranks, place, set_priority
from worker.ledger.worklist.overdue import overdue_at
from worker.settings import Settings


def accepted_copies(database: Database, header: Header, digest: str) -> list[AcceptedCopy]:
    """The files that were accepted before under this SOP Instance UID with other bytes."""
    with reading(database) as connection:
        rows = connection.execute(
            select(Instance.digest, Instance.left_at, Instance.unreadable, Instance.notes)
            .where(Instance.sop_instance_uid == header.sop_instance_uid, Instance.digest != digest)
            .order_by(Instance.superseded, Instance.id)
        )
        return [AcceptedCopy(r.digest, r.left_at, r.unreadable is not None, LOWER_PART_EMPTY in r.notes) for r in rows]


def known_otherwise(database: Database, digests: Mapping[str, str]) -> set[str]:
    """Those of these SOP Instance UIDs under which other bytes than those of the digest were accepted."""
    with reading(database) as connection:
        rows = connection.execute(
            select(Instance.sop_instance_uid, Instance.digest).where(Instance.sop_instance_uid.in_(list(digests)))
        )
        return {uid for uid, digest in rows if digests[uid] != digest}


def register(
    database: Database, receipt: Receipt, settings: Settings, now: datetime, guard: Guard | None = None
) -> Registration:
    """`register_all` for one file; raises its error."""
    (registered,) = register_all(database, [receipt], settings, now, guard)
    if isinstance(registered, Exception):
        raise registered
    return registered


def register_all(
    database: Database, receipts: Sequence[Receipt], settings: Settings, now: datetime, guard: Guard | None = None
) -> list[Registration | Exception]:
    """Register files with readable headers in one transaction: each as a new image of its study, a duplicate, a
    conflict, or damaged. For a file that the database refuses its error is given; the others are registered.
    `guard` is called in each transaction."""
    return together(retried(partial(_register_all, database, settings, now, guard)), receipts)


def _register_all(
    database: Database, settings: Settings, now: datetime, guard: Guard | None, receipts: Sequence[Receipt]
) -> list[Registration]:
    with writing(database, guard) as session, session.no_autoflush:  # no query of one file needs the new rows
        connection = session.connection()
        simple = new_studies.of_new_studies(connection, receipts)
        added = new_studies.add(connection, simple, settings, now, database.is_silent_run) if simple else []
        registered = {id(receipt): registration for receipt, registration in zip(simple, added, strict=True)}
        for receipt in receipts:
            if id(receipt) not in registered:
                registered[id(receipt)] = _register(session, receipt, settings, now)
                session.flush()  # the next file may be of the same study
        return [registered[id(receipt)] for receipt in receipts]


def _register(session: Session, receipt: Receipt, settings: Settings, now: datetime) -> Registration:
    header = receipt.header
    arrival = arrival_of(session, receipt.file, now)
    arrival.digest, arrival.in_store = receipt.digest, receipt.left_at is None
    known = select(Study).where(Study.study_uid == header.study_uid).with_for_update()
    study = session.scalars(known).one_or_none()
    if study is None:
        study = _new_study(session, header, receipt.file.priority, settings, now)
    siblings = _siblings(session, header)
    _require_compared(siblings, receipt)
    original = _original(study, siblings, receipt)
    whole = next((s for s in siblings if s.series.study_id == study.id and s.unreadable is None), None)
    correction = receipt.correction if original is not None and original.digest != receipt.digest else None
    if original is not None and correction is not None:
        _correct(session, arrival, study, original, receipt, correction, settings, now)
    elif original is not None:
        _close_again(arrival, receipt, study, original)
        if receipt.was_missing and screen_again(session, receipt.digest, settings, now):
            arrival.message = f"{arrival.message}{RESTORED}"
    elif receipt.unreadable and whole is not None:  # the image is there already; a damaged copy changes nothing
        close(arrival, FileState.QUARANTINED, receipt.unreadable, receipt.message, study, whole)
    else:
        _add_image(session, arrival, study, siblings, receipt, settings, now)
    _raise_priority(study, receipt.file.priority, settings, now)
    place(study, current_screening(session, study), now)
    return Registration(arrival.state, study.study_uid, arrival.message or "", arrival.in_store)


def _raise_priority(study: Study, priority: Priority, settings: Settings, now: datetime) -> None:
    """Give a study the priority of its new file if that is higher; a new file never lowers it."""
    if not outranks(priority, study.priority):
        return
    if study.priority is Priority.NIGHTLY:
        study.overdue_at = overdue_at(priority, settings, now)
    set_priority(study, priority)


CONFLICT_MESSAGES = {
    Reason.TWO_PATIENTS: "this study was received before with another patient ID; both are kept and screened",
    Reason.OTHER_PIXELS: "this SOP Instance UID was received before with other pixels; both are kept and screened",
}


def _siblings(session: Session, header: Header) -> list[Instance]:
    """Every instance with this SOP Instance UID, in any study."""
    same = select(Instance).where(Instance.sop_instance_uid == header.sop_instance_uid)
    return list(session.scalars(same.options(joinedload(Instance.series))))  # one query instead of up to a thousand


def _require_compared(siblings: list[Instance], receipt: Receipt) -> None:
    """Raise CopyUnseen for a copy that another process accepted meanwhile: its pixels may be the same."""
    if receipt.compared is not None:
        readable = {sibling.digest for sibling in siblings if sibling.unreadable is None}
        if readable - receipt.compared - {receipt.digest}:
            raise CopyUnseen("another copy of this image was accepted just now: it is compared with that too")


def _original(study: Study, siblings: list[Instance], receipt: Receipt) -> Instance | None:
    """The instance of the same study that this file repeats, by bytes or by pixels of the same patient.

    Of several the one that holds the same bytes, else the one that counts.
    """
    same = {receipt.digest} if _is_other_patient(study, receipt.header) else {receipt.digest, *receipt.same_pixels_as}
    found = [s for s in siblings if s.series.study_id == study.id and s.digest in same]
    return min(found, key=lambda s: (s.digest != receipt.digest, s.superseded, s.id), default=None)


def _close_again(arrival: Arrival, receipt: Receipt, study: Study, original: Instance) -> None:
    if receipt.unreadable:
        close(arrival, FileState.QUARANTINED, receipt.unreadable, receipt.message, study, original)
        return
    if original.digest == receipt.digest and original.left_at is not None:
        original.left_at = receipt.left_at  # the older path may be gone, and this one exists
    same = "bytes were" if original.digest == receipt.digest else "pixels, in other bytes, were"
    close(arrival, FileState.DUPLICATE, "duplicate", f"the same {same} accepted before", study, original)


def _correct(
    session: Session, arrival: Arrival, study: Study, original: Instance, receipt: Receipt, correction: Correction,
    settings: Settings, now: datetime,
) -> None:  # fmt: skip
    """The image came again with another header. The later one counts, but an image that is screened stays screened."""
    header = receipt.header
    study.patient_id = study.patient_id or header.patient_id
    study.issuer_of_patient_id = study.issuer_of_patient_id or header.issuer_of_patient_id
    for element in ("accession_number", "study_date", "study_time"):
        if element in correction.elements:
            setattr(study, element, getattr(header, element))
    said = f"its header says otherwise: {', '.join(correction.elements)}" if correction.elements else ""
    if not correction.is_screened_by or receipt.unreadable:
        _close_again(arrival, receipt, study, original)
        arrival.message = "; ".join(filter(None, (arrival.message, said)))
        return
    instance = _new_instance(session, study, receipt, now)
    original.superseded = original.superseded or not correction.excludes
    was_read = study.read_at, study.not_assessable_at
    _request_screening(study, settings, now, receipt.is_settled)
    study.read_at, study.not_assessable_at = was_read  # the reader has seen these pixels
    counts = "the image is screened by both" if correction.excludes else "the image is screened by it from now on"
    message = f"the same pixels were accepted before; {said}; {counts}"
    close(arrival, FileState.ACCEPTED, None, message, study, instance)


def _add_image(
    session: Session,
    arrival: Arrival,
    study: Study,
    siblings: list[Instance],
    receipt: Receipt,
    settings: Settings,
    now: datetime,
) -> None:
    conflict = _conflict(study, siblings, receipt)
    header = receipt.header
    study.patient_id = study.patient_id or header.patient_id
    study.issuer_of_patient_id = study.issuer_of_patient_id or header.issuer_of_patient_id
    study.accession_number = study.accession_number or header.accession_number
    instance = _new_instance(session, study, receipt, now)
    for sibling in siblings:
        was_damaged = sibling.unreadable is not None or sibling.digest in receipt.completes
        if was_damaged and not receipt.unreadable and sibling.series.study_id == study.id:
            sibling.superseded = True  # it is whole now
    study.conflict = conflict or study.conflict
    _request_screening(study, settings, now, receipt.is_settled)
    if receipt.unreadable:
        close(arrival, FileState.QUARANTINED, receipt.unreadable, receipt.message, study, instance)
    elif conflict:
        close(arrival, FileState.CONFLICT, str(conflict), CONFLICT_MESSAGES[conflict], study, instance)
    else:
        close(arrival, FileState.ACCEPTED, None, "; ".join(receipt.header.notes) or None, study, instance)


def _new_study(session: Session, header: Header, priority: Priority, settings: Settings, now: datetime) -> Study:
    study = Study(**study_values(header, priority, settings, now))  # _request_screening counts its first revision
    session.add(study)
    return study


def _new_instance(session: Session, study: Study, receipt: Receipt, now: datetime) -> Instance:
    header = receipt.header
    series = None
    if study.id is not None:  # a new study has none
        known = select(Series).where(Series.study_id == study.id, Series.series_uid == header.series_uid)
        series = session.scalars(known).one_or_none()
    if series is None:
        series = Series(study=study, **series_values(header))
    instance = Instance(series=series, **instance_values(receipt, now))
    session.add(instance)
    return instance


def _conflict(study: Study, siblings: list[Instance], receipt: Receipt) -> Reason | None:
    """Two patients under one study, or other pixels under one SOP Instance UID. Damaged files have none to compare."""
    if _is_other_patient(study, receipt.header):
        return Reason.TWO_PATIENTS
    same = {receipt.digest, *receipt.same_pixels_as, *receipt.completes}
    if receipt.unreadable is None and any(s.unreadable is None and s.digest not in same for s in siblings):
        return Reason.OTHER_PIXELS
    return None


def _is_other_patient(study: Study, header: Header) -> bool:
    """Whether study and header name two patients; an absent patient ID does not differ."""
    named = (
        (study.patient_id, header.patient_id),
        (study.issuer_of_patient_id, header.issuer_of_patient_id),
    )
    return any(theirs and ours and theirs != ours for theirs, ours in named)


def _request_screening(study: Study, settings: Settings, now: datetime, settled: bool) -> None:
    """After a new image: have the study screened, again if it was already."""
    study.read_at = study.not_assessable_at = None  # the reader has not seen this image
    if study.state is StudyState.QUEUED:
        return  # the worker that claims it will find the image
    if study.revision == 0 or study.state is not StudyState.RECEIVED:
        study.revision += 1
        if study.state is not StudyState.RECEIVED:
            move(study, StudyState.RECEIVED)
        study.asked_at, study.asked_because = now, Reason.NEW_IMAGES
        study.attempts, study.claim, study.lease_until = 0, None, None
        study.result_due_at = now + timedelta(seconds=settings.result_due_s)
        study.failure_code = study.failure_detail = None
    study.settles_at = settles_at(settings, study.asked_at, now, settled)
