"""Screens one claimed study: fetch, decode, predict, draw, a batch of images at a time; then judge and record.

The shadow model, if any, looks at the same images; what it says is recorded beside the verdict.
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
from worker.decoding.decoder import Decoder
from worker.decoding.pool import Decoders
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
from worker.settings import ReducedDecode, Settings
from worker.store import OVERLAYS, Store
from worker.store.fetch import fetch

log = logging.getLogger(__name__)

#: An image as far as it was read, and its display values when a model can look at it.
Look = tuple[ImageOutcome, NDArray[np.uint8] | None]

#: What a model says of an image, where its grid lies on the original, and what it was given.
Seen = tuple[Prediction, Placement, InputStatistics]

#: What the decoding of one study may take: its message is killed after ten minutes, and then nobody hears of any image.
DECODE_BUDGET_S = 300.0

#: Images of a study that are held, and given to a model, at once. Decoded ones may take 15 MB and more each.
IMAGES_AT_ONCE = 16


@dataclass
class ModelRun:
    """What one model has said so far of a study's images, in their order."""

    model: Model
    outcomes: list[ImageOutcome] = field(default_factory=list)
    overlays: list[str | None] = field(default_factory=list)  #: digests in the store
    interrupted: Exception | None = None
    times: Times = field(default_factory=Times)


