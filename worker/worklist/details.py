"""All that is known of one study, as `worker show --json` prints it. Never writes."""

from typing import Any

from sqlalchemy import JSON, Connection, text

from schema.database import Database
from worker.ledger.lookup import resolve
from worker.ledger.transactions import reading
from worker.store import Store
from worker.worklist.columns import STUDY_MOMENTS, overlay_place, with_iso_moments, with_moments

_IMAGES = """
    SELECT instance.sop_instance_uid, instance.modality, instance.body_part, instance.view, instance.age_years,
           instance.transfer_syntax_uid, instance.rows, instance.columns, instance.unreadable,
           finding.exclusion, finding.unreadable AS unreadable_now, finding.probability, finding.familiarity,
           finding.notes, finding.overlay_digest
    FROM instance
    JOIN series ON series.id = instance.series_id
    JOIN study ON study.id = series.study_id
    LEFT JOIN finding ON finding.instance_id = instance.id AND finding.screening_id = study.current_screening_id
    WHERE study.id = :id ORDER BY instance.id
"""
_SCREENINGS = "SELECT * FROM screening WHERE study_id = :id ORDER BY id DESC"
_FILES = "SELECT path, state, code, message, seen_at FROM arrival WHERE study_id = :id ORDER BY id"
_REVIEWS = """
    SELECT outcome, reader, comment, reviewed_at, withdrawn_by, withdrawal.reason AS withdrawn_because, withdrawn_at
    FROM review LEFT JOIN withdrawal ON withdrawal.review_id = review.id
    WHERE review.study_id = :id ORDER BY review.id
"""
_PRIORITIES = "SELECT priority, given_by, given_at FROM prioritisation WHERE study_id = :id ORDER BY id"

_CARDS = text(
    "SELECT digest, card FROM model_version WHERE digest IN (SELECT model_digest FROM screening WHERE study_id = :id)"
).columns(card=JSON())


def show(database: Database, store: Store, study: str) -> dict[str, Any]:
    """All data of the study that a person names; raises UnknownStudy."""
    with reading(database) as connection:
        statement = with_moments("SELECT * FROM study WHERE study_uid = :uid", *STUDY_MOMENTS)
        row = connection.execute(statement, {"uid": resolve(connection, study)}).one()

        def of_study(statement: str, *moments: str) -> list[dict[str, Any]]:
            result = connection.execute(with_moments(statement, *moments), {"id": row.id})
            return [with_iso_moments(dict(kept._mapping)) for kept in result]

        images = of_study(_IMAGES)
        for image in images:
            image["heatmap"] = overlay_place(store, image.pop("overlay_digest"))
        models = _models(connection, row.id)
        screenings = of_study(_SCREENINGS, "screened_at")
        return {
            **with_iso_moments(dict(row._mapping)),
            "images": images,
            "screenings": [{**screening, "model": models[screening["model_digest"]]} for screening in screenings],
            "files": of_study(_FILES, "seen_at"),
            "reviews": of_study(_REVIEWS, "reviewed_at", "withdrawn_at"),
            "priorities": of_study(_PRIORITIES, "given_at"),
        }


def _models(connection: Connection, study_id: int) -> dict[str, dict[str, Any]]:
    """What the cards of a study's models say of how sure a verdict is, by digest."""
    return {
        digest: {
            "name": card["name"],
            "sensitivity": card["operating_point"]["sensitivity"],
            "familiarity_limit": card.get("familiarity_limit"),
        }
        for digest, card in connection.execute(_CARDS, {"id": study_id})
    }
