"""The resolution that the models in force need, and whether the result at a lower resolution is safe to use."""

import math
from collections.abc import Iterable

from worker.imaging.codestream import Coding
from worker.imaging.resolution import MinimumSize
from worker.inference.card import ModelCard
from worker.inference.overlay import PICTURE_PX
from worker.inference.prediction import Prediction

#: A picture is never decoded smaller than this many times a model's grid, so that resizing always shrinks it.
TIMES_THE_GRID = 2


def minimum_size_for(cards: Iterable[ModelCard]) -> MinimumSize | None:
    """The smallest size that is enough for all these models and for an overlay; None when one of the models was not
    measured at lower resolutions."""
    sizes, codings = [], set(Coding)
    for card in cards:
        if card.reduced_decode is None:
            return None
        sizes.append(card.preprocessing.size)
        codings &= {coding for coding in Coding if coding in card.reduced_decode.codings}
    if not sizes or not codings:
        return None
    return MinimumSize(TIMES_THE_GRID * max(sizes), PICTURE_PX, frozenset(codings))


def needs_full_decode(prediction: Prediction, card: ModelCard) -> bool:
    """Whether the full resolution could change the verdict, given the prediction at a lower resolution.

    That is so between the card's bounds, closer to the familiarity limit than its margin or beyond it, and for NaN.
    """
    measured = card.reduced_decode
    if measured is None or not math.isfinite(prediction.probability):
        return True
    if measured.sure_below <= prediction.probability < measured.sure_above:
        return True
    limit = card.familiarity_limit
    return limit is not None and not prediction.familiarity <= limit - measured.familiarity_margin
