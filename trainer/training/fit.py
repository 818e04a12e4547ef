"""Run the phases of a recipe. Knows Keras and no files: the caller passes functions that save and report."""

import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from trainer.progress import Report
from trainer.recipes.recipe import Monitor, Network, Phase, Recipe
from trainer.statistics.metrics import roc_auc
from trainer.training.checkpoint import Arrays, Checkpoint
from trainer.training.schedule import Step, next_step
from worker.errors import BadData

#: Fraction of the steps of a cosine phase during which the learning rate rises from zero.
WARM_UP_SHARE = 0.1
PREDICT_BATCH = 64

#: How often in an epoch the weights are taken into a mean.
MEANS_AN_EPOCH = 8


def fit(
    recipe: Recipe,
    network: Network,
    batches: Callable[[int], Any],
    copies: dict[str, NDArray[np.uint8]],
    labels: NDArray[np.int64],
    fingerprint: str,
    latest: Checkpoint | None,
    save: Callable[[Checkpoint], None],
    report: Report,
) -> Checkpoint:
    """Train `network`; at the end it has the weights of the best epoch.

    `batches` gives the dataset of an epoch; `copies` are the validation images [N, size, size] with `labels`, "plain"
    and, where the recipe's monitor needs them, shifted. `latest` is the checkpoint of an interrupted fit; `save` is
    called after every epoch. Raises BadData when the recipe has no epoch or a loss is not finite.
    """
    model, taught = network.model, network.taught or network.model
    if latest is not None:
        _assign(network.variables, latest.variables)
        report({"event": "resumed", "epoch": latest.epoch})
    is_compiled = False
    while (step := next_step(recipe.phases, latest.scores if latest else ())) is not None:
        started = time.monotonic()
        dataset = batches(step.epoch)
        if not is_compiled or step.epoch_in_phase == 0:
            _compile(recipe, network, step.phase, len(dataset))
            if latest is not None and step.epoch_in_phase:  # resumed in the middle of a phase
                _assign(taught.optimizer.variables, latest.optimizer)
            is_compiled = True
        if step.phase.schedule == "constant":
            taught.optimizer.learning_rate = step.learning_rate
        mean = _mean_so_far(network, step, latest)
        loss = _run_epoch(taught, dataset, step, mean, report)
        variables = _values(network.variables)
        result = mean.values if mean else variables
        if mean:
            _assign(network.variables, result)
        scores, measured = _measure(model, copies, labels)
        if mean:
            _assign(network.variables, variables)
        score = float(step.epoch) if recipe.monitor is Monitor.LAST else scores[recipe.monitor]
        latest = _after(variables, result, taught.optimizer, fingerprint, score, latest)
        save(latest)
        report(
            {"event": "epoch", "epoch": latest.epoch, "of": recipe.epochs, "phase": step.phase.name, "loss": loss}
            | {name: round(value, 5) for name, value in measured.items()}
            | {"score": round(score, 5), "is_best": latest.best_epoch == latest.epoch}
            | {"learning_rate": step.learning_rate, "seconds": round(time.monotonic() - started, 1)}
        )
    if latest is None:
        raise BadData("the recipe has no epoch: give --epochs 1 or more")
    _assign(network.variables, latest.best_variables)
    return latest


