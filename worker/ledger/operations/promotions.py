"""Which model serves: decisions are appended, never edited, and the registry's state follows from them in order.

The program itself makes the first decision: it installs the setting's model while nobody has promoted one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from schema.database import Database
from schema.models import ModelVersion
from schema.operations import Promotion
from schema.types import UtcDateTime
from schema.vocabulary import ModelAction
from worker.errors import PromotionRefused
from worker.ledger.screening.results import ModelUse, add_model
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
    """The state that follows from all decisions."""

    served: tuple[str, ...] = ()  #: the active model, then its predecessors, the latest first; none of them is retired
    shadow: str | None = None
    retired: frozenset[str] = frozenset()
    is_chosen: bool = False  #: a person has promoted; the setting no longer decides
    refusals: tuple[Decision, ...] = ()  #: by workers that could not verify a model, and still cannot

    @property
    def active(self) -> str | None:
        """The model whose verdicts people see."""
        return self.served[0] if self.served else None

    def is_refused(self, digest: str, by: str) -> bool:
        """Whether this worker could not verify the model when it last tried."""
        return any((refusal.digest, refusal.decided_by) == (digest, by) for refusal in self.refusals)


#: Decisions of people about a model; earlier refusals by workers then no longer count.
RENEWING = (ModelAction.INSTALLED, ModelAction.PROMOTED, ModelAction.ROLLED_BACK, ModelAction.SHADOWED)

#: Raises PromotionRefused when a decision is not allowed in this state.
Rule = Callable[[RegistryState], None]


def fold_decisions(decisions: Iterable[Decision]) -> RegistryState:
    """The state that follows from these decisions, in their order."""
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
    """Number of the newest decision, 0 when there is none. A worker reads it before every message."""
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


def stored_card(database: Database, digest: str) -> dict[str, Any]:
    """The card of a known model, as plain values without its goldens."""
    with reading(database) as connection:
        return dict(connection.execute(select(ModelVersion.card).where(ModelVersion.digest == digest)).scalar_one())


def registry_state(database: Database) -> RegistryState:
    """The state now."""
    return fold_decisions(history(database))


@retried  # of two decisions at the same time, the second is checked again
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
    """Append a decision about a model if `rule` allows it; returns the state before. Raises what `rule` raises."""
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
    """Make the model before the active one serve again; returns its digest. Raises PromotionRefused."""
    with writing(database) as session:
        served = _registry_state(session).served
        if len(served) < 2:
            raise PromotionRefused("no model served before the active one, or it is retired: `worker model list`")
        _append(session, ModelAction.ROLLED_BACK, served[1], by, now, None, reason)
        return served[1]


@retried
def retire(database: Database, digest: str, by: str, reason: str | None, now: datetime) -> None:
    """Retire a model: it never serves or shadows again. Raises PromotionRefused for the active one."""
    with writing(database) as session:
        before = _registry_state(session)
        if before.active == digest:
            raise PromotionRefused("is the active model: promote another, or `worker model rollback`").about(digest)
        if digest in before.retired:
            raise PromotionRefused("is retired already").about(digest)
        _append(session, ModelAction.RETIRED, digest, by, now, None, reason)


@retried
def report_proof(database: Database, digest: str, by: str, refusal: str | None, now: datetime) -> None:
    """Record that a worker cannot verify a model, and why; or (None) that it now can. Each is recorded once."""
    with writing(database) as session:
        if _registry_state(session).is_refused(digest, by) == (refusal is None):
            action = ModelAction.ACCEPTED if refusal is None else ModelAction.REFUSED
            _append(session, action, digest, by, now, None, refusal)


def _registry_state(session: Session) -> RegistryState:
    rows = session.execute(select(Promotion, ModelVersion).join(ModelVersion).order_by(Promotion.id)).all()
    return fold_decisions(
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
