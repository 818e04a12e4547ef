"""The parts of the deletion test: order of the pixels, images in between, area under a curve."""

import numpy as np
import pytest

from trainer.data.augment import change_gamma
from trainer.statistics.deletion import STEPS, area, between, blurred, centre_heat, closest, random_heat, ranks
from trainer.statistics.paired import mean_difference

SIZE = 64
rng = np.random.default_rng(0)
IMAGES = [rng.integers(0, 256, (8, 8), np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(3)]


def test_the_hottest_pixels_go_first_and_every_pixel_goes_once() -> None:
    heat = np.zeros((4, 4), np.float32)
    heat[1, 2] = 1.0
    places = ranks(heat, random_heat((4, 4), np.random.default_rng(1)), SIZE)
    assert sorted(places.ravel()) == list(range(SIZE * SIZE))
    row, column = np.argwhere(places == 0)[0]
    assert (row // 16, column // 16) == (1, 2)
    assert places[16:32, 32:48].max() < places[48:, :16].min()


def test_where_there_is_no_heat_the_random_map_decides() -> None:
    noise = random_heat((4, 4), np.random.default_rng(1))
    assert (ranks(np.zeros((4, 4), np.float32), noise, SIZE) == ranks(noise, noise, SIZE)).all()


def test_each_step_changes_an_equal_share() -> None:
    start, end = np.zeros((SIZE, SIZE), np.uint8), np.full((SIZE, SIZE), 9, np.uint8)
    places = ranks(centre_heat((7, 7)), random_heat((7, 7), np.random.default_rng(1)), SIZE)
    way = between(start, end, places)
    assert [int((image == 9).sum()) for image in way] == [SIZE * SIZE * step // STEPS for step in range(1, STEPS)]
    assert way[0][SIZE // 2, SIZE // 2] == 9, "the centre's map starts in the centre"
    assert way[-1][0, 0] == 0


def test_areas_of_known_curves() -> None:
    falling = np.linspace(1, 0, STEPS + 1)
    np.testing.assert_allclose(area(np.stack([falling, np.ones(STEPS + 1)])), [0.5, 1.0])


def test_the_closest_normal_is_found_whatever_its_exposure() -> None:
    assert closest(change_gamma(IMAGES[1], 0.8), IMAGES) is IMAGES[1]
    assert closest(np.full((SIZE, SIZE), 7, np.uint8), IMAGES).shape == (SIZE, SIZE), "a flat image is no error"


def test_a_blurred_image_keeps_its_mean_and_loses_its_detail() -> None:
    soft = blurred(IMAGES[0], ())
    assert soft.mean() == pytest.approx(IMAGES[0].mean(), abs=6)
    assert soft.std() < IMAGES[0].std() * 0.8


def test_a_mean_difference_has_an_interval_over_patients() -> None:
    gain = np.random.default_rng(3).normal(0.2, 0.1, 50)
    was = np.random.default_rng(4).random(50)
    value, low, high = mean_difference(was, was + gain, np.arange(50))
    assert value == pytest.approx(gain.mean())
    assert high - low == pytest.approx(2 * 1.96 * gain.std() / np.sqrt(50), rel=0.1), "what the pairs share drops out"
