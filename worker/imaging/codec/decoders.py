"""The decoders of imagecodecs, and which of them reads which coding: a table, the exact and fast one first.

Knows no transfer syntaxes, and does not check what a decoder gives.
"""

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from worker.imaging.codec.codestream import Codestream, Coding

Pixels = NDArray[Any]

#: Takes the codestream of one frame, what its headers say, and whether the DICOM header says RGB. Gives an array [H, W]
#: or [H, W, samples]. Its name stands in the note `decoder_failed`.
Decoder = Callable[[bytes, Codestream, bool], Pixels]

#: What imagecodecs raises: each codec's own error is a RuntimeError; the others mean bad arguments.
DECODER_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, OverflowError)


def jpeg(data: bytes, stream: Codestream, is_rgb: bool) -> Pixels:
    """libjpeg-turbo."""
    # without JFIF or Adobe markers libjpeg assumes YCbCr for three components; the DICOM header may say RGB. It cannot
    # convert lossless ones, and is told RGB to leave them as they are
    says_rgb = is_rgb and not stream.names_colour and not stream.is_ycbcr
    rgb = stream.samples == 3 and (says_rgb or stream.coding is Coding.JPEG_LOSSLESS)
    return np.asarray(imagecodecs.jpeg8_decode(data, colorspace="RGB" if rgb else None))


def jpegsof3(data: bytes, stream: Codestream, is_rgb: bool) -> Pixels:
    """A decoder of lossless JPEG alone."""
    del is_rgb
    if stream.scans > 1:
        raise ValueError("it takes the first scan for all of them")
    return np.asarray(imagecodecs.jpegsof3_decode(data))


def jpegls(data: bytes, stream: Codestream, is_rgb: bool) -> Pixels:
    """CharLS."""
    del stream, is_rgb
    return np.asarray(imagecodecs.jpegls_decode(data))


def jpeg2k(data: bytes, stream: Codestream, is_rgb: bool) -> Pixels:
    """OpenJPEG, which reads HTJ2K too."""
    del stream, is_rgb
    return np.asarray(imagecodecs.jpeg2k_decode(data))


#: Decoders by the coding found in the codestream, which also serves headers that name another syntax. They are ordered
#: by CPU time (tests/benchmarks/decoders.py). Not used: OpenJPH, which is twice as fast on HTJ2K as OpenJPEG but fills
#: up a short codestream without an error; `imagecodecs.ljpeg_decode` and `jpeg_decode`, which falls back to it, because
#: damaged codestreams crashed the process, and libjpeg-turbo is faster.
BY_CODING: dict[Coding, tuple[Decoder, ...]] = {
    Coding.JPEG: (jpeg,),
    Coding.JPEG_LOSSLESS: (jpeg, jpegsof3),
    Coding.JPEG_LS: (jpegls,),
    Coding.JPEG_2000: (jpeg2k,),
}
