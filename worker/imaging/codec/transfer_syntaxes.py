"""The accepted transfer syntaxes and their decoders: a table, the exact and fast decoder first.

A decoder takes the codestream of one frame and its frame header and gives an array [H, W] or [H, W, samples]. libjpeg
and similar decoders fill missing data with grey and report success, so every result is checked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from worker.errors import Undecodable, UnsupportedSyntax
from worker.imaging.codec.codestream import Codestream, Coding, before_fill, scan_ends, with_height
from worker.imaging.codec.completeness import END_ABSENT, missing_parts, restarts, with_end
from worker.imaging.codec.more_rows import has_more_rows, rows_below
from worker.imaging.codec.reduced_decoders import reduced_decoder
from worker.imaging.codec.resolution import size_at
from worker.imaging.part10 import DEFLATED_LITTLE, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE

Pixels = NDArray[Any]
Decoder = Callable[[bytes, Codestream, bool], Pixels]
Table = Mapping[Coding, tuple[Decoder, ...]]

RLE = "1.2.840.10008.1.2.5"
NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED_LITTLE, EXPLICIT_BIG})

#: What imagecodecs raises: each codec's own error is a RuntimeError; the others mean bad arguments.
DECODER_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, OverflowError)

#: A progressive JPEG has about ten scans. Each scan takes a pass over the whole picture, for as little as 20 bytes of
#: file: two thousand scans took a decoder half a minute.
MAX_SCANS = 100

#: Inserted before a marker to test whether the data up to it were complete; contains no FF.
_PROBE = b"\x55\x2a\x19\xe6" * 64


def _jpeg(data: bytes, stream: Codestream, is_rgb: bool) -> Pixels:
    # without JFIF or Adobe markers libjpeg assumes YCbCr for three components; the DICOM header may say RGB. It cannot
    # convert lossless ones, and is told RGB to leave them as they are
    says_rgb = is_rgb and not stream.names_colour and not stream.is_ycbcr
    rgb = stream.samples == 3 and (says_rgb or stream.coding is Coding.JPEG_LOSSLESS)
    return np.asarray(imagecodecs.jpeg8_decode(data, colorspace="RGB" if rgb else None))


def _jpegsof3(data: bytes, stream: Codestream, is_rgb: bool) -> Pixels:
    del is_rgb
    if stream.scans > 1:
        raise ValueError("it takes the first scan for all of them")
    return np.asarray(imagecodecs.jpegsof3_decode(data))


def _jpegls(data: bytes, stream: Codestream, is_rgb: bool) -> Pixels:
    del stream, is_rgb
    return np.asarray(imagecodecs.jpegls_decode(data))


def _jpeg2k(data: bytes, stream: Codestream, is_rgb: bool) -> Pixels:
    del stream, is_rgb
    return np.asarray(imagecodecs.jpeg2k_decode(data))


@dataclass(frozen=True)
class Decoded:
    """One frame, [H, W] or [H, W, samples]; the notes give the resolution and the decoders that failed before."""

    pixels: Pixels
    notes: tuple[str, ...] = ()
    level: int = 0  #: how often it was halved while it was decoded


#: Decoders by the coding found in the codestream, which also serves headers that name another syntax. They are ordered
#: by CPU time (tests/benchmarks/decoders.py). Not used: OpenJPH, which is twice as fast on HTJ2K as OpenJPEG but fills
#: up a short codestream without an error; `imagecodecs.ljpeg_decode` and `jpeg_decode`, which falls back to it, because
#: damaged codestreams crashed the process, and libjpeg-turbo is faster.
BY_CODING: dict[Coding, tuple[Decoder, ...]] = {
    Coding.JPEG: (_jpeg,),
    Coding.JPEG_LOSSLESS: (_jpeg, _jpegsof3),
    Coding.JPEG_LS: (_jpegls,),
    Coding.JPEG_2000: (_jpeg2k,),
}

#: Transfer syntax UID -> the coding it promises (PS3.5 10, A.4).
ENCAPSULATED: dict[str, tuple[str, Coding]] = {
    "1.2.840.10008.1.2.4.50": ("JPEG Baseline", Coding.JPEG),
    "1.2.840.10008.1.2.4.51": ("JPEG Extended 12-bit", Coding.JPEG),
    "1.2.840.10008.1.2.4.57": ("JPEG Lossless, process 14", Coding.JPEG_LOSSLESS),
    "1.2.840.10008.1.2.4.70": ("JPEG Lossless, process 14 SV1", Coding.JPEG_LOSSLESS),
    "1.2.840.10008.1.2.4.80": ("JPEG-LS Lossless", Coding.JPEG_LS),
    "1.2.840.10008.1.2.4.81": ("JPEG-LS Near-Lossless", Coding.JPEG_LS),
    "1.2.840.10008.1.2.4.90": ("JPEG 2000 Lossless", Coding.JPEG_2000),
    "1.2.840.10008.1.2.4.91": ("JPEG 2000", Coding.JPEG_2000),
    "1.2.840.10008.1.2.4.201": ("HTJ2K Lossless", Coding.JPEG_2000),
    "1.2.840.10008.1.2.4.202": ("HTJ2K Lossless RPCL", Coding.JPEG_2000),
    "1.2.840.10008.1.2.4.203": ("HTJ2K", Coding.JPEG_2000),
}


def check_accepted(uid: str) -> None:
    """Raise UnsupportedSyntax for a transfer syntax outside the table."""
    if uid not in NATIVE and uid not in ENCAPSULATED and uid != RLE:
        raise UnsupportedSyntax(
            f"transfer syntax {uid or '(none)'} is not accepted: send the image uncompressed or as JPEG, JPEG-LS, "
            "JPEG 2000 or RLE"
        )


def check_scans(stream: Codestream, name: str) -> None:
    """Raise Undecodable for a JPEG of more scans than any encoder makes."""
    if stream.scans > MAX_SCANS:
        raise Undecodable(f"{name}: {stream.scans:,} scans would keep the decoder busy, {MAX_SCANS} are taken")


def decode_codestream(
    uid: str, frame: bytes, stream: Codestream, is_rgb: bool, table: Table = BY_CODING, level: int = 0
) -> Decoded:
    """Decode one frame. Raises Undecodable, naming the syntax, when every decoder of `table` fails.

    With a `level`, the picture is halved that many times while it is decoded, in grey; if that fails, it is decoded in
    full.
    """
    frame = with_height(frame, stream, stream.rows)
    name, promised = ENCAPSULATED.get(uid, (uid, stream.coding))
    is_ended = stream.end is not None
    if not is_ended:
        frame, stream = with_end(frame, stream)
    if stream.end is None:
        raise Undecodable(f"{name}: the codestream ends early, its end marker is missing: send the image again")
    check_scans(stream, name)
    missing = missing_parts(frame, stream)
    if missing is not None:
        raise Undecodable(f"{name}: the codestream is damaged, {missing}: send the image again")
    faults = []
    noted = () if is_ended else (END_ABSENT,)
    for decoder, at in _attempts(table, frame, stream, level):
        try:
            pixels, has_more = _decoded(decoder, at, frame, stream, is_rgb)
        except DECODER_ERRORS as error:
            faults.append(f"{decoder.__name__[1:]}: {error}")
            continue
        if has_more:
            raise Undecodable(
                f"{name}: the codestream holds more rows than the {stream.columns} x {stream.rows} px that its frame"
                " header says, and a part of the picture would be left out: export the image again"
            )
        if pixels.shape[:2] != size_at(at, stream):
            faults.append(f"{decoder.__name__[1:]}: gave {pixels.shape}")
        elif _was_filled(decoder, frame, stream, is_rgb, pixels, must_probe=not is_ended):
            raise Undecodable(f"{name}: the codestream is damaged, a part of its picture is missing: send it again")
        else:
            read_at = (f"reduced={at}",) if at else ()
            return Decoded(pixels, (*noted, *read_at, *(f"decoder_failed={fault}" for fault in faults)), at)
    found = "" if promised is stream.coding else f" (the codestream is {stream.coding})"
    raise Undecodable(f"{name}{found}: no decoder could read it ({'; '.join(faults)})")


def _decoded(decoder: Decoder, at: int, frame: bytes, stream: Codestream, is_rgb: bool) -> tuple[Pixels, bool]:
    """What a decoder gives at a level, and whether the codestream holds more rows than its header says."""
    below = rows_below(stream) if decoder is _jpeg or at else 0
    if not below:
        return decoder(frame, stream, is_rgb), False
    taller = decoder(with_height(frame, stream, stream.rows + below), stream, is_rgb)
    if stream.is_subsampled:  # the colour of the last rows follows from the rows below
        return decoder(frame, stream, is_rgb), has_more_rows(taller, stream, at)
    return taller[: size_at(at, stream)[0]], has_more_rows(taller, stream, at)


def _attempts(table: Table, frame: bytes, stream: Codestream, level: int) -> list[tuple[Decoder, int]]:
    """Decoders to try, each with its level: the reduced decoder first, then those that decode in full."""
    in_full: list[tuple[Decoder, int]] = [(decoder, 0) for decoder in table[stream.coding]]
    reduced = reduced_decoder(frame, stream, level) if level else None
    return in_full if reduced is None else [(reduced, level), *in_full]


def decode_rle(frame: bytes, shape: tuple[int, int, int], bytes_per_sample: int) -> Pixels:
    """RLE Lossless (PS3.5 G): [H, W] or [H, W, samples]. Raises Undecodable when segments are short or broken.

    Decodes segment by segment into buffers of the size that the header declares: `imagecodecs.dicomrle_decode` writes
    beyond its own buffer on a damaged frame.
    """
    rows, columns, samples = shape
    count = samples * bytes_per_sample
    offsets = [int.from_bytes(frame[at : at + 4], "little") for at in range(0, 64, 4)]
    if offsets[0] != count or len(frame) < 64:
        raise Undecodable(f"RLE Lossless: {offsets[0]} segments, the header needs {count}")
    ends = [*offsets[2 : count + 1], len(frame)]
    planes: list[Pixels] = [
        _rle_segment(frame[start:end], rows, columns) for start, end in zip(offsets[1 : count + 1], ends, strict=True)
    ]
    planes = [plane.reshape(rows, columns) for plane in planes]
    if bytes_per_sample == 2:  # the most significant byte comes first (PS3.5 G.2)
        planes = [_two_bytes(planes[at], planes[at + 1]) for at in range(0, count, 2)]
    return planes[0] if samples == 1 else np.stack(planes, axis=-1)


def _two_bytes(high: Pixels, low: Pixels) -> Pixels:
    """Two bytes per value. OpenCV's merge is five times as fast as shifts in numpy."""
    return np.asarray(cv2.merge((low, high))).view("<u2")[..., 0]


