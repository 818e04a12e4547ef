"""The parts of a recipe: data that a fit reads, and one function that builds the network. Knows no single recipe."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from trainer.data.augment import Augmentation
from trainer.statistics.operating_point import DEFAULT_RULE, ThresholdRule
from worker.errors import BadSetting
from worker.imaging.preprocess import Preprocessing, Resize


class Monitor(StrEnum):
    """The score, measured on the validation images after each epoch, that decides which epoch was the best."""

    WORST_AUC = "worst_auc"  #: lowest AUC over shifted copies of the images
    RECALL = "recall"  #: sensitivity at probability 0.5
    LOSS = "loss"  #: binary cross-entropy, negated, because higher is better in all three
    LAST = "last"  #: no image: the last epoch is taken, where the cosine of the learning rate ends


@dataclass(frozen=True)
class Plateau:
    """Multiply the learning rate by `factor` after `patience` epochs without a better score, down to `lowest`."""

    factor: float
    patience: int
    lowest: float


@dataclass(frozen=True)
class Phase:
    """Some epochs with one set of trainable layers.

    With the cosine schedule the learning rate warms up, then falls to the share `falls_to` of itself over the phase;
    with the constant one only `plateau` lowers it. After `patience` epochs without a better score the phase ends and
    the next begins. With `averaged` epochs its result is the mean of the weights along those, its last ones
    (Izmailov 2018, SWA; Cha 2021, SWAD); this needs `Monitor.LAST`.
    """

    name: str
    epochs: int
    learning_rate: float
    trains: Literal["head", "all"] | int  #: a number: the head, and the layers of the backbone from this index on
    schedule: Literal["cosine", "constant"] = "cosine"
    patience: int | None = None
    plateau: Plateau | None = None
    falls_to: float = 0.0
    averaged: int = 0


@dataclass(frozen=True)
class Guests:
    """Images of smaller sources beside the largest one: which share of each class's half of a batch they get."""

    positives: float
    negatives: float


@dataclass(frozen=True)
class Network:
    """A network in parts that share their layers: trunk -> pooled or flattened -> dense head -> logit.

    `model` is a `keras.Model` from uint8 [N, size, size, 1] to logits [N, 1], `trunk` one from the same input to the
    last feature map [N, h, w, c]. `head` holds the dense layers in order; the hidden ones end in ReLU, the last has
    one neuron, or two for a softmax: its logit is then their difference, and softmax cross-entropy over the two is
    the binary cross-entropy of that difference.

    `stages` is a `keras.Model` from the same input to two maps: an intermediate one, from which familiarity is
    computed, and the last. Without `stages`, familiarity is computed from the last map.

    With the pooling "lung field" the evidence is local. `local` is then a `keras.Model` from the same input to the
    intermediate map, the evidence [N, h, w, 1], the lung field on the same cells, the logit [N, 1] and the lungs
    [N, H, W, 1]. `taught` is the model that the batches of `trainer.training.lung_field_batches` train: from uint8
    [N, any, any, 3] to logits [N, 1 or more], each of which is to say the label; it shares its layers with `model`, and
    may have further ones that serve training alone.
    """

    model: Any
    trunk: Any
    head: tuple[Any, ...]
    pooling: Literal["average", "flatten", "lung field"]
    frozen: tuple[Any, ...] = ()  #: layers that no phase trains
    backbone: Any = None  #: the model whose layers `Phase.trains` counts; None: no phase counts layers
    stages: Any = None
    taught: Any = None
    local: Any = None

    @property
    def variables(self) -> list[Any]:
        """Those of `model`, then those that only `taught` has."""
        own = list(self.model.variables)
        if self.taught is None:
            return own
        known = {id(variable) for variable in own}
        return own + [variable for variable in self.taught.variables if id(variable) not in known]


#: Policy of Keras for the computation; weights are float32 in both.
Precision = Literal["float32", "mixed_bfloat16"]


@dataclass(frozen=True)
class Start:
    """The inputs of `Recipe.build`. `weights`: a file for the backbone; None: those of Keras; `RANDOM`: none."""

    size: int  #: side of the grid, px
    backbone: str = ""
    weights: Path | None = None


