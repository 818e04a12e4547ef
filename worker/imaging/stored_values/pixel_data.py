"""The pixel data of a DICOM object -> stored values: native or encapsulated, any bit depth up to 16, colour to grey.

Does not know the display pipeline.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import encaps

from worker.errors import Undecodable, UnsupportedPixels
from worker.imaging.byte_pairs import bytes_of_words
from worker.imaging.codec.codestream import Codestream, Coding, read_codestream
from worker.imaging.codec.completeness import declares_lengths
from worker.imaging.codec.jpeg_scans import read_scans
from worker.imaging.codec.resolution import Reduction
from worker.imaging.codec.rle import decode_rle
from worker.imaging.codec.transfer_syntaxes import RLE, decode_codestream
from worker.imaging.display.palette import palette_grey
from worker.imaging.display.pipeline import StoredValues
from worker.imaging.header import Header
from worker.imaging.part10 import Part10
from worker.imaging.pyramid import Pyramid
from worker.imaging.stored_values.colour_layout import is_grey_ybr
from worker.imaging.stored_values.image_pixel import MONOCHROME, PALETTE, ImagePixel
from worker.imaging.stored_values.native import native_pixels
from worker.imaging.stored_values.native_bits import NativeCodes, native_codes
from worker.imaging.stored_values.sign import held_sign, sign_note
from worker.imaging.stored_values.stored_bits import stored_codes

Pixels = NDArray[Any]


def holds_codestream(part10: Part10, pixel: ImagePixel) -> bool:
    """Whether the pixel data may be a codestream, for any transfer syntax: they are too short for native pixels."""
    start, end = part10.pixel_span
    return part10.is_encapsulated or end - start < pixel.frame_bytes


@dataclass(frozen=True)
class Decoded:
    """Codes [H, W] or [H, W, 3] without other bits, in an unsigned container; how many bits count; what was assumed."""

    codes: Pixels
    bits: int
    notes: tuple[str, ...] = ()
    is_rgb: bool = False  #: the decoder gave RGB, whatever the photometric interpretation
    is_signed: bool | None = None  #: None: as Pixel Representation says
    level: int = 0  #: how often the picture was halved while it was decoded

    def has_sign(self, pixel: ImagePixel) -> bool:
        """Whether the codes are two's complements."""
        return pixel.is_signed if self.is_signed is None else self.is_signed


