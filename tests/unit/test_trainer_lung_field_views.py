"""Training views that know where the lungs are."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.data.augment import Augmentation, augment
from trainer.data.lung_field_views import Radiograph, field_view, put_beside, swap_surroundings

SIDE = 96
PLAIN = Augmentation()


def field(gap: int = 48) -> NDArray[np.uint8]:
    """Two lungs left and right of a column."""
    lungs = np.zeros((SIDE, SIDE), np.uint8)
    lungs[16:80, gap - 34 : gap - 4] = lungs[16:80, gap + 4 : gap + 34] = 255
    return lungs


def radiograph(lung: int, around: int, is_normal: bool, gap: int = 48) -> Radiograph:
    lungs = field(gap)
    return Radiograph(np.where(lungs > 0, lung, around).astype(np.uint8), lungs, is_normal)


NORMAL, SICK, ELSEWHERE = radiograph(60, 120, True), radiograph(180, 120, False), radiograph(60, 250, True)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_surroundings_come_from_the_other_image_and_the_lungs_stay() -> None:
    swapped = swap_surroundings(SICK.image, SICK.field, np.zeros((SIDE, SIDE), np.uint8), rng())
    inside = SICK.field > 0
    assert swapped[inside].mean() > 140, "the lungs, up to a gamma of their own"
    assert swapped[:8].max() == 0
    assert swapped[48, 48] < 140, "what lies between the lungs is no lung"
    nothing = np.zeros((SIDE, SIDE), np.uint8)
    assert np.array_equal(swap_surroundings(SICK.image, nothing, NORMAL.image, rng()), SICK.image)


def test_a_half_is_taken_from_the_normal_image_and_said_to_be() -> None:
    sick = Radiograph(np.tile(np.arange(SIDE, dtype=np.uint8), (SIDE, 1)), field(44), False)
    sides = set()
    for seed in range(8):
        image, lungs, half = put_beside(sick.image, sick.field, NORMAL, rng(seed))
        assert set(np.unique(half)) == {0, 255}
        taken = half[48] == 255
        sides.add(bool(taken[0]))
        far_kept = np.flatnonzero(~taken)[8:-8]
        assert np.array_equal(image[48, far_kept], sick.image[48, far_kept]), "the other half stays as it was"
        assert lungs[48, taken].any(), "with the other's lung"
    assert sides == {True, False}


@pytest.mark.parametrize(("mine", "keeps"), [(SICK, False), (NORMAL, True)], ids=["sick", "normal"])
def test_a_view_with_a_lung_of_another_knows_only_that_half(mine: Radiograph, keeps: bool) -> None:
    view = field_view(mine, mine.image, mine.image, NORMAL, replace(PLAIN, halves_share=1.0), rng())
    assert view.keeps_label is keeps
    known = view.layers[:, :, 2]
    assert known.mean() == pytest.approx(255 if mine.is_normal else 127, abs=20)


def test_a_plain_view_is_the_image_with_its_field_and_what_its_label_says() -> None:
    for mine in (SICK, NORMAL):
        view = field_view(mine, NORMAL.image, NORMAL.image, NORMAL, PLAIN, rng())
        assert view.keeps_label
        assert np.array_equal(view.layers[:, :, 0], mine.image)
        assert np.array_equal(view.layers[:, :, 1], mine.field)
        assert (view.layers[:, :, 2] == (255 if mine.is_normal else 0)).all()


def test_the_field_moves_with_the_picture() -> None:
    how = replace(PLAIN, rotation_max_deg=20, scale_max=0.2, shift_max=0.1, flip_share=0.5, area_min=0.4)
    for seed in range(10):
        layers = field_view(ELSEWHERE, ELSEWHERE.image, ELSEWHERE.image, NORMAL, how, rng(seed)).layers
        lung = layers[:, :, 1] > 250
        assert lung.any()
        assert layers[:, :, 0][lung].max() <= 70, "the dark lungs lie under their field"


def test_a_random_window_keeps_a_quarter_of_the_lungs_at_least() -> None:
    how = replace(PLAIN, area_min=0.1)
    corner = np.zeros((SIDE, SIDE), np.uint8)
    corner[4:40, 4:20] = corner[4:40, 28:44] = 255
    mine = Radiograph(corner, corner, False)
    for seed in range(30):
        view = field_view(mine, mine.image, mine.image, NORMAL, how, rng(seed)).layers[:, :, 1]
        assert (view > 127).any()


def test_windows_are_of_the_sizes_asked_for() -> None:
    ramp = np.tile(np.linspace(0, 255, SIDE).astype(np.uint8), (SIDE, 1))
    spans = [np.ptp(augment(ramp, ramp, replace(PLAIN, area_min=0.15), rng(seed))[48]) / 255 for seed in range(60)]
    assert min(spans) < 0.5
    assert max(spans) > 0.9
    assert min(spans) >= np.sqrt(0.15 * 3 / 4) - 0.05


def test_the_same_generator_gives_the_same_view() -> None:
    how = replace(PLAIN, halves_share=0.5, surroundings_share=0.5, area_min=0.3, jpeg_share=0.5, noise_share=0.5)
    one, other = (field_view(SICK, NORMAL.image, NORMAL.image, NORMAL, how, rng(3)).layers for _ in range(2))
    assert np.array_equal(one, other)
