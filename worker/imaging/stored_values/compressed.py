"""The codestream of a compressed frame -> codes, whatever its header says wrongly; at a lower resolution where that is
asked for and gives the same picture. Knows what both headers say. Decoding itself is `codec`'s.
"""

import re
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.errors import Undecodable, UnsupportedPixels
from worker.imaging.codec.codestream import Codestream, Coding
from worker.imaging.codec.completeness import declares_lengths
from worker.imaging.codec.jpeg_scans import read_scans
from worker.imaging.codec.resolution import Reduction
from worker.imaging.codec.transfer_syntaxes import decode_codestream
from worker.imaging.pyramid import Pyramid
from worker.imaging.stored_values.decoded_codes import DecodedCodes
from worker.imaging.stored_values.image_pixel import MONOCHROME, ImagePixel
from worker.imaging.stored_values.sign import held_sign, sign_note
from worker.imaging.stored_values.stored_bits import stored_codes

Pixels = NDArray[Any]

#: One codestream after another, in what should be a single frame: where the first one ends, the next one begins.
_NEXT = re.compile(rb"\xff\xd9\0*(\xff\xd8\xff|\xff\x4f\xff\x51)")

#: A wavelet's lower resolution goes beyond the values of the picture by less than this.
_MOST_OVERSHOOT = 1.5

#: From this predictor on (ISO 10918-1, table H.1) half a difference of neighbours counts: bits above the precision,
#: which others leave where they are, come down into the picture.
_HALVING_PREDICTOR = 5


def codestream_codes(
    uid: str, frame: bytes, stream: Codestream, pixel: ImagePixel, reduction: Reduction | None
) -> DecodedCodes:
    """The codes of a codestream, decoded at the resolution that `reduction` asks for where it has one, else in full.

    Raises Undecodable, and UnsupportedPixels for more than one picture or more than 16 bits.
    """
    _check_frame(frame, stream, pixel)
    level = _level(stream, pixel, reduction)
    decoded = decode_codestream(uid, frame, stream, pixel.photometric_interpretation == "RGB", level=level)
    samples = decoded.pixels.view(decoded.pixels.dtype.str.replace("i", "u"))
    runaway_notes = _note_runaway(frame, samples, stream, pixel)
    is_pyramid = bool(decoded.level) and isinstance(reduction, Pyramid)
    notes = decoded.notes
    if is_pyramid and not stream.is_reversible:
        notes = (*notes, "wavelet=9/7")
    if decoded.level and stream.precision > pixel.bits_stored:
        if int(samples.max()) > _MOST_OVERSHOOT * (1 << pixel.bits_stored):
            return codestream_codes(uid, frame, stream, pixel, None)  # an overlay, or left-aligned samples
        codes, bits = samples, stream.precision
        if is_pyramid:
            bits = pixel.bits_stored
            codes = np.minimum(samples, samples.dtype.type((1 << bits) - 1))
        return DecodedCodes(codes, bits, notes, pixel.is_signed, level=decoded.level)
    is_signed, sign_notes = _sign(samples, stream, pixel)
    codes, bits, bit_notes = stored_codes(samples, stream.precision, replace(pixel.said_bits, is_signed=is_signed))
    if stream.coding is Coding.JPEG and pixel.bits_stored < bits:
        bit_notes = ()  # what is lossy goes beyond Bits Stored by some values
    notes = (*notes, *runaway_notes, *sign_notes, *bit_notes)
    if stream.is_ycbcr and pixel.photometric_interpretation == "RGB":
        notes = (*notes, "photometric_interpretation=YBR_FULL_422 (said: RGB)")
    return DecodedCodes(codes, bits, notes, is_signed, is_rgb=stream.gives_rgb, level=decoded.level)


