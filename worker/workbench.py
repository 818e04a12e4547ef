"""Screens one claimed study: fetch, decode, predict, judge, draw, record. Owns the model of its process."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from schema.database import Database
from worker import heatmap
from worker.errors import DatabaseUnavailable, Rejected
from worker.imaging.instance import Container, Instance
from worker.imaging.limits import Limits
from worker.imaging.preprocess import Placement, apply
from worker.imaging.reading import read_display, read_instance
from worker.intake import fetch
from worker.ledger import delivery
from worker.ledger.delivery import Claim
from worker.ledger.results import ModelUse, Received
from worker.model import Model
from worker.screening import ImageOutcome, decide, eligible
from worker.settings import Settings
from worker.store import OVERLAYS, Store


@dataclass(frozen=True)
class Seen:
    """An eligible image on its way to the model."""

    display: NDArray[np.uint8]
    tensor: NDArray[np.uint8]
    placement: Placement


@dataclass(frozen=True)
class Workbench:
    """Everything a worker process needs at hand."""

    settings: Settings
    database: Database
    store: Store
    model: Model
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def screen(self, held: Claim) -> bool:
        """Screen a claimed study and record its verdict; False when a newer claim or image overtook it.

        Raises Interrupted when the store, the device or the database is away.
        """
        with self._heartbeat(held):
            images = [self._look(received) for received in held.received]
            outcomes = self._predict(images)
            judged = decide(outcomes, self.model.card)
            overlays = [self._draw(outcome, seen) for outcome, (_, seen) in zip(outcomes, images, strict=True)]
            use = ModelUse(self.model.digest, self.model.card, self.model.provider)
            return delivery.record(self.database, held, judged, outcomes, overlays, use, self.clock())

    def _look(self, received: Received) -> tuple[ImageOutcome, Seen | None]:
        """Read one object as far as its eligibility asks; what cannot be read becomes an outcome, not an error."""
        limits = Limits(max_pixel_bytes=self.settings.max_pixel_mib * 2**20)
        try:
            content = fetch(self.store, received.digest, received.left_at)
            header = read_instance(content, limits)
        except Rejected as error:
            header = error.instance if isinstance(error.instance, Instance) else _nameless(received)
            return ImageOutcome(header, eligible(header), unreadable=received.unreadable or error.code), None
        eligibility = eligible(header)
        if eligibility.exclusion is not None:
            return ImageOutcome(header, eligibility), None
        try:
            display = read_display(content, limits)
        except Rejected as error:
            return ImageOutcome(header, eligibility, unreadable=error.code), None
        noted = ImageOutcome(header.with_notes(display.notes), eligibility)
        if display.pixels.min() == display.pixels.max():
            return ImageOutcome(noted.instance, eligibility, is_blank=True), None
        tensor, placement = apply(display.pixels, self.model.card.preprocessing)
        return noted, Seen(display.pixels, tensor, placement)

    def _predict(self, images: list[tuple[ImageOutcome, Seen | None]]) -> list[ImageOutcome]:
        """Run the eligible images through the model as one batch."""
        batch = [seen.tensor for _, seen in images if seen is not None]
        predictions = iter(self.model.predict(np.stack(batch)) if batch else [])
        return [
            outcome if seen is None else ImageOutcome(outcome.instance, outcome.eligibility, next(predictions))
            for outcome, seen in images
        ]

    def _draw(self, outcome: ImageOutcome, seen: Seen | None) -> str | None:
        """Keep the overlay of a predicted image; returns its digest."""
        if seen is None or outcome.prediction is None:
            return None
        prediction = outcome.prediction
        png = heatmap.overlay(
            seen.display,
            prediction.heatmap,
            seen.placement,
            probability=prediction.probability,
            threshold=self.model.card.operating_point.threshold,
        )
        return self.store.put(OVERLAYS, png)

    @contextmanager
    def _heartbeat(self, held: Claim) -> Iterator[None]:
        """Prolong the lease while the block runs, however long a decoder takes."""
        finished = threading.Event()

        def beat() -> None:
            while not finished.wait(self.settings.heartbeat_s):
                try:
                    delivery.heartbeat(self.database, [held.token], self.settings, self.clock())
                except DatabaseUnavailable:
                    continue  # the lease may lapse; then `record` drops this result and another worker screens anew

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join()


def _nameless(received: Received) -> Instance:
    """An object that was readable at intake and is not any more: all that is left of it is its digest."""
    return Instance(Container.DICOM, "", "", received.digest, 0, 0)
