"""The screening rules, pure: which images may be screened, and which verdict a study's predictions give."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from schema.vocabulary import Reason, Verdict
from worker.imaging.instance import VALUES_APART, Container, Instance
from worker.imaging.statistics import InputStatistics
from worker.imaging.stored_values.stalled_copy import LOWER_PART_EMPTY
from worker.inference.card import ModelCard
from worker.inference.lung_field import implausible
from worker.inference.prediction import Prediction
from worker.screening import ages, body_parts, modalities, phrases, views
from worker.screening.remarks import AGE, FAMILIARITY, SEPARATOR

#: First words of frontal views, as headers write them -> View Position (PS3.3 C.8.11.5.1.1).
VIEW_POSITIONS = {
    **dict.fromkeys(("ap", "antero", "anteroposterior"), "AP"),
    **dict.fromkeys(("pa", "postero", "posteroanterior"), "PA"),
}


class Answer(StrEnum):
    """The result of one test of a header. Only a declared NO excludes an image."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Eligibility:
    """The test results for one instance, by the name of the test."""

    radiograph: Answer
    chest: Answer
    frontal: Answer
    presentation: Answer

    @property
    def is_chest_radiograph(self) -> bool:
        """False only when the header declares another modality or body part."""
        return Answer.NO not in (self.radiograph, self.chest)

    @property
    def exclusion(self) -> Reason | None:
        """Why the instance is not screened; None when its header gives no reason against it."""
        for answer, reason in (
            (self.radiograph, Reason.OTHER_MODALITY),
            (self.chest, Reason.OTHER_BODY_PART),
            (self.frontal, Reason.NOT_FRONTAL),
            (self.presentation, Reason.FOR_PROCESSING),
        ):
            if answer is Answer.NO:
                return reason
        return None

    @property
    def unknowns(self) -> tuple[str, ...]:
        """The tests that the header does not answer; they are noted on the row."""
        return tuple(name for name, answer in vars(self).items() if answer is Answer.UNKNOWN)


@dataclass(frozen=True)
class ImageOutcome:
    """The outcome for one instance of a study."""

    instance: Instance
    eligibility: Eligibility
    prediction: Prediction | None = None
    unreadable: str | None = None  #: code of the Rejected error, when the image could not be read
    is_blank: bool = False  #: read, but all pixels have one value
    unreadable_because: str = ""  #: message of that error, which names the remedy
    statistics: InputStatistics | None = None  #: of the model's input

    @property
    def is_unanswered(self) -> bool:
        """Whether the model gave no number (an overflow). NaN is below every threshold, but is no negative."""
        return self.prediction is not None and not math.isfinite(self.prediction.probability)


@dataclass(frozen=True)
class StudyVerdict:
    """The verdict on one revision of a study."""

    verdict: Verdict
    reason: Reason
    detail: str
    deciding: int | None  #: index of the deciding outcome
    probability: float | None  #: highest over the eligible instances; shown in every case


def eligible(instance: Instance) -> Eligibility:
    """Test the header. Raster files have none: they count as radiographs, and the other tests are UNKNOWN."""
    return Eligibility(
        radiograph=_is_radiograph(instance),
        chest=_is_chest(instance),
        frontal=_is_frontal(instance),
        presentation=_is_for_presentation(instance),
    )


def decide(outcomes: Sequence[ImageOutcome], card: ModelCard) -> StudyVerdict:
    """The verdict on a study, from the outcomes of its images. `outcomes` holds at least one.

    In this order: an image at or above the threshold flags the study, whatever happened to the others; a study without
    a chest radiograph is ineligible; one without a frontal image for presentation is unscreenable, and so is one with
    a frontal image that cannot be read, is blank or half empty, has no number from the model, lies outside its
    population, shows no lung field or is unfamiliar; otherwise it is not flagged. Images that the header excludes (a
    lateral view) are left out beside others.
    """
    scored = [(o.prediction.probability, i) for i, o in enumerate(outcomes) if o.prediction and not o.is_unanswered]
    probability, deciding = max(scored, default=(None, None))

    def judged(verdict: Verdict, reason: Reason, detail: str = "", index: int | None = deciding) -> StudyVerdict:
        return StudyVerdict(verdict, reason, detail, index, probability)

    if probability is not None and deciding is not None and probability >= card.operating_point.threshold:
        return judged(Verdict.FLAGGED, Reason.AT_OR_ABOVE_THRESHOLD, _beside_a_flag(outcomes[deciding], card))

    chest = [(i, o) for i, o in enumerate(outcomes) if o.eligibility.is_chest_radiograph]
    if not chest:
        first = outcomes[0]
        reason = first.eligibility.exclusion or Reason.OTHER_BODY_PART
        detail = first.instance.modality if reason is Reason.OTHER_MODALITY else first.instance.body_part
        return judged(Verdict.INELIGIBLE, reason, detail or "", 0)

    admitted = [(i, o) for i, o in chest if o.eligibility.exclusion is None]
    if not admitted:
        index, outcome = chest[0]
        reason = outcome.eligibility.exclusion or Reason.NOT_FRONTAL
        return judged(Verdict.UNSCREENABLE, reason, outcome.instance.view or "", index)
    for doubt in DOUBTS:
        for index, outcome in admitted:
            if (found := doubt(outcome, card)) is not None:
                return judged(Verdict.UNSCREENABLE, *found, index)
    return judged(Verdict.NOT_FLAGGED, Reason.BELOW_THRESHOLD)


