"""The resolution at which the models in force see an image, and whether a result at a lower one is safe to use."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from worker.imaging.codec.codestream import Coding
from worker.imaging.codec.resolution import MinimumSize, Reduction
from worker.imaging.pyramid import TIMES_THE_GRID
from worker.inference.card import ModelCard
from worker.inference.overlay import PICTURE_PX
from worker.inference.prediction import Prediction


def reduction_for(card: ModelCard, others: Sequence[ModelCard], is_allowed: bool) -> Reduction | None:
    """At which resolution an image is read for the model of `card`; None: in full.

    A model with a pyramid gets the halving that its card states. Models without one share a picture, of a size that is
    enough for all of them. Unless it `is_allowed`, codestreams are decoded in full.
    """
    pyramid = card.preprocessing.pyramid
    if pyramid is not None:
        return replace(pyramid, is_decoded_reduced=is_allowed)
    same = [card, *(other for other in others if other.preprocessing.pyramid is None)]
    return minimum_size_for(same) if is_allowed else None


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

    It could between the card's bounds, within the card's margin of the familiarity limit or beyond it, and for NaN. For
    a model with a pyramid it never could: a pyramid gives the same at every resolution.
    """
    if card.preprocessing.pyramid is not None:
        return False
    measured = card.reduced_decode
    if measured is None or not math.isfinite(prediction.probability):
        return True
    if measured.sure_below <= prediction.probability < measured.sure_above:
        return True
    limit = card.familiarity_limit
    return limit is not None and not prediction.familiarity <= limit - measured.familiarity_margin
