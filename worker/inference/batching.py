"""Joins what several threads ask of one model into one batch. An idle model answers at once; whoever comes while it is
busy waits with the others, and the one who waited longest then asks for all of them. Nobody waits for company.
"""

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.inference.card import ModelCard
from worker.inference.model import BATCH_SIZES, LARGEST_BATCH, PROVIDERS, Model
from worker.inference.prediction import Prediction


@dataclass(eq=False)
class _Request:
    """What one thread asks, and what became of it."""

    images: NDArray[np.uint8]
    predictions: list[Prediction] | None = None
    error: Exception | None = None
    joined: int = 0  #: images in the batch that answered it

    @property
    def is_over(self) -> bool:
        """Whether its thread may go."""
        return self.predictions is not None or self.error is not None

    def goes_with(self, other: "_Request") -> bool:
        """Whether both fit one array: what breaks the model's contract is refused by itself."""
        return self.images.dtype == other.images.dtype and self.images.shape[1:] == other.images.shape[1:]


class JoinedModel:
    """A Model that several threads ask at a time, and that asks the one it wraps from one thread at a time."""

    def __init__(self, model: Model, largest: int = BATCH_SIZES[-1]) -> None:
        self.model, self.largest = model, largest
        self.waiting = deque[_Request]()  #: the oldest first: its thread leads next
        self._is_busy = False
        self._changed = threading.Condition()
        self._latest = threading.local()

    @property
    def card(self) -> ModelCard:
        """That of the wrapped model."""
        return self.model.card

    @property
    def digest(self) -> str:
        """That of the wrapped model."""
        return self.model.digest

    @property
    def provider(self) -> str:
        """That of the wrapped model."""
        return self.model.provider

    @property
    def latest_batch(self) -> int:
        """Images in the batch that answered this thread's latest request."""
        return int(self._latest.images)

    def predict(self, batch: NDArray[np.uint8]) -> list[Prediction]:
        """One prediction for each image, in their order. A failure of the model reaches all whose images it was given.

        Raises what the wrapped model raises.
        """
        mine = _Request(batch)
        together = self._wait(mine)
        if together:
            self._run(together)
        self._latest.images = mine.joined
        if mine.error is not None:
            raise mine.error
        assert mine.predictions is not None
        return mine.predictions

    def _wait(self, mine: _Request) -> list[_Request]:
        """The requests that our thread is to run, `mine` first; none when another thread has run it."""
        with self._changed:
            self.waiting.append(mine)
            try:
                self._changed.wait_for(lambda: mine.is_over or (not self._is_busy and self.waiting[0] is mine))
                if mine.is_over:
                    return []
                self._is_busy = True
                return self._take()
            finally:
                if mine in self.waiting:  # a signal took us away: nobody may wait behind us for ever
                    self.waiting.remove(mine)
                    self._changed.notify_all()

    def _take(self) -> list[_Request]:
        """The oldest request, and those after it that fit one batch with it."""
        together = [self.waiting.popleft()]
        images = len(together[0].images)
        while self.waiting and self.waiting[0].goes_with(together[0]):
            images += len(self.waiting[0].images)
            if images > self.largest:
                break
            together.append(self.waiting.popleft())
        return together

    def _run(self, together: list[_Request]) -> None:
        """Ask the model for all, and let their threads go."""
        images = np.concatenate([request.images for request in together])
        for request in together:
            request.joined = len(images)
        try:
            predictions = iter(self.model.predict(images))
            for request in together:
                request.predictions = [next(predictions) for _ in request.images]
        except Exception as error:
            for request in together:
                request.predictions, request.error = None, error
            raise
        finally:
            with self._changed:
                # a signal took us away: the others' next leader asks anew
                self.waiting.extendleft(request for request in reversed(together[1:]) if not request.is_over)
                self._is_busy = False
                self._changed.notify_all()


def joined(model: Model, studies_at_once: int) -> Model:
    """The model as threads of one process share it. On the CPU each asks for itself: that takes more cores, and padding
    costs time there.
    """
    is_shared = studies_at_once > 1 and model.provider != PROVIDERS["cpu"]
    return JoinedModel(model, LARGEST_BATCH[model.provider]) if is_shared else model


def batch_of(model: Model, images: int) -> int:
    """How many images the model was given when this thread asked it for so many."""
    return model.latest_batch if isinstance(model, JoinedModel) else images
