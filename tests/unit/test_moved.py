"""The bounds of doubt on a card follow from how far answers moved, and hold what they promise."""

from tests.benchmarks.moved import MOST, Moved, bounds_of_doubt, judged
from tests.ledger import card

DECODE = {"full_ms": 100.0, "reduced_ms": 10.0}


def one(probability: float, reduced: float, familiarity: float = 1.0) -> Moved:
    return Moved("g", 2, probability, familiarity, reduced, familiarity)


FOUND = [
    one(0.01, 0.012),
    one(0.04, 0.045),
    one(0.1, 0.2),
    one(0.3, 0.3),
    one(0.6, 0.45),
    one(0.85, 0.9),
    one(0.99, 0.992),
]


def test_the_bounds_stand_off_from_the_answers_that_moved_too_far() -> None:
    below, above, margin = bounds_of_doubt(FOUND, card())
    assert below == round(0.5 * 0.25 / (1 + 0.5 * 0.25), 4), "half the odds of 0.2"
    assert above == round(2 * 9 / (1 + 2 * 9), 4), "twice the odds of 0.9"
    assert margin == 0.0


def test_where_nothing_moved_only_the_threshold_is_in_doubt() -> None:
    below, above, _ = bounds_of_doubt([one(0.2, 0.2), one(0.9, 0.901)], card(threshold=0.25))
    assert below < 0.25 < above
    assert (below, above) == (round(1 / 7, 4), 0.4)


def test_what_is_left_after_doubts_keeps_its_numbers_and_what_that_costs_is_told() -> None:
    found = judged(FOUND, card(), DECODE)
    before, after = found["groups"]["all"], found["groups"]["all"]["doubts_in_full"]
    assert (before["within"], before["flips"]) == (round(4 / 7, 4), 1)
    assert (after["within"], after["flips"]) == (1.0, 0)
    assert after["largest"] <= MOST
    assert found["meets_its_numbers"]
    assert before["in_doubt"] == found["in_doubt_of_familiar"] == round(4 / 7, 4)
    assert found["saves_of_familiar"] == round(1 - 4 / 7 - 0.1, 3)


def test_pictures_that_are_not_familiar_say_nothing_of_what_is_saved() -> None:
    strange = [one(0.01, 0.01, familiarity=9.0)] * 7
    found = judged([*FOUND, *strange], card(familiarity_limit=2.0), DECODE)
    assert found["groups"]["all"]["in_doubt"] == round(11 / 14, 4)
    assert found["in_doubt_of_familiar"] == round(4 / 7, 4)
