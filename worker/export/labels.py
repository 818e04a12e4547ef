"""Readers' verdicts as a labelled data set for `trainer fit`: an index and the images, without names.

Images are exported as PNG of their display values, without a header; text that is burned into the pixels stays.
Patients are exported as keyed pseudonyms; the key is in the store, so all machines of an installation use the same.
"""

import csv
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
from sqlalchemy import Row, bindparam, text

from schema.database import Database
from schema.types import UtcDateTime
from schema.vocabulary import AuditAction, Reason, ReviewOutcome, Verdict
from worker.errors import BadData, Rejected, StorageUnavailable
from worker.export import unseen_verdicts
from worker.imaging.image_file import read_display
from worker.imaging.limits import Limits
from worker.ledger import audit
from worker.ledger.clocks import now
from worker.ledger.intake.arrivals import stored_path
from worker.ledger.pseudonyms import load_key, patient_pseudonym, pseudonym
from worker.ledger.transactions import reading
from worker.store import Store
from worker.store.fetch import fetch

INDEX = "index.csv"
IMAGES = "images"
COLUMNS = ("path", "label", "patient", "view", "age", "study_uid", "source_sha256", "review")

#: One review of each study, with every image that has a probability in the screening which the reader had.
REVIEWED = f"""
    SELECT review.outcome, study.study_uid, study.patient_id, study.issuer_of_patient_id, study.conflict,
           screening.verdict, instance.digest, instance.left_at, instance.view, instance.age_years,
           {unseen_verdicts.WITHDRAWN.format(review="review")} AS is_withdrawn
    FROM review
    JOIN study ON study.id = review.study_id
    LEFT JOIN screening ON screening.id = review.screening_id
    LEFT JOIN finding ON finding.screening_id = screening.id AND finding.probability IS NOT NULL
    LEFT JOIN instance ON instance.id = finding.instance_id
    WHERE review.id = {{newest}}
    AND review.reviewed_at >= :since
    ORDER BY review.id, instance.id
"""

#: Pairs of verdicts, of the screening and of the reader, in which the reader confirms the screening.
CONFIRMED = {(Verdict.FLAGGED, ReviewOutcome.PNEUMONIA), (Verdict.NOT_FLAGGED, ReviewOutcome.NO_PNEUMONIA)}
CLEAR = (Verdict.FLAGGED, Verdict.NOT_FLAGGED)


@dataclass
class Exported:
    """Numbers of exported images and studies, and of those left out, by reason."""

    images: int = 0
    studies: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def export(
    database: Database,
    store: Store,
    out: Path,
    since: datetime,
    limits: Limits,
    by: str = "",
    only: Container[str] | None = None,
    *,
    is_unseen: bool = False,
) -> Exported:
    """Write the images of every study reviewed since then below `out`, and `index.csv` at the end.

    `only`: the UIDs of the studies that are meant; None: all. `is_unseen`: of each study's verdicts only the newest one
    counts that was given before its reader knew what the model said.
    Uncertain and withdrawn reviews, studies of two patients and those without a judged image are left out and counted.
    Raises BadData when `out` is not empty, StorageUnavailable when it or the store cannot be used.
    """
    key = load_key(store)
    with reading(database) as connection:
        newest = unseen_verdicts.NEWEST_UNSEEN if is_unseen else unseen_verdicts.NEWEST
        statement = text(REVIEWED.format(newest=newest)).bindparams(bindparam("since", type_=UtcDateTime()))
        found = connection.execute(statement, {"since": since, **(unseen_verdicts.VALUES if is_unseen else {})}).all()
    found = found if only is None else [row for row in found if row.study_uid in only]
    exported = Exported()
    rows: list[dict[str, Any]] = []
    try:
        if out.exists() and any(out.iterdir()):
            raise BadData("is not empty: give a new folder").about(str(out))
        (out / IMAGES).mkdir(parents=True, exist_ok=True)
        leaving = dict.fromkeys(row.study_uid for row in found if _fault(row) is None)
        audit.note(database, AuditAction.LABELS_EXPORTED, by, now(), leaving, subject=stored_path(str(out)))
        for row in found:
            fault = _fault(row) or _write(row, store, out, key, limits, rows)
            if fault is not None:
                exported.left_out[fault] += 1
        with (out / INDEX).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(sorted(rows, key=lambda line: str(line["path"])))
    except OSError as error:
        raise StorageUnavailable(f"cannot be written ({error.strerror})").about(str(out)) from error
    exported.images, exported.studies = len(rows), len({line["study_uid"] for line in rows})
    return exported


def _fault(row: Row[Any]) -> str | None:
    """Why this row has no label, or None."""
    if row.is_withdrawn:
        return "review withdrawn"
    if row.outcome == ReviewOutcome.UNCERTAIN:
        return "read as uncertain"
    if row.outcome == ReviewOutcome.NOT_ASSESSABLE:
        return "read as not assessable"
    if row.conflict == Reason.TWO_PATIENTS:
        return "two patients in one study"
    return "no image was judged when it was read" if row.digest is None else None


def _write(
    row: Row[Any], store: Store, out: Path, key: bytes, limits: Limits, rows: list[dict[str, Any]]
) -> str | None:
    """Write one image and its line; returns the reason if it is left out."""
    try:
        pixels = read_display(fetch(store, row.digest, row.left_at), limits).pixels
    except Rejected as error:
        return error.code
    name = f"{IMAGES}/{pseudonym(key, row.study_uid, row.digest)}.png"
    _, png = cv2.imencode(".png", pixels)
    (out / name).write_bytes(bytes(png))
    patient = patient_pseudonym(key, row.issuer_of_patient_id, row.patient_id, row.study_uid)
    judged = (row.verdict, row.outcome)
    corrected = "corrected" if row.verdict in CLEAR else "given"
    values = (
        name, row.outcome, patient, row.view, None if row.age_years is None else f"{row.age_years:g}",
        row.study_uid, row.digest, "confirmed" if judged in CONFIRMED else corrected,
    )  # fmt: skip
    rows.append(dict(zip(COLUMNS, values, strict=True)))
    return None
