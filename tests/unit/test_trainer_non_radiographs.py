"""Generated pictures repeat, differ from one another, and are of the kind that their name says."""

import numpy as np
import pytest

from trainer.evaluation.non_radiographs import KINDS, SIDE, generate
from trainer.export.familiarity import limit_of
from worker.errors import ModelRefused


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_repeats_and_varies(kind: str) -> None:
    pictures, again = list(generate(kind, 4)), list(generate(kind, 4))
    assert all(np.array_equal(one, other) for one, other in zip(pictures, again, strict=True))
    assert {(picture.shape, picture.dtype) for picture in pictures} == {((SIDE, SIDE), np.dtype(np.uint8))}
    others = [*pictures[1:], next(generate(kind, 1, seed=1))]
    assert not any(np.array_equal(pictures[0], other) for other in others)


def test_blank_pictures_have_no_edges_and_noise_has_nothing_else() -> None:
    def edges(kind: str) -> list[float]:
        return [float(np.abs(np.diff(p.astype(np.float64), axis=1)).mean()) for p in generate(kind, 6)]

    assert max(edges("blank")) < 6
    assert min(edges("white noise")) > 15


def test_the_limit_keeps_what_it_says() -> None:
    distances = np.random.default_rng(0).gamma(9, 0.1, 1000)
    assert 990 <= (distances <= limit_of(distances)).sum() <= 991


def test_few_images_are_all_kept_after_another_runtimes_rounding() -> None:
    distances = np.random.default_rng(0).gamma(9, 0.1, 99)
    assert (distances * (1 + 1e-4) <= limit_of(distances)).all()


@pytest.mark.parametrize("fault", [np.nan, np.inf])
def test_a_limit_is_not_taken_from_what_is_no_number(fault: float) -> None:
    with pytest.raises(ModelRefused, match="no limit can be set"):
        limit_of(np.array([1.0, fault]))