#: Why an image keeps its study from being negative, with its detail; None: it does not.
Doubt = tuple[Reason, str] | None


def _no_number(outcome: ImageOutcome, _: ModelCard) -> Doubt:
    if outcome.unreadable is not None:
        return Reason.UNREADABLE_IMAGE, outcome.unreadable
    if LOWER_PART_EMPTY in outcome.instance.notes:
        return Reason.UNREADABLE_IMAGE, LOWER_PART_EMPTY
    if outcome.is_blank:
        return Reason.BLANK_IMAGE, ""
    return (Reason.UNEXPECTED_ERROR, "the model gave no number") if outcome.is_unanswered else None


def _outside_population(outcome: ImageOutcome, card: ModelCard) -> Doubt:
    detail = _age_outside_population(outcome, card)
    return (Reason.OUTSIDE_POPULATION, detail) if detail else None


def _no_lung_field(outcome: ImageOutcome, card: ModelCard) -> Doubt:
    detail = _missing_lungs(outcome, card)
    return (Reason.NO_LUNG_FIELD, detail) if detail else None


def _unfamiliar(outcome: ImageOutcome, card: ModelCard) -> Doubt:
    detail = _unfamiliarity(outcome, card)
    return (Reason.UNFAMILIAR, detail) if detail else None


#: In their order: the first that holds for any image names the study's reason.
DOUBTS: tuple[Callable[[ImageOutcome, ModelCard], Doubt], ...] = (
    _no_number, _outside_population, _no_lung_field, _unfamiliar,
)  # fmt: skip


def _beside_a_flag(outcome: ImageOutcome, card: ModelCard) -> str:
    """The reasons to trust an image's flag less (`worker.screening.remarks`); empty when there is none."""
    return SEPARATOR.join(filter(None, (_age_outside_population(outcome, card), _unfamiliarity(outcome, card))))


def _age_outside_population(outcome: ImageOutcome, card: ModelCard) -> str:
    """The age of a patient outside the model's population; empty for one inside, or of unknown age."""
    age = outcome.instance.age_years
    return "" if age is None or card.population.admits(age) else AGE + ages.in_words(age)


def _unfamiliarity(outcome: ImageOutcome, card: ModelCard) -> str:
    """A text that says how far an image lies beyond the familiarity limit; empty when it does not."""
    prediction, limit = outcome.prediction, card.familiarity_limit
    if prediction is None or not prediction.is_unfamiliar(limit):
        return ""
    return f"{FAMILIARITY}{prediction.familiarity:.3f} beyond the limit of {limit:.3f}"


def _missing_lungs(outcome: ImageOutcome, card: ModelCard) -> str:
    """What speaks against a lung field in a predicted image, in words; empty when nothing does."""
    prediction, limits = outcome.prediction, card.field_limits
    if prediction is None or prediction.lungs is None or limits is None:
        return ""
    return implausible(prediction.lungs, limits)


def _is_radiograph(instance: Instance) -> Answer:
    if instance.container is Container.RASTER:
        return Answer.YES
    if not instance.is_image:
        return Answer.NO
    named = {value.strip().upper() for value in _values(instance.modality)}
    if named & modalities.RADIOGRAPHS:
        return Answer.YES
    return Answer.NO if named and named <= modalities.OTHERS else Answer.UNKNOWN


def _is_chest(instance: Instance) -> Answer:
    elements = (instance.body_part, instance.anatomic_region)
    if any(body_parts.names_chest(value) for value in _values(*elements)):
        return Answer.YES  # one part among several, as in `ABDOMEN\CHEST`
    # an element's values are read together: an unknown value beside another part may mean the chest, and two parts may
    # span it
    is_another = any(body_parts.names_another_part(_as_phrase(element)) for element in elements)
    return Answer.NO if is_another else Answer.UNKNOWN


def _is_frontal(instance: Instance) -> Answer:
    elements = (instance.view, instance.view_code)
    values = _values(*elements)
    if any(views.names_frontal(value) for value in values):
        return Answer.UNKNOWN if any(views.names_another_view(value) for value in values) else Answer.YES
    is_another = any(views.names_another_view(_as_phrase(element)) for element in elements)
    return Answer.NO if is_another else Answer.UNKNOWN


#: Presentation Intent Type (PS3.3 C.8.11.1.1), with or without the space; any other value is unknown.
_INTENTS = {"FORPRESENTATION": Answer.YES, "FORPROCESSING": Answer.NO}

#: Digital X-Ray Image Storage - For Processing (PS3.4 B.5): an object of it has that intent, also where it is not said.
_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"


def _is_for_presentation(instance: Instance) -> Answer:
    said = re.sub(r"[\s_-]+", "", (instance.presentation_intent_type or "").upper())
    return _INTENTS.get(said, Answer.NO if instance.sop_class_uid == _FOR_PROCESSING else Answer.UNKNOWN)


def view_position(view: str | None) -> str | None:
    """AP or PA, for the view of a header whose first word is one of them; None for any other."""
    return VIEW_POSITIONS.get(next(iter(phrases.words(view or "")), ""))


def _as_phrase(element: str | None) -> str:
    """The values of an element as one text."""
    return " ".join(_values(element))


def _values(*elements: str | None) -> list[str]:
    """The values of elements that may have several."""
    return [value for element in elements for value in (element or "").split(VALUES_APART) if value.strip()]
