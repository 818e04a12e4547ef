"""Uncompressed pixel data (PS3.5 8.1.1, PS3.3 C.7.6.3.1) -> stored values: how the samples lie, and whether all do."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.errors import Undecodable
from worker.imaging.image_pixel import ImagePixel
from worker.imaging.native_bits import NativeCodes, native_codes

Pixels = NDArray[Any]

#: Of so many rows one is looked at to find out how colours lie.
_GRID = 61

#: The colours of one picture, a tinted radiograph, are at least so much correlated; and its thirds, taken for planes,
#: differ from row to row at least so many times as much as the picture.
_ALIKE, _TORN = 0.98, 3

#: Pixels that are compared with those below, in a picture of at least this many rows and columns; and how many times as
#: unlike they are where Rows and Columns are exchanged.
_SAMPLE, _LEAST_SIDE, _SHEARED = 5_000, 32, 3


def native_pixels(frame: bytes | memoryview, pixel: ImagePixel, is_little_endian: bool) -> NativeCodes:
    """Codes [H, W] or [H, W, 3] without other bits, with what was assumed; of YBR 4:2:2 only Y.

    Raises Undecodable when there are fewer or more bytes than the header needs.
    """
    laid_out, notes = _laid_out(len(frame), pixel)
    rows, columns, samples = pixel.rows, pixel.columns, pixel.samples
    if pixel.bits_allocated == 1:  # PS3.5 8.1.1: packed from the least significant bit
        bits = np.unpackbits(np.frombuffer(frame, np.uint8, pixel.frame_bytes), bitorder="little")
        return NativeCodes(bits[: rows * columns].reshape(rows, columns), 1, notes, pixel.is_signed)
    kind = np.dtype(f"{'<' if is_little_endian else '>'}u{pixel.bits_allocated // 8}")
    flat = np.frombuffer(frame, kind, laid_out.frame_bytes // kind.itemsize)
    if laid_out.is_subsampled:  # Y Y Cb Cr (PS3.3 C.7.6.3.1.2); of an odd row the last Y is one too many
        array = flat.reshape(rows, -1, 4)[..., :2].reshape(rows, -1)[:, :columns]
    elif samples > 1:
        array, assumed = _colour(flat, pixel)
        notes = (*notes, *assumed)
    else:
        array = flat.reshape(rows, columns)
        if _is_sheared(array):
            raise Undecodable("Rows and Columns are exchanged in the header: have them corrected at the sender")
    native = native_codes(array, pixel.bits_allocated, pixel.said_bits)
    return native._replace(notes=(*notes, *native.notes))


def _colour(flat: Pixels, pixel: ImagePixel) -> tuple[Pixels, tuple[str, ...]]:
    """[H, W, samples]. Planar Configuration is believed unless only the other one gives the grey of a radiograph, or
    three planes that show the same.
    """
    by_pixel = flat.reshape(pixel.rows, pixel.columns, -1)
    by_plane = np.moveaxis(flat.reshape(-1, pixel.rows, pixel.columns), 0, -1)
    said, other = (by_plane, by_pixel) if pixel.is_planar else (by_pixel, by_plane)
    is_contradicted = _is_grey(other[::_GRID]) or (
        pixel.photometric_interpretation == "RGB"
        and _is_tinted_otherwise(by_plane, by_pixel, is_planar=pixel.is_planar)
    )
    if is_contradicted and not _is_grey(said[::_GRID]):
        held = int(not pixel.is_planar)
        return other, (f"planar_configuration={held} (said: {int(pixel.is_planar)})",)
    return said, ()


def _is_grey(samples: Pixels) -> bool:
    return bool((samples == samples[..., :1]).all())


def _is_tinted_otherwise(by_plane: Pixels, by_pixel: Pixels, *, is_planar: bool) -> bool:
    """Whether the samples of a tinted radiograph contradict Planar Configuration, `is_planar`.

    The colours of a picture rise and fall together; its thirds, taken for planes, do not, and their rows jump.
    """
    some = by_plane[:: max(1, len(by_plane) // _GRID)].reshape(-1, by_plane.shape[-1]).astype(np.float64)
    if not some.std(axis=0).all():
        return False  # one flat colour, or the chroma of a grey picture
    are_planes = float(np.corrcoef(some, rowvar=False).min()) > _ALIKE
    if not is_planar:
        return are_planes
    return not are_planes and _steps_down(by_plane) > _TORN * _steps_down(by_pixel)


def _steps_down(picture: Pixels) -> float:
    """How much pixels differ from those below."""
    upper = picture[: -1 : max(1, len(picture) // _GRID)].astype(np.int32)
    lower = picture[1 :: max(1, len(picture) // _GRID)].astype(np.int32)
    return float(np.abs(lower[: len(upper)] - upper[: len(lower)]).mean())


def _is_sheared(array: Pixels) -> bool:
    """Whether each row goes on in the next one: pixels are like those that follow after as many as there are rows."""
    rows, columns = array.shape
    if rows == columns or min(rows, columns) < _LEAST_SIDE:
        return False
    flat = array.reshape(-1)[: -max(rows, columns)]
    steps = np.arange(0, len(flat), max(1, len(flat) // _SAMPLE))
    here = flat[steps].astype(np.int64)
    below, exchanged = (np.abs(array.reshape(-1)[steps + side] - here).mean() for side in (columns, rows))
    return bool(below > _SHEARED * exchanged)


def _laid_out(held: int, pixel: ImagePixel) -> tuple[ImagePixel, tuple[str, ...]]:
    """The layout that the number of bytes proves, and what contradicted the header."""
    full = replace(pixel, photometric_interpretation="YBR_FULL")
    if pixel.is_subsampled and full.frame_bytes <= held <= full.frame_bytes + 1:
        return full, ("photometric_interpretation=YBR_FULL (said: YBR_FULL_422)",)
    needed = pixel.frame_bytes
    excess = held - needed
    if excess in (0, 1):  # the byte that makes the length even (PS3.5 8.1.1)
        return pixel, ()
    # what is less than a row and less than a column is no part of a picture, whichever size the header understates
    if 0 < excess < min(needed // pixel.rows, needed // pixel.columns):
        return pixel, (f"pixel_data_padding={excess} bytes",)
    raise Undecodable(
        f"the pixel data hold {held:,} bytes, the header needs {needed:,}: Rows, Columns, bits or frames are not those"
        " of the picture; have them corrected at the sender"
    )
