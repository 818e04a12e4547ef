"""The overlay as a radiologist gets it."""

from typing import Any

import cv2
import numpy as np
import pytest

from tests.phantoms import Pixels, picture
from worker.imaging.preprocess import Fit, Placement, Preprocessing, apply
from worker.inference.overlay import LONG_SIDE_PX, MAX_ALPHA, blend, heat_colours, in_digits, overlay


def drawn(display: Pixels, heat: Pixels, placement: Placement, **numbers: Any) -> Pixels:
    """The PNG, decoded: BGR."""
    return np.asarray(
        cv2.imdecode(np.frombuffer(overlay(display, heat, placement, **numbers), np.uint8), cv2.IMREAD_COLOR)
    )


def placed(display: Pixels, fit: Fit = Fit.STRETCH) -> Placement:
    return apply(display, Preprocessing(fit=fit))[1]


def no_heat() -> Pixels:
    return np.zeros((7, 7), np.float32)


@pytest.mark.parametrize("shape", [(1000, 1400), (1400, 1000), (224, 224), (3056, 2544), (500, 768)])
def test_the_canvas_has_the_original_aspect_and_768_px(shape: tuple[int, int]) -> None:
    display = picture(*shape, bits=8)
    canvas = drawn(display, no_heat(), placed(display), probability=0.5, threshold=0.4)
    assert max(canvas.shape[:2]) == LONG_SIDE_PX
    assert canvas.shape[1] / canvas.shape[0] == pytest.approx(shape[1] / shape[0], rel=0.005)


@pytest.mark.parametrize("shape", [(60, 2000), (2000, 60), (1, 1)])
def test_extreme_shapes_still_have_room_for_their_legend(shape: tuple[int, int]) -> None:
    display = np.full(shape, 200, np.uint8)
    canvas = drawn(display, no_heat(), placed(display), probability=0.93, threshold=0.41)
    assert max(canvas.shape[:2]) == LONG_SIDE_PX
    assert min(canvas.shape[:2]) >= 320
    assert (canvas == 200).all(axis=2).any()  # the picture is there


def test_without_heat_the_radiograph_is_untouched() -> None:
    display = picture(900, 700, bits=8)
    canvas = drawn(display, no_heat(), placed(display))
    picture_rows = canvas[: LONG_SIDE_PX - 40]
    assert (picture_rows[..., 0] == picture_rows[..., 1]).all()
    assert (picture_rows[..., 1] == picture_rows[..., 2]).all()
    assert picture_rows.std() > 30


def test_heat_lies_where_it_belongs_and_grows_with_its_value() -> None:
    display = np.full((768, 768), 100, np.uint8)
    heat = no_heat()
    heat[1, 1], heat[5, 5] = 1.0, 0.5
    canvas = drawn(display, heat, placed(display)).astype(int)
    change = np.abs(canvas[:-40] - 100).max(axis=2)
    scale = (768 - 28) / 768
    strong, weak = (round((cell + 0.5) / 7 * 768 * scale) for cell in (1, 5))
    assert change[strong, strong + 14] > change[weak, weak + 14] > 10
    assert change[weak, strong] == change[strong, weak] == 0


@pytest.mark.parametrize(
    ("rows", "columns"), [((0, 90), (0, 70)), ((30, 61), (5, 6)), ((89, 90), (69, 70)), ((0, 0), (0, 0))]
)
def test_each_pixel_is_mixed_with_the_colour_of_its_heat(rows: tuple[int, int], columns: tuple[int, int]) -> None:
    random, box = np.random.default_rng(8), np.s_[slice(*rows), slice(*columns)]
    grey = random.integers(0, 256, (90, 70), dtype=np.uint8)
    heat = np.full(grey.shape, 0.4 / 255, np.float32)  # rounds to no heat
    heat[box] = random.uniform(-0.2, 1.2, heat[box].shape)
    level = np.rint(255 * np.clip(heat, 0, 1)).astype(np.uint8)
    alpha = (MAX_ALPHA * level / 255)[..., None]
    expected = np.rint((1 - alpha) * grey[..., None] + alpha * heat_colours(level))
    assert np.array_equal(blend(grey, heat), expected)


