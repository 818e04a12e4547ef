"""The pixel data of a DICOM object -> stored values: native or encapsulated, any bit depth up to 16, colour to grey.

Does not know the display pipeline.
"""

from dataclasses import replace

import cv2
import numpy as np
from pydicom import encaps

from worker.errors import Undecodable, UnsupportedPixels
from worker.imaging.byte_pairs import bytes_of_words
from worker.imaging.codec.codestream import read_codestream
from worker.imaging.codec.resolution import Reduction
from worker.imaging.codec.rle import decode_rle
from worker.imaging.codec.transfer_syntaxes import RLE
from worker.imaging.display.palette import palette_grey
from worker.imaging.display.pipeline import StoredValues
from worker.imaging.header import Header
from worker.imaging.part10 import Part10
from worker.imaging.stored_values.colour_layout import is_grey_ybr
from worker.imaging.stored_values.compressed import codestream_codes
from worker.imaging.stored_values.decoded_codes import DecodedCodes
from worker.imaging.stored_values.image_pixel import PALETTE, ImagePixel
from worker.imaging.stored_values.native import native_pixels
from worker.imaging.stored_values.native_bits import native_codes


def holds_codestream(part10: Part10, pixel: ImagePixel) -> bool:
    """Whether the pixel data may be a codestream, for any transfer syntax: they are too short for native pixels."""
    start, end = part10.pixel_span
    return part10.is_encapsulated or end - start < pixel.frame_bytes


def decode_stored(part10: Part10, pixel: ImagePixel, reduction: Reduction | None = None) -> DecodedCodes:
    """The codes of the only frame.

    Monochrome pixels are decoded at the lowest resolution that has the minimum size, or at that of a pyramid, if the
    codestream offers it; otherwise in full. The module must have passed `check_showable`. Raises Undecodable.
    """
    frame = _single_frame(part10)
    if holds_codestream(part10, pixel):
        coded = bytes(frame)
        stream = read_codestream(coded)
        if stream is not None:
            return codestream_codes(part10.transfer_syntax_uid, coded, stream, pixel, reduction)
    if part10.is_encapsulated and part10.transfer_syntax_uid == RLE:
        return _from_rle(bytes(frame), pixel)
    if part10.is_encapsulated and len(frame) < pixel.frame_bytes:
        raise Undecodable(f"transfer syntax {part10.transfer_syntax_uid}: the pixel data begin no codestream")
    # native, or said to be compressed and native (fo-dicom#2008)
    notes: tuple[str, ...] = ()
    if part10.has_bytes_in_words and pixel.bits_allocated == 8:
        frame, notes = _from_words(frame, pixel)
    native = native_pixels(frame, pixel, part10.is_little_endian)
    return replace(native, notes=(*notes, *native.notes))


def _from_rle(frame: bytes, pixel: ImagePixel) -> DecodedCodes:
    if pixel.bits_allocated not in (8, 16):
        raise UnsupportedPixels(f"RLE with {pixel.bits_allocated} bits allocated")
    shape = (pixel.rows, pixel.columns, pixel.samples)
    samples = decode_rle(frame, shape, pixel.bits_allocated // 8)
    return native_codes(samples, pixel.bits_allocated, pixel.said_bits)


#: Indexes of a palette jump where its picture is smooth, so those as they lie must be more clearly the smoother ones.
#: Exchanged in pairs, a ramp is twice as rough, a radiograph one and a half times.
_SMOOTHER_INDEXES = 1.25


def _from_words(frame: bytes | memoryview, pixel: ImagePixel) -> tuple[bytes, tuple[str, ...]]:
    """Samples of 8 bits in the words of big endian, in their order, and a note where the Standard says another."""
    times = _SMOOTHER_INDEXES if pixel.photometric_interpretation == PALETTE else 1.0
    held, is_exchanged = bytes_of_words(frame, 1 if pixel.is_planar else pixel.samples, times)
    return held.tobytes(), ("byte_order=exchanged",) if is_exchanged else ()


def grey_values(decoded: DecodedCodes, pixel: ImagePixel, header: Header) -> StoredValues:
    """Colour -> grey of the same depth by BT.601 luma; monochrome is unchanged."""
    codes, bits = decoded.codes, decoded.bits
    if pixel.photometric_interpretation == PALETTE:
        return palette_grey(StoredValues(codes, bits, decoded.is_signed), header)
    if codes.ndim == 2:
        return StoredValues(codes, bits, decoded.is_signed)
    is_said_ybr = not decoded.is_rgb and pixel.photometric_interpretation.startswith("YBR_FULL")
    if not is_said_ybr and is_grey_ybr(codes, bits):
        header.notes.append(f"photometric_interpretation=YBR_FULL (said: {pixel.photometric_interpretation})")
        is_said_ybr = True
    if is_said_ybr:
        return StoredValues(np.ascontiguousarray(codes[..., 0]), bits)  # Y is the luma (PS3.3 C.7.6.3.1.2)
    return StoredValues(np.asarray(cv2.cvtColor(np.ascontiguousarray(codes), cv2.COLOR_RGB2GRAY)), bits)


def _single_frame(part10: Part10) -> bytes | memoryview:
    """The bytes of the only frame, out of its fragments where it is encapsulated (PS3.5 A.4)."""
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
