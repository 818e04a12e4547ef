"""The counter where persons decide which model serves: promote, roll back, shadow, retire, and what stands.

A model file is proved by its goldens and kept in the store before any decision about it is written.
"""

import contextlib
import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from schema.database import Database
from schema.vocabulary import ModelAction
from worker.errors import ModelRefused, PromotionRefused, StoredFileLost
from worker.inference.model import OnnxModel, open_content, open_model, replay_goldens
from worker.ledger import promotions
from worker.ledger.connect import unopened
from worker.ledger.promotions import Decision, RegistryState
from worker.ledger.results import ModelUse
from worker.registry.comparison import Brought, judge, read_comparison
from worker.settings import Settings
from worker.store import COMPARISONS, MODELS, Store, open_store

#: In whose name the program takes up the model that the settings name.
SETTING = "setting SCREENING_MODEL"


@dataclass(frozen=True)
class Registry:
    """Ledger, store and settings, as far as models go."""

    settings: Settings
    database: Database
    store: Store

    def install(self, now: datetime) -> None:
        """Take up the model that the settings name, while nobody has promoted one. Raises ModelRefused."""
        before = promotions.registry_state(self.database)
        file = self.settings.model
        if before.is_chosen or (file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == before.active):
            return
        opened = _prove(file)

        def rule(registry_state: RegistryState) -> None:
            if registry_state.is_chosen or registry_state.active == opened.digest:
                raise PromotionRefused("another process was first")

        self._keep(file, opened)
        with contextlib.suppress(PromotionRefused):
            promotions.decide(self.database, ModelAction.INSTALLED, _use(opened), SETTING, now, rule)

    def promote(
        self, file: Path, comparison: Path | None, by: str, now: datetime, *, force: bool = False, reason: str = ""
    ) -> str:
        """Make the model in `file` the active one; returns what was held for it.

        Without `force`, the comparison must be between the active model and this one, and keep the margin; with it,
        `reason` is kept in the comparison's place. Goldens are replayed in any case: no worker would serve it without.
        Raises PromotionRefused, ModelRefused.
        """
        if force and not reason.strip():
            raise PromotionRefused("--force needs a --reason, which is kept")
        self.install(now)
        opened = _prove(file)
        brought = None if comparison is None else read_comparison(comparison)

        def rule(registry_state: RegistryState) -> None:
            if registry_state.active == opened.digest:
                raise PromotionRefused("is the active model already").about(opened.digest)
            faults = _faults(brought, opened.digest, registry_state)
            if faults and not force:
                raise PromotionRefused(
                    f"{'; '.join(faults)}: compare it with the active model, or give --force and --reason"
                ).about(str(file))

        rule(promotions.registry_state(self.database))
        self._keep(file, opened)
        digest = None if brought is None else self.store.put(COMPARISONS, brought.content)
        kept = f"forced: {reason.strip()}" if force or brought is None else judge(brought.comparison).says
        promotions.decide(
            self.database, ModelAction.PROMOTED, _use(opened), by, now, rule, comparison_digest=digest, reason=kept
        )
        return kept

    def shadow(self, file: Path, by: str, now: datetime) -> str:
        """Let the model in `file` score beside the active one; returns its digest. Ends an earlier shadow."""
        self.install(now)
        opened = _prove(file)

        def rule(registry_state: RegistryState) -> None:
            if opened.digest in (registry_state.active, registry_state.shadow):
                role = "active model" if opened.digest == registry_state.active else "shadow"
                raise PromotionRefused(f"is the {role} already").about(opened.digest)
            if opened.digest in registry_state.retired:
                raise PromotionRefused("was retired").about(opened.digest)

        rule(promotions.registry_state(self.database))
        self._keep(file, opened)
        promotions.decide(self.database, ModelAction.SHADOWED, _use(opened), by, now, rule)
        return opened.digest

    def rollback(self, by: str, reason: str | None, now: datetime) -> str:
        """Bring back the model that served before; its file is proved first. Returns its digest."""
        registry_state = promotions.registry_state(self.database)
        if len(registry_state.served) > 1:
            replay_goldens(stored_model(self.store, registry_state.served[1], "cpu"))
        return promotions.rollback(self.database, by, reason, now)

    def retire(self, start: str, by: str, reason: str | None, now: datetime) -> str:
        """Retire the model whose digest begins with `start`; returns the digest."""
        known = {decision.digest for decision in promotions.history(self.database)}
        found = sorted(digest for digest in known if digest.startswith(start.lower()))
        if len(found) != 1:
            fault = "several models' digests begin with this" if found else "no such model"
            raise PromotionRefused(f"{fault}: `worker model list`").about(start)
        promotions.retire(self.database, found[0], by, reason, now)
        return found[0]

    def listed(self) -> list[dict[str, Any]]:
        """Every model known here, the active one first, with what was decided about it."""
        decisions = promotions.history(self.database)
        registry_state = promotions.stand(decisions)
        by_model: dict[str, list[Decision]] = {}
        for decision in decisions:
            by_model.setdefault(decision.digest, []).append(decision)
        order = ["active", "shadow", "served before", "known", "retired"]
        rows = [
            {
                "digest": digest,
                "name": found[0].name,
                "threshold": found[0].threshold,
                "standing": _state_of(digest, registry_state),
                "decisions": [_plain(decision) for decision in found],
            }
            for digest, found in by_model.items()
        ]
        return sorted(rows, key=lambda row: order.index(str(row["standing"])))

    def _keep(self, file: Path, opened: OnnxModel) -> None:
        if self.store.put(MODELS, file.read_bytes()) != opened.digest:
            raise PromotionRefused("changed while it was looked at: try again").about(str(file))


