"""Records the verdicts of claimed studies, those of a message in one transaction: by statements, without the ORM."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from sqlalchemy import Connection, bindparam, insert, select, update

from schema.database import Database
from schema.models import Finding, ModelVersion, Screening, Study
from schema.vocabulary import StudyState
from worker.ledger.dispatch import dispatches
from worker.ledger.dispatch.dispatches import RecordedVerdict
from worker.ledger.screening.results import Claim, ModelUse, Result, add_model, finding_rows, screening_row
from worker.ledger.transactions import retried, together, writing_rows
from worker.ledger.worklist.ordering import StudyRow, place_of
from worker.settings import Settings

COLUMNS = [getattr(Study, name) for name in StudyRow.__dataclass_fields__]

#: The statements are built once, because building one takes longer than running it.
_HELD = (
    select(*COLUMNS, Study.claim)
    .where(
        Study.study_uid.in_(bindparam("uids", expanding=True)),
        Study.claim.in_(bindparam("tokens", expanding=True)),
        Study.state == StudyState.SCREENING,
    )
    .order_by(Study.id)  # two writers lock in the same order
    .with_for_update()
)
_KNOWN_MODELS = select(ModelVersion.digest).where(ModelVersion.digest.in_(bindparam("digests", expanding=True)))
_STUDIES = select(*COLUMNS).where(Study.study_uid.in_(bindparam("uids", expanding=True)))
_SCREENINGS = select(Screening.id, Screening.study_id, Screening.revision, Screening.model_digest).where(
    Screening.study_id.in_(bindparam("studies", expanding=True)),
    Screening.model_digest.in_(bindparam("digests", expanding=True)),
)
_SCREENED = (
    update(Study)
    .where(Study.id == bindparam("study"))
    .values(
        state=StudyState.SCREENED,
        claim=None,
        lease_until=None,
        attempts=0,
        screened_at=bindparam("now"),
        current_screening_id=bindparam("screening"),
        band=bindparam("its_band"),
        reason=bindparam("its_reason"),
        sort_key=bindparam("its_key"),
    )
)


def record_all(
    database: Database, results: Sequence[Result], now: datetime, settings: Settings | None = None
) -> list[bool | Exception]:
    """Write the verdict of each claim that still holds: True; False when a newer claim or a new image has replaced it;
    the error, when the database refuses this one.

    `settings` say which result objects are to be sent; without them, none.
    """
    return together(retried(partial(_record, database, now, settings)), results)  # two may be the first of a model


def record_shadows(database: Database, results: Sequence[Result], active: str, now: datetime) -> list[bool | Exception]:
    """Write what one shadow model says of studies that the model of digest `active` has judged; no study moves.

    False where that model has not judged this revision, or the shadow has already; the error of one that is refused.
    """
    return together(retried(partial(_record_shadows, database, active, now)), results)


def _record(database: Database, now: datetime, settings: Settings | None, results: Sequence[Result]) -> list[bool]:
    with writing_rows(database) as connection:
        held = _held(connection, [result.claim for result in results])
        kept = [(held[result.claim.study_uid], result) for result in results if result.claim.study_uid in held]
        if not kept:
            return [False] * len(results)
        keys = _insert(connection, kept, None, now)
        moves = []
        for (study, result), key in zip(kept, keys, strict=True):
            screened = replace(study, state=StudyState.SCREENED)
            place = place_of(screened, result.judged, now, database.is_silent_run)
            moves.append(
                {
                    "study": study.id, "now": now, "screening": key,
                    "its_band": place.band, "its_reason": place.reason, "its_key": place.sort_key,
                }
            )  # fmt: skip
        connection.execute(_SCREENED, moves)
        if settings is not None:
            for (study, result), key in zip(kept, keys, strict=True):
                recorded = RecordedVerdict(key, result.model.digest, result.judged.verdict)
                dispatches.plan(connection, study, recorded, settings, now)
        return [result.claim.study_uid in held for result in results]


def _record_shadows(database: Database, active: str, now: datetime, results: Sequence[Result]) -> list[bool]:
    with writing_rows(database) as connection:
        uids = {"uids": [result.claim.study_uid for result in results]}
        studies = {row.study_uid: StudyRow(*row) for row in connection.execute(_STUDIES, uids)}
        asked = {"studies": [study.id for study in studies.values()], "digests": [active, results[0].model.digest]}
        written = {(row.study_id, row.revision, row.model_digest) for row in connection.execute(_SCREENINGS, asked)}
        kept = []
        for result in results:
            study = studies[result.claim.study_uid]
            revision = result.claim.revision
            is_judged = (study.id, revision, active) in written
            is_recorded = (study.id, revision, result.model.digest) in written
            if is_judged and not is_recorded:
                kept.append((study, result))
        if kept:
            _insert(connection, kept, active, now)
        return [any(each is result for _, each in kept) for result in results]


def _held(connection: Connection, claims: Sequence[Claim]) -> dict[str, StudyRow]:
    """The studies whose claims still hold, by UID."""
    tokens = {claim.study_uid: claim.token for claim in claims}
    rows = connection.execute(_HELD, {"uids": list(tokens), "tokens": list(set(tokens.values()))})
    return {row.study_uid: StudyRow(*row[:-1]) for row in rows if row.claim == tokens[row.study_uid]}


def _insert(
    connection: Connection, kept: Sequence[tuple[StudyRow, Result]], shadow_of: str | None, now: datetime
) -> list[int]:
    """Write the rows of these results; returns the keys of their screenings, in their order."""
    models = {result.model.digest: result.model for _, result in kept}
    _add_models(connection, models, now)
    connection.execute(
        insert(Screening), [screening_row(study.id, study.asked_at, result, shadow_of, now) for study, result in kept]
    )
    written = {"studies": [study.id for study, _ in kept], "digests": list(models)}
    rows = connection.execute(_SCREENINGS, written)
    keys = {(row.study_id, row.revision, row.model_digest): row.id for row in rows}
    found = [keys[study.id, result.claim.revision, result.model.digest] for study, result in kept]
    findings = [row for key, (_, result) in zip(found, kept, strict=True) for row in finding_rows(key, result)]
    if findings:
        connection.execute(insert(Finding), findings)
    return found


def _add_models(connection: Connection, models: dict[str, ModelUse], now: datetime) -> None:
    known = set(connection.scalars(_KNOWN_MODELS, {"digests": list(models)}))
    for digest in models.keys() - known:
        add_model(connection, models[digest], now)
