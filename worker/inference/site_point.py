"""An operating point that was set with a site's own images, and the validation scores that protect its sensitivity."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from worker.inference.estimate import Estimate


@dataclass(frozen=True)
class SitePoint:
    """Where and on how many images the point of a card was set, its result there, and the result of the factory's."""

    place: str
    normals: int  #: images, as are the positives
    positives: int
    sensitivity: Estimate  #: on the site's images, as are the next three
    specificity: Estimate
    factory_sensitivity: Estimate  #: at the threshold of the file as it was made
    factory_specificity: Estimate
    factory_threshold: float  #: on the probabilities of that file
    validation_sensitivity: Estimate | None  #: at the new point, on the validation images of the file as it was made
    remarks: tuple[str, ...]  #: such as "local sensitivity not shown: ..."
    accepts_lower_sensitivity: bool  #: a person accepted a sensitivity below the floor
    factory_digest: str  #: of the file as it was made

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "SitePoint":
        """Inverse of `dataclasses.asdict`; raises KeyError or TypeError."""
        plain = dict(values)
        for name in ("sensitivity", "specificity", "factory_sensitivity", "factory_specificity"):
            plain[name] = Estimate(**plain[name])
        if plain["validation_sensitivity"] is not None:
            plain["validation_sensitivity"] = Estimate(**plain["validation_sensitivity"])
        return cls(**{**plain, "remarks": tuple(plain["remarks"])})


@dataclass(frozen=True)
class ValidationScores:
    """The probabilities that the file gives its own validation images, ascending: what another threshold would do."""

    normals: tuple[float, ...]
    positives: tuple[float, ...]

    def to_metadata(self) -> str:
        """The text stored in a model file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_metadata(cls, text: str) -> "ValidationScores":
        """Inverse of `to_metadata`; raises KeyError, TypeError or ValueError."""
        values = json.loads(text)
        return cls(*(tuple(map(float, values[name])) for name in ("normals", "positives")))
