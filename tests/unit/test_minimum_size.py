"""The resolution that is decoded follows from the cards, and doubtful images are decoded in full."""

from dataclasses import replace

import numpy as np
import pytest

from tests.ledger import card
from worker.imaging.codec.codestream import Coding
from worker.imaging.codec.resolution import MinimumSize
from worker.imaging.preprocess import Preprocessing
from worker.inference.card import ReducedDecode
from worker.inference.prediction import Prediction
from worker.inference.reduced_decode import minimum_size_for, needs_full_decode

MEASURED = ReducedDecode(("jpeg", "jpeg_2000"), 0.1, 0.9, 0.05, 200, "2" * 64)
SMALL = card(reduced_decode=MEASURED)  # a grid of 32 px
LARGE = card(
    preprocessing=Preprocessing(size=500), reduced_decode=replace(MEASURED, codings=("jpeg_2000", "of tomorrow"))
)


def said(probability: float, familiarity: float = 1.0) -> Prediction:
    return Prediction(probability, np.zeros((7, 7), np.float32), familiarity)


def test_twice_the_largest_grid_is_enough_and_an_overlay() -> None:
    assert minimum_size_for([SMALL]) == MinimumSize(64, 740, frozenset({Coding.JPEG, Coding.JPEG_2000}))
    assert minimum_size_for([SMALL, LARGE]) == MinimumSize(1000, 740, frozenset({Coding.JPEG_2000}))


def test_every_model_that_looks_must_allow_it() -> None:
    assert minimum_size_for([card()]) is None
    assert minimum_size_for([SMALL, card()]) is None
    assert minimum_size_for([card(reduced_decode=replace(MEASURED, codings=()))]) is None


@pytest.mark.parametrize(
    ("probability", "doubt"),
    [(0.0, False), (0.0999, False), (0.1, True), (0.5, True), (0.8999, True), (0.9, False), (1.0, False),
     (float("nan"), True)],
)  # fmt: skip
def test_a_probability_between_the_bounds_leaves_a_doubt(probability: float, doubt: bool) -> None:
    assert needs_full_decode(said(probability), SMALL) is doubt


@pytest.mark.parametrize(
    ("familiarity", "doubt"),
    [(1.0, False), (1.94, False), (1.96, True), (2.0, True), (9.0, True), (float("nan"), True)],
)
def test_an_image_that_may_be_unfamiliar_leaves_a_doubt(familiarity: float, doubt: bool) -> None:
    limited = card(reduced_decode=MEASURED, familiarity_limit=2.0)
    assert needs_full_decode(said(0.01, familiarity), limited) is doubt


def test_without_a_measurement_every_answer_leaves_a_doubt() -> None:
    assert needs_full_decode(said(0.01), card())
