"""Train the lung-field net on outlines that people drew, and measure it on patients who were not in the training."""

from typing import Any, NamedTuple

import cv2
import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from trainer.data.augment import Augmentation
from trainer.data.lung_field_views import Radiograph, field_view
from trainer.progress import Report
from trainer.recipes.lung_net import FIELD_PX, lung_fields, lung_net

BATCH, LEARNING_RATE = 16, 3e-3

#: Larger windows than for a classifier, so that enough of the outline is left.
VIEWS = Augmentation(
    fourier_share=0.3,
    histogram_share=0.3,
    area_min=0.5,
    rotation_max_deg=8.0,
    scale_max=0.15,
    shift_max=0.06,
    shear_max=0.05,
    flip_share=0.3,
    gamma_share=0.5,
    contrast_share=0.4,
    blur_share=0.3,
    noise_share=0.3,
    resample_share=0.2,
    jpeg_share=0.3,
    erase_share=0.3,
    marker_share=0.3,
)


class Outlined(NamedTuple):
    """Radiographs with the lungs that people outlined in them; both [N, 224, 224], the field 0 or 255."""

    grids: NDArray[np.uint8]
    fields: NDArray[np.uint8]


class OutlineBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """One epoch of augmented views with their fields, every batch with its own generator."""

    def __init__(self, outlined: Outlined, seed: int, epoch: int) -> None:
        super().__init__(workers=2, use_multiprocessing=False, max_queue_size=8)
        self.outlined, self.seed, self.epoch = outlined, seed, epoch
        order = np.random.default_rng((seed, epoch)).permutation(len(outlined.grids))
        steps = max(1, len(order) // BATCH)
        self.order = order[: steps * BATCH].reshape(steps, -1)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, step: int) -> tuple[NDArray[Any], NDArray[Any]]:
        rng = np.random.default_rng((self.seed, self.epoch, step))
        views = [self._view(int(i), rng) for i in self.order[step]]
        seen = np.stack(views)
        return seen[..., :1].astype(np.float32), np.stack([_half(view[..., 1]) for view in views])[..., None]

    def _view(self, i: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        mine = Radiograph(self.outlined.grids[i], self.outlined.fields[i], is_normal=False)
        other = self.outlined.grids[int(rng.integers(len(self.outlined.grids)))]
        return field_view(mine, other, mine.image, mine, VIEWS, rng).layers


def fit_lungs(outlined: Outlined, epochs: int, seed: int, report: Report) -> Any:
    """A trained `lung_net`; the learning rate falls along a cosine."""
    keras.utils.set_random_seed(seed)
    net = lung_net()
    steps = epochs * len(OutlineBatches(outlined, seed, 0))
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps, alpha=0.02)
    net.compile(keras.optimizers.Adam(rate), loss=outline_loss, jit_compile=False)
    for epoch in range(epochs):
        history = net.fit(OutlineBatches(outlined, seed, epoch), epochs=1, verbose=0, shuffle=False)
        report({"event": "epoch", "epoch": epoch + 1, "of": epochs, "loss": round(history.history["loss"][0], 4)})
    return net


def dice(net: Any, outlined: Outlined) -> NDArray[np.float64]:
    """Overlap of the net's field with the drawn one for each image [N]: 2 |A and B| / (|A| + |B|)."""
    found = lung_fields(net, outlined.grids) > 127
    drawn = outlined.fields > 127
    both = (found & drawn).sum(axis=(1, 2))
    return np.asarray(2 * both / np.maximum(1, found.sum(axis=(1, 2)) + drawn.sum(axis=(1, 2))), np.float64)


def outline_loss(drawn: Any, logits: Any) -> Any:
    """Cross-entropy of the cells plus 1 - Dice of the field, for each image: [N]."""
    found = ops.sigmoid(logits)
    entropy = ops.mean(ops.softplus(logits) - drawn * logits, axis=(1, 2, 3))
    overlap = 2 * ops.sum(found * drawn, axis=(1, 2, 3)) + 1
    return entropy + 1 - overlap / (ops.sum(found, axis=(1, 2, 3)) + ops.sum(drawn, axis=(1, 2, 3)) + 1)


def _half(field: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A field of IMAGE_PX as the share of lung in each cell of FIELD_PX."""
    smaller = cv2.resize(field, (FIELD_PX, FIELD_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(smaller / 255, np.float32)
