"""What a recipe is: the data that a fit runs on, and the one function that builds its network. Knows no recipe."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from trainer.data.augment import Augmentation
from trainer.statistics.operating_point import DEFAULT_RULE, ThresholdRule
from worker.errors import BadSetting
from worker.imaging.preprocess import Preprocessing


class Monitor(StrEnum):
    """What says, after each epoch and on the validation images, which epoch was the best."""

    WORST_AUC = "worst_auc"  #: lowest AUC over shifted copies of the images
    RECALL = "recall"  #: sensitivity at probability 0.5
    LOSS = "loss"  #: binary cross-entropy, negated: higher is better in all three


@dataclass(frozen=True)
class Plateau:
    """Multiply the learning rate by `factor` after `patience` epochs without a better score, down to `lowest`."""

    factor: float
    patience: int
    lowest: float


@dataclass(frozen=True)
class Phase:
    """Some epochs with one set of trainable layers.

    Along a cosine the learning rate warms up, then falls to zero over the phase; a constant one falls by `plateau`
    alone. After `patience` epochs without a better score the phase ends and the next begins.
    """

    name: str
    epochs: int
    learning_rate: float
    trains: Literal["head", "all"] | int  #: a number: the head, and the backbone's layers from this index on
    schedule: Literal["cosine", "constant"] = "cosine"
    patience: int | None = None
    plateau: Plateau | None = None


@dataclass(frozen=True)
class Network:
    """A network in parts that share their layers: trunk -> pooled or flattened -> dense head -> logit.

    `model` is a `keras.Model` from uint8 [N, size, size, 1] to logits [N, 1], `trunk` one from the same input to the
    last feature map [N, h, w, c]. `head` holds the dense layers in order; the hidden ones end in ReLU, the last has
    one neuron, or two for a softmax: its logit is then their difference, and softmax cross-entropy over the two is
    the binary cross-entropy of that difference.

    `stages` is a `keras.Model` from the same input to two maps: one halfway up, which familiarity looks at, and the
    last. Without it familiarity looks at the last.
    """

    model: Any
    trunk: Any
    head: tuple[Any, ...]
    pooling: Literal["average", "flatten"]
    frozen: tuple[Any, ...] = ()  #: layers that no phase trains
    backbone: Any = None  #: whose layers a phase counts; None: no phase does
    stages: Any = None

    def maps(self, image: Any) -> tuple[Any, Any]:
        """The map that familiarity looks at, and the last one, of uint8 [N, size, size, 1]; nothing is trained."""
        if self.stages is None:
            last = self.trunk(image, training=False)
            return last, last
        halfway, last = self.stages(image, training=False)
        return halfway, last


@dataclass(frozen=True)
class Start:
    """What a network is built from. `weights`: of the backbone; None: Keras's own; `RANDOM`: none."""

    size: int  #: side of the grid, px
    backbone: str = ""
    weights: Path | None = None


@dataclass(frozen=True)
class Recipe:
    """How one kind of model is made, as data; `build` is the only code in it."""

    name: str
    summary: str
    preprocessing: Preprocessing
    batch_size: int
    label_smoothing: float
    weight_decay: float
    phases: tuple[Phase, ...]
    augmentation: Augmentation
    build: Callable[[Start], Network]
    published: str = ""  #: what its authors reported, and on which images
    backbone: str = ""  #: the one its authors took; empty: the network has none
    other_backbones: tuple[str, ...] = ()  #: what `--backbone` may put in its place
    batches: Literal["balanced", "shuffled", "style balanced"] = "balanced"
    undersampled: bool = False  #: train on as many images of the common class as there are of the rare one
    class_weighted: bool = False
    balanced_validation: bool = False  #: for the choice of the epoch; calibration takes the split as it was dealt
    monitor: Monitor = Monitor.WORST_AUC
    threshold: ThresholdRule = DEFAULT_RULE
    clip_norm: float | None = 1.0
    variant: str = ""  #: what differs from the recipe as published, for the card

    @property
    def epochs(self) -> int:
        """Of all phases together, if none ends early."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def title(self) -> str:
        """Name and variant, for the card."""
        return f"{self.name} ({self.variant})" if self.variant else self.name

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values but `build`, which is code."""
        plain = asdict(self) | {"threshold": str(self.threshold)}
        del plain["build"]
        return plain

    def varied(self, what: str, **changes: Any) -> "Recipe":
        """The same recipe with `changes`, which the card tells as `what`."""
        return replace(self, **changes, variant=f"{self.variant}, {what}" if self.variant else what)

    def on(self, backbone: str) -> "Recipe":
        """The same recipe on another backbone; raises BadSetting where it has none to change."""
        if backbone == self.backbone:
            return self
        if backbone not in self.other_backbones:
            allowed = ", ".join(name for name in (self.backbone, *self.other_backbones) if name) or "none"
            raise BadSetting(f"recipe {self.name} cannot take the backbone {backbone!r}: it takes {allowed}")
        return self.varied(f"backbone {backbone}", backbone=backbone)

    def lasting(self, epochs: Sequence[int]) -> "Recipe":
        """The same recipe with so many epochs in each phase; one number: of all phases, the last ones cut first."""
        if len(epochs) == 1:
            epochs = self._shared_out(epochs[0])
        if len(epochs) != len(self.phases):
            raise BadSetting(f"recipe {self.name} has {len(self.phases)} phase(s): give as many epochs, or one number")
        phases = tuple(replace(phase, epochs=n) for phase, n in zip(self.phases, epochs, strict=True) if n)
        if phases == self.phases:
            return self
        return self.varied(f"epochs {'+'.join(str(phase.epochs) for phase in phases)}", phases=phases)

    def _shared_out(self, epochs: int) -> list[int]:
        shares = []
        for phase in self.phases[:-1]:
            shares.append(min(phase.epochs, epochs))
            epochs -= shares[-1]
        return [*shares, epochs]
