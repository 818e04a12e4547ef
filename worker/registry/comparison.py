"""What `trainer compare` found between two models on the same images: the file `comparison.json`.

Knows no pixels, no database, and measures nothing itself; what a model may lose by it: margins.py.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from worker.errors import PromotionRefused
from worker.inference.card import Estimate

#: Version of the file's layout; others are refused.
FORMAT_VERSION = 1

#: A share rounded in JSON may be off by this much.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Contender:
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
    won: int  #: the other way round


@dataclass(frozen=True)
class Flip:
    """One such image."""

    path: str
    label: int  #: 1: pneumonia
    is_won: bool
    old_probability: float
    new_probability: float
    picture: str | None  #: file name beside comparison.json


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images."""

    old: Contender
    new: Contender
    provider: str
    data_digest: str  #: of the samples that both models could be given
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
            plain[side] = Contender(**plain[side] | measured)
        for name in ("auc", "sensitivity", "specificity"):
            plain[name] = Change(**plain[name])
        for name in ("positive_flips", "negative_flips"):
            plain[name] = Flips(**plain[name])
        plain["flips"] = tuple(Flip(**flip) for flip in plain["flips"])
        return cls(**plain)


@dataclass(frozen=True)
class Brought:
    """A comparison as somebody brought it, byte for byte."""

    comparison: Comparison
    content: bytes


def read_comparison(path: Path) -> Brought:
    """The comparison in a file; raises PromotionRefused when it is none or is unsound."""
    try:
        content = path.read_bytes()
        comparison = Comparison.from_json(json.loads(content))
        _require_sound(comparison)
    except OSError as error:
        raise PromotionRefused(f"cannot be read ({error.strerror})").about(str(path)) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PromotionRefused(f"is no comparison.json of `trainer compare` ({error!r}): make it anew").about(
            str(path)
        ) from error
    return Brought(comparison, content)


def _require_sound(comparison: Comparison) -> None:
    """Raise ValueError for what no measurement gives, such as a difference that its own flips contradict."""
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
            raise ValueError("a difference is not what its flips make")
