"""The PNG writer: what any reader gets back is what was drawn."""

import cv2
import numpy as np
import pytest

from worker.inference import png


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (5, 1), (48, 33), (320, 768)])
def test_a_picture_comes_back_as_it_was(height: int, width: int) -> None:
    picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    back = cv2.imdecode(np.frombuffer(png.encode(picture), np.uint8), cv2.IMREAD_UNCHANGED)
    assert back is not None
    assert np.array_equal(back, picture)


def test_a_smooth_picture_is_smaller_than_opencv_makes_it() -> None:
    ramp = np.add.outer(np.arange(600), np.arange(500)) // 5
    picture = np.repeat(ramp.astype(np.uint8)[..., None], 3, axis=2)
    _, other = cv2.imencode(".png", picture)
    assert len(png.encode(picture)) < len(bytes(other))
