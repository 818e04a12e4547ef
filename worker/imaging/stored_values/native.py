"""Uncompressed pixel data (PS3.5 8.1.1, PS3.3 C.7.6.3.1) -> stored values: how the samples lie, and whether all do."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.errors import Undecodable
from worker.imaging.stored_values.colour_layout import laid_out_colour
from worker.imaging.stored_values.decoded_codes import DecodedCodes
from worker.imaging.stored_values.image_pixel import ImagePixel
from worker.imaging.stored_values.native_bits import native_codes

Pixels = NDArray[Any]

#: Pixels that are compared with those below, in a picture of at least this many rows and columns; and how many times as
#: unlike they are where Rows and Columns are exchanged.
_SAMPLE, _LEAST_SIDE, _SHEARED = 5_000, 32, 3


def native_pixels(frame: bytes | memoryview, pixel: ImagePixel, is_little_endian: bool) -> DecodedCodes:
    """Codes [H, W] or [H, W, 3] without other bits, with what was assumed; of YBR 4:2:2 only Y.

    Raises Undecodable when there are fewer or more bytes than the header needs, or colours lie in no known way.
    """
    laid_out, notes = _laid_out(len(frame), pixel)
    rows, columns, samples = pixel.rows, pixel.columns, pixel.samples
    if pixel.bits_allocated == 1:  # PS3.5 8.1.1: packed from the least significant bit
        bits = np.unpackbits(np.frombuffer(frame, np.uint8, pixel.frame_bytes), bitorder="little")
        return DecodedCodes(bits[: rows * columns].reshape(rows, columns), 1, notes, pixel.is_signed)
    kind = np.dtype(f"{'<' if is_little_endian else '>'}u{pixel.bits_allocated // 8}")
    flat = np.frombuffer(frame, kind, laid_out.frame_bytes // kind.itemsize)
    if laid_out.is_subsampled:  # Y Y Cb Cr (PS3.3 C.7.6.3.1.2); of an odd row the last Y is one too many
        array = flat.reshape(rows, -1, 4)[..., :2].reshape(rows, -1)[:, :columns]
    elif samples > 1:
        array, assumed = laid_out_colour(flat, pixel)
        notes = (*notes, *assumed)
    else:
        array = flat.reshape(rows, columns)
        if _is_sheared(array):
            raise Undecodable("Rows and Columns are exchanged in the header: have them corrected at the sender")
    native = native_codes(array, pixel.bits_allocated, pixel.said_bits)
    return replace(native, notes=(*notes, *native.notes))


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
