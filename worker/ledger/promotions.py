"""Which model serves: decisions are appended, never edited, and the standing follows from them in their order.

The first decision is made by the program itself: it takes up the setting's model while nobody has promoted one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from schema.database import Database
from schema.models import ModelVersion, Promotion
from schema.types import UtcDateTime
from schema.vocabulary import ModelAction
from worker.errors import PromotionRefused
from worker.ledger.results import ModelUse, add_model
from worker.ledger.transactions import reading, retried, writing


@dataclass(frozen=True)
class Decision:
    """One row of `promotion`, with the name and threshold of its model."""

    id: int
    digest: str
    name: str
    threshold: float
    action: ModelAction
    comparison_digest: str | None
    reason: str | None
    decided_by: str
    decided_at: datetime


@dataclass(frozen=True)
class RegistryState:
    """What the decisions add up to."""

    served: tuple[str, ...] = ()  #: the active model, then those it followed, the latest first; none is retired
    shadow: str | None = None
    retired: frozenset[str] = frozenset()
    is_chosen: bool = False  #: a person has promoted; the setting no longer decides
    refusals: tuple[Decision, ...] = ()  #: by workers that could not prove a model, and still cannot

    @property
    def active(self) -> str | None:
        """The model whose verdicts people are shown."""
        return self.served[0] if self.served else None

    def is_refused(self, digest: str, by: str) -> bool:
        """Whether this worker could not prove the model when it last tried."""
        return any((refusal.digest, refusal.decided_by) == (digest, by) for refusal in self.refusals)


#: A person's decision about a model: what workers said of it before no longer counts.
RENEWING = (ModelAction.INSTALLED, ModelAction.PROMOTED, ModelAction.ROLLED_BACK, ModelAction.SHADOWED)

#: Raises PromotionRefused when a decision must not be made as things stand.
Rule = Callable[[RegistryState], None]


def stand(decisions: Iterable[Decision]) -> RegistryState:
    """Fold the decisions, in their order, into what stands."""
    served: list[str] = []
    shadow: str | None = None
    retired: set[str] = set()
    is_chosen = False
    refusals: dict[tuple[str, str], Decision] = {}
    for decision in decisions:
        digest, action = decision.digest, decision.action
        if action in (ModelAction.INSTALLED, ModelAction.PROMOTED):
            served.append(digest)
            retired.discard(digest)
        elif action is ModelAction.ROLLED_BACK:
            while served[-1] != digest:
                served.pop()
        elif action is ModelAction.SHADOWED:
            shadow = digest
        elif action is ModelAction.RETIRED:
            retired.add(digest)
        elif action is ModelAction.REFUSED:
            refusals[digest, decision.decided_by] = decision
        elif action is ModelAction.ACCEPTED:
            refusals.pop((digest, decision.decided_by), None)
        if action in RENEWING:
            refusals = {key: refusal for key, refusal in refusals.items() if key[0] != digest}
        is_chosen = is_chosen or action in (ModelAction.PROMOTED, ModelAction.ROLLED_BACK)
        if shadow is not None and (shadow in retired or shadow in served[-1:]):
            shadow = None
    order = tuple(dict.fromkeys(digest for digest in reversed(served) if digest not in retired))
    return RegistryState(order, shadow, frozenset(retired), is_chosen, tuple(refusals.values()))


def newest(database: Database) -> int:
    """Number of the newest decision, 0 when there is none: a worker asks for it before every message."""
    with reading(database) as connection:
        return int(connection.execute(text("SELECT COALESCE(MAX(id), 0) FROM promotion")).scalar_one())


def history(database: Database) -> list[Decision]:
    """Every decision, the oldest first."""
    statement = text(
        "SELECT promotion.id, digest, name, threshold, action, comparison_digest, reason, decided_by, decided_at"
        " FROM promotion JOIN model_version USING (digest) ORDER BY promotion.id"
    ).columns(decided_at=UtcDateTime())
    with reading(database) as connection:
        rows = [dict(row._mapping) for row in connection.execute(statement)]
    return [Decision(**row | {"action": ModelAction(row["action"])}) for row in rows]


def registry_state(database: Database) -> RegistryState:
    """What stands now."""
    return stand(history(database))


@retried  # of two decisions at one moment, the second is judged anew
def decide(
    database: Database,
    action: ModelAction,
    model: ModelUse,
    by: str,
    now: datetime,
    rule: Rule,
    *,
    comparison_digest: str | None = None,
    reason: str | None = None,
) -> RegistryState:
    """Append a decision about a model when `rule` lets it pass; returns what stood before. Raises what `rule` does."""
    with writing(database) as session:
        before = _registry_state(session)
        rule(before)
        if session.get(ModelVersion, model.digest) is None:
            add_model(session, model, now)
            session.flush()
        _append(session, action, model.digest, by, now, comparison_digest, reason)
        return before


@retried
def rollback(database: Database, by: str, reason: str | None, now: datetime) -> str:
    """Bring back the model that served before the active one; returns its digest. Raises PromotionRefused."""
    with writing(database) as session:
        served = _registry_state(session).served
        if len(served) < 2:
            raise PromotionRefused("no model served before the active one, or it is retired: `worker model list`")
        _append(session, ModelAction.ROLLED_BACK, served[1], by, now, None, reason)
        return served[1]


@retried
def retire(database: Database, digest: str, by: str, reason: str | None, now: datetime) -> None:
    """Let a model neither serve nor shadow again. Raises PromotionRefused for the active one."""
    with writing(database) as session:
        before = _registry_state(session)
        if before.active == digest:
            raise PromotionRefused("is the active model: promote another, or `worker model rollback`").about(digest)
        if digest in before.retired:
            raise PromotionRefused("is retired already").about(digest)
        _append(session, ModelAction.RETIRED, digest, by, now, None, reason)


@retried
def tell(database: Database, digest: str, by: str, refusal: str | None, now: datetime) -> None:
    """A worker says that it cannot prove a model, and why, or (None) that it can after all. Said once."""
    with writing(database) as session:
        if _registry_state(session).is_refused(digest, by) == (refusal is None):
            action = ModelAction.ACCEPTED if refusal is None else ModelAction.REFUSED
            _append(session, action, digest, by, now, None, refusal)


def _registry_state(session: Session) -> RegistryState:
    rows = session.execute(select(Promotion, ModelVersion).join(ModelVersion).order_by(Promotion.id)).all()
    return stand(
        Decision(
            p.id, p.digest, m.name, m.threshold, p.action, p.comparison_digest, p.reason, p.decided_by, p.decided_at
        )
        for p, m in rows
    )


def _append(
    session: Session,
    action: ModelAction,
    digest: str,
    by: str,
    now: datetime,
    comparison_digest: str | None,
    reason: str | None,
) -> None:
    last = session.scalar(select(func.coalesce(func.max(Promotion.id), 0)))
    session.add(
        Promotion(
            id=(last or 0) + 1,
            digest=digest,
            action=action,
            comparison_digest=comparison_digest,
            reason=reason,
            decided_by=by,
            decided_at=now,
        )
    )
