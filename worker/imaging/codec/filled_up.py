"""Whether a decoder filled up a part of the picture for which a JPEG has no data. libjpeg does so and reports success.

The filled part is mid-grey (DCT) or rows of one value (lossless), which may also be real. So the picture is decoded
once more, with bytes inserted where the data end: they change the picture only where data were missing.
"""

from itertools import pairwise

import numpy as np

from worker.imaging.codec.codestream import Codestream, Coding
from worker.imaging.codec.decoders import DECODER_ERRORS, Decoder, Pixels, jpegsof3
from worker.imaging.codec.jpeg_scans import read_scans, restarts

#: Inserted before a marker to test whether the data up to it were complete; contains no FF.
_PROBE = b"\x55\x2a\x19\xe6" * 64


def was_filled_up(
    decoder: Decoder, frame: bytes, stream: Codestream, is_rgb: bool, pixels: Pixels, *, lacked_end: bool
) -> bool:
    """Whether `decoder` had too few data for a scan of these pixels, or for a restart interval.

    `lacked_end` says that the end marker was added, as by `completeness.with_end`.
    """
    if stream.coding not in (Coding.JPEG, Coding.JPEG_LOSSLESS) or stream.end is None:
        return False
    markers = _markers_inside(frame, stream)
    if not (lacked_end or markers or _hides_filling(decoder, stream) or _ends_as_filled(pixels, stream)):
        return False
    data_ends = [_before_fill(frame, marker_at) for marker_at in (*markers, stream.end)]
    parts = [frame[start:end] for start, end in pairwise((0, *data_ends, len(frame)))]
    try:
        probed = decoder(_PROBE.join(parts), stream, is_rgb)
    except DECODER_ERRORS:
        return True
    return not np.array_equal(probed, pixels)


def _markers_inside(frame: bytes, stream: Codestream) -> list[int]:
    """Offsets of the markers before EOI at which data must be complete: those of restart intervals, or after scans."""
    if stream.restart_interval and stream.scans == 1:
        return restarts(frame, stream)
    if stream.is_arithmetic:
        return []  # an arithmetic coder leaves out last zeros
    return [scan.end for scan in read_scans(frame, stream)[:-1]]


def _hides_filling(decoder: Decoder, stream: Codestream) -> bool:
    """Whether a filled part may look like anything else."""
    if stream.samples == 4:
        return True  # four samples are no longer as stored
    return decoder is jpegsof3  # it reads on behind short data, whatever is in memory there


def _ends_as_filled(pixels: Pixels, stream: Codestream) -> bool:
    """Whether the end of the picture has the value that libjpeg fills in: of the last row, or of the last pixel."""
    if stream.coding is Coding.JPEG_LOSSLESS:
        return bool((pixels[-1] == pixels[-1, 0]).all())
    return bool((pixels[-1, -1] == 1 << (stream.precision - 1)).all())


def _before_fill(data: bytes, marker_at: int) -> int:
    """Where the entropy-coded data before a marker end: fill (FF) may stand between, as DICOM's padding to even length
    (PS3.5 A.4.1). Data never end in FF, as 00 would follow it."""
    at = marker_at
    while data[at - 1] == 0xFF:
        at -= 1
    return at
