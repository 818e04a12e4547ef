"""The reference on a model's card: the distribution of scores and inputs over its validation images, by class.

It is kept by class because each hospital has its own share of sick people: its images are compared with the mixture of
classes that fits them best, and only a difference that no mixture explains is drift. Pure: arrays in, data out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The measures that are compared, by the names of the ledger's columns. The first one gives the mixture of classes.
MEASURES = ("probability", "familiarity", "display_mean", "display_deviation", "dark_border")

#: Number of bins of a histogram; each holds about the same number of reference images.
BINS = 10

#: Names of the classes, by label; and the name of the single class when labels are unknown.
LABELLED = ("no_pneumonia", "pneumonia")
UNLABELLED = ("unlabelled",)

Values = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Histogram:
    """Distribution of one measure, by class. Bin i holds the values above edge i-1 and up to edge i."""

    edges: tuple[float, ...]  #: between the bins, ascending; the outer bins are open
    counts: tuple[tuple[int, ...], ...]  #: of each class in each bin
    means: tuple[float, ...]  #: of each class

    def __post_init__(self) -> None:
        """Refuse an invalid histogram; raises ValueError."""
        is_ascending = all(low < high for low, high in pairwise(self.edges))
        if not self.edges or not is_ascending or not np.isfinite(self.edges).all():
            raise ValueError(f"the edges of a histogram must ascend: {self.edges}")
        if any(len(row) != len(self.edges) + 1 or min(row) < 0 for row in self.counts):
            raise ValueError("a histogram needs one count more than it has edges")

    def count(self, values: Values) -> Counts:
        """How many of these values fall into each bin; NaN counts as large."""
        bins = np.searchsorted(self.edges, values, side="left")
        return np.bincount(bins, minlength=len(self.edges) + 1).astype(np.int64)


@dataclass(frozen=True)
class Reference:
    """Scores and inputs of a model on images that it was not trained on."""

    classes: tuple[str, ...]
    n: tuple[int, ...]  #: images of each class
    flagged: tuple[int, ...]  #: of them, at or above the threshold
    histograms: Mapping[str, Histogram]  #: by measure
    data_digest: str  #: of the images

    def __post_init__(self) -> None:
        """Refuse counts that do not fit together; raises ValueError."""
        sums = {tuple(map(sum, histogram.counts)) for histogram in self.histograms.values()}
        if not self.n or len(self.classes) != len(self.n) or sums != {self.n} or sum(self.n) == 0:
            raise ValueError("the reference's counts do not add up to its number of images")
        if missing := set(MEASURES) - set(self.histograms):
            raise ValueError(f"the reference lacks {', '.join(sorted(missing))}")
        if any(len(values) != len(self.n) for values in (self.flagged, *(h.means for h in self.histograms.values()))):
            raise ValueError("the reference lacks counts for some of its classes")

    @property
    def flag_rate(self) -> float:
        """Share of the reference images at or above the threshold."""
        return sum(self.flagged) / sum(self.n)

    @property
    def summary(self) -> str:
        """A summary in one line."""
        counts = ", ".join(f"{n} {name}" for name, n in zip(self.classes, self.n, strict=True))
        return f"{counts}; {self.flag_rate:.1%} flagged"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def to_metadata(self) -> str:
        """The text stored in a model file."""
        return json.dumps(self.to_json(), sort_keys=True)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Reference":
        """Inverse of `to_json`; raises KeyError, TypeError or ValueError on anything else."""
        histograms = {
            name: Histogram(tuple(h["edges"]), tuple(map(tuple, h["counts"])), tuple(h["means"]))
            for name, h in values["histograms"].items()
        }
        classes, n, flagged = (tuple(values[name]) for name in ("classes", "n", "flagged"))
        return cls(classes, n, flagged, histograms, str(values["data_digest"]))


def make_reference(
    measured: Mapping[str, Values], labels: Sequence[int] | None, threshold: float, data_digest: str
) -> Reference:
    """The reference of images whose measures [N] are given by the names of MEASURES.

    `labels`: 0 or 1 for each image; None if unknown. Raises ValueError when there is no image.
    """
    classes = UNLABELLED if labels is None else LABELLED
    of_class = np.zeros(len(measured[MEASURES[0]]), np.int64) if labels is None else np.asarray(labels, np.int64)
    members = [of_class == number for number in range(len(classes))]
    flagged = measured["probability"] >= threshold
    return Reference(
        classes=classes,
        n=tuple(int(inside.sum()) for inside in members),
        flagged=tuple(int(flagged[inside].sum()) for inside in members),
        histograms={name: _histogram(np.asarray(measured[name]), members) for name in MEASURES},
        data_digest=data_digest,
    )


def _histogram(values: Values, members: Sequence[NDArray[np.bool_]]) -> Histogram:
    """Edges at the quantiles of all classes together; a value that many images share gets one bin."""
    shares = np.arange(1, BINS) / BINS
    edges = np.unique(np.quantile(values, shares, method="inverted_cdf"))
    if len(edges) > 1:
        edges = edges[edges < values.max()]
    plain = Histogram(tuple(map(float, edges)), (), ())
    counts = tuple(tuple(map(int, plain.count(values[inside]))) for inside in members)
    means = tuple(round(float(values[inside].mean()), 4) if inside.any() else 0.0 for inside in members)
    return Histogram(plain.edges, counts, means)
