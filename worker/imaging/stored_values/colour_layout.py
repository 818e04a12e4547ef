"""How the three samples of native colour lie: by pixel or by plane (PS3.3 C.7.6.3.1.3), also where the header says it
wrongly. Knows radiographs: what is grey, or tinted, shows by itself which of the two it is.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.errors import Undecodable
from worker.imaging.stored_values.image_pixel import ImagePixel

Pixels = NDArray[Any]

#: Of so many rows one is looked at to find out how colours lie.
_GRID = 61

#: The colours of one picture, a tinted radiograph, are at least so much correlated; and its thirds, taken for planes,
#: differ from row to row at least so many times as much as the picture.
_ALIKE, _TORN = 0.98, 3

#: Chroma of a grey picture may differ so much from its middle by rounding, and its luma more than that.
_CHROMA = 2


def laid_out_colour(flat: Pixels, pixel: ImagePixel) -> tuple[Pixels, tuple[str, ...]]:
    """[H, W, samples], and what was assumed.

    Planar Configuration 0 or 1 is believed unless only the other one gives a radiograph. Any other value says nothing:
    then one of them must give it. Raises Undecodable where none does.
    """
    by_pixel = flat.reshape(pixel.rows, pixel.columns, -1)
    by_plane = np.moveaxis(flat.reshape(-1, pixel.rows, pixel.columns), 0, -1)
    layouts, said = (by_pixel, by_plane), pixel.planar_configuration
    if said not in (0, 1):
        shows = next((held for held in (0, 1) if _shows_radiograph(layouts, held, pixel)), None)
        if shows is None:
            raise Undecodable(
                f"Planar Configuration (0028,0006) is {said}, and the samples do not show whether they lie by pixel (0)"
                " or by plane (1): have it corrected at the sender"
            )
        return layouts[shows], (f"planar_configuration={shows} (said: {said})",)
    other = 1 - said
    if _shows_radiograph(layouts, other, pixel) and not _is_grey_either_way(layouts[said], pixel.bits_stored):
        return layouts[other], (f"planar_configuration={other} (said: {said})",)
    return layouts[said], ()


def is_grey_ybr(codes: Pixels, bits: int) -> bool:
    """Whether these are the luma of a grey picture and two chromas at their middle; in RGB that is no radiograph."""
    middle = 1 << (bits - 1)
    some = codes[::_GRID].astype(np.int32)
    if (np.abs(some[..., 1:] - middle) > _CHROMA).any() or np.ptp(some[..., 0]) <= 4 * _CHROMA:
        return False
    return bool((np.abs(codes[..., 1:].astype(np.int32) - middle) <= _CHROMA).all())


def _shows_radiograph(layouts: tuple[Pixels, Pixels], held: int, pixel: ImagePixel) -> bool:
    """Whether the layout `held` gives a picture in grey, or one tinted in one colour that the other tears."""
    if _is_grey_either_way(layouts[held], pixel.bits_stored):
        return True
    return pixel.photometric_interpretation == "RGB" and _is_tinted(layouts, held)


def _is_grey_either_way(samples: Pixels, bits: int) -> bool:
    """As three equal samples, or as luma and two chromas; looks at some rows."""
    some = samples[::_GRID]
    return bool((some == some[..., :1]).all()) or is_grey_ybr(samples, bits)


def _is_tinted(layouts: tuple[Pixels, Pixels], held: int) -> bool:
    """Whether the samples, laid out so, are a tinted radiograph.

    The colours of a picture rise and fall together; its thirds, taken for planes, do not, and their rows jump.
    """
    by_pixel, by_plane = layouts
    some = by_plane[:: max(1, len(by_plane) // _GRID)].reshape(-1, by_plane.shape[-1]).astype(np.float64)
    if not some.std(axis=0).all():
        return False  # one flat colour, or the chroma of a grey picture
    are_planes = float(np.corrcoef(some, rowvar=False).min()) > _ALIKE
    if held == 1:
        return are_planes
    return not are_planes and _steps_down(by_plane) > _TORN * _steps_down(by_pixel)


def _steps_down(picture: Pixels) -> float:
    """How much pixels differ from those below."""
    upper = picture[: -1 : max(1, len(picture) // _GRID)].astype(np.int32)
    lower = picture[1 :: max(1, len(picture) // _GRID)].astype(np.int32)
    return float(np.abs(lower[: len(upper)] - upper[: len(lower)]).mean())