def _check_frame(frame: bytes, stream: Codestream, pixel: ImagePixel) -> None:
    """Raise Rejected unless the codestream is the whole picture that the header describes."""
    if (stream.rows, stream.columns, stream.samples) != (pixel.rows, pixel.columns, pixel.samples):
        raise Undecodable(
            f"the codestream is {stream.columns} x {stream.rows} x {stream.samples},"
            f" the header says {pixel.columns} x {pixel.rows} x {pixel.samples}: have it exported anew at the sender"
        )
    if stream.precision > 16:
        raise UnsupportedPixels(f"a codestream of {stream.precision} bits")
    end = stream.end
    if stream.coding is Coding.JPEG_2000 and not declares_lengths(frame, stream):  # which lead from its head to its end
        # FF D9 ends a codestream and cannot occur inside the packets of JPEG 2000 (ISO 15444-1 A.1.3)
        end = frame.find(b"\xff\xd9", stream.data_at)
    if end is not None and end >= 0 and _NEXT.match(frame, end):
        raise UnsupportedPixels("more than one codestream: the frames of several pictures, of which the header has one")


def _level(stream: Codestream, pixel: ImagePixel, reduction: Reduction | None) -> int:
    """How often the decoder is to halve the picture."""
    if reduction is None or not _may_be_reduced(stream, pixel):
        return 0
    if not isinstance(reduction, Pyramid):
        return reduction.level(stream)
    level = reduction.level(stream.rows, stream.columns)
    return level if reduction.is_decoded_reduced and _holds_pyramid(stream, pixel, level) else 0


def _holds_pyramid(stream: Codestream, pixel: ImagePixel, level: int) -> bool:
    """Whether the codestream's lower resolution is the pyramid's, its borders too.

    Of one of more bits than Bits Stored OpenJPEG clips less than the pyramid does; that is made up for.
    """
    if stream.coding is not Coding.JPEG_2000 or stream.samples != 1 or level > stream.levels:
        return False
    return stream.is_simple and stream.precision >= pixel.bits_stored


def _may_be_reduced(stream: Codestream, pixel: ImagePixel) -> bool:
    """Monochrome, and header and codestream agree on sign and bits: otherwise interpolated values would be wrong."""
    if pixel.photometric_interpretation not in MONOCHROME or stream.is_signed != pixel.is_signed:
        return False
    if pixel.overlay_mask or pixel.high_bit != pixel.bits_stored - 1:
        return False
    return not pixel.is_signed or stream.precision == pixel.bits_stored


def _sign(samples: Pixels, stream: Codestream, pixel: ImagePixel) -> tuple[bool, tuple[str, ...]]:
    """Whether the samples are two's complements, and what was assumed. JPEG 2000 may say so itself."""
    if stream.is_signed:
        has_negative = bool((samples >> (8 * samples.dtype.itemsize - 1)).any())
        is_signed = pixel.is_signed or has_negative
        return is_signed, sign_note(is_signed, pixel.is_signed)
    return held_sign(samples, stream.precision, pixel.said_bits)


def _note_runaway(frame: bytes, samples: Pixels, stream: Codestream, pixel: ImagePixel) -> tuple[str, ...]:
    """A note where lossless JPEG gives samples beyond its precision: its sums run away after a wrong bit.

    They may be right, as differences are added modulo 65,536 (ISO 10918-1 H.1.2.1): some encoders go by way of the
    other end of the range, and signed samples are extended by their sign. The bits above are cut off either way.
    Raises Undecodable where they have changed other samples.
    """
    if stream.coding is not Coding.JPEG_LOSSLESS or not int(samples.max()) >> stream.precision:
        return ()
    above = samples >> (stream.precision - 1)
    if pixel.is_signed and ((above <= 1) | (above == (1 << (17 - stream.precision)) - 1)).all():
        return ()
    if any(scan.predictor >= _HALVING_PREDICTOR for scan in read_scans(frame, stream)):
        raise Undecodable(
            f"lossless JPEG of {stream.precision} bits holds larger values, which its predictor carries on to others:"
            " the codestream is damaged, or its encoder counts otherwise than the Standard; send the image uncompressed"
        )
    return (f"jpeg_values=beyond_{stream.precision}_bits",)
