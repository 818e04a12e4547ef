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
from trainer.training.callbacks import BatchReport, WeightMean, mean_so_far
from trainer.training.checkpoint import Checkpoint
from trainer.training.schedule import Step, next_step
from trainer.training.variables import assign, values_of
from worker.errors import BadData

#: Fraction of the steps of a cosine phase during which the learning rate rises from zero.
WARM_UP_SHARE = 0.1
PREDICT_BATCH = 64


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
    if latest is not None:
        assign(network.variables, latest.variables)
        report({"event": "resumed", "epoch": latest.epoch})
    is_compiled = False
    while (step := next_step(recipe.phases, latest.scores if latest else ())) is not None:
        started = time.monotonic()
        dataset = batches(step.epoch)
        if not is_compiled or step.epoch_in_phase == 0:
            _begin_phase(recipe, network, step, len(dataset), latest)
            is_compiled = True
        mean = mean_so_far(network, step, latest)
        loss = _run_epoch(_taught(network), dataset, step, mean, report)
        latest, measured = _end_epoch(recipe, network, step, mean, copies, labels, fingerprint, latest)
        save(latest)
        report(
            {"event": "epoch", "epoch": latest.epoch, "of": recipe.epochs, "phase": step.phase.name, "loss": loss}
            | {name: round(value, 5) for name, value in measured.items()}
            | {"score": round(latest.scores[-1], 5), "is_best": latest.best_epoch == latest.epoch}
            | {"learning_rate": step.learning_rate, "seconds": round(time.monotonic() - started, 1)}
        )
    if latest is None:
        raise BadData("the recipe has no epoch: give --epochs 1 or more")
    assign(network.variables, latest.best_variables)
    return latest


def predict(model: Any, grids: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Logits [N] of grids [N, size, size]."""
    logits = model.predict(grids[..., None], batch_size=PREDICT_BATCH, verbose=0)
    return np.asarray(logits, np.float64)[:, 0]


def choose_trained(network: Network, phase: Phase) -> None:
    """Set which layers the phase trains; it always trains the head."""
    network.trunk.trainable = phase.trains != "head"
    if network.backbone:
        for layer in network.backbone.layers:  # also those inside a model of the trunk
            layer.trainable = phase.trains != "head"
    if isinstance(phase.trains, int):
        for layer in network.backbone.layers[: phase.trains]:
            layer.trainable = False
    for layer in network.frozen:
        layer.trainable = False


def _taught(network: Network) -> Any:
    """The model that is fitted: the network's own, or the one around it that also has its targets."""
    return network.taught or network.model


def _begin_phase(recipe: Recipe, network: Network, step: Step, steps: int, latest: Checkpoint | None) -> None:
    """Compile for the phase of this epoch; a fit that goes on in the middle of it gets its optimizer's state back."""
    _compile(recipe, network, step.phase, steps)
    if latest is not None and step.epoch_in_phase:
        assign(_taught(network).optimizer.variables, latest.optimizer)


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
    taught = _taught(network)
    taught.compile(optimizer, loss=loss, metrics=[accuracy], jit_compile=False)
    optimizer.build(taught.trainable_variables)


def _run_epoch(model: Any, dataset: Any, step: Step, mean: WeightMean | None, report: Report) -> float:
    """Run one epoch and return its mean loss; raises BadData when it is not finite."""
    if step.phase.schedule == "constant":
        model.optimizer.learning_rate = step.learning_rate
    callbacks = [BatchReport(report, step.epoch, len(dataset)), *([mean] if mean else [])]
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


def _end_epoch(
    recipe: Recipe,
    network: Network,
    step: Step,
    mean: WeightMean | None,
    copies: dict[str, NDArray[np.uint8]],
    labels: NDArray[np.int64],
    fingerprint: str,
    before: Checkpoint | None,
) -> tuple[Checkpoint, dict[str, float]]:
    """The checkpoint after an epoch, and its measured values by name. The mean of the weights is measured where there
    is one; the network keeps its own."""
    variables = values_of(network.variables)
    result = mean.values if mean else variables
    if mean:
        assign(network.variables, result)
    scores, measured = _measure(network.model, copies, labels)
    if mean:
        assign(network.variables, variables)
    score = float(step.epoch) if recipe.monitor is Monitor.LAST else scores[recipe.monitor]
    optimizer = values_of(_taught(network).optimizer.variables)
    all_scores = (*before.scores, score) if before else (score,)
    if before is None or score > max(before.scores):
        return Checkpoint(fingerprint, variables, optimizer, len(all_scores), result, all_scores), measured
    best = before.best_epoch, before.best_variables
    return Checkpoint(fingerprint, variables, optimizer, *best, all_scores), measured
