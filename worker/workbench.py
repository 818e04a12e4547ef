"""Screens one claimed study: fetch, decode, predict, judge, draw, record; then again by the shadow model, if any."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from schema.database import Database
from worker import heatmap
from worker.errors import DatabaseUnavailable, Rejected, ScreeningError
from worker.imaging.instance import Container, Instance
from worker.imaging.limits import Limits
from worker.imaging.preprocess import Placement, apply
from worker.imaging.reading import read_display, read_instance
from worker.intake import fetch
from worker.ledger import delivery
from worker.ledger.delivery import Claim
from worker.ledger.results import ModelUse, Received
from worker.model import Model
from worker.screening import ImageOutcome, Prediction, decide, eligible
from worker.settings import Settings
from worker.store import OVERLAYS, Store

log = logging.getLogger(__name__)

#: An image as far as it was read, and its display values when a model can look at it.
Look = tuple[ImageOutcome, NDArray[np.uint8] | None]


@dataclass(frozen=True)
class Workbench:
    """Everything a worker process needs at hand."""

    settings: Settings
    database: Database
    store: Store
    model: Model
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    shadow: Model | None = None

    def screen(self, held: Claim) -> bool:
        """Screen a claimed study and record its verdict; False when a newer claim or image overtook it.

        Raises Interrupted when the store, the device or the database is away.
        """
        with self._heartbeat(held):
            images = [self._look(received) for received in held.received]
            is_recorded = self._judge(held, images, self.model)
        if is_recorded and self.shadow is not None:
            try:
                self._judge(held, images, self.shadow, shadow_of=self.model.digest)
            except ScreeningError as error:  # the study has its verdict; what the shadow would have said is not owed
                log.warning("shadow_interrupted", extra={"study_uid": held.study_uid, "code": error.code})
        return is_recorded

    def _judge(self, held: Claim, images: Sequence[Look], model: Model, shadow_of: str | None = None) -> bool:
        """Have a model predict the images, decide, draw and record."""
        outcomes, overlays = self._predict(images, model)
        judged = decide(outcomes, model.card)
        use = ModelUse(model.digest, model.card, model.provider)
        return delivery.record(self.database, held, judged, outcomes, overlays, use, self.clock(), shadow_of)

    def _look(self, received: Received) -> Look:
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
        return noted, display.pixels

    def _predict(self, images: Sequence[Look], model: Model) -> tuple[list[ImageOutcome], list[str | None]]:
        """Run the images that can be looked at through a model as one batch; outcomes, and digests of overlays."""
        grids = [None if pixels is None else apply(pixels, model.card.preprocessing) for _, pixels in images]
        batch = [grid[0] for grid in grids if grid is not None]
        predictions = iter(model.predict(np.stack(batch)) if batch else [])
        outcomes: list[ImageOutcome] = []
        overlays: list[str | None] = []
        for (outcome, pixels), grid in zip(images, grids, strict=True):
            if pixels is None or grid is None:
                outcomes.append(outcome)
                overlays.append(None)
                continue
            prediction = next(predictions)
            outcomes.append(ImageOutcome(outcome.instance, outcome.eligibility, prediction))
            overlays.append(self._draw(pixels, prediction, grid[1], model))
        return outcomes, overlays

    def _draw(self, pixels: NDArray[np.uint8], prediction: Prediction, placement: Placement, model: Model) -> str:
        """Keep the overlay of a predicted image; returns its digest."""
        png = heatmap.overlay(
            pixels,
            prediction.heatmap,
            placement,
            probability=prediction.probability,
            threshold=model.card.operating_point.threshold,
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