@dataclass(frozen=True)
class StudyScreener:
    """Everything a worker process needs at hand. Several threads may screen at it, a study each."""

    settings: Settings
    database: Database
    store: Store
    model: Model
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    shadow: Model | None = None
    decoder: Decoder | Decoders = field(default_factory=Decoder)
    decode_budget_s: float = DECODE_BUDGET_S

    def screen(self, held: Claim) -> bool:
        """Screen a claimed study and record its verdict; False when a newer claim or image overtook it.

        Raises Interrupted when the store, the device or the database is away.
        """
        active, shadow = ModelRun(self.model), None if self.shadow is None else ModelRun(self.shadow)
        with self._heartbeat(held):
            minimum = self._enough()
            for start in range(0, len(held.received), IMAGES_AT_ONCE):
                batch = held.received[start : start + IMAGES_AT_ONCE]
                looks = [self._look(received, active.times, minimum) for received in batch]
                self._predict(looks, batch, active)
                if shadow is not None:
                    self._predict_unowed(looks, batch, shadow)
            is_recorded = self._record(held, active)
        if is_recorded and shadow is not None:
            self._record_unowed(held, shadow)
        return is_recorded

    def _record(self, held: Claim, model_run: ModelRun, shadow_of: str | None = None) -> bool:
        """Judge what the model said of all images, and record it."""
        model = model_run.model
        judged = decide(model_run.outcomes, model.card)
        use = ModelUse(model.digest, model.card, model.provider)
        outcomes, overlays = model_run.outcomes, model_run.overlays
        return claims.record(
            self.database, held, judged, outcomes, overlays, use, self.clock(), shadow_of, model_run.times
        )

    def _enough(self) -> MinimumSize | None:
        """How much of a picture is to be decoded; None: all of it."""
        if self.settings.reduced_decode is ReducedDecode.OFF:
            return None
        return minimum_size_for(model.card for model in (self.model, self.shadow) if model is not None)

    def _look(self, received: Received, times: Times, minimum: MinimumSize | None = None) -> Look:
        """Read one object as far as its eligibility asks; what cannot be read becomes an outcome, not an error."""
        limits = Limits(max_pixel_bytes=self.settings.max_pixel_mib * 2**20)
        try:
            with times.spent(Stage.READ):
                image = open_image(fetch(self.store, received.digest, received.left_at, received.crc), limits)
        except Rejected as error:
            header = error.instance if isinstance(error.instance, Instance) else _nameless(received)
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
        noted = ImageOutcome(header.with_notes(display.notes), eligibility)
        if is_blank(display.pixels):
            if minimum is not None and _is_reduced((noted, display.pixels)):
                return self._look(received, times)  # a small detail may have vanished
            return ImageOutcome(noted.instance, eligibility, is_blank=True), None
        return noted, display.pixels

    def _require_time(self, times: Times) -> None:
        """Raise DecoderTimedOut when the study's other images have taken all the time that there is."""
        if (times.decode_s or 0.0) > self.decode_budget_s:
            raise DecoderTimedOut(
                f"it was not tried: other images of its study took more than {self.decode_budget_s:g} s to decode;"
                " send them uncompressed, or in several studies"
            )

    def _predict(self, looks: list[Look], batch: Sequence[Received], model_run: ModelRun) -> None:
        """Run the images that can be looked at through a model as one batch, and keep their overlays.

        Those of lower resolution whose answer leaves a doubt are read in full, in `looks` too, and predicted again.
        """
        model = model_run.model
        seen = _see(looks, model_run)
        doubtful = [
            at
            for at, sight in enumerate(seen)
            if sight and _is_reduced(looks[at]) and needs_full_decode(sight[0], model.card)
        ]
        for at in doubtful:
            looks[at] = self._look(batch[at], model_run.times)
        for at, sight in zip(doubtful, _see([looks[at] for at in doubtful], model_run), strict=True):
            seen[at] = sight
        for (outcome, pixels), sight in zip(looks, seen, strict=True):
            if pixels is None or sight is None:
                model_run.outcomes.append(outcome)
                model_run.overlays.append(None)
                continue
            prediction, placement, statistics = sight
            model_run.outcomes.append(
                ImageOutcome(outcome.instance, outcome.eligibility, prediction, statistics=statistics)
            )
            with model_run.times.spent(Stage.DRAW):
                model_run.overlays.append(self._draw(pixels, prediction, placement, model))

    def _predict_unowed(self, looks: list[Look], batch: Sequence[Received], shadow: ModelRun) -> None:
        """Let the shadow look too, unless it has failed already: nobody waits for what it says."""
        if shadow.interrupted is None:
            try:
                self._predict(looks, batch, shadow)
            except Exception as error:  # noqa: BLE001 nothing of a shadow's may cost a study its verdict: see below
                shadow.interrupted = error

    def _record_unowed(self, held: Claim, shadow: ModelRun) -> None:
        """Keep what the shadow says; the study has its verdict whether it can be kept or not.

        What is no ScreeningError is a bug, and raised: the task tells of it.
        """
        try:
            if shadow.interrupted is not None:
                raise shadow.interrupted
            self._record(held, shadow, shadow_of=self.model.digest)
        except ScreeningError as error:
            log.warning("shadow_interrupted", extra={"study_uid": held.study_uid, "code": error.code})

    def _draw(self, pixels: NDArray[np.uint8], prediction: Prediction, placement: Placement, model: Model) -> str:
        """Keep the overlay of a predicted image; returns its digest."""
        png = overlay.overlay(
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
                    claims.heartbeat(self.database, [held.token], self.settings, self.clock())
                except DatabaseUnavailable:
                    continue  # the lease may lapse; then `record` drops this result and another worker screens anew

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join()


def _is_reduced(look: Look) -> bool:
    """Whether the picture was read at a lower resolution than its header tells."""
    outcome, pixels = look
    return pixels is not None and pixels.shape != (outcome.instance.rows, outcome.instance.columns)


def _see(looks: Sequence[Look], model_run: ModelRun) -> list[Seen | None]:
    """What a model sees of each image that it can look at."""
    model, times = model_run.model, model_run.times
    if all(pixels is None for _, pixels in looks):
        return [None] * len(looks)
    with times.spent(Stage.PREDICT):
        grids = [None if pixels is None else apply(pixels, model.card.preprocessing) for _, pixels in looks]
        batch = [grid[0] for grid in grids if grid is not None]
        predictions = iter(model.predict(np.stack(batch)))
    times.batched(batch_of(model, len(batch)))
    return [
        None
        if grid is None
        else (next(predictions), grid[1].of(look[0].instance.columns, look[0].instance.rows), describe(grid[0]))
        for look, grid in zip(looks, grids, strict=True)
    ]


def _nameless(received: Received) -> Instance:
    """An object that was readable at intake and is not any more: all that is left of it is its digest."""
    return Instance(Container.DICOM, "", "", received.digest, 0, 0)
