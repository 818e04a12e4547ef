"""Combines the requests of several threads to one model into one batch.

An idle model runs a request at once. Requests that arrive while it is busy wait; then the thread that has waited
longest runs the model for all of them. No request waits only to fill a batch.
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
    """The request of one thread, and its result."""

    images: NDArray[np.uint8]
    predictions: list[Prediction] | None = None
    error: Exception | None = None
    batch_size: int = 0  #: images in the batch that this request was part of

    @property
    def is_over(self) -> bool:
        """Whether its thread may continue."""
        return self.predictions is not None or self.error is not None

    def fits_with(self, other: "_Request") -> bool:
        """Whether both fit into one array; a request that breaks the model's contract then fails alone."""
        return self.images.dtype == other.images.dtype and self.images.shape[1:] == other.images.shape[1:]


class BatchingModel:
    """A Model for several threads at a time. It calls the wrapped model from one thread at a time."""

    def __init__(self, model: Model, largest: int = BATCH_SIZES[-1]) -> None:
        self.model, self.largest = model, largest
        self.waiting = deque[_Request]()  #: the oldest first: its thread runs the next batch
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
        """Images in the batch that this thread's latest request was part of."""
        return int(self._latest.images)

    def predict(self, batch: NDArray[np.uint8]) -> list[Prediction]:
        """One prediction for each image, in order. If the model fails, every request in the batch raises its error.

        Raises what the wrapped model raises.
        """
        mine = _Request(batch)
        together = self._wait(mine)
        if together:
            self._run(together)
        self._latest.images = mine.batch_size
        if mine.error is not None:
            raise mine.error
        assert mine.predictions is not None
        return mine.predictions

    def _wait(self, mine: _Request) -> list[_Request]:
        """The requests that this thread must run, `mine` first; empty when another thread has run it."""
        with self._changed:
            self.waiting.append(mine)
            try:
                self._changed.wait_for(lambda: mine.is_over or (not self._is_busy and self.waiting[0] is mine))
                if mine.is_over:
                    return []
                self._is_busy = True
                return self._take()
            finally:
                if mine in self.waiting:  # a signal interrupted this thread: others must not wait behind it for ever
                    self.waiting.remove(mine)
                    self._changed.notify_all()

    def _take(self) -> list[_Request]:
        """The oldest request, and the following ones that fit into one batch with it."""
        together = [self.waiting.popleft()]
        images = len(together[0].images)
        while self.waiting and self.waiting[0].fits_with(together[0]):
            images += len(self.waiting[0].images)
            if images > self.largest:
                break
            together.append(self.waiting.popleft())
        return together

    def _run(self, together: list[_Request]) -> None:
        """Run the model for all these requests, then let their threads continue."""
        images = np.concatenate([request.images for request in together])
        for request in together:
            request.batch_size = len(images)
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
                # a signal interrupted this thread: the requests without a result wait for the next batch
                self.waiting.extendleft(request for request in reversed(together[1:]) if not request.is_over)
                self._is_busy = False
                self._changed.notify_all()


def shared_model(model: Model, studies_at_once: int) -> Model:
    """The model for the threads of one process: batching on a GPU. On the CPU each thread runs the model itself:
    that uses more cores, and avoids the time for padding to a batch size.
    """
    is_shared = studies_at_once > 1 and model.provider != PROVIDERS["cpu"]
    return BatchingModel(model, LARGEST_BATCH[model.provider]) if is_shared else model


def batch_of(model: Model, images: int) -> int:
    """The size of the batch in which the model ran this thread's latest request of `images` images."""
    return model.latest_batch if isinstance(model, BatchingModel) else images
