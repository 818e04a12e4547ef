"""All that the page of one study shows, as rows of the ledger. Never writes."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from schema.database import Database
from worker.errors import UnknownStudy
from worker.ledger.transactions import reading
from worker.worklist import holds
from worker.worklist.columns import STUDY_MOMENTS, with_moments

#: Earlier studies of the patient that are listed.
MOST_PRIORS = 20

#: Studies that a search finds at most, the newest.
MOST_FOUND = 50

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class StudyView:
    """One study with its images, results and history; rows are plain dictionaries by column."""

    study: dict[str, Any]
    images: Rows  #: by arrival
    screening: dict[str, Any] | None  #: the current one
    model: dict[str, Any] | None  #: the card of its model
    screenings: Rows
    arrivals: Rows
    reviews: Rows
    priorities: Rows
    looks: Rows  #: who opened it
    priors: Rows
    holder: str | None
    held_since: datetime | None
    opening: str | None  #: of the page that holds it

    @property
    def id(self) -> int:
        """Row of the study."""
        return int(self.study["id"])

    @property
    def newest_review(self) -> dict[str, Any] | None:
        """The newest review, withdrawn or not."""
        return self.reviews[-1] if self.reviews else None


def study_view(database: Database, study_uid: str, now: datetime) -> StudyView:
    """The study of this UID; raises UnknownStudy."""
    with reading(database) as connection:
        statement = with_moments("SELECT * FROM study WHERE study_uid = :uid", *STUDY_MOMENTS)
        row = connection.execute(statement, {"uid": study_uid}).one_or_none()
        if row is None:
            raise UnknownStudy("no such study")
        screening = _one(connection, _SCREENING, {"id": row.current_screening_id}, "screened_at")
        hold = connection.execute(
            with_moments(_HELD, "taken_at").bindparams(*holds.MOMENTS),
            {"id": row.id, **holds.at(now)},
        ).one_or_none()
        own = {"id": row.id, "uid": study_uid}
        return StudyView(
            study=dict(row._mapping),
            images=_all(connection, _IMAGES, own, "received_at"),
            screening=screening,
            model=None if screening is None else _card(connection, screening["model_digest"]),
            screenings=_all(connection, _SCREENINGS, own, "screened_at"),
            arrivals=_all(connection, _ARRIVALS, own, "seen_at"),
            reviews=_all(connection, _REVIEWS, own, "reviewed_at", "withdrawn_at"),
            priorities=_all(connection, _PRIORITIES, own, "given_at"),
            looks=_all(connection, _LOOKS, own, "happened_at"),
            priors=_priors(connection, row),
            holder=None if hold is None else hold.holder,
            held_since=None if hold is None else hold.taken_at,
            opening=None if hold is None else hold.opening,
        )


def has_seen_heatmap(database: Database, study_uid: str, who: str) -> bool:
    """Whether the audit says that this person was shown a heat map of the study."""
    statement = text("SELECT 1 FROM audit WHERE study_uid = :uid AND deed = 'heatmap_shown' AND who = :who LIMIT 1")
    with reading(database) as connection:
        return connection.execute(statement, {"uid": study_uid, "who": who}).first() is not None


def instance_of(database: Database, digest: str) -> Row[Any] | None:
    """Where the bytes of an image are, and whose study it is; None for a digest that no image has."""
    statement = text(
        "SELECT study.study_uid, instance.digest, instance.left_at, instance.crc FROM instance"
        " JOIN series ON series.id = instance.series_id JOIN study ON study.id = series.study_id"
        " WHERE instance.digest = :digest ORDER BY instance.id LIMIT 1"
    )
    with reading(database) as connection:
        return connection.execute(statement, {"digest": digest}).one_or_none()


def heatmap_of(database: Database, study_uid: str, digest: str) -> Row[Any] | None:
    """The raw heat map of an image in the study's current screening, and its model's card."""
    statement = text(
        """
        SELECT finding.heatmap, finding.heatmap_rows, finding.heatmap_columns, screening.model_digest,
            instance.rows, instance.columns, model_version.card
        FROM study JOIN finding ON finding.screening_id = study.current_screening_id
        JOIN screening ON screening.id = finding.screening_id
        JOIN instance ON instance.id = finding.instance_id
        JOIN model_version ON model_version.digest = screening.model_digest
        WHERE study.study_uid = :uid AND instance.digest = :digest AND finding.heatmap IS NOT NULL
        """
    )
    with reading(database) as connection:
        return connection.execute(statement, {"uid": study_uid, "digest": digest}).first()


def screening_words(database: Database, screening_id: int) -> dict[str, Any] | None:
    """An earlier screening that a reader was shown."""
    with reading(database) as connection:
        return _one(connection, _SCREENING, {"id": screening_id}, "screened_at")


def find(database: Database, way: str, value: str) -> list[str]:
    """UIDs of the studies with this accession number or patient ID, the newest first."""
    column = {"accession": "accession_number", "patient": "patient_id"}[way]
    statement = text(f"SELECT study_uid FROM study WHERE {column} = :value ORDER BY id DESC LIMIT :most")
    with reading(database) as connection:
        return [str(uid) for uid in connection.execute(statement, {"value": value, "most": MOST_FOUND}).scalars()]


def _card(connection: Connection, digest: str) -> dict[str, Any] | None:
    row = connection.execute(text("SELECT card FROM model_version WHERE digest = :digest"), {"digest": digest}).first()
    if row is None:
        return None
    return dict(json.loads(row.card) if isinstance(row.card, str) else row.card)


def _priors(connection: Connection, row: Row[Any]) -> Rows:
    """Other studies under the same Patient ID and issuer, the newest first."""
    if not row.patient_id:
        return []
    return _all(
        connection,
        """
        SELECT study.study_uid, study.study_date, study.accession_number, study.state, screening.verdict,
            (SELECT review.outcome FROM review WHERE review.id =
                (SELECT MAX(newest.id) FROM review AS newest WHERE newest.study_id = study.id)) AS review_outcome,
            (SELECT COUNT(*) FROM withdrawal WHERE withdrawal.review_id =
                (SELECT MAX(newest.id) FROM review AS newest WHERE newest.study_id = study.id)) AS review_withdrawn
        FROM study LEFT JOIN screening ON screening.id = study.current_screening_id
        WHERE study.patient_id = :patient AND study.id <> :id
        AND (study.issuer_of_patient_id = :issuer OR study.issuer_of_patient_id IS NULL OR :issuer = '')
        ORDER BY study.study_date DESC, study.id DESC LIMIT :most
        """,
        {"patient": row.patient_id, "id": row.id, "issuer": row.issuer_of_patient_id or "", "most": MOST_PRIORS},
    )


def _all(connection: Connection, statement: str, values: dict[str, Any], *moments: str) -> Rows:
    return [dict(row._mapping) for row in connection.execute(with_moments(statement, *moments), values)]


def _one(connection: Connection, statement: str, values: dict[str, Any], *moments: str) -> dict[str, Any] | None:
    found = _all(connection, statement, values, *moments)
    return found[0] if found else None


_HELD = f"SELECT holder, taken_at, opening FROM hold WHERE study_id = :id AND {holds.IN_FORCE}"
_ARRIVALS = "SELECT path, state, message, seen_at FROM arrival WHERE study_id = :id ORDER BY id"
_SCREENING = "SELECT * FROM screening WHERE id = :id"
_SCREENINGS = """
    SELECT screening.revision, screening.verdict, screening.reason, screening.detail, screening.probability,
        screening.threshold, screening.screened_at, model_version.name AS model
    FROM screening JOIN model_version ON model_version.digest = screening.model_digest
    WHERE screening.study_id = :id AND screening.shadow_of IS NULL ORDER BY screening.id