def predict(model: Any, grids: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Logits [N] of grids [N, size, size]."""
    logits = model.predict(grids[..., None], batch_size=PREDICT_BATCH, verbose=0)
    return np.asarray(logits, np.float64)[:, 0]


def choose_trained(network: Network, phase: Phase) -> None:
    """Set which layers the phase trains; it always trains the head."""
    network.trunk.trainable = phase.trains != "head"
    for layer in network.backbone.layers if network.backbone else ():  # also those inside a model of the trunk
        layer.trainable = phase.trains != "head"
    if isinstance(phase.trains, int):
        for layer in network.backbone.layers[: phase.trains]:
            layer.trainable = False
    for layer in network.frozen:
        layer.trainable = False


def _compile(recipe: Recipe, network: Network, phase: Phase, steps: int) -> None:
    """Set layers, optimizer and loss of the phase; AdamW without decay is Adam."""
    choose_trained(network, phase)
    rate: Any = phase.learning_rate
    if phase.schedule == "cosine":
        total = steps * phase.epochs
        warm_up = max(1, int(total * WARM_UP_SHARE))
        rate = keras.optimizers.schedules.CosineDecay(
            0.0,
            max(1, total - warm_up),
            alpha=phase.falls_to,
            warmup_target=phase.learning_rate,
            warmup_steps=warm_up,
        )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, global_clipnorm=recipe.clip_norm)
    loss = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
    taught = network.taught or network.model
    taught.compile(optimizer, loss=loss, metrics=[accuracy], jit_compile=False)
    optimizer.build(taught.trainable_variables)


def _run_epoch(model: Any, dataset: Any, step: Step, mean: "_Mean | None", report: Report) -> float:
    """Run one epoch and return its mean loss; raises BadData when it is not finite."""
    callbacks = [_BatchReport(report, step.epoch, len(dataset)), *([mean] if mean else [])]
    history = model.fit(dataset, epochs=1, verbose=0, shuffle=False, callbacks=callbacks)
    loss = float(history.history["loss"][0])
    if not math.isfinite(loss):
        raise BadData(f"the loss of epoch {step.epoch + 1} is {loss}: the data or the learning rate are unsound")
    return loss


def _measure(
    model: Any, copies: dict[str, NDArray[np.uint8]], labels: NDArray[np.int64]
) -> tuple[dict[Monitor, float], dict[str, float]]:
    """The score of the epoch by each monitor that looks at images, and every measured value by name."""
    logits = {name: predict(model, grids) for name, grids in copies.items()}
    plain = logits["plain"]
    measured = {f"auc_{name}": roc_auc(labels, values).value for name, values in logits.items()}
    worst = min(measured.values())
    measured["validation_loss"] = float(np.mean(np.logaddexp(0, plain) - labels * plain))
    measured["recall"] = float((plain[labels == 1] >= 0).mean())
    scores = {
        Monitor.WORST_AUC: worst,
        Monitor.RECALL: measured["recall"],
        Monitor.LOSS: -measured["validation_loss"],
    }
    return scores, measured


def _after(
    variables: Arrays, result: Arrays, optimizer: Any, fingerprint: str, score: float, before: Checkpoint | None
) -> Checkpoint:
    moments = _values(optimizer.variables)
    scores = (*before.scores, score) if before else (score,)
    if before is None or score > max(before.scores):
        return Checkpoint(fingerprint, variables, moments, len(scores), result, scores)
    return Checkpoint(fingerprint, variables, moments, before.best_epoch, before.best_variables, scores)


def _values(variables: list[Any]) -> Arrays:
    # copied first: Keras' variables do not support the array protocol of numpy 2 yet, and warn
    return [np.array(keras.ops.convert_to_numpy(keras.ops.copy(v))) for v in variables]


def _assign(variables: list[Any], values: Arrays) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _mean_so_far(network: Network, step: Step, latest: Checkpoint | None) -> "_Mean | None":
    """The mean of the weights up to this epoch, to go on with; None while the phase averages nothing.

    The checkpoint has it as its best variables, for each epoch of such a phase is the best.
    """
    first = step.phase.epochs - step.phase.averaged
    if step.epoch_in_phase < first:
        return None
    epochs = step.epoch_in_phase - first
    return _Mean(network, latest.best_variables if latest and epochs else [], epochs * MEANS_AN_EPOCH)


class _Mean(keras.callbacks.Callback):  # type: ignore[misc]
    """The mean of a network's weights; of whole numbers, as in the dropout's generator, the last ones."""

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
        now = _values(self.network.variables)
        self.values = [
            (old + (new - old) * (taken / self.count)).astype(new.dtype)
            if np.issubdtype(new.dtype, np.floating)
            else new
            for old, new in zip(self.values or now, now, strict=True)
        ]


class _BatchReport(keras.callbacks.Callback):  # type: ignore[misc]
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
