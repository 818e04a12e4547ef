"""The comparison of two models on the same images by `trainer compare`: the file `comparison.json`.

Knows no pixels and no database, and measures nothing itself. How much a model may lose is in `non_inferiority`.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from worker.errors import PromotionRefused
from worker.inference.estimate import Estimate

#: Version of the file's layout; other versions are refused.
FORMAT_VERSION = 1

#: Largest rounding error of a share in JSON.
ROUNDING = 1e-9


@dataclass(frozen=True)
class ComparedModel:
    """One of the two models, at its own card's threshold."""

    digest: str
    name: str
    threshold: float
    auc: Estimate
    sensitivity: Estimate
    specificity: Estimate


@dataclass(frozen=True)
class Change:
    """New minus old, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Flips:
    """Images of one class that the two models judge differently."""

    lost: int  #: the old model was right, the new one is wrong
    won: int  #: the new model is right, the old one was wrong


@dataclass(frozen=True)
class Flip:
    """One image that the two models judge differently."""

    path: str
    label: int  #: 1: pneumonia
    is_won: bool
    old_probability: float
    new_probability: float
    picture: str | None  #: file name beside comparison.json


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images."""

    old: ComparedModel
    new: ComparedModel
    provider: str
    data_digest: str  #: of the samples that both models can read
    n: int
    positives: int
    patients: int
    unreadable: int
    auc: Change  #: DeLong's interval for the paired difference
    auc_p_value: float
    sensitivity: Change  #: paired bootstrap over patients
    specificity: Change
    positive_flips: Flips
    negative_flips: Flips
    flips: tuple[Flip, ...]
    method: str
    created_at: str
    same_weights: bool = False  #: they order all images the same: only calibration and operating point differ

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Comparison":
        """Inverse of `to_json`; raises KeyError, TypeError or ValueError."""
        plain = dict(values)
        version = plain.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise ValueError(f"its layout is {version}, this program reads {FORMAT_VERSION}")
        for side in ("old", "new"):
            measured = {name: Estimate(**plain[side][name]) for name in ("auc", "sensitivity", "specificity")}
            plain[side] = ComparedModel(**plain[side] | measured)
        for name in ("auc", "sensitivity", "specificity"):
            plain[name] = Change(**plain[name])
        for name in ("positive_flips", "negative_flips"):
            plain[name] = Flips(**plain[name])
        plain["flips"] = tuple(Flip(**flip) for flip in plain["flips"])
        return cls(**plain)


@dataclass(frozen=True)
class ComparisonFile:
    """A comparison and the bytes of its file."""

    comparison: Comparison
    content: bytes


def read_comparison(path: Path) -> ComparisonFile:
    """The comparison in a file; raises PromotionRefused when it is invalid or inconsistent."""
    try:
        content = path.read_bytes()
        comparison = Comparison.from_json(json.loads(content))
        _require_sound(comparison)
    except OSError as error:
        raise PromotionRefused(f"cannot be read ({error.strerror})").about(str(path)) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PromotionRefused(f"is no comparison.json of `trainer compare` ({error!r}): make it again").about(
            str(path)
        ) from error
    return ComparisonFile(comparison, content)


def _require_sound(comparison: Comparison) -> None:
    """Raise ValueError for an inconsistent comparison, such as a difference that its own flips contradict."""
    positives, negatives = comparison.positives, comparison.n - comparison.positives
    if positives < 1 or negatives < 1:
        raise ValueError("both classes are needed")
    if len(comparison.data_digest) != 64:
        raise ValueError("data_digest is no SHA-256")
    changes = (comparison.auc, comparison.sensitivity, comparison.specificity)
    if not all(math.isfinite(value) for change in changes for value in vars(change).values()):
        raise ValueError("a difference is not a number")
    if abs(comparison.auc.value - (comparison.new.auc.value - comparison.old.auc.value)) > 1e-6:
        raise ValueError("the difference of the areas is not that of the two models")
    for change, flips, count in (
        (comparison.sensitivity, comparison.positive_flips, positives),
        (comparison.specificity, comparison.negative_flips, negatives),
    ):
        if abs(change.value - (flips.won - flips.lost) / count) > ROUNDING:
            raise ValueError("a difference does not match its flips")
