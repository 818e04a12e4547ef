"""What a recipe is: the data that a fit runs on, and the one function that builds its network. Knows no recipe."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from trainer.augment import Augmentation
from worker.imaging.preprocess import Preprocessing


@dataclass(frozen=True)
class Phase:
    """Some epochs with one set of trainable layers; the learning rate warms up, then falls along a cosine to zero."""

    name: str
    epochs: int
    learning_rate: float
    trains: Literal["head", "all"]  #: batch normalisation stays in inference mode in both


@dataclass(frozen=True)
class Network:
    """A network in parts that share their layers: trunk -> pooled or flattened -> dense head -> logit.

    `model` is a `keras.Model` from uint8 [N, size, size, 1] to logits [N, 1], `trunk` one from the same input to the
    last feature map [N, h, w, c]. `head` holds the dense layers in order; the hidden ones end in ReLU.
    """

    model: Any
    trunk: Any
    head: tuple[Any, ...]
    pooling: Literal["average", "flatten"]
    frozen: tuple[Any, ...] = ()  #: layers that no phase trains


@dataclass(frozen=True)
class Recipe:
    """How one kind of model is made; `build` gets the weights file, if any."""

    name: str
    summary: str
    preprocessing: Preprocessing
    batch_size: int
    label_smoothing: float
    weight_decay: float
    phases: tuple[Phase, ...]
    augmentation: Augmentation
    build: Callable[[Path | None], Network]

    @property
    def epochs(self) -> int:
        """Of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    def lasting(self, epochs: int) -> "Recipe":
        """The same recipe over so many epochs: the last phase is lengthened or cut, then those before it."""
        phases: list[Phase] = []
        left = epochs
        for phase in self.phases[:-1]:
            phases.append(replace(phase, epochs=min(phase.epochs, left)))
            left -= phases[-1].epochs
        phases.append(replace(self.phases[-1], epochs=left))
        return replace(self, phases=tuple(p for p in phases if p.epochs))
