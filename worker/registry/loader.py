"""The models that a worker process keeps open: the active one, and its shadow. They change between messages.

A model that cannot be opened or verified is refused: the one before keeps serving, and the refusal is recorded.
"""

import contextlib
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from schema.database import Database
from worker.errors import DatabaseUnavailable, ModelRefused, ScreeningError
from worker.inference.batching import shared_model
from worker.inference.model import Model, OnnxModel, replay_goldens
from worker.ledger.operations import promotions
from worker.ledger.operations.promotions import RegistryState
from worker.registry.registry import Registry, stored_model
from worker.settings import Settings
from worker.store import Store

log = logging.getLogger(__name__)

#: A refused model is tried again after this time, because its file may have been restored or the driver repaired.
RETRY_S = 60.0


@dataclass(frozen=True)
class InForce:
    """The models to use for one message."""

    active: Model
    shadow: Model | None = None


class ModelLoader:
    """Opens the models that are in force by the ledger, and keeps them until the ledger names others."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        store: Store,
        clock: Callable[[], datetime],
        opener: Callable[[Store, str, str], OnnxModel] = stored_model,
    ) -> None:
        self.settings, self.database, self.store, self.clock = settings, database, store, clock
        self.opener = opener  #: (store, digest, provider) -> model
        self.name = f"worker@{socket.gethostname()}"
        self.held: InForce | None = None
        self.seen = 0  #: the newest decision that `held` includes
        self.retry_at: float | None = None  #: on the monotonic clock; None: nothing was refused
        self.refusals: list[ScreeningError] = []  #: at the last change, the active model's first

    def in_force(self) -> InForce:
        """The models to serve with now: one fast query, unless there is a new decision.

        Raises DatabaseUnavailable, StorageUnavailable; and the error of the active model, when no earlier model can be
        opened either.
        """
        if (
            self.held is None
        ):  # once per process: two workers with different settings must not replace each other's model again and again
            Registry(self.settings, self.database, self.store).install(self.clock())
        newest = promotions.newest(self.database)
        is_due = self.retry_at is not None and time.monotonic() >= self.retry_at
        if self.held is None or newest != self.seen or is_due:
            self.held = self._change(promotions.registry_state(self.database))
            self.seen = newest
        return self.held

    def _change(self, registry_state: RegistryState) -> InForce:
        """Open the models of this state; a model that is open already is kept."""
        self.retry_at, self.refusals = None, []
        active = None
        for digest in registry_state.served:
            active = self._open(digest, registry_state)
            if active is not None:
                break
        if active is None:  # no model can serve: the error of the active one must be repaired
            raise self.refusals[0]
        shadow = None if registry_state.shadow is None else self._open(registry_state.shadow, registry_state)
        if self.held is None or self.held.active.digest != active.digest:
            log.warning(
                "model_in_force", extra={"digest": active.digest, "is_active": active.digest == registry_state.active}
            )
        return InForce(active, shadow)

    def _open(self, digest: str, registry_state: RegistryState) -> Model | None:
        """The model of a digest, verified; None when it is refused here.

        Raises DeviceUnavailable and ProviderUnavailable: a device that is away is no fault of the model, and the model
        before it would need the same device.
        """
        opened_before = (self.held.active, self.held.shadow) if self.held else ()
        for model in opened_before:
            if model is not None and model.digest == digest:
                return model
        try:
            opened = self.opener(self.store, digest, str(self.settings.provider))
            replay_goldens(opened)
        except ModelRefused as error:
            log.error("model_refused", extra={"digest": digest, "code": error.code, "why": str(error)})
            self.retry_at = time.monotonic() + RETRY_S
            self.refusals.append(error)
            self._tell(digest, str(error))
            return None
        if registry_state.is_refused(digest, self.name):
            self._tell(digest, None)
        return shared_model(opened, self.settings.studies_at_once)

    def _tell(self, digest: str, refusal: str | None) -> None:
        with contextlib.suppress(DatabaseUnavailable):  # it is in the log; the next try records it
            promotions.report_proof(self.database, digest, self.name, refusal, self.clock())
