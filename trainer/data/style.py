"""The acquisition style of an image (exposure, framing, sharpness), and how well the style alone predicts the label.

Where style predicts the label, validation on images of the same hospital cannot show that a network relies on style.
The few images whose style is that of the other class can: they are like images of another hospital.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.data.images import read_images
from trainer.data.manifest import Manifest
from trainer.data.split import SHARES, held_out, shuffle_key
from trainer.progress import silent
from trainer.statistics.metrics import Measured, roc_auc
from worker.errors import BadData

#: Side of the grid on which style is measured, and width of its border. (The size of the file itself is not part of
#: the style; the audit probes it.)
SIDE_PX, BORDER_PX = 224, 11

#: Quantiles of the display values, and edges of the frequency bands, in cycles over the side.
QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
BANDS = (1, 3, 6, 12, 24, 48, 80, 111)

FOLDS = 5

Described = NDArray[np.float64]  #: [F], of one image


@dataclass(frozen=True)
class Styles:
    """A split whose test images are the usual ones and, in whole groups, all with the style of the other class."""

    manifest: Manifest
    separation: Measured  #: AUC of style alone
    counts: dict[str, dict[str, int]]  #: subtype -> style -> images
    unreadable: list[dict[str, str]]


def hold_out(manifest: Manifest, root: Path, share: float = 1.0) -> Styles:
    """Find the images that have the style of the other class, and move their groups to the test split.

    `share`: the fraction of those groups that is moved, in the seed's order; the others stay in their split. Samples
    in no split stay out. Raises BadData as `propensities` does, or when a split would lack a class.
    """
    unreadable: list[dict[str, str]] = []
    described, read = [], []
    for loaded in read_images(root, [s for s in manifest.samples if s.split in SHARES], unreadable, silent):
        described.append(describe(loaded.pixels))
        read.append(loaded.sample)
    labels = np.array([sample.label for sample in read], np.int64)
    propensity = propensities(described, labels, [sample.group for sample in read])
    against = resembles_other_class(propensity, labels)
    style_of = {s.path: "against" if is_odd else "usual" for s, is_odd in zip(read, against, strict=True)}
    marked = [replace(sample, style=style_of.get(sample.path, "")) for sample in manifest.samples]
    odd = sorted({s.group for s in marked if s.style == "against"}, key=lambda g: shuffle_key(manifest.seed, g))
    split = held_out(Manifest(tuple(marked), manifest.seed), odd[: round(share * len(odd))])
    counts: dict[str, dict[str, int]] = {}
    for sample in read:
        inside = counts.setdefault(sample.subtype, {"usual": 0, "against": 0})
        inside[style_of[sample.path]] += 1
    return Styles(split, roc_auc(labels, propensity), dict(sorted(counts.items())), unreadable)


def describe(image: NDArray[np.uint8]) -> Described:
    """Numbers of one image [H, W] that hold little anatomy: exposure, borders, contrast, sharpness, spectrum."""
    if image.shape != (SIDE_PX, SIDE_PX):
        image = np.asarray(cv2.resize(image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA), np.uint8)
    pixels = image.astype(np.float32)
    edges = cv2.Laplacian(pixels, cv2.CV_32F)
    borders = (pixels[:BORDER_PX], pixels[-BORDER_PX:], pixels[:, :BORDER_PX], pixels[:, -BORDER_PX:])
    centre = np.s_[SIDE_PX // 4 : -SIDE_PX // 4, SIDE_PX // 4 : -SIDE_PX // 4]
    return np.array(
        [
            *np.quantile(pixels, QUANTILES),
            *(part.mean() for part in borders),
            pixels[centre].mean(),
            pixels[centre].std(),
            pixels.std(),
            np.log1p(edges.var()),
            np.log1p(edges[centre].var()),
            *_spectrum(pixels),
            (image < 8).mean(),
            (image > 247).mean(),
        ],
        np.float64,
    )


def propensities(
    described: Sequence[Described], labels: NDArray[np.int64], groups: Sequence[str]
) -> NDArray[np.float64]:
    """P(pneumonia | style) of each image [N], from the results of `describe`.

    The model of an image was not trained on the image's group. Raises BadData where a class has fewer groups than
    FOLDS: then style and patient cannot be separated.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names = np.asarray(groups)
    if min((len(set(names[labels == label])) for label in (0, 1)), default=0) < FOLDS:
        raise BadData(
            f"style needs at least {FOLDS} patients of each class: add some, or take a recipe that does not balance it"
        )
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    found = cross_val_predict(model, np.stack(described), labels, groups=names, cv=folds, method="predict_proba")
    return np.asarray(found[:, 1], np.float64)


def resembles_other_class(propensity: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which images [N] have, by style alone, the larger probability of the other class."""
    return np.asarray((propensity > 0.5) != (labels == 1))


def _spectrum(pixels: NDArray[np.float32]) -> list[float]:
    """Log power of each of BANDS."""
    power = np.abs(np.fft.fftshift(np.fft.fft2(pixels - pixels.mean()))) ** 2
    rows, columns = np.indices(pixels.shape) - SIDE_PX // 2
    radius = np.hypot(rows, columns)
    return [float(np.log1p(power[(radius >= low) & (radius < high)].mean())) for low, high in pairwise(BANDS)]
