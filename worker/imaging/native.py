"""Uncompressed pixel data (PS3.5 8.1.1, PS3.3 C.7.6.3.1) -> stored values: how the samples lie, and whether all do."""

from dataclasses import replace

import numpy as np

from worker.errors import Undecodable
from worker.imaging.image_pixel import ImagePixel
from worker.imaging.stored_bits import Pixels, stored_codes


def native_pixels(
    frame: bytes | memoryview, pixel: ImagePixel, is_little_endian: bool
) -> tuple[Pixels, int, tuple[str, ...]]:
    """(codes [H, W] or [H, W, 3] without other bits, how many bits count, what was assumed); of YBR 4:2:2 only Y.

    Raises Undecodable when there are fewer or more bytes than the header needs.
    """
    laid_out, notes = _laid_out(len(frame), pixel)
    rows, columns, samples = pixel.rows, pixel.columns, pixel.samples
    if pixel.bits_allocated == 1:  # PS3.5 8.1.1: packed from the least significant bit
        bits = np.unpackbits(np.frombuffer(frame, np.uint8, pixel.frame_bytes), bitorder="little")
        return bits[: rows * columns].reshape(rows, columns), 1, notes
    kind = np.dtype(f"{'<' if is_little_endian else '>'}u{pixel.bits_allocated // 8}")
    flat = np.frombuffer(frame, kind, laid_out.frame_bytes // kind.itemsize)
    if laid_out.is_subsampled:  # Y Y Cb Cr (PS3.3 C.7.6.3.1.2); of an odd row the last Y is one too many
        array = flat.reshape(rows, -1, 4)[..., :2].reshape(rows, -1)[:, :columns]
    elif samples > 1 and pixel.is_planar:
        array = np.moveaxis(flat.reshape(samples, rows, columns), 0, -1)
    else:
        array = flat.reshape((rows, columns) if samples == 1 else (rows, columns, samples))
    codes, bits_stored, assumed = stored_codes(array, pixel.bits_allocated, pixel.said_bits)
    return codes, bits_stored, (*notes, *assumed)


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
