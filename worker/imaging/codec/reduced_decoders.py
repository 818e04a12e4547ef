"""Decoders that stop at a lower resolution: OpenJPEG with JPEG 2000's levels, libjpeg with a scaled cosine transform.

The result is [H, W] grey, in the same values as a full decode. Knows no display and no model.
"""

from io import BytesIO
from typing import Any

import cv2
import numpy as np

from worker.imaging.codec.codestream import Codestream, Coding
from worker.imaging.codec.completeness import declares_lengths
from worker.imaging.codec.decoders import Decoder, Pixels
from worker.imaging.pyramid import size_of

#: OpenCV's flags, by level. They do not apply the EXIF orientation.
_SCALED = {1: cv2.IMREAD_REDUCED_GRAYSCALE_2, 2: cv2.IMREAD_REDUCED_GRAYSCALE_4, 3: cv2.IMREAD_REDUCED_GRAYSCALE_8}


def reduced_decoder(frame: bytes, stream: Codestream, level: int) -> Decoder | None:
    """The decoder that halves the picture `level` times; None where this codestream must be read to its end.

    It raises ValueError when it fails.
    """
    if stream.coding is Coding.JPEG and level in _SCALED:

        def _libjpeg_scaled(data: bytes, _: Codestream, __: bool) -> Pixels:
            return _jpeg(data, level)

        return _libjpeg_scaled
    if stream.coding is Coding.JPEG_2000 and stream.samples == 1 and declares_lengths(frame, stream):

        def _openjpeg_reduced(data: bytes, stream: Codestream, _: bool) -> Pixels:
            return _jpeg_2000(data, stream, level)

        return _openjpeg_reduced
    return None


def _jpeg(data: bytes, level: int) -> Pixels:
    try:
        pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), _SCALED[level] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ValueError(str(error.err)) from error
    if pixels is None:
        raise ValueError("its data are broken")
    return np.asarray(pixels)


def _jpeg_2000(data: bytes, stream: Codestream, level: int) -> Pixels:
    """Uses Pillow, because imagecodecs has no such option. OpenJPH has one and is faster on HTJ2K, but returns values
    that the wavelet makes negative as the largest values, and fills up a short codestream without an error.
    """
    from PIL import Image

    if stream.rows * stream.columns > (Image.MAX_IMAGE_PIXELS or 0):
        raise ValueError("more pixels than Pillow takes without a warning")
    try:
        with Image.open(BytesIO(data), formats=("JPEG2000",)) as picture:
            # Pillow rounds the reduced size to nearest, OpenJPEG rounds it up: of a multiple they make the same
            across, down = (size_of(level, side) << level for side in (stream.columns, stream.rows))
            picture._size = (across, down)
            picture.reduce = level  # type: ignore[method-assign, assignment]
            picture.load()
            codes = np.asarray(picture)
    except OSError as error:
        raise ValueError(str(error)) from error
    if codes.ndim != 2 or codes.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"Pillow gave {codes.dtype} {codes.shape}")
    # Pillow shifts values to the upper bits, and adds half of the range to signed ones
    codes = codes >> (8 * codes.dtype.itemsize - stream.precision)
    if stream.is_signed:
        codes = codes ^ codes.dtype.type(1 << (stream.precision - 1))
    return codes
