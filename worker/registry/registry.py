"""Which model serves, as people decide it: promote, roll back, shadow, retire, list.

A model file is verified with its goldens and kept in the store before any decision about it is written.
"""

import contextlib
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from schema.database import Database
from schema.vocabulary import ModelAction
from worker.errors import ModelRefused, PromotionRefused, StoredFileLost
from worker.inference.card import CARD_KEY, NO_AGES
from worker.inference.model import OnnxModel, open_content, open_model, replay_goldens
from worker.ledger.connect import unopened
from worker.ledger.operations import comparisons, promotions
from worker.ledger.operations.comparisons import Presented
from worker.ledger.operations.promotions import RegistryState
from worker.ledger.screening.results import ModelUse
from worker.registry import card_gates, listing
from worker.registry.comparison import ComparisonFile, read_comparison
from worker.registry.non_inferiority import judge, missed_more
from worker.settings import Settings
from worker.store import COMPARISONS, MODELS, Store, open_store

#: The name under which the program installs the model that the settings name.
SETTING = "setting SCREENING_MODEL"


@dataclass(frozen=True)
class Waiver:
    """What a person accepts in spite of the comparison."""

    force: bool = False  #: promote in spite of any comparison, or without one; needs a reason
    lower_sensitivity: bool = False  #: more pneumonias stay unflagged, in exchange for something else
    reason: str = ""
    dropped_gates: tuple[str, ...] = ()  #: gates of the active model that the new one may lack; see card_gates.py


#: No waiver: the comparison decides.
NONE = Waiver()


@dataclass(frozen=True)
class Registry:
    """The decisions about models, with the ledger, store and settings that they need."""

    settings: Settings
    database: Database
    store: Store

    def install(self, now: datetime) -> None:
        """Install the model that the settings name, while nobody has promoted one. Raises ModelRefused.

        A store in the state folder that has lost it gets it again. Another store may be away, or not that of a database
        which others use: it is waited for.
        """
        before = promotions.registry_state(self.database)
        file = self.settings.model
        if before.is_chosen:
            return
        if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == before.active:
            is_own = self.settings.is_store_at_home and not self.settings.database
            if is_own and not self.store.has(MODELS, before.active):
                self.store.put(MODELS, file.read_bytes())
            return
        opened = _prove(file)

        def rule(registry_state: RegistryState) -> None:
            if registry_state.is_chosen or registry_state.active == opened.digest:
                raise PromotionRefused("another process was first")

        self._keep(file, opened)
        with contextlib.suppress(PromotionRefused):
            promotions.decide(self.database, ModelAction.INSTALLED, _use(opened), SETTING, now, rule)

    def promote(self, file: Path, comparison: Path | None, by: str, now: datetime, waiver: Waiver = NONE) -> str:
        """Make the model in `file` the active one; returns the result of its comparison.

        The comparison must be between the active model and this one and keep every margin, unless `waiver` allows
        less. It is always stored. Goldens are always replayed, because every worker does so before it serves.
        Raises PromotionRefused, ModelRefused.
        """
        if waiver.force and not waiver.reason.strip():
            raise PromotionRefused("--force needs a --reason, which is recorded")
        self.install(now)
        new = hashlib.sha256(file.read_bytes()).hexdigest()
        presented = None if comparison is None else read_comparison(comparison)

        def rule(registry_state: RegistryState) -> None:
            if registry_state.active == new:
                raise PromotionRefused("is the active model already").about(new)
            self._require_gates(opened, registry_state, waiver)
            _require_floor(opened, waiver)
            faults = _faults(presented, new, registry_state, waiver)
            if faults and not waiver.force:
                raise PromotionRefused(
                    f"{'; '.join(faults)}: compare it with the active model, or give --force and --reason"
                ).about(str(file))

        state = promotions.registry_state(self.database)
        digest = None
        if presented is not None:
            digest = self._present(presented, _faults(presented, new, state, waiver), by, now)
        opened = _prove(file)
        rule(state)
        self._keep(file, opened)
        kept = _recorded_reason(presented, waiver)
        if waiver.dropped_gates:
            kept += f"; dropped gates: {', '.join(waiver.dropped_gates)}"
        if opened.card.site is not None and opened.card.site.accepts_lower_sensitivity:
            kept += "; lower sensitivity accepted: its point is below the sensitivity floor"
        if not opened.card.population.has_ages:
            kept += f"; {NO_AGES}"
        promotions.decide(
            self.database, ModelAction.PROMOTED, _use(opened), by, now, rule, comparison_digest=digest, reason=kept
        )
        return kept

    def _require_gates(self, opened: OnnxModel, registry_state: RegistryState, waiver: Waiver) -> None:
        """Raise PromotionRefused when a gate of the active model would be lost unnamed; force names none."""
        if registry_state.active is None:
            return
        new = json.loads(opened.card.to_metadata()[CARD_KEY])
        lost = card_gates.lost(promotions.stored_card(self.database, registry_state.active), new)
        if unnamed := [gate for gate in lost if gate not in waiver.dropped_gates]:
            flags = " ".join(f"--drop-gate {gate}" for gate in unnamed)
            raise PromotionRefused(
                f"the active model's card has limits that this one's lacks ({', '.join(unnamed)}): images that are"
                f" unscreenable now would become negatives; export it with them, or give {flags}"
            ).about(opened.card.name)

    def _present(self, presented: ComparisonFile, faults: list[str], by: str, now: datetime) -> str:
        """Store a comparison and its result; returns its digest."""
        found, digest = presented.comparison, self.store.put(COMPARISONS, presented.content)
        says = "; ".join(faults) or judge(found).says
        comparisons.keep(
            self.database,
            Presented(digest, found.new.digest, found.new.name, found.old.digest, not faults, says, by, now),
        )
        return digest

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
        """Make the model that served before the active one; its file is verified first. Returns its digest."""
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
        """Every known model, as `listing.rows` gives it."""
        return listing.rows(self.database)

    def _keep(self, file: Path, opened: OnnxModel) -> None:
        if self.store.put(MODELS, file.read_bytes()) != opened.digest:
            raise PromotionRefused("changed while it was being read: try again").about(str(file))


