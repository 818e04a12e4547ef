"""Which images may be screened, and how the predictions of a study give its verdict."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from schema.vocabulary import Reason, Verdict
from tests.ledger import card, image
from worker.imaging.instance import Container, Instance
from worker.inference.card import Population
from worker.inference.lung_field import FieldLimits
from worker.inference.prediction import Prediction
from worker.screening import ages
from worker.screening.remarks import remarks
from worker.screening.rules import (
    Answer,
    ImageOutcome,
    decide,
    eligible,
)

YES, NO, UNKNOWN = Answer.YES, Answer.NO, Answer.UNKNOWN
LATERAL: dict[str, Any] = {"view": "LL"}
HIP: dict[str, Any] = {"body_part": "HIP"}
CT: dict[str, Any] = {"modality": "CT"}


@pytest.mark.parametrize(
    ("test", "element", "value", "answer"),
    [
        *(("radiograph", "modality", value, YES) for value in ("CR", "DX", "RG", "dx")),
        *(("radiograph", "modality", value, NO) for value in ("CT", "MG", "MR", "US", "SR")),
        ("radiograph", "modality", None, UNKNOWN),
        *(("chest", "body_part", value, YES) for value in ("CHEST", "Thorax", "CHESTABDOMEN", "LUNG", "RIB", "TSPINE")),
        *(("chest", "body_part", value, NO) for value in ("HIP", "HAND", "SKULL", "ABDOMEN", "BREAST")),
        ("chest", "body_part", None, UNKNOWN),
        *(("frontal", "view", value, YES) for value in ("AP", "PA", "pa", "postero-anterior", "Antero-posterior")),
        *(("frontal", "view", value, NO) for value in ("LL", "RL", "LATERAL", "left lateral", "RAO", "oblique")),
        *(("frontal", "view", value, UNKNOWN) for value in (None, "X", "STANDING", "PA/AP?")),
        ("presentation", "presentation_intent_type", "FOR PRESENTATION", YES),
        ("presentation", "presentation_intent_type", "FOR PROCESSING", NO),
        *(("presentation", "presentation_intent_type", f"FOR{gap}PROCESSING", NO) for gap in ("_", "-", "  ", "")),
        ("presentation", "presentation_intent_type", "For_Presentation", YES),
        ("presentation", "presentation_intent_type", None, UNKNOWN),
        ("presentation", "sop_class_uid", "1.2.840.10008.5.1.4.1.1.1.1.1", NO),
    ],
)
def test_the_header_answers_each_test(test: str, element: str, value: str | None, answer: Answer) -> None:
    elements: dict[str, Any] = {element: value}
    eligibility = eligible(image(**elements))
    assert getattr(eligibility, test) is answer
    assert (test in eligibility.unknowns) is (answer is UNKNOWN)
    assert (eligibility.exclusion is not None) is (answer is NO), "only a declared no excludes"


def test_a_declared_intent_goes_before_the_sop_class() -> None:
    for_processing = image(sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1.1", presentation_intent_type="FOR PRESENTATION")
    assert eligible(for_processing).presentation is YES


def test_modality_decides_and_not_the_sop_class() -> None:
    secondary_capture = "1.2.840.10008.5.1.4.1.1.7"
    assert eligible(image(sop_class_uid=secondary_capture)).exclusion is None


def test_a_raster_is_taken_for_a_radiograph() -> None:
    eligibility = eligible(Instance(Container.RASTER, "1", "2", "3", 10, 10))
    assert eligibility.exclusion is None
    assert eligibility.unknowns == ("chest", "frontal", "presentation")


def of(probability: float | None = None, familiarity: float = 1.0, *, broken: bool = False, blank: bool = False,
       **elements: Any) -> ImageOutcome:  # fmt: skip
    """What became of an image: predicted, unreadable, blank, or excluded by its header."""
    header = image(**elements)
    prediction = None
    if probability is not None:
        prediction = Prediction(probability, np.zeros((1, 1), np.float32), familiarity)
    return ImageOutcome(header, eligible(header), prediction, "truncated" if broken else None, blank)


def with_lungs(probability: float, lungs: float) -> ImageOutcome:
    """A predicted image whose lung field, two bars, has that probability."""
    outcome = of(probability)
    field = np.zeros((20, 20), np.float32)
    field[4:16, 2:8] = field[4:16, 12:18] = lungs
    assert outcome.prediction is not None
    return replace(outcome, prediction=replace(outcome.prediction, lungs=field))


LIMITS = FieldLimits(area=(0.1, 0.6), paired=(0.5, 1.0), edge=(0.0, 0.2), certainty=(0.7, 1.0))
FIELDLESS = (Verdict.UNSCREENABLE, Reason.NO_LUNG_FIELD)
CHILDREN = Population("children of one to five", 1, 5)
FLAGGED, NEGATIVE = (Verdict.FLAGGED, Reason.AT_OR_ABOVE_THRESHOLD), (Verdict.NOT_FLAGGED, Reason.BELOW_THRESHOLD)
OUTSIDE = (Verdict.UNSCREENABLE, Reason.OUTSIDE_POPULATION)
STRANGE = (Verdict.UNSCREENABLE, Reason.UNFAMILIAR)
BROKEN = (Verdict.UNSCREENABLE, Reason.UNREADABLE_IMAGE)

#: (outcomes, changes of the card, verdict and reason, deciding image, probability shown)
JUDGEMENTS: dict[str, tuple[list[ImageOutcome], dict[str, Any], tuple[Verdict, Reason], int, float | None]] = {
    "below": ([of(0.4)], {}, NEGATIVE, 0, 0.4),
    "at the threshold": ([of(0.5)], {}, FLAGGED, 0, 0.5),
    "just below the threshold": ([of(np.nextafter(0.5, 0))], {}, NEGATIVE, 0, np.nextafter(0.5, 0)),
    "the highest decides": ([of(0.1), of(0.8), of(0.6)], {}, FLAGGED, 1, 0.8),
    "the highest is shown": ([of(0.1), of(0.3)], {}, NEGATIVE, 1, 0.3),
    "a lateral beside a frontal": ([of(0.1), of(**LATERAL)], {}, NEGATIVE, 0, 0.1),
    "a hip beside a chest": ([of(**HIP), of(0.1)], {}, NEGATIVE, 1, 0.1),
    "only a lateral": ([of(**LATERAL)], {}, (Verdict.UNSCREENABLE, Reason.NOT_FRONTAL), 0, None),
    "only for processing": ([of(presentation_intent_type="FOR PROCESSING")], {},
                            (Verdict.UNSCREENABLE, Reason.FOR_PROCESSING), 0, None),
    "a lateral and a hip": ([of(**HIP), of(**LATERAL)], {}, (Verdict.UNSCREENABLE, Reason.NOT_FRONTAL), 1, None),
    "only a hip": ([of(**HIP)], {}, (Verdict.INELIGIBLE, Reason.OTHER_BODY_PART), 0, None),
    "only a CT": ([of(**CT)], {}, (Verdict.INELIGIBLE, Reason.OTHER_MODALITY), 0, None),
    "a broken hip": ([of(broken=True, **HIP)], {}, (Verdict.INELIGIBLE, Reason.OTHER_BODY_PART), 0, None),
    "unreadable": ([of(broken=True)], {}, BROKEN, 0, None),
    "one unreadable": ([of(0.1), of(broken=True)], {}, BROKEN, 1, 0.1),
    "unreadable and flagged stays flagged": ([of(broken=True), of(0.9)], {}, FLAGGED, 1, 0.9),
    "blank": ([of(0.1), of(blank=True)], {}, (Verdict.UNSCREENABLE, Reason.BLANK_IMAGE), 1, 0.1),
    "blank and flagged stays flagged": ([of(blank=True), of(0.9)], {}, FLAGGED, 1, 0.9),
    "too young": ([of(0.1, age_years=0.99)], {"population": CHILDREN}, OUTSIDE, 0, 0.1),
    "one year to the day": ([of(0.1, age_years=1.0)], {"population": CHILDREN}, NEGATIVE, 0, 0.1),
    "five, almost six": ([of(0.1, age_years=5.99)], {"population": CHILDREN}, NEGATIVE, 0, 0.1),
    "six": ([of(0.1, age_years=6.0)], {"population": CHILDREN}, OUTSIDE, 0, 0.1),
    "of unknown age": ([of(0.1, age_years=None)], {"population": CHILDREN}, NEGATIVE, 0, 0.1),
    "too old and flagged stays flagged": ([of(0.9, age_years=80.0)], {"population": CHILDREN}, FLAGGED, 0, 0.9),
    "a lung field": ([with_lungs(0.1, 0.9)], {"field_limits": LIMITS}, NEGATIVE, 0, 0.1),
    "no lung field": ([of(0.4), with_lungs(0.1, 0.2)], {"field_limits": LIMITS}, FIELDLESS, 1, 0.4),
    "a doubtful lung field": ([with_lungs(0.1, 0.6)], {"field_limits": LIMITS}, FIELDLESS, 0, 0.1),
    "no lung field and flagged stays flagged": ([with_lungs(0.9, 0.0)], {"field_limits": LIMITS}, FLAGGED, 0, 0.9),
    "no lung field, without limits": ([with_lungs(0.1, 0.0)], {}, NEGATIVE, 0, 0.1),
    "unfamiliar without a limit": ([of(0.1, 1e9)], {}, NEGATIVE, 0, 0.1),
    "at the limit": ([of(0.1, 30.0)], {"familiarity_limit": 30.0}, NEGATIVE, 0, 0.1),
    "beyond the limit": ([of(0.4, 1.0), of(0.1, 30.5)], {"familiarity_limit": 30.0},
                         STRANGE, 1, 0.4),
    "infinitely far": ([of(0.1, float("inf"))], {"familiarity_limit": 30.0}, STRANGE, 0, 0.1),
    "a familiarity that is no number": ([of(0.1, float("nan"))], {"familiarity_limit": 30.0}, STRANGE, 0, 0.1),
    "unfamiliar and flagged stays flagged": ([of(0.9, 31.0)], {"familiarity_limit": 30.0}, FLAGGED, 0, 0.9),
    "a stranger beside a flag": ([of(0.1, 99.0), of(0.9)], {"familiarity_limit": 30.0}, FLAGGED, 1, 0.9),
    "a stranger beside a hip": ([of(**HIP), of(0.1, 31.0)], {"familiarity_limit": 30.0}, STRANGE, 1, 0.1),
}  # fmt: skip


@pytest.mark.parametrize("name", JUDGEMENTS)
def test_a_study_is_judged(name: str) -> None:
    outcomes, changes, (verdict, reason), deciding, probability = JUDGEMENTS[name]
    judged = decide(outcomes, card(**changes))
    assert (judged.verdict, judged.reason) == (verdict, reason)
    assert (judged.deciding, judged.probability) == (deciding, probability)


@pytest.mark.parametrize("probability", [0.1, 0.9])
def test_the_row_tells_how_far_a_stranger_lies(probability: float) -> None:
    """An unscreenable row and a flagged one alike; an image at the limit is told nothing."""
    limited = card(familiarity_limit=1.5)
    assert decide([of(probability, 1.62)], limited).detail == "familiarity 1.620 beyond the limit of 1.500"
    assert decide([of(probability, float("nan"))], limited).detail == "familiarity nan beyond the limit of 1.500"
    assert decide([of(probability, 1.5)], limited).detail == ""


@pytest.mark.parametrize("position", [0, 1])
def test_a_model_that_gives_no_number_gives_no_negative(position: int) -> None:
    """An overflow in half precision: NaN is below every threshold and must not look like health."""
    outcomes = [of(0.1), of(0.2)]
    outcomes[position] = of(float("nan"))
    assert decide(outcomes, card()).verdict is not Verdict.NOT_FLAGGED


def test_a_flag_survives_a_neighbour_without_a_number() -> None:
    for outcomes in ([of(float("nan")), of(0.9)], [of(0.9), of(float("nan"))]):
        assert decide(outcomes, card()).verdict is Verdict.FLAGGED


@pytest.mark.parametrize("probability", [0.1, 0.9])
def test_the_row_tells_that_a_patient_is_outside_the_population(probability: float) -> None:
    """An unscreenable row and a flagged one alike, in completed years, of small children in months."""
    for years, said in ((64.475, "age 64 years"), (7 / 12, "age 7 months"), (6.0, "age 6 years"), (5.9, "")):
        judged = decide([of(probability, age_years=years)], card(population=CHILDREN))
        assert judged.detail == said


def test_a_flag_tells_age_and_likeness() -> None:
    judged = decide([of(0.9, 31.0, age_years=64.0)], card(population=CHILDREN, familiarity_limit=30.0))
    assert [reason for reason, _ in remarks(judged.detail)] == [Reason.OUTSIDE_POPULATION, Reason.UNFAMILIAR]


def test_ages_are_completed_months_below_two_years() -> None:
    assert [ages.in_short(months / 12) for months in range(24)] == [f"{months} mo" for months in range(24)]
    assert [ages.in_short(years) for years in (2.0, 24.67, None)] == ["2 y", "24 y", ""]
