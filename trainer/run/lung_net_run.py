"""One run of `trainer lungs`: radiographs and their masks in, weights and their accuracy out."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trainer.data.folders import read_samples
from trainer.data.images import read_images
from trainer.data.left_out import left_out_of
from trainer.data.manifest import Sample
from trainer.data.split import split
from trainer.progress import Report
from trainer.recipes.lung_net import IMAGE_PX, lung_net
from trainer.training.fit_lung_net import Outlined, dice, fit_lungs
from worker.errors import BadData, BadSetting
from worker.imaging.preprocess import Preprocessing

#: Preprocessing of the recipes that use a lung field.
GRID = Preprocessing(size=IMAGE_PX)


@dataclass(frozen=True)
class LungsReport:
    """The overlap of the net's fields with the drawn ones on the test split."""

    digest: str  #: of the weights file
    trained_on: int  #: images
    dice: dict[str, tuple[float, float, int]]  #: subtype -> mean, 5th percentile, images
    seed: int
    epochs: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def train_lungs(
    data: Path,
    masks: Path,
    index: Path | None,
    left_out: Sequence[Path],
    epochs: int,
    seed: int,
    out: Path,
    report: Report,
    is_patient_each: bool = False,
) -> LungsReport:
    """Train on the training patients of the split of `trainer fit` with this seed, measure on the test patients.

    An image without a mask is left out. Raises BadSetting where `out` is not a .weights.h5 file, BadData where no mask
    belongs to an image.
    """
    if not out.name.endswith(".weights.h5"):
        raise BadSetting("Keras writes weights to files named *.weights.h5: give --out such a name").about(str(out))
    images = read_samples(data, index, is_patient_each)
    manifest = split(images, seed, left_out_of(images, left_out, is_patient_each))
    train, _ = _outlined(data, masks, manifest.of("train"), report)
    net = fit_lungs(train, epochs, seed, report)
    tested, samples = _outlined(data, masks, manifest.of("test"), report)
    overlaps, subtypes = dice(net, tested), np.array([sample.subtype for sample in samples])
    _write_weights(net, out)
    return LungsReport(
        digest=hashlib.sha256(out.read_bytes()).hexdigest(),
        trained_on=len(train.grids),
        dice={
            name: (
                round(float(overlaps[subtypes == name].mean()), 4),
                round(float(np.percentile(overlaps[subtypes == name], 5)), 4),
                int((subtypes == name).sum()),
            )
            for name in sorted(set(subtypes))
        },
        seed=seed,
        epochs=epochs,
    )


def _write_weights(net: Any, out: Path) -> None:
    """Write the weights, whole or not at all, without the moments of the optimizer, which are twice as large."""
    part, without_optimizer = out.with_name(f"part-{out.name}"), lung_net()
    for own, trained in zip(without_optimizer.variables, net.variables, strict=True):
        own.assign(trained.value)
    without_optimizer.save_weights(part)
    part.replace(out)


def _outlined(data: Path, masks: Path, samples: Sequence[Sample], report: Report) -> tuple[Outlined, list[Sample]]:
    """The samples that have a mask, with their masks."""
    having = [sample for sample in samples if _mask_of(masks, sample).is_file()]
    if not having:
        raise BadData("holds no mask of these images: a mask is a PNG with the path of its image").about(str(masks))
    grids, fields, read = [], [], []
    for image in read_images(data, having, [], report):
        mask = cv2.imread(str(_mask_of(masks, image.sample)), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise BadData("cannot be read as a picture").about(str(_mask_of(masks, image.sample)))
        grids.append(image.grid(GRID)[:, :, 0])
        field = cv2.resize(mask, (IMAGE_PX, IMAGE_PX), interpolation=cv2.INTER_NEAREST)
        fields.append(np.where(field > 127, 255, 0).astype(np.uint8))
        read.append(image.sample)
    return Outlined(np.stack(grids), np.stack(fields)), read


def _mask_of(masks: Path, sample: Sample) -> Path:
    return (masks / sample.path).with_suffix(".png")