"""
_IMAGES = """
    SELECT instance.id, instance.digest, instance.sop_instance_uid, instance.modality, instance.body_part,
        instance.view, instance.rows, instance.columns, instance.unreadable, instance.superseded, instance.received_at,
        instance.age_years,
        finding.exclusion, finding.unreadable AS unreadable_now, finding.probability, finding.familiarity,
        finding.notes, finding.ordinal, CASE WHEN finding.heatmap IS NULL THEN 0 ELSE 1 END AS has_heatmap
    FROM instance JOIN series ON series.id = instance.series_id JOIN study ON study.id = series.study_id
    LEFT JOIN finding ON finding.instance_id = instance.id AND finding.screening_id = study.current_screening_id
    WHERE study.id = :id ORDER BY instance.id
"""
_REVIEWS = """
    SELECT review.id, review.outcome, review.reader, review.comment, review.reviewed_at, review.screening_id,
        review.saw_probability, withdrawal.withdrawn_by, withdrawal.reason AS withdrawn_because, withdrawal.withdrawn_at
    FROM review LEFT JOIN withdrawal ON withdrawal.review_id = review.id
    WHERE review.study_id = :id ORDER BY review.id
"""
_PRIORITIES = "SELECT priority, given_by, given_at FROM prioritisation WHERE study_id = :id ORDER BY id"
_LOOKS = "SELECT happened_at, who FROM audit WHERE study_uid = :uid AND deed = 'shown' ORDER BY id"
