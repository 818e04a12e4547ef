"""Which images make a batch when one class, or one style in it, is rare. Pure functions of numbers and a generator.

Balanced batches shift the prior that the network learns. The bias that `operating_point.calibrate` fits on the
validation split, at its own prevalence, removes the shift.
"""

import numpy as np
from numpy.typing import NDArray

from worker.errors import BadData

#: An image is drawn at most this many times as often as the most usual ones of its class.
RAREST = 20


def balanced_batches(labels: NDArray[np.int64], batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices [steps, batch_size] of one epoch: as many images as the split has, the classes in equal numbers.

    Images are drawn by permutations of each class, so none comes twice before all of its class have come once.
    Raises BadData when a class is empty.
    """
    classes = (0, 1)
    steps = max(1, len(labels) // batch_size)
    counts = [batch_size // 2, batch_size - batch_size // 2]
    columns = []
    for label, per_batch in zip(classes, counts, strict=True):
        members = np.flatnonzero(labels == label)
        if not len(members):
            raise BadData(f"the training split holds no image of class {label}: both classes are needed")
        need = steps * per_batch
        rounds = -(-need // len(members))
        drawn = np.concatenate([rng.permutation(members) for _ in range(rounds)])[:need]
        columns.append(drawn.reshape(steps, per_batch))
    return np.hstack(columns).astype(np.int64)


def guest_batches(
    labels: NDArray[np.int64],
    is_guest: NDArray[np.bool_],
    shares: tuple[float, float],
    batch_size: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """As `balanced_batches` of those that are no guests [N], with guests in a share of each class's half of a batch.

    `shares` are of the normal half and of the pneumonia half. Raises BadData when a class, or its guests, are empty.
    """
    hosts, guests = np.flatnonzero(~is_guest), np.flatnonzero(is_guest)
    batches = hosts[balanced_batches(labels[hosts], batch_size, rng)]
    half = batch_size // 2
    for label, share, first in ((0, shares[0], 0), (1, shares[1], half)):
        members, count = guests[labels[guests] == label], round(half * share)
        if not len(members):
            raise BadData(f"the smaller sources hold no training image of class {label}: both classes are needed")
        batches[:, first : first + count] = rng.choice(members, (len(batches), count))
    return batches


def shuffled_batches(labels: NDArray[np.int64], batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices [steps, batch_size] of one epoch: every image at most once, the classes as they come."""
    batch_size = min(batch_size, len(labels))
    steps = len(labels) // batch_size
    return rng.permutation(len(labels))[: steps * batch_size].reshape(steps, batch_size)


def style_balanced_batches(
    labels: NDArray[np.int64], batch_size: int, rng: np.random.Generator, propensity: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Indices [steps, batch_size] of one epoch: the classes in equal numbers, and in each the styles as in the other.

    An image is drawn, with replacement, by the inverse of P(its class | its style), up to RAREST: inverse propensity
    weighting (Rosenbaum & Rubin 1983) removes the dependence of the label on the style. `propensity` [N] is P(class 1 |
    style). Raises BadData when a class is empty.
    """
    steps = max(1, len(labels) // batch_size)
    own = np.where(labels == 1, propensity, 1 - propensity)
    weights = 1 / np.maximum(own, 1 / RAREST)
    columns = []
    for label, per_batch in enumerate((batch_size // 2, batch_size - batch_size // 2)):
        members = np.flatnonzero(labels == label)
        if not len(members):
            raise BadData(f"the training split holds no image of class {label}: both classes are needed")
        shares = weights[members] / weights[members].sum()
        columns.append(rng.choice(members, (steps, per_batch), p=shares))
    return np.hstack(columns).astype(np.int64)


#: A recipe's `batches` -> the function that draws them. Style-balanced batches also need propensities.
BATCHES = {"balanced": balanced_batches, "shuffled": shuffled_batches}


def class_weights(labels: NDArray[np.int64]) -> dict[int, float]:
    """Weights that make both classes count alike: total / (2 x count). Raises BadData when a class is empty."""
    counts = np.bincount(labels, minlength=2)
    if not counts.all():
        raise BadData("class weights need both classes: one of them is empty")
    return {label: len(labels) / (2 * int(count)) for label, count in enumerate(counts)}


def undersample(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Sorted indices that keep all of the rarer class and as many of the other. Raises BadData on an empty class."""
    counts = np.bincount(labels, minlength=2)
    if not counts.all():
        raise BadData("undersampling needs both classes: one of them is empty")
    kept = [rng.permutation(np.flatnonzero(labels == label))[: int(counts.min())] for label in (0, 1)]
    return np.sort(np.concatenate(kept)).astype(np.int64)
