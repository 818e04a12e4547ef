"""Screen one claimed study: fetch, decode, predict, draw, a batch of images at a time; then decide and record.

The shadow model, if any, gets the same images; its results are recorded beside the verdict.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from schema.database import Database
from schema.setting_values import ReducedDecode
from worker.decoding.decoder import Decoder
from worker.decoding.pool import DecoderPool
from worker.errors import DatabaseUnavailable, DecoderTimedOut, Rejected, ScreeningError
from worker.imaging.display import is_blank
from worker.imaging.instance import Container, Instance
from worker.imaging.limits import Limits
from worker.imaging.preprocess import Placement, apply
from worker.imaging.reading import MinimumSize, open_image
from worker.imaging.statistics import InputStatistics, describe
from worker.inference import overlay
from worker.inference.batching import batch_of
from worker.inference.model import Model
from worker.inference.prediction import Prediction
from worker.inference.reduced_decode import minimum_size_for, needs_full_decode
from worker.ledger import claims
from worker.ledger.claims import Claim
from worker.ledger.results import ModelUse, Received
from worker.screening.rules import ImageOutcome, decide, eligible
from worker.screening.timings import Stage, Times
from worker.settings import Settings
from worker.store import OVERLAYS, Store
from worker.store.fetch import fetch

log = logging.getLogger(__name__)

#: An image as far as it was read, and its display values if a model can take it.
ReadImage = tuple[ImageOutcome, NDArray[np.uint8] | None]

#: The prediction for an image, the place of the grid on the original, and statistics of the grid.
Scored = tuple[Prediction, Placement, InputStatistics]

#: Time for decoding one study. Its message is killed after ten minutes, and then no image has a result.
DECODE_BUDGET_S = 300.0

#: Images of a study that are in memory, and given to a model, at once. A decoded image may take 15 MB and more.
IMAGES_AT_ONCE = 16


@dataclass
class ModelRun:
    """The results of one model for a study's images so far, in their order."""

    model: Model
    outcomes: list[ImageOutcome] = field(default_factory=list)
    overlays: list[str | None] = field(default_factory=list)  #: digests in the store
    interrupted: Exception | None = None
    times: Times = field(default_factory=Times)


