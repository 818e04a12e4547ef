"""The graph for serving: from uint8 grids to probability, heat map and familiarity, all as forward operations."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from keras import ops
from numpy.typing import NDArray

from trainer.export.attribution import local_heat, raw_heat
from trainer.export.familiarity import Familiarity, measure
from trainer.recipes.recipe import Network
from trainer.statistics.operating_point import Calibration, calibrate
from worker.errors import ModelRefused

#: Percentile of the heat over all cells of the validation positives; larger values are shown as 1.
HEAT_PERCENTILE = 99.5

#: Images in one batch: outside a compiled graph Keras holds the maps of every layer, 80 MB an image for MobileNetV2.
BATCH = 16


@dataclass(frozen=True)
class Served:
    """A trained network with the constants that turn its logit and features into the outputs of the tensor contract."""

    network: Network
    calibration: Calibration
    heat_scale: float
    familiarity: Familiarity

    def __call__(self, image: Any) -> dict[str, Any]:
        """uint8 [N, size, size, 1] -> the tensors of the contract, float32.

        probability [N], heatmap [N, h, w] in [0, 1], familiarity [N] and, of networks that find them, lungs [N, H, W].
        """
        found = findings(self.network, image)
        served = {
            "probability": ops.sigmoid(found.logit / self.calibration.temperature + self.calibration.bias),
            "heatmap": ops.clip(found.heat / self.heat_scale, 0.0, 1.0),
            "familiarity": self.familiarity.distance(pooled(found.halfway)),
        }
        return served if found.lungs is None else served | {"lungs": found.lungs}


class Findings(NamedTuple):
    """What a network says of images, not yet scaled or calibrated."""

    halfway: Any  #: [N, h, w, c], the map that familiarity looks at
    logit: Any  #: [N]
    heat: Any  #: [N, h, w], zero or more
    lungs: Any = None  #: [N, H, W] in [0, 1]; None: the network does not look for them


def findings(network: Network, image: Any, is_compiled: bool = False) -> Findings:
    """What `network` says of uint8 [N, size, size, 1].

    `is_compiled` runs it as one graph, outside of others: layer by layer, Keras holds every layer's map to the end.
    """
    if network.local is not None:
        halfway, evidence, field, logit, lungs = _run(network.local, image, is_compiled)
        return Findings(halfway, logit[:, 0], local_heat(evidence, field), lungs[..., 0])
    if network.stages is None:
        last = _run(network.trunk, image, is_compiled)
        halfway = last
    else:
        halfway, last = _run(network.stages, image, is_compiled)
    return Findings(halfway, logit_of(last, network), raw_heat(last, network.head, network.pooling))


def _run(model: Any, image: Any, is_compiled: bool) -> Any:
    return model.predict_on_batch(image) if is_compiled else model(image, training=False)


def logit_of(features: Any, network: Network) -> Any:
    """The head over a feature map [N, h, w, c]: logits [N]."""
    n_cells = int(np.prod(features.shape[1:]))
    average = network.pooling == "average"
    value = ops.mean(features, axis=(1, 2)) if average else ops.reshape(features, (-1, n_cells))
    for layer in network.head:
        value = layer(value)
    return value[:, 0] if value.shape[1] == 1 else value[:, 1] - value[:, 0]


def pooled(features: Any) -> Any:
    """The mean over all cells of a feature map [N, h, w, c]: [N, c]."""
    return ops.mean(features, axis=(1, 2))


def complete(
    network: Network,
    train: NDArray[np.uint8],
    views: Iterable[NDArray[np.uint8]],
    validation: NDArray[np.uint8],
    labels: NDArray[np.int64],
    prevalence: float | None = None,
) -> Served:
    """Measure the constants: familiarity on the training grids and `views`, calibration and heat scale on validation.

    `views` are batches [N, size, size, 1 or more] of augmented training images, the picture first, because the network
    was trained on them too. `labels` are those of the validation split; the probabilities hold at `prevalence`, by
    default that of the labels. Raises ModelRefused when higher scores do not mean a higher risk.
    """
    seen = [
        np.asarray(findings(network, batch[..., :1], is_compiled=True).halfway).mean(axis=(1, 2))
        for batch in chain(_batches(train), views)
    ]
    logits, heats = [], []
    for batch in _batches(validation):
        found = findings(network, batch, is_compiled=True)
        logits.append(ops.convert_to_numpy(found.logit))
        heats.append(ops.convert_to_numpy(found.heat))
    try:
        calibration = calibrate(labels, np.concatenate(logits).astype(np.float64))
        if prevalence is not None:
            calibration = calibration.at(prevalence, float(labels.mean()))
    except ValueError as error:
        raise ModelRefused(f"the network cannot be calibrated on its validation split: {error}") from error
    scale = float(np.percentile(np.concatenate(heats)[labels == 1], HEAT_PERCENTILE))
    return Served(network, calibration, max(scale, 1e-6), measure(np.concatenate(seen)))


def predict(served: Served, grids: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """The outputs of the graph for grids [N, size, size], computed by Keras."""
    parts = [served(batch) for batch in _batches(grids)]
    return {name: np.concatenate([ops.convert_to_numpy(part[name]) for part in parts]) for name in parts[0]}


def _batches(grids: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(grids), BATCH):
        yield np.asarray(grids[start : start + BATCH])[..., None]
