"""Threads that share a model: each gets its own predictions, and waiting images are predicted as one batch."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.acceptance.installation import wait_until
from tests.brightness_model import SIZE, write_model
from worker.errors import DeviceUnavailable
from worker.inference.batching import BatchingModel, batch_of, shared_model
from worker.inference.model import PROVIDERS, OnnxModel, open_model
from worker.inference.prediction import Prediction

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return open_model(write_model(tmp_path_factory.mktemp("model") / "brightness.onnx"), provider="cpu")


def images(*greys: int) -> NDArray[np.uint8]:
    return np.concatenate([np.full((1, SIZE, SIZE, 1), grey, np.uint8) for grey in greys])


def greys(predictions: list[Prediction]) -> list[int]:
    return [round(255 * prediction.probability) for prediction in predictions]


class Gate:
    """A model that lets nobody through until it is opened, keeps the sizes of its batches, and fails where told to."""

    def __init__(self, model: OnnxModel, failing: int | None = None) -> None:
        self.card, self.digest, self.provider = model.card, model.digest, model.provider
        self.model, self.failing = model, failing
        self.batches: list[int] = []
        self.opened = threading.Event()

    def predict(self, batch: NDArray[np.uint8]) -> list[Prediction]:
        """The real answers."""
        self.batches.append(len(batch))
        if not self.opened.wait(PATIENCE_S):
            raise TimeoutError
        if len(self.batches) == self.failing:
            raise DeviceUnavailable("the device is lost")
        return self.model.predict(batch)


@contextmanager
def behind(gate: Gate, shared: BatchingModel, *asked: NDArray[np.uint8]) -> Iterator[list[Future[list[Prediction]]]]:
    """What is asked while the model is busy with one grey image, in this order; opened at the end of the block."""
    with ThreadPoolExecutor(len(asked) + 1) as pool:
        first = pool.submit(shared.predict, images(7))
        wait_until(lambda: len(gate.batches) == 1, PATIENCE_S)
        waiting = []
        for number, batch in enumerate(asked, start=1):
            waiting.append(pool.submit(shared.predict, batch))
            wait_until(lambda number=number: len(shared.waiting) == number, PATIENCE_S)  # type: ignore[misc]
        try:
            yield waiting
        finally:
            gate.opened.set()
        assert greys(first.result()) == [7]


def test_each_of_many_threads_gets_its_own_answers(model: OnnxModel) -> None:
    shared = BatchingModel(model, largest=8)

    def ask(thread: int) -> None:
        dice = np.random.default_rng(thread)
        for _ in range(40):
            mine = [int(grey) for grey in dice.integers(0, 256, dice.integers(1, 5))]
            assert greys(shared.predict(images(*mine))) == mine
            assert len(mine) <= shared.latest_batch <= 8

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    assert not shared.waiting


def test_what_waits_is_asked_as_one_batch(model: OnnxModel) -> None:
    gate = Gate(model)
    with behind(gate, BatchingModel(gate), images(1), images(2, 3), images(4), images(5)) as asked:
        assert gate.batches == [1]
    assert [greys(answer.result()) for answer in asked] == [[1], [2, 3], [4], [5]]
    assert gate.batches == [1, 5]


def test_a_batch_is_no_larger_than_allowed_unless_one_asks_for_more(model: OnnxModel) -> None:
    gate = Gate(model)
    sizes = (2, 2, 1, 9, 3, 1)
    with behind(gate, BatchingModel(gate, largest=4), *(images(*range(size)) for size in sizes)) as asked:
        pass
    assert [greys(answer.result()) for answer in asked] == [list(range(size)) for size in sizes]
    assert gate.batches == [1, 4, 1, 9, 4]


def test_a_failure_reaches_all_whose_images_were_in_the_batch_and_nobody_else(model: OnnxModel) -> None:
    gate = Gate(model, failing=2)
    shared = BatchingModel(gate, largest=3)
    with behind(gate, shared, images(1), images(2, 3), images(4)) as asked:
        pass
    for answer in asked[:2]:
        with pytest.raises(DeviceUnavailable, match="the device is lost"):
            answer.result()
    assert greys(asked[2].result()) == [4]
    assert greys(shared.predict(images(5))) == [5]


def test_what_breaks_the_contract_is_refused_alone(model: OnnxModel) -> None:
    gate = Gate(model)
    with behind(gate, BatchingModel(gate), images(1), images(2)[:, :4], images(3), images(4)) as asked:
        pass
    with pytest.raises(ValueError, match="a batch is uint8"):
        asked[1].result()
    assert [greys(asked[number].result()) for number in (0, 2, 3)] == [[1], [3], [4]]
    assert gate.batches == [1, 1, 1, 2]


class Stop(BaseException):
    """A process is told to stop."""


@contextmanager
def stopped_when(is_time: threading.Event) -> Iterator[None]:
    """Our main thread is told to stop once it is time."""

    def stop(*_: object) -> None:
        raise Stop

    def tell() -> None:
        assert is_time.wait(PATIENCE_S)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, stop)
    teller = threading.Thread(target=tell)
    teller.start()
    try:
        with pytest.raises(Stop):
            yield
    finally:
        teller.join()
        signal.signal(signal.SIGUSR1, before)


def tell(event: threading.Event, condition: Callable[[], bool]) -> None:
    """Set an event when something has come to be."""
    wait_until(condition, PATIENCE_S)
    event.set()


def test_nobody_waits_behind_one_that_was_called_away(model: OnnxModel) -> None:
    gate = Gate(model)
    shared, is_time = BatchingModel(gate), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with behind(gate, shared, images(1)) as asked, stopped_when(is_time):
            pool.submit(tell, is_time, lambda: len(shared.waiting) == 2)
            shared.predict(images(2))
        assert greys(asked[0].result()) == [1]
    assert gate.batches == [1, 1]


def test_a_leader_that_is_called_away_leaves_the_others_their_turn(model: OnnxModel) -> None:
    gate = Gate(model)
    shared, is_time = BatchingModel(gate), threading.Event()

    def follow() -> list[Prediction]:
        wait_until(lambda: bool(gate.batches), PATIENCE_S)
        return shared.predict(images(1))

    with ThreadPoolExecutor(2) as pool:
        with stopped_when(is_time):
            asked = pool.submit(follow)
            pool.submit(tell, is_time, lambda: len(shared.waiting) == 1)
            shared.predict(images(2))
        gate.opened.set()
        assert greys(asked.result()) == [1]


def test_a_model_is_shared_where_one_device_serves_several_threads(model: OnnxModel) -> None:
    on_cuda = replace(model, provider=PROVIDERS["cuda"])
    assert shared_model(on_cuda, 1) is on_cuda
    assert shared_model(model, 4) is model, "cores serve threads side by side"
    shared = shared_model(on_cuda, 4)
    assert (shared.card, shared.digest, shared.provider) == (model.card, model.digest, on_cuda.provider)
    assert greys(shared.predict(images(1, 2))) == [1, 2]
    assert (batch_of(shared, 2), batch_of(model, 3)) == (2, 3)