def _rle_segment(segment: bytes, rows: int, columns: int) -> NDArray[np.uint8]:
    size = rows * columns
    spare = max(2, min(rows, columns))  # padding may decode to some bytes, which are less than a row or a column
    out: Any = np.empty(size + spare, np.uint8)
    try:
        decoded = imagecodecs.packbits_decode(segment, out=out)
    except DECODER_ERRORS as error:
        if "TOO_SMALL" not in str(error):
            raise Undecodable(f"RLE Lossless: {error}") from error
        decoded = out
    if len(decoded) < size:
        raise Undecodable(f"RLE Lossless: a segment of {len(decoded):,} bytes, the header needs {size:,}")
    if len(decoded) >= size + spare:
        raise Undecodable(
            f"RLE Lossless: a segment holds more than the {size:,} bytes that the header needs: Rows or Columns are not"
            " those of the picture; have them corrected at the sender"
        )
    return np.asarray(out[:size])


def _was_filled(
    decoder: Decoder, frame: bytes, stream: Codestream, is_rgb: bool, pixels: Pixels, *, must_probe: bool
) -> bool:
    """Whether libjpeg had too few data for a scan, or for a restart interval, and filled up the rest.

    The filled part is mid-grey (DCT) or rows of one value (lossless), which may also be real. The test decodes once
    more with bytes inserted before each marker: they change the picture only where data were missing.
    """
    if stream.coding not in (Coding.JPEG, Coding.JPEG_LOSSLESS) or stream.end is None:
        return False
    is_lossless = stream.coding is Coding.JPEG_LOSSLESS
    end = pixels[-1] if is_lossless else pixels[-1, -1]
    invented = pixels[-1, 0] if is_lossless else 1 << (stream.precision - 1)
    markers = [] if stream.is_arithmetic else scan_ends(frame, stream)  # an arithmetic coder leaves out last zeros
    if stream.restart_interval and stream.scans == 1:
        markers = restarts(frame, stream)
    # four samples are no longer as stored; jpegsof3 reads on behind short data, whatever is in memory there
    must_probe = must_probe or bool(markers) or stream.samples == 4 or decoder is _jpegsof3
    if not must_probe and not bool((end == invented).all()):
        return False
    data_ends = [before_fill(frame, at) for at in (*markers, stream.end)]
    parts = [frame[start:end] for start, end in pairwise((0, *data_ends, len(frame)))]
    try:
        probed = decoder(_PROBE.join(parts), stream, is_rgb)
    except DECODER_ERRORS:
        return True
    return not np.array_equal(probed, pixels)