def decode_stored(part10: Part10, pixel: ImagePixel, reduction: Reduction | None = None) -> Decoded:
    """The stored values of the only frame.

    Monochrome pixels are decoded at the lowest resolution that has the minimum size, or at that of a pyramid, if the
    codestream offers it; otherwise in full. The module must have passed `check_showable`. Raises Undecodable.
    """
    frame = _single_frame(part10)
    if holds_codestream(part10, pixel):
        coded = bytes(frame)
        stream = read_codestream(coded)
        if stream is not None:
            return _from_codestream(part10.transfer_syntax_uid, coded, stream, pixel, reduction)
    if part10.is_encapsulated and part10.transfer_syntax_uid == RLE:
        # PS3.5 G.2: one segment per byte of a sample
        shape = (pixel.rows, pixel.columns, pixel.samples)
        if pixel.bits_allocated not in (8, 16):
            raise UnsupportedPixels(f"RLE with {pixel.bits_allocated} bits allocated")
        samples = decode_rle(bytes(frame), shape, pixel.bits_allocated // 8)
        return _native(native_codes(samples, pixel.bits_allocated, pixel.said_bits))
    if len(frame) < pixel.frame_bytes and part10.is_encapsulated:
        raise Undecodable(f"transfer syntax {part10.transfer_syntax_uid}: the pixel data begin no codestream")
    notes: tuple[str, ...] = ()
    if part10.has_bytes_in_words and pixel.bits_allocated == 8:
        frame, notes = _from_words(frame, pixel)
    # header says compressed, pixels are not (fo-dicom#2008), or simply native
    native = _native(native_pixels(frame, pixel, part10.is_little_endian))
    return replace(native, notes=(*notes, *native.notes))


#: Indexes of a palette jump where its picture is smooth, so those as they lie must be more clearly the smoother ones.
#: Exchanged in pairs, a ramp is twice as rough, a radiograph one and a half times.
_SMOOTHER_INDEXES = 1.25


def _from_words(frame: bytes | memoryview, pixel: ImagePixel) -> tuple[bytes, tuple[str, ...]]:
    """Samples of 8 bits in the words of big endian, in their order, and a note where the Standard says another."""
    times = _SMOOTHER_INDEXES if pixel.photometric_interpretation == PALETTE else 1.0
    held, is_exchanged = bytes_of_words(frame, 1 if pixel.is_planar else pixel.samples, times)
    return held.tobytes(), ("byte_order=exchanged",) if is_exchanged else ()


def _native(native: NativeCodes) -> Decoded:
    return Decoded(native.codes, native.bits, native.notes, is_signed=native.is_signed)


def grey_values(decoded: Decoded, pixel: ImagePixel, header: Header) -> StoredValues:
    """Colour -> grey of the same depth by BT.601 luma; monochrome is unchanged."""
    codes, bits = decoded.codes, decoded.bits
    if pixel.photometric_interpretation == PALETTE:
        return palette_grey(StoredValues(codes, bits, decoded.has_sign(pixel)), header)
    if codes.ndim == 2:
        return StoredValues(codes, bits, decoded.has_sign(pixel))
    is_said_ybr = not decoded.is_rgb and pixel.photometric_interpretation.startswith("YBR_FULL")
    if not is_said_ybr and is_grey_ybr(codes, bits):
        header.notes.append(f"photometric_interpretation=YBR_FULL (said: {pixel.photometric_interpretation})")
        is_said_ybr = True
    if is_said_ybr:
        return StoredValues(np.ascontiguousarray(codes[..., 0]), bits)  # Y is the luma (PS3.3 C.7.6.3.1.2)
    return StoredValues(np.asarray(cv2.cvtColor(np.ascontiguousarray(codes), cv2.COLOR_RGB2GRAY)), bits)


def _single_frame(part10: Part10) -> bytes | memoryview:
    if not part10.is_encapsulated:
        return part10.pixel_data
    try:
        value = bytes(part10.pixel_data)
        offsets: list[int] = []
        table, *pieces = [*encaps.generate_fragments(value)] or [b""]
        if read_codestream(table) is not None:  # some writers leave out the offset table (PS3.5 A.4)
            pieces = [table, *pieces]
        elif len(offsets := encaps.parse_basic_offsets(value)) <= 1:
            return next(encaps.generate_frames(value, number_of_frames=1))
        # an offset for each frame, or for each fragment, as some writers give it
        frames = [read_codestream(piece) is not None for piece in pieces].count(True)
        if frames != 1:
            raise UnsupportedPixels(
                f"{max(frames, len(offsets))} frames, of which the header says nothing: it is no radiograph"
            )
        return b"".join(pieces)
    except (ValueError, StopIteration, RuntimeError, OSError) as error:
        raise Undecodable(f"the encapsulated pixel data hold no frame ({error})") from error


#: One codestream after another, in what should be a single frame: where the first one ends, the next one begins.
_NEXT = re.compile(rb"\xff\xd9\0*(\xff\xd8\xff|\xff\x4f\xff\x51)")


def _from_codestream(
    uid: str, frame: bytes, stream: Codestream, pixel: ImagePixel, reduction: Reduction | None
) -> Decoded:
    _check_frame(frame, stream, pixel)
    level = _level(stream, pixel, reduction)
    decoded = decode_codestream(uid, frame, stream, pixel.photometric_interpretation == "RGB", level=level)
    samples = decoded.pixels.view(decoded.pixels.dtype.str.replace("i", "u"))
    beyond = _beyond(frame, samples, stream, pixel)
    is_pyramid = bool(decoded.level) and isinstance(reduction, Pyramid)
    read_at = (*decoded.notes, "wavelet=9/7") if is_pyramid and not stream.is_reversible else decoded.notes
    if decoded.level and stream.precision > pixel.bits_stored:
        if int(samples.max()) > _MOST_OVERSHOOT * (1 << pixel.bits_stored):
            return _from_codestream(uid, frame, stream, pixel, None)  # an overlay, or left-aligned samples
        if not is_pyramid:
            return Decoded(samples, stream.precision, read_at, level=decoded.level)
        clipped = np.minimum(samples, samples.dtype.type((1 << pixel.bits_stored) - 1))
        return Decoded(clipped, pixel.bits_stored, read_at, level=decoded.level)
    is_signed, sign_notes = _sign(samples, stream, pixel)
    codes, bits, notes = stored_codes(samples, stream.precision, replace(pixel.said_bits, is_signed=is_signed))
    if stream.coding is Coding.JPEG and pixel.bits_stored < bits:
        notes = ()  # what is lossy goes beyond Bits Stored by some values
    if stream.is_ycbcr and pixel.photometric_interpretation == "RGB":
        notes = (*notes, "photometric_interpretation=YBR_FULL_422 (said: RGB)")
    assumed = (*read_at, *beyond, *sign_notes, *notes)
    return Decoded(codes, bits, assumed, is_rgb=stream.gives_rgb, is_signed=is_signed, level=decoded.level)


def _sign(samples: Pixels, stream: Codestream, pixel: ImagePixel) -> tuple[bool, tuple[str, ...]]:
    """Whether the samples are two's complements, and what was assumed. JPEG 2000 may say so itself."""
    if stream.is_signed:
        has_negative = bool((samples >> (8 * samples.dtype.itemsize - 1)).any())
        is_signed = pixel.is_signed or has_negative
        return is_signed, sign_note(is_signed, pixel.is_signed)
    return held_sign(samples, stream.precision, pixel.said_bits)


#: From this predictor on (ISO 10918-1, table H.1) half a difference of neighbours counts: bits above the precision,
#: which others leave where they are, come down into the picture.
_HALVING_PREDICTOR = 5


def _beyond(frame: bytes, samples: Pixels, stream: Codestream, pixel: ImagePixel) -> tuple[str, ...]:
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
    if read_scans(frame, stream)[0].predictor >= _HALVING_PREDICTOR:
        raise Undecodable(
            f"lossless JPEG of {stream.precision} bits holds larger values, which its predictor carries on to others:"
            " the codestream is damaged, or its encoder counts otherwise than the Standard; send the image uncompressed"
        )
    return (f"jpeg_values=beyond_{stream.precision}_bits",)


#: A wavelet's lower resolution goes beyond the values of the picture by less than this.
_MOST_OVERSHOOT = 1.5


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
