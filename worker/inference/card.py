"""The card of a model: preprocessing, operating point, population, goldens. Stored in the ONNX file's metadata."""

import base64
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from worker.errors import ModelRefused
from worker.imaging.preprocess import Preprocessing
from worker.inference.estimate import Estimate
from worker.inference.lung_field import FieldLimits
from worker.inference.reference import Reference
from worker.inference.site_point import SitePoint, ValidationScores

#: Keys of `metadata_props` in the ONNX file.
CARD_KEY = "chest_screening.card"
GOLDENS_KEY = "chest_screening.goldens"
#: Separate from the card, so that an older worker, which knows no reference, can still open the file.
REFERENCE_KEY = "chest_screening.reference"
VALIDATION_KEY = "chest_screening.validation"

#: What a card without a familiarity limit means.
NO_LIMIT = "no familiarity limit: unfamiliar images can become negatives"

#: What a card without ages means.
NO_AGES = "no ages: patients of any age can become negatives"

#: What a card without a reference means.
NO_REFERENCE = "no reference: drift cannot be measured (`trainer reference`)"

#: Version of the card's layout; a worker refuses others.
CARD_VERSION = 1


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold on the calibrated probability, how it was chosen, and its results on which data."""

    threshold: float
    rule: str  #: for example "highest threshold with validation sensitivity >= 0.985"
    sensitivity: Estimate
    specificity: Estimate
    data_digest: str  #: of the manifest's validation split

    def __post_init__(self) -> None:
        """Refuse a threshold outside [0, 1], which would flag nothing or everything; raises ValueError."""
        if not isinstance(self.threshold, int | float) or not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"the threshold must be a number from 0 to 1, not {self.threshold!r}")


@dataclass(frozen=True)
class Population:
    """The patients for whom the model was made. Ages in completed years, both bounds included; None: no bound."""

    description: str
    min_age_years: int | None = None
    max_age_years: int | None = None

    @property
    def has_ages(self) -> bool:
        """Whether any age is outside."""
        return self.min_age_years is not None or self.max_age_years is not None

    def admits(self, age_years: float | None) -> bool:
        """Whether a study of this age lies inside; an unknown age does not exclude."""
        if age_years is None:
            return True
        completed = int(age_years)
        return (self.min_age_years is None or completed >= self.min_age_years) and (
            self.max_age_years is None or completed <= self.max_age_years
        )


@dataclass(frozen=True)
class Golden:
    """A complete input file and its expected score. A worker must reproduce it, with its own decoding and
    preprocessing, before it serves the model."""

    name: str
    content: bytes
    probability: float
    tolerances: dict[str, float]  #: execution provider -> largest |difference| allowed
    attribution: str = ""


@dataclass(frozen=True)
class ReducedDecode:
    """How the model's output changes on pictures that were decoded at a lower resolution, as measured.

    An image whose result could depend on the resolution is decoded in full and predicted again.
    """

    codings: tuple[str, ...]  #: which may be decoded so, by the names of `worker.imaging.codec.codestream.Coding`
    sure_below: float  #: below this probability, or from `sure_above` on, 99 % of images change by at most 0.01
    sure_above: float
    familiarity_margin: float  #: the familiarity of 99 % of images changes by at most this
    images: int  #: number of images measured
    data_digest: str  #: of those images

    def __post_init__(self) -> None:
        """Refuse invalid bounds, which could hide every doubtful image; raises ValueError."""
        if not (0.0 <= self.sure_below <= self.sure_above <= 1.0 and self.familiarity_margin >= 0.0):
            raise ValueError(f"invalid bounds: {self}")


@dataclass(frozen=True)
class ModelCard:
    """The card of one model file."""

    name: str
    recipe: str
    preprocessing: Preprocessing
    operating_point: OperatingPoint
    temperature: float
    heat_scale: float  #: raw heat that maps to 1.0: 99.5th percentile over validation positives
    heat_method: str  #: "Grad-CAM" or "HiResCAM"
    population: Population
    familiarity_limit: float | None  #: None: reported, not gating
    metrics: dict[str, Estimate]
    data_digest: str  #: of the whole manifest
    versions: dict[str, str]
    created_at: str
    attribution: str = ""
    bias: float = 0.0  #: probability = sigmoid(logit / temperature + bias): corrects the prior of balanced batches
    reduced_decode: ReducedDecode | None = None  #: None: not measured, every image is decoded in full
    prevalence: float | None = None  #: that the probabilities mean; None: not stated
    field_limits: FieldLimits | None = None  #: what counts as a lung field; None: the model has no lung net
    site: SitePoint | None = None  #: None: the point is the one the file was made with
    goldens: tuple[Golden, ...] = field(default=(), repr=False)
    validation_scores: ValidationScores | None = field(default=None, repr=False)  #: None: not kept
    reference: Reference | None = field(default=None, repr=False)  #: None: drift cannot be judged

    def __post_init__(self) -> None:
        """Refuse reduced-decode bounds without the threshold between them, because verdicts change there; and bounds
        beside a pyramid, which gives the same at every resolution. Raises ValueError."""
        measured = self.reduced_decode
        if measured and self.preprocessing.pyramid:
            raise ValueError(f"bounds for reduced decoding beside resize = {self.preprocessing.resize}")
        if measured and not measured.sure_below <= self.operating_point.threshold <= measured.sure_above:
            raise ValueError(f"the threshold {self.operating_point.threshold} lies outside the reduced-decode bounds")

    def to_metadata(self) -> dict[str, str]:
        """The card as ONNX `metadata_props`; goldens, reference and validation scores under keys of their own."""
        values = asdict(self)
        del values["goldens"], values["reference"], values["validation_scores"]
        values["preprocessing"] = self.preprocessing.to_json()
        if self.reduced_decode is None:
            del values["reduced_decode"]  # so that older workers can read the card
        for name in ("field_limits", "prevalence", "site"):
            if values[name] is None:
                del values[name]
        values["card_version"] = CARD_VERSION
        goldens = [{**asdict(g), "content": base64.b64encode(g.content).decode()} for g in self.goldens]
        metadata = {CARD_KEY: json.dumps(values, sort_keys=True), GOLDENS_KEY: json.dumps(goldens)}
        if self.reference is not None:
            metadata[REFERENCE_KEY] = self.reference.to_metadata()
        if self.validation_scores is not None:
            metadata[VALIDATION_KEY] = self.validation_scores.to_metadata()
        return metadata

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> "ModelCard":
        """Inverse of `to_metadata`; raises ModelRefused when the card is absent, incomplete or of another version."""
        if CARD_KEY not in metadata:
            raise ModelRefused(f"the model file has no {CARD_KEY!r} in its metadata: export it with `trainer fit`")
        try:
            values: dict[str, Any] = json.loads(metadata[CARD_KEY])
            version = values.pop("card_version", None)
            if version != CARD_VERSION:
                raise ModelRefused(f"the model card has version {version}, this worker reads {CARD_VERSION}")
            point = values.pop("operating_point")
            reduced = values.pop("reduced_decode", None)
            limits = values.pop("field_limits", None)
            goldens = [
                Golden(**{**g, "content": base64.b64decode(g["content"])})
                for g in json.loads(metadata.get(GOLDENS_KEY, "[]"))
            ]
            reference, scores = metadata.get(REFERENCE_KEY), metadata.get(VALIDATION_KEY)
            site = values.pop("site", None)
            return cls(
                preprocessing=Preprocessing.from_json(values.pop("preprocessing")),
                operating_point=OperatingPoint(
                    threshold=point["threshold"],
                    rule=point["rule"],
                    sensitivity=Estimate(**point["sensitivity"]),
                    specificity=Estimate(**point["specificity"]),
                    data_digest=point["data_digest"],
                ),
                population=Population(**values.pop("population")),
                reduced_decode=None if reduced is None else _reduced_decode(reduced),
                field_limits=None if limits is None else FieldLimits.from_json(limits),
                metrics={name: Estimate(**e) for name, e in values.pop("metrics").items()},
                goldens=tuple(goldens),
                reference=None if reference is None else Reference.from_json(json.loads(reference)),
                validation_scores=None if scores is None else ValidationScores.from_metadata(scores),
                site=None if site is None else SitePoint.from_json(site),
                **values,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelRefused(f"the model card cannot be read ({error!r}): export it again") from error


def _reduced_decode(values: dict[str, Any]) -> ReducedDecode:
    return ReducedDecode(**{**values, "codings": tuple(map(str, values["codings"]))})
