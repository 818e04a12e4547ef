"""Run a recipe's phases. Knows Keras, and no files: checkpoints and news leave through functions it is given."""

import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from trainer.checkpoint import Arrays, Checkpoint
from trainer.metrics import roc_auc
from trainer.recipe import Network, Phase, Recipe
from trainer.report import Report
from worker.errors import BadData

#: Of a phase's steps, during which the learning rate rises from zero.
WARM_UP_SHARE = 0.1
CLIP_NORM = 1.0
PREDICT_BATCH = 64


def fit(
    recipe: Recipe,
    network: Network,
    batches: Callable[[int], Any],
    copies: dict[str, NDArray[np.uint8]],
    labels: NDArray[np.int64],
    fingerprint: str,
    stood: Checkpoint | None,
    keep: Callable[[Checkpoint], None],
    report: Report,
) -> Checkpoint:
    """Train `network` and leave it with the weights of its best epoch.

    `batches` gives the dataset of an epoch; `copies` are shifted copies [N, size, size] of the validation images with
    `labels`: the epoch with the highest AUC on its worst copy wins. `stood` is where an interrupted fit stood; `keep`
    is called after every epoch.
    """
    model = network.model
    if stood is not None:
        _assign(model.variables, stood.variables)
        report({"event": "resumed", "epoch": stood.epoch})
    for epoch in range(stood.epoch if stood else 0, recipe.epochs):
        phase, epoch_in_phase = _phase_at(recipe, epoch)
        dataset = batches(epoch)
        if epoch_in_phase == 0 or stood is None or epoch == stood.epoch:
            resumes = stood is not None and epoch_in_phase > 0
            _compile(recipe, network, phase, len(dataset), stood.optimizer if stood and resumes else None)
        started = time.monotonic()
        ticker = _Ticker(report, epoch, len(dataset))
        history = model.fit(dataset, epochs=1, verbose=0, shuffle=False, callbacks=[ticker])
        loss = history.history["loss"][0]
        if not math.isfinite(loss):
            raise BadData(f"the loss of epoch {epoch + 1} is {loss}: the data or the learning rate are unsound")
        aucs = {name: roc_auc(labels, predict(model, grids)).value for name, grids in copies.items()}
        score = min(aucs.values())
        stood = _after(model, fingerprint, epoch + 1, score, stood)
        keep(stood)
        report(
            {"event": "epoch", "epoch": epoch + 1, "of": recipe.epochs, "phase": phase.name, "loss": loss}
            | {f"auc_{name}": round(value, 5) for name, value in aucs.items()}
            | {"score": round(score, 5), "is_best": stood.best_epoch == epoch + 1}
            | {"seconds": round(time.monotonic() - started, 1)}
        )
    if stood is None:
        raise BadData("the recipe has no epoch: give --epochs 1 or more")
    _assign(model.variables, stood.best_variables)
    return stood


def predict(model: Any, grids: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Logits [N] of grids [N, size, size]."""
    logits = model.predict(grids[..., None], batch_size=PREDICT_BATCH, verbose=0)
    return np.asarray(logits, np.float64)[:, 0]


def _phase_at(recipe: Recipe, epoch: int) -> tuple[Phase, int]:
    """The phase of an epoch, counted from 0 over all phases, and the epoch's number within it."""
    for phase in recipe.phases:
        if epoch < phase.epochs:
            return phase, epoch
        epoch -= phase.epochs
    raise IndexError(f"epoch {epoch} lies beyond the last phase")


def _compile(recipe: Recipe, network: Network, phase: Phase, steps: int, optimizer_state: Arrays | None) -> None:
    """Set what is trained and how; with `optimizer_state`, as it stood within the phase."""
    network.trunk.trainable = phase.trains == "all"
    for layer in network.frozen:
        layer.trainable = False
    total = steps * phase.epochs
    warm_up = max(1, int(total * WARM_UP_SHARE))
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, total - warm_up), warmup_target=phase.learning_rate, warmup_steps=warm_up
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay, global_clipnorm=CLIP_NORM)
    loss = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
    network.model.compile(optimizer, loss=loss, metrics=[accuracy], jit_compile=False)
    if optimizer_state is not None:
        optimizer.build(network.model.trainable_variables)
        _assign(optimizer.variables, optimizer_state)


def _after(model: Any, fingerprint: str, epoch: int, score: float, before: Checkpoint | None) -> Checkpoint:
    variables = _values(model.variables)
    optimizer = _values(model.optimizer.variables)
    if before is None or score > before.best_score:
        return Checkpoint(fingerprint, epoch, variables, optimizer, epoch, score, variables)
    best = (before.best_epoch, before.best_score, before.best_variables)
    return Checkpoint(fingerprint, epoch, variables, optimizer, *best)


def _values(variables: list[Any]) -> Arrays:
    # copied first: Keras' variables do not speak numpy 2's protocol yet, and warn
    return [np.array(keras.ops.convert_to_numpy(keras.ops.copy(v))) for v in variables]


def _assign(variables: list[Any], values: Arrays) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


class _Ticker(keras.callbacks.Callback):  # type: ignore[misc]
    """Passes each batch's loss on to the report."""

    def __init__(self, report: Report, epoch: int, steps: int) -> None:
        super().__init__()
        self.report, self.epoch, self.steps = report, epoch, steps

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        logs = logs or {}
        self.report(
            {"event": "batch", "epoch": self.epoch + 1, "done": batch + 1, "total": self.steps}
            | {name: float(logs[name]) for name in ("loss", "accuracy") if name in logs}
        )
