"""Callbacks of Keras after each batch of a fit: the mean of the weights, and the report of the loss."""

import keras
import numpy as np

from trainer.progress import Report
from trainer.recipes.recipe import Network
from trainer.training.checkpoint import Arrays, Checkpoint
from trainer.training.schedule import Step
from trainer.training.variables import values_of

#: How often in an epoch the weights are taken into a mean.
MEANS_AN_EPOCH = 8


class WeightMean(keras.callbacks.Callback):  # type: ignore[misc]
    """The mean of a network's weights. Whole numbers, as in the generator of the dropout, keep their last value."""

    def __init__(self, network: Network, values: Arrays, count: int) -> None:
        super().__init__()
        self.network, self.values, self.count = network, values, count

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Take the weights in at MEANS_AN_EPOCH moments, the last of which is the end of the epoch."""
        steps = self.params["steps"]
        taken = MEANS_AN_EPOCH * (batch + 1) // steps - MEANS_AN_EPOCH * batch // steps
        if not taken:
            return
        self.count += taken
        now = values_of(self.network.variables)
        self.values = [
            (old + (new - old) * (taken / self.count)).astype(new.dtype)
            if np.issubdtype(new.dtype, np.floating)
            else new
            for old, new in zip(self.values or now, now, strict=True)
        ]


class BatchReport(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports the loss of each batch."""

    def __init__(self, report: Report, epoch: int, steps: int) -> None:
        super().__init__()
        self.report, self.epoch, self.steps = report, epoch, steps

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        logs = logs or {}
        self.report(
            {"event": "batch", "epoch": self.epoch + 1, "done": batch + 1, "total": self.steps}
            | {name: float(logs[name]) for name in ("loss", "accuracy") if name in logs}
        )


def mean_so_far(network: Network, step: Step, latest: Checkpoint | None) -> WeightMean | None:
    """The mean of the weights up to this epoch, to go on with; None while the phase averages nothing.

    The checkpoint has it as its best variables, for each epoch of such a phase is the best.
    """
    first = step.phase.epochs - step.phase.averaged
    if step.epoch_in_phase < first:
        return None
    epochs = step.epoch_in_phase - first
    return WeightMean(network, latest.best_variables if latest and epochs else [], epochs * MEANS_AN_EPOCH)