@dataclass(frozen=True)
class StudyScreener:
    """Screens studies with the models, store and ledger of a worker process. Thread-safe, one study for each thread."""

    settings: Settings
    database: Database
    store: Store
    model: Model
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    shadow: Model | None = None
    decoder: Decoder | DecoderPool = field(default_factory=Decoder)
    decode_budget_s: float = DECODE_BUDGET_S

    def screen(self, held: Claim) -> bool:
        """Screen a claimed study and record its verdict; False when a newer claim or image overtook it.

        Raises Interrupted when the store, the device or the database is not available.
        """
        active, shadow = ModelRun(self.model), None if self.shadow is None else ModelRun(self.shadow)
        with self._heartbeat(held):
            minimum = self._minimum_size()
            for start in range(0, len(held.received), IMAGES_AT_ONCE):
                batch = held.received[start : start + IMAGES_AT_ONCE]
                images = [self._read_image(received, active.times, minimum) for received in batch]
                self._predict(images, batch, active)
                if shadow is not None:
                    self._predict_shadow(images, batch, shadow)
            is_recorded = self._record(held, active)
        if is_recorded and shadow is not None:
            self._record_shadow(held, shadow)
        return is_recorded

    def _record(self, held: Claim, model_run: ModelRun, shadow_of: str | None = None) -> bool:
        """Decide the verdict from all images, and record it."""
        model = model_run.model
        judged = decide(model_run.outcomes, model.card)
        use = ModelUse(model.digest, model.card, model.provider)
        outcomes, overlays = model_run.outcomes, model_run.overlays
        return claims.record(
            self.database,
            held,
            judged,
            outcomes,
            overlays,
            use,
            self.clock(),
            shadow_of,
            model_run.times,
            self.settings,
        )

    def _minimum_size(self) -> MinimumSize | None:
        """The smallest size that a decoder must give; None: the full size."""
        if self.settings.reduced_decode is ReducedDecode.OFF:
            return None
        return minimum_size_for(model.card for model in (self.model, self.shadow) if model is not None)

    def _read_image(self, received: Received, times: Times, minimum: MinimumSize | None = None) -> ReadImage:
        """Read one object as far as its eligibility requires. An unreadable object gives an outcome, not an error."""
        limits = Limits(max_pixel_bytes=self.settings.max_pixel_mib * 2**20)
        try:
            with times.spent(Stage.READ):
                image = open_image(fetch(self.store, received.digest, received.left_at, received.crc), limits)
        except Rejected as error:
            header = error.instance if isinstance(error.instance, Instance) else _header_of_lost(received)
            code = received.unreadable or error.code
            return ImageOutcome(header, eligible(header), unreadable=code, unreadable_because=error.message), None
        header = image.instance
        eligibility = eligible(header)
        if eligibility.exclusion is not None:
            return ImageOutcome(header, eligibility), None
        try:
            self._require_time(times)
            with times.spent(Stage.DECODE):
                display = self.decoder.read_display(image, minimum)
        except Rejected as error:
            return ImageOutcome(header, eligibility, unreadable=error.code, unreadable_because=error.message), None
        with_notes = ImageOutcome(header.with_notes(display.notes), eligibility)
        if is_blank(display.pixels):
            if minimum is not None and _is_reduced((with_notes, display.pixels)):
                return self._read_image(received, times)  # a small detail may be lost at lower resolution
            return ImageOutcome(with_notes.instance, eligibility, is_blank=True), None
        return with_notes, display.pixels

    def _require_time(self, times: Times) -> None:
        """Raise DecoderTimedOut when the study's other images have used up the time."""
        if (times.decode_s or 0.0) > self.decode_budget_s:
            raise DecoderTimedOut(
                f"it was not tried: other images of its study took more than {self.decode_budget_s:g} s to decode;"
                " send them uncompressed, or in several studies"
            )

    def _predict(self, images: list[ReadImage], batch: Sequence[Received], model_run: ModelRun) -> None:
        """Give the readable images to a model as one batch, and store their overlays.

        Images of reduced resolution with a doubtful prediction are read again in full, also in `images`, and predicted
        again.
        """
        model = model_run.model
        scored = _predict_batch(images, model_run)
        doubtful = [
            at
            for at, each in enumerate(scored)
            if each and _is_reduced(images[at]) and needs_full_decode(each[0], model.card)
        ]
        for at in doubtful:
            images[at] = self._read_image(batch[at], model_run.times)
        for at, each in zip(doubtful, _predict_batch([images[at] for at in doubtful], model_run), strict=True):
            scored[at] = each
        for (outcome, pixels), each in zip(images, scored, strict=True):
            if pixels is None or each is None:
                model_run.outcomes.append(outcome)
                model_run.overlays.append(None)
                continue
            prediction, placement, statistics = each
            model_run.outcomes.append(
                ImageOutcome(outcome.instance, outcome.eligibility, prediction, statistics=statistics)
            )
            with model_run.times.spent(Stage.DRAW):
                model_run.overlays.append(self._draw(pixels, prediction, placement, model))

    def _predict_shadow(self, images: list[ReadImage], batch: Sequence[Received], shadow: ModelRun) -> None:
        """Predict with the shadow model, unless it has failed before. Its errors are kept and not raised."""
        if shadow.interrupted is None:
            try:
                self._predict(images, batch, shadow)
            except Exception as error:  # noqa: BLE001 a fault of the shadow must not cost the verdict: see below
                shadow.interrupted = error

    def _record_shadow(self, held: Claim, shadow: ModelRun) -> None:
        """Record the results of the shadow. The verdict of the study is recorded already.

        Errors other than ScreeningError are bugs, and raised: the task reports them.
        """
        try:
            if shadow.interrupted is not None:
                raise shadow.interrupted
            self._record(held, shadow, shadow_of=self.model.digest)
        except ScreeningError as error:
            log.warning("shadow_interrupted", extra={"study_uid": held.study_uid, "code": error.code})

    def _draw(self, pixels: NDArray[np.uint8], prediction: Prediction, placement: Placement, model: Model) -> str:
        """Store the overlay of a predicted image; returns its digest."""
        png = overlay.overlay(
            pixels,
            prediction.heatmap,
            placement,
            probability=prediction.probability,
            threshold=model.card.operating_point.threshold,
            is_unlike=prediction.is_unfamiliar(model.card.familiarity_limit),
        )
        return self.store.put(OVERLAYS, png)

    @contextmanager
    def _heartbeat(self, held: Claim) -> Iterator[None]:
        """Prolong the lease while the block runs, however long a decoder takes."""
        finished = threading.Event()

        def beat() -> None:
            while not finished.wait(self.settings.heartbeat_s):
                try:
                    claims.heartbeat(self.database, [held.token], self.settings, self.clock())
                except DatabaseUnavailable:
                    continue  # the lease may expire: then `record` drops this result, and another worker screens

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join()


def _is_reduced(image_read: ReadImage) -> bool:
    """Whether the picture was read at a lower resolution than its header states."""
    outcome, pixels = image_read
    return pixels is not None and pixels.shape != (outcome.instance.rows, outcome.instance.columns)


def _predict_batch(images: Sequence[ReadImage], model_run: ModelRun) -> list[Scored | None]:
    """The prediction for each image with display values, as one batch; None for the others."""
    model, times = model_run.model, model_run.times
    if all(pixels is None for _, pixels in images):
        return [None] * len(images)
    with times.spent(Stage.PREDICT):
        grids = [None if pixels is None else apply(pixels, model.card.preprocessing) for _, pixels in images]
        batch = [grid[0] for grid in grids if grid is not None]
        predictions = iter(model.predict(np.stack(batch)))
    times.batched(batch_of(model, len(batch)))
    return [
        None
        if grid is None
        else (
            next(predictions),
            grid[1].of(image_read[0].instance.columns, image_read[0].instance.rows),
            describe(grid[0]),
        )
        for image_read, grid in zip(images, grids, strict=True)
    ]


def _header_of_lost(received: Received) -> Instance:
    """A header without values but the digest, for an object that was readable at intake and is no longer."""
    return Instance(Container.DICOM, "", "", received.digest, 0, 0)
