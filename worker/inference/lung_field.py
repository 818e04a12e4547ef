"""Whether a radiograph shows a lung field: traits of the output of a model's lung net, and a card's limits for them.

Pure. A low probability means nothing on a picture without lungs, so such an image gives no negative.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A cell with at least this probability belongs to the lung field.
INSIDE = 0.5

#: Runs of cells in a row that are shorter than this share of the width are specks, not a lung.
SPECK = 0.02

Lungs = NDArray[np.float32]  #: [h, w], the probability of lung in each cell


@dataclass(frozen=True)
class FieldTraits:
    """Measures of a lung field, as fractions; all 0 when there is none."""

    area: float  #: of the image
    paired: float  #: of the rows with lung field: those with at least two lungs side by side
    edge: float  #: of the cells along the image's border: those in the lung field, which means cut-off lungs
    certainty: float  #: mean probability inside the field


@dataclass(frozen=True)
class FieldLimits:
    """For each of FieldTraits, the smallest and the largest value of an acceptable lung field."""

    area: tuple[float, float]
    paired: tuple[float, float]
    edge: tuple[float, float]
    certainty: tuple[float, float]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "FieldLimits":
        """Inverse of `dataclasses.asdict`, from JSON; raises ValueError or TypeError on other content."""
        return cls(**{name: (float(low), float(high)) for name, (low, high) in values.items()})


def traits_of(lungs: Lungs) -> FieldTraits:
    """The traits of one image's lung field [h, w]; NaN counts as outside."""
    inside = lungs >= INSIDE
    if not inside.any():
        return FieldTraits(0.0, 0.0, 0.0, 0.0)
    border = np.concatenate([inside[0], inside[-1], inside[1:-1, 0], inside[1:-1, -1]])
    rows = inside[inside.any(axis=1)]
    paired = np.count_nonzero(_lungs_side_by_side(rows) >= 2) / len(rows)
    return FieldTraits(float(inside.mean()), paired, float(border.mean()), float(lungs[inside].mean()))


def implausible(lungs: Lungs, limits: FieldLimits) -> str:
    """A text with the reason why this image has no acceptable lung field; empty when it has one."""
    for name, value in asdict(traits_of(lungs)).items():
        low, high = getattr(limits, name)
        if not low <= value <= high:
            return f"lung field {name} {value:.3f} outside {low:.3f} to {high:.3f}"
    return ""


def _lungs_side_by_side(rows: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Number of runs of lung field in each row, without specks."""
    edges = np.diff(np.pad(rows, ((0, 0), (1, 1))).astype(np.int8))
    (row, start), (_, end) = np.nonzero(edges == 1), np.nonzero(edges == -1)  # row by row, so that they are pairs
    is_lung = end - start >= max(1, SPECK * rows.shape[1])
    return np.bincount(row[is_lung], minlength=len(rows))