def stored_model(store: Store, digest: str, provider: str) -> OnnxModel:
    """The model in the store with this digest.

    Raises StorageUnavailable when the store is unavailable; ModelRefused, also when the file is gone or damaged.
    """
    try:
        content = store.get(MODELS, digest)
    except StoredFileLost as error:
        raise ModelRefused(
            "the stored file is gone or damaged: is SCREENING_STORE the store of this database? Else restore it from"
            " the backup, or promote the model from its file again"
        ).about(digest) from error
    return open_content(content, store.place(MODELS, digest), provider)


def open_in_force(settings: Settings, provider: str) -> tuple[OnnxModel, str, RegistryState]:
    """(active model, path of its file, registry state); changes nothing. Before the first run: the setting's model.
    Raises ModelRefused, ProviderUnavailable, StorageUnavailable.
    """
    if settings.lacks_database:
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


def _require_floor(opened: OnnxModel, waiver: Waiver) -> None:
    """Raise PromotionRefused when a site set the point below the sensitivity floor and the waiver does not name it."""
    site = opened.card.site
    if site is not None and site.accepts_lower_sensitivity and not (waiver.lower_sensitivity or waiver.force):
        raise PromotionRefused(
            f"its point was set below the sensitivity floor ({'; '.join(site.remarks)}): a trade that"
            " --accept-lower-sensitivity makes"
        ).about(opened.card.name)


def _faults(presented: ComparisonFile | None, new: str, registry_state: RegistryState, waiver: Waiver) -> list[str]:
    """The reasons against a promotion, unless it is forced."""
    faults = ["it was retired"] if new in registry_state.retired else []
    if presented is None:
        return [*faults, "no --comparison was given"]
    comparison, judgement = presented.comparison, judge(presented.comparison)
    if comparison.new.digest != new:
        faults.append(f"the comparison is about {comparison.new.digest[:12]}, this file is {new[:12]}")
    if comparison.old.digest != registry_state.active:
        active = (registry_state.active or "none")[:12]
        faults.append(f"the comparison is with {comparison.old.digest[:12]}, the active model is {active}")
    if judgement.holds or (judgement.lowers_only_sensitivity and waiver.lower_sensitivity):
        return faults
    if judgement.lowers_only_sensitivity:
        return [*faults, f"{judgement.says}; {missed_more(comparison)}: a trade that --accept-lower-sensitivity makes"]
    return [*faults, judgement.says]


def _recorded_reason(presented: ComparisonFile | None, waiver: Waiver) -> str:
    """The reason that is recorded with a promotion: the result of the comparison, and what a person accepted."""
    if waiver.force or presented is None:
        return f"forced: {waiver.reason.strip()}"
    judgement = judge(presented.comparison)
    said = [judgement.says]
    if not judgement.holds:
        said.insert(0, f"lower sensitivity accepted: {missed_more(presented.comparison)}")
    return "; ".join([*said, *filter(None, [waiver.reason.strip()])])


def _prove(file: Path) -> OnnxModel:
    """The model in a file, verified with its goldens on the CPU, which every machine has. Raises ModelRefused."""
    opened = open_model(file, provider="cpu")
    replay_goldens(opened)
    return opened


def _use(opened: OnnxModel) -> ModelUse:
    return ModelUse(opened.digest, opened.card, opened.provider)