def stored_model(store: Store, digest: str, provider: str) -> OnnxModel:
    """The model that the store keeps under a digest.

    Raises StorageUnavailable when the store is away; ModelRefused, also when the model's own file is gone or damaged.
    """
    try:
        content = store.get(MODELS, digest)
    except StoredFileLost as error:
        raise ModelRefused("the stored file is gone or damaged: promote the model from its file again").about(
            digest
        ) from error
    return open_content(content, store.place(MODELS, digest), provider)


def open_in_force(settings: Settings, provider: str) -> tuple[OnnxModel, str, RegistryState]:
    """The active model, where its file lies, and what stands; changes nothing. Before the first run: the setting's
    model. Raises ModelRefused, ProviderUnavailable, StorageUnavailable.
    """
    if not settings.database and not (settings.home / "screening.sqlite").is_file():
        return open_model(settings.model, provider), str(settings.model), RegistryState()
    database = unopened(settings)
    try:
        registry_state = promotions.registry_state(database)
    finally:
        database.close()
    if registry_state.active is None:
        return open_model(settings.model, provider), str(settings.model), registry_state
    store = open_store(settings)
    return (
        stored_model(store, registry_state.active, provider),
        store.place(MODELS, registry_state.active),
        registry_state,
    )


def _faults(brought: Brought | None, new: str, registry_state: RegistryState) -> list[str]:
    """What speaks against a promotion."""
    faults = ["it was retired"] if new in registry_state.retired else []
    if brought is None:
        return [*faults, "no --comparison was given"]
    comparison, judgement = brought.comparison, judge(brought.comparison)
    if comparison.new.digest != new:
        faults.append(f"the comparison is about {comparison.new.digest[:12]}, this file is {new[:12]}")
    if comparison.old.digest != registry_state.active:
        active = (registry_state.active or "none")[:12]
        faults.append(f"the comparison is with {comparison.old.digest[:12]}, the active model is {active}")
    return faults if judgement.holds else [*faults, judgement.says]


def _prove(file: Path) -> OnnxModel:
    """The model in a file, after its goldens; on the CPU, which every machine has. Raises ModelRefused."""
    opened = open_model(file, provider="cpu")
    replay_goldens(opened)
    return opened


def _use(opened: OnnxModel) -> ModelUse:
    return ModelUse(opened.digest, opened.card, opened.provider)


def _state_of(digest: str, registry_state: RegistryState) -> str:
    if digest in registry_state.retired:
        return "retired"
    if digest in (registry_state.active, registry_state.shadow):
        return "active" if digest == registry_state.active else "shadow"
    return "served before" if digest in registry_state.served else "known"


def _plain(decision: Decision) -> dict[str, Any]:
    return {
        "action": str(decision.action),
        "by": decision.decided_by,
        "at": decision.decided_at.isoformat(),
        "reason": decision.reason,
        "comparison_digest": decision.comparison_digest,
    }
