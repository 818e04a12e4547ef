"""The models of an installation as plain values: the decisions about each, and its comparisons."""

from typing import Any

from schema.database import Database
from worker.ledger.operations import comparisons, promotions
from worker.ledger.operations.comparisons import Presented
from worker.ledger.operations.promotions import Decision, RegistryState


def rows(database: Database) -> list[dict[str, Any]]:
    """Every known model, the active one first, with the decisions about it and its comparisons."""
    decisions = promotions.history(database)
    registry_state = promotions.fold_decisions(decisions)
    rows: dict[str, dict[str, Any]] = {}
    for decision in decisions:
        row = rows.setdefault(decision.digest, _row(decision.digest, decision.name, registry_state))
        row["threshold"] = decision.threshold
        row["decisions"].append(_plain(decision))
    for presented in comparisons.every_one(database):
        digest = presented.model_digest
        row = rows.setdefault(digest, _row(digest, presented.model_name, registry_state))
        row["comparisons"].append(_presented(presented))
    order = ["active", "shadow", "served before", "known", "retired"]
    return sorted(rows.values(), key=lambda row: order.index(str(row["standing"])))


def _state_of(digest: str, registry_state: RegistryState) -> str:
    if digest in registry_state.retired:
        return "retired"
    if digest in (registry_state.active, registry_state.shadow):
        return "active" if digest == registry_state.active else "shadow"
    return "served before" if digest in registry_state.served else "known"


def _row(digest: str, name: str, registry_state: RegistryState) -> dict[str, Any]:
    """A model's row without decisions; a model that was only refused has no threshold here."""
    standing = _state_of(digest, registry_state)
    return {
        "digest": digest, "name": name, "threshold": None, "standing": standing, "decisions": [], "comparisons": [],
    }  # fmt: skip


def _presented(presented: Presented) -> dict[str, Any]:
    return {
        "is_accepted": presented.is_accepted,
        "says": presented.says,
        "against": presented.against_digest,
        "by": presented.presented_by,
        "at": presented.presented_at.isoformat(),
        "comparison_digest": presented.comparison_digest,
    }


def _plain(decision: Decision) -> dict[str, Any]:
    return {
        "action": str(decision.action),
        "by": decision.decided_by,
        "at": decision.decided_at.isoformat(),
        "reason": decision.reason,
        "comparison_digest": decision.comparison_digest,
    }
