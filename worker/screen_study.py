"""Screen one claimed study: fetch, decode, predict, draw, a batch of images at a time; then decide. Record the results
of several studies together.

The shadow model, if any, gets the same images; its results are recorded beside the verdict.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from schema.database import Database
from schema.setting_values import ReducedDecode
from worker.decoding.decoder import Decoder
from worker.decoding.pool import DecoderPool
from worker.errors import DecoderTimedOut, Rejected, ScreeningError
from worker.imaging.codec.resolution import Reduction
from worker.imaging.display.pipeline import is_blank
from worker.imaging.image_file import open_image
from worker.imaging.instance import Container, Instance
from worker.imaging.limits import Limits
from worker.imaging.preprocess import Placement, apply
from worker.imaging.pyramid import Pyramid
from worker.imaging.statistics import InputStatistics, describe
from worker.inference import overlay
from worker.inference.batching import batch_of
from worker.inference.model import Model
from worker.inference.prediction import Prediction
from worker.inference.reduced_decode import needs_full_decode, reduction_for
from worker.ledger.database_clock import database_now
from worker.ledger.screening import verdicts
from worker.ledger.screening.results import Claim, ModelUse, Received, Result
from worker.runtime.boundary import result_or_error
from worker.screening.rules import ImageOutcome, decide, eligible
from worker.screening.timings import Stage, Times
from worker.settings import Settings
from worker.store import OVERLAYS, Store
from worker.store.fetch import fetch

R = TypeVar("R")

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
    error: Exception | None = None  #: the first of `attempt`; nothing is attempted after it
    times: Times = field(default_factory=Times)

    def attempt(self, work: Callable[[], R]) -> R | None:
        """What work for a shadow gives. Its error is kept and not raised: it must not cost the verdict."""
        if self.error is not None:
            return None
        found = result_or_error(work)
        if isinstance(found, Exception):  # the task raises it, after the verdict
            self.error = found
            return None
        return found


@dataclass(frozen=True)
class Judgement:
    """What the models say of a claimed study. A shadow's error is kept here: it must not cost the verdict."""

    result: Result
    shadow: Result | Exception | None = None


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

    def lease_now(self) -> datetime:
        """The time now on the clock of leases: the database's. Raises DatabaseUnavailable."""
        return database_now(self.database, self.clock)

    def judge(self, claim: Claim) -> Judgement:
        """Screen a claimed study. Raises Interrupted when the store, the device or the database is not available."""
        began_s = time.monotonic()
        active, shadow = ModelRun(self.model), None if self.shadow is None else ModelRun(self.shadow)
        for start in range(0, len(claim.received), IMAGES_AT_ONCE):
            batch = claim.received[start : start + IMAGES_AT_ONCE]
            images = self._read_images(batch, active)
            self._predict(images, batch, active)
            if shadow is not None:
                shadow.attempt(partial(self._predict_shadow, images, batch, shadow))
        result = _result(claim, active, began_s)
        if shadow is None:
            return Judgement(result)
        said = shadow.attempt(lambda: _result(claim, shadow, began_s))
        return Judgement(result, shadow.error or said)

    def record(self, judgements: Sequence[Judgement]) -> list[bool | Exception]:
        """Record the verdicts in one transaction, and what the shadow says after it.

        False for a study that a newer claim or image has overtaken; its own error for one that cannot be recorded. An
        error of the shadow that is a bug is given for a study whose verdict is recorded, so that the task reports it.
        """
        results = [judgement.result for judgement in judgements]
        ends = verdicts.record_all(self.database, results, self.clock(), self.settings)
        shadowed = [number for number, end in enumerate(ends) if end is True and judgements[number].shadow is not None]
        bugs = self._record_shadows([judgements[number].shadow for number in shadowed])
        for number, bug in zip(shadowed, bugs, strict=True):
            if bug is not None:
                ends[number] = bug
        return ends

    def _reduction(self, model: Model) -> Reduction | None:
        """At which resolution this model's images are read; None: in full."""
        others = [other.card for other in (self.model, self.shadow) if other is not None and other is not model]
        return reduction_for(model.card, others, self.settings.reduced_decode is not ReducedDecode.OFF)

    def _read_images(self, batch: Sequence[Received], model_run: ModelRun) -> list[ReadImage]:
        reduction = self._reduction(model_run.model)
        return [self._read_image(received, model_run.times, reduction) for received in batch]

    def _read_image(self, received: Received, times: Times, reduction: Reduction | None = None) -> ReadImage:
        """Read one object as far as its eligibility requires. An unreadable object gives an outcome, not an error."""
        limits = Limits(max_pixel_bytes=self.settings.max_pixel_bytes)
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
                display = self.decoder.read_display(image, reduction)
        except Rejected as error:
            return ImageOutcome(header, eligibility, unreadable=error.code, unreadable_because=error.message), None
        with_notes = ImageOutcome(header.with_notes(display.notes), eligibility)
        if is_blank(display.pixels):
            may_hide = reduction is not None and not isinstance(reduction, Pyramid)
            if may_hide and _is_reduced((with_notes, display.pixels)):
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
        """Predict with the shadow model. Images are read again if it sees another resolution than the active one."""
        if self._reduction(shadow.model) != self._reduction(self.model):
            images = self._read_images(batch, shadow)
        self._predict(images, batch, shadow)

    def _record_shadows(self, shadows: Sequence[Result | Exception | None]) -> list[Exception | None]:
        """Record the results of the shadow; returns for each its bug, or None. Other errors are only logged."""
        results = [shadow for shadow in shadows if isinstance(shadow, Result)]
        ends = iter(verdicts.record_shadows(self.database, results, self.model.digest, self.clock()))
        bugs: list[Exception | None] = []
        for shadow in shadows:
            end = next(ends) if isinstance(shadow, Result) else shadow
            if isinstance(end, ScreeningError):
                log.warning("shadow_interrupted", extra={"code": end.code})
                end = None
            bugs.append(end if isinstance(end, Exception) else None)
        return bugs

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


def _result(claim: Claim, model_run: ModelRun, began_s: float) -> Result:
    """The verdict from all images."""
    model = model_run.model
    judged = decide(model_run.outcomes, model.card)
    use = ModelUse(model.digest, model.card, model.provider)
    worked_s = time.monotonic() - began_s
    return Result(claim, judged, model_run.outcomes, model_run.overlays, use, worked_s, model_run.times)


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
    scored: list[Scored | None] = []
    for (outcome, _), grid in zip(images, grids, strict=True):
        if grid is None:
            scored.append(None)
            continue
        pixels, placement = grid
        header = outcome.instance
        scored.append((next(predictions), placement.of(header.columns, header.rows), describe(pixels)))
    return scored


def _header_of_lost(received: Received) -> Instance:
    """A header with the digest alone, for an object that was readable at intake and is so no longer."""
    return Instance(Container.DICOM, "", "", received.digest, 0, 0)