def test_a_padded_grid_is_brought_back_onto_the_original() -> None:
    display = np.full((400, 800), 100, np.uint8)
    heat = no_heat()
    heat[3, 3] = 1.0  # the centre of the padded grid is the centre of the radiograph
    canvas = drawn(display, heat, placed(display, Fit.PAD)).astype(int)
    rows, columns = np.nonzero(np.ptp(canvas[:-30], axis=2) > 60)
    assert columns.mean() == pytest.approx(384, abs=6)
    assert rows.mean() == pytest.approx((384 - 28) / 2, abs=6)


@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize("shape", [(1526, 1271), (1501, 1999)])
def test_a_copy_of_lower_resolution_is_drawn_as_the_original_would_be(fit: Fit, shape: tuple[int, int]) -> None:
    original = picture(*shape, bits=8)
    copy = np.ascontiguousarray(original[::2, ::2])
    heat = no_heat()
    heat[2, 4] = 1.0
    there = placed(copy, fit).of(shape[1], shape[0])
    assert there.scale_x == pytest.approx(placed(original, fit).scale_x, rel=0.01)
    whole, half = drawn(original, heat, placed(original, fit)), drawn(copy, heat, there)
    assert half.shape == whole.shape
    assert np.abs(half[4:-40, 4:-4].astype(int) - whole[4:-40, 4:-4]).mean() < 3


def test_the_radiograph_stays_readable_under_the_strongest_heat() -> None:
    stripes = np.zeros((768, 768), np.uint8)
    stripes[:, ::16] = stripes[:, 1::16] = stripes[:, 2::16] = stripes[:, 3::16] = 255
    canvas = drawn(stripes, np.ones((7, 7), np.float32), placed(stripes)).astype(int)
    assert np.ptp(canvas[300, 60:700].mean(axis=1)) > 80


def test_heat_changes_evenly_between_cells_and_not_beyond_the_outer_ones() -> None:
    heat = np.random.default_rng(3).random((5, 4)).astype(np.float32)
    drawn = Placement(grid=20, width=200, height=100, scale_x=10.0, scale_y=5.0).to_original(heat, 200, 100)
    x, y = ((np.arange(count) + 0.5) / count * cells - 0.5 for count, cells in ((200, 4), (100, 5)))
    across = np.stack([np.interp(x, np.arange(4), row) for row in heat])
    expected = np.stack([np.interp(y, np.arange(5), column) for column in across.T], axis=1)
    assert drawn == pytest.approx(expected, abs=1e-5)


def test_values_that_are_no_numbers_are_no_heat() -> None:
    display = np.full((300, 300), 100, np.uint8)
    heat = np.full((7, 7), np.nan, np.float32)
    assert np.array_equal(drawn(display, heat, placed(display)), drawn(display, no_heat(), placed(display)))


def test_the_legend_tells_the_numbers() -> None:
    display = np.zeros((768, 768), np.uint8)
    placement = placed(display)
    high = drawn(display, no_heat(), placement, probability=0.93, threshold=0.41)
    low = drawn(display, no_heat(), placement, probability=0.12, threshold=0.41)
    assert np.array_equal(high[:700], low[:700])
    assert not np.array_equal(high[-40:], low[-40:])
    assert np.ptp(high[-40:].astype(int), axis=2).max() > 60  # the colour bar


def test_an_image_unlike_those_of_the_model_is_marked_in_the_legend() -> None:
    display = picture(600, 700, bits=8)
    like, unlike = (
        drawn(display, no_heat(), placed(display), probability=0.9, threshold=0.3, is_unlike=is_unlike)
        for is_unlike in (False, True)
    )
    assert like.shape == unlike.shape
    legends = [int((canvas[-60:] > 200).sum()) for canvas in (like, unlike)]
    assert legends[1] > legends[0] + 200, "more words below the radiograph"


def test_a_large_radiograph_is_shown_as_if_it_were_shrunk_in_one_step() -> None:
    display = picture(3056, 2544, bits=8)
    canvas = drawn(display, no_heat(), placed(display))[..., 0]
    height = 768 - 28
    width = round(2544 * height / 3056)
    exact = np.asarray(cv2.resize(display, (width, height), interpolation=cv2.INTER_AREA)).astype(int)
    left = (canvas.shape[1] - width) // 2
    assert np.percentile(np.abs(canvas[:height, left : left + width] - exact), 99) <= 1


@pytest.mark.parametrize(
    ("probability", "written"), [(0.9999, "0.999"), (0.998, "0.998"), (0.42561, "0.426"), (0, "0.001")]
)
def test_no_probability_is_written_as_certain(probability: float, written: str) -> None:
    assert in_digits(probability) == written