@dataclass(frozen=True)
class Recipe:
    """How one kind of model is trained, as data; `build` is the only code in it."""

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
    backbone: str = ""  #: the one that its authors used; empty: the network has none
    other_backbones: tuple[str, ...] = ()  #: what `--backbone` may use instead
    batches: Literal["balanced", "shuffled", "style balanced"] = "balanced"
    undersampled: bool = False  #: train on as many images of the common class as the rare one has
    class_weighted: bool = False
    balanced_validation: bool = False  #: for the choice of the epoch; calibration uses the whole validation split
    monitor: Monitor = Monitor.WORST_AUC
    threshold: ThresholdRule = DEFAULT_RULE
    clip_norm: float | None = 1.0
    prevalence: float | None = None  #: that the probabilities mean; None: that of the validation images
    guests: Guests | None = None  #: None: every source as it comes; needs `batches="balanced"`
    precision: Precision = "float32"  #: of the computation while it is trained
    variant: str = ""  #: what differs from the recipe as published, for the card

    @property
    def epochs(self) -> int:
        """The number of epochs of all phases together, if none ends early."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def title(self) -> str:
        """Name and variant, for the card."""
        return f"{self.name} ({self.variant})" if self.variant else self.name

    def to_json(self) -> dict[str, Any]:
        """All fields as plain values, without `build`, which is code."""
        plain = asdict(self) | {"threshold": str(self.threshold)}
        del plain["build"]
        return plain

    def varied(self, what: str, **changes: Any) -> "Recipe":
        """The same recipe with `changes`, which the card names `what`."""
        return replace(self, **changes, variant=f"{self.variant}, {what}" if self.variant else what)

    def on(self, backbone: str) -> "Recipe":
        """The same recipe on another backbone; raises BadSetting where the recipe does not allow it."""
        if backbone == self.backbone:
            return self
        if backbone not in self.other_backbones:
            allowed = ", ".join(name for name in (self.backbone, *self.other_backbones) if name) or "none"
            raise BadSetting(f"recipe {self.name} cannot take the backbone {backbone!r}: it takes {allowed}")
        return self.varied(f"backbone {backbone}", backbone=backbone)

    def seeing(self, resize: Resize) -> "Recipe":
        """The same recipe with another resize rule."""
        if resize is self.preprocessing.resize:
            return self
        return self.varied(f"resize {resize}", preprocessing=replace(self.preprocessing, resize=resize))

    def computing_in(self, precision: Precision) -> "Recipe":
        """The same recipe, trained in this precision."""
        return self if precision == self.precision else self.varied(f"in {precision}", precision=precision)

    def lasting(self, epochs: Sequence[int]) -> "Recipe":
        """The same recipe with these numbers of epochs; one number: the total, the last phases shortened first."""
        if len(epochs) == 1:
            epochs = self._shared_out(epochs[0])
        if len(epochs) != len(self.phases):
            raise BadSetting(f"recipe {self.name} has {len(self.phases)} phase(s): give as many epochs, or one number")
        phases = tuple(replace(phase, epochs=n) for phase, n in zip(self.phases, epochs, strict=True) if n)
        if phases == self.phases:
            return self
        return self.varied(f"epochs {'+'.join(str(phase.epochs) for phase in phases)}", phases=phases)

    def averaging(self, epochs: int) -> "Recipe":
        """The same recipe whose result is the mean of the weights along the last epochs, at a rate that does not fall.

        Raises BadSetting where the recipe takes its best epoch, or its last phase has fewer epochs.
        """
        *before, last = self.phases
        if self.monitor is not Monitor.LAST:
            raise BadSetting(
                f"recipe {self.name} takes its best epoch: --average is for recipes that take the last one"
            )
        if epochs > last.epochs:
            raise BadSetting(f"--average {epochs}: the last phase of recipe {self.name} has {last.epochs} epochs")
        last = replace(last, falls_to=1.0, averaged=epochs)
        return self.varied(f"mean of the weights of {epochs} epochs", phases=(*before, last))

    def _shared_out(self, epochs: int) -> list[int]:
        shares = []
        for phase in self.phases[:-1]:
            shares.append(min(phase.epochs, epochs))
            epochs -= shares[-1]
        return [*shares, epochs]
