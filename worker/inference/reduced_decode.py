"""How much of a picture the models in force need to see, and whether what one of them saw was enough."""

import math
from collections.abc import Iterable

from worker.imaging.codestream import Coding
from worker.imaging.resolution import Enough
from worker.inference.card import ModelCard
from worker.inference.overlay import PICTURE_PX
from worker.inference.prediction import Prediction

#: A picture is never read smaller than this many times a model's grid: below it, the grid would be filled up.
TIMES_THE_GRID = 2


def enough_for(cards: Iterable[ModelCard]) -> Enough | None:
    """The least that serves all of them and an overlay; None when one of them was not measured on less than all."""
    sizes, codings = [], set(Coding)
    for card in cards:
        if card.reduced_decode is None:
            return None
        sizes.append(card.preprocessing.size)
        codings &= {coding for coding in Coding if coding in card.reduced_decode.codings}
    if not sizes or not codings:
        return None
    return Enough(TIMES_THE_GRID * max(sizes), PICTURE_PX, frozenset(codings))


def leaves_doubt(prediction: Prediction, card: ModelCard) -> bool:
    """Whether the answer to a picture of lower resolution lies where the whole picture may get another verdict.

    That is: between the card's bounds, less than its margin from being unfamiliar or beyond, or no number.
    """
    measured = card.reduced_decode
    if measured is None or not math.isfinite(prediction.probability):
        return True
    if measured.sure_below <= prediction.probability < measured.sure_above:
        return True
    limit = card.familiarity_limit
    return limit is not None and not prediction.familiarity <= limit - measured.familiarity_margin
