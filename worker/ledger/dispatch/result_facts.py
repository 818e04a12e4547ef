"""What a result object says: the facts of one result, from the rows that never change."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select

from schema import models
from schema.database import Database
from schema.vocabulary import Verdict
from worker.ledger.dispatch.dispatches import Due
from worker.ledger.transactions import reading


@dataclass(frozen=True)
class ReportedImage:
    """One image that was looked at; `probability` and `overlay_digest` where the model saw it."""

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    digest: str
    left_at: str | None
    crc: int | None
    probability: float | None = None
    overlay_digest: str | None = None


@dataclass(frozen=True)
class Facts:
    """One result. Without a verdict the study could not be screened, for `could_not`."""

    study_uid: str
    revision: int
    at: datetime
    images: tuple[ReportedImage, ...]
    could_not: str | None = None
    verdict: Verdict | None = None
    reason: str = ""
    probability: float | None = None
    threshold: float = 0.0
    deciding: int | None = None  #: index into `images`
    model_name: str = ""
    model_digest: str = ""
    rule: str = ""
    population: str = ""


def facts(database: Database, due: Due) -> Facts:
    """The facts of the result that an object reports."""
    with reading(database) as connection:
        if due.screening_id is None:
            rows = connection.execute(_received(due.study_id)).all()
            images = tuple(ReportedImage(*row) for row in rows)
            return Facts(due.study_uid, due.revision, due.created_at, images, could_not=due.reason or "unknown")
        result = connection.execute(
            select(models.Screening, models.ModelVersion.name, models.ModelVersion.card)
            .join(models.ModelVersion, models.ModelVersion.digest == models.Screening.model_digest)
            .where(models.Screening.id == due.screening_id)
        ).one()
        found = connection.execute(_findings(due.screening_id)).all()
        card: dict[str, Any] = result.card
        ordinals = [row.ordinal for row in found]
        return Facts(
            due.study_uid, due.revision, result.screened_at, tuple(ReportedImage(*row[1:]) for row in found),
            could_not=due.reason, verdict=result.verdict, reason=str(result.reason), probability=result.probability,
            threshold=result.threshold,
            deciding=ordinals.index(result.deciding_finding) if result.deciding_finding in ordinals else None,
            model_name=result.name, model_digest=result.model_digest,
            rule=str(card.get("operating_point", {}).get("rule", "")),
            population=str(card.get("population", {}).get("description", "")),
        )  # fmt: skip


_COLUMNS = (
    models.Instance.sop_class_uid, models.Instance.sop_instance_uid, models.Series.series_uid, models.Instance.digest,
    models.Instance.left_at, models.Instance.crc,
)  # fmt: skip

#: Only an image of a known SOP Class can be named in another object.
_NAMED = (models.Instance.container == "dicom") & models.Instance.sop_class_uid.is_not(None)


def _received(study_id: int) -> Select[*tuple[Any, ...]]:
    return (
        select(*_COLUMNS)
        .join(models.Series, models.Series.id == models.Instance.series_id)
        .where(models.Series.study_id == study_id, models.Instance.superseded.is_(False), _NAMED)
        .order_by(models.Instance.id)
    )


def _findings(screening_id: int) -> Select[*tuple[Any, ...]]:
    finding = models.Finding
    return (
        select(finding.ordinal, *_COLUMNS, finding.probability, finding.overlay_digest)
        .join(models.Instance, models.Instance.id == finding.instance_id)
        .join(models.Series, models.Series.id == models.Instance.series_id)
        .where(finding.screening_id == screening_id, _NAMED)
        .order_by(finding.ordinal)
    )
