"""The accepted transfer syntaxes, and how the codestream of one frame is decoded: by the first decoder that can, whose
result is checked. `decoders` has the decoders; `rle` has the one syntax that has no codestream.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from worker.errors import Undecodable, UnsupportedSyntax
from worker.imaging.codec.codestream import Codestream, Coding
from worker.imaging.codec.completeness import END_ABSENT, missing_parts, with_end
from worker.imaging.codec.decoders import BY_CODING, DECODER_ERRORS, Decoder, Pixels, jpeg
from worker.imaging.codec.filled_up import was_filled_up
from worker.imaging.codec.more_rows import has_more_rows, rows_below, with_height
from worker.imaging.codec.reduced_decoders import reduced_decoder
from worker.imaging.codec.resolution import size_at
from worker.imaging.part10 import DEFLATED_LITTLE, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE

RLE = "1.2.840.10008.1.2.5"
NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED_LITTLE, EXPLICIT_BIG})

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

#: A progressive JPEG has about ten scans. Each scan takes a pass over the whole picture, for as little as 20 bytes of
#: file: two thousand scans took a decoder half a minute.
MAX_SCANS = 100


def check_accepted(uid: str) -> None:
    """Raise UnsupportedSyntax for a transfer syntax outside the table."""
    if uid not in NATIVE and uid not in ENCAPSULATED and uid != RLE:
        raise UnsupportedSyntax(
            f"transfer syntax {uid or '(none)'} is not accepted: send the image uncompressed or as JPEG, JPEG-LS, "
            "JPEG 2000 or RLE"
        )


@dataclass(frozen=True)
class Decoded:
    """One frame, [H, W] or [H, W, samples]; the notes give the resolution and the decoders that failed before."""

    pixels: Pixels
    notes: tuple[str, ...] = ()
    level: int = 0  #: how often it was halved while it was decoded


def decode_codestream(
    uid: str,
    frame: bytes,
    stream: Codestream,
    is_rgb: bool,
    table: Mapping[Coding, tuple[Decoder, ...]] = BY_CODING,
    level: int = 0,
) -> Decoded:
    """Decode one frame. Raises Undecodable, naming the syntax, when every decoder of `table` fails.

    With a `level`, the picture is halved that many times while it is decoded, in grey; if that fails, it is decoded in
    full.
    """
    name, promised = ENCAPSULATED.get(uid, (uid, stream.coding))
    frame = with_height(frame, stream, stream.rows)
    lacked_end = stream.end is None
    if lacked_end:
        frame, stream = with_end(frame, stream)
    _check_whole(name, frame, stream)
    faults = []
    for decoder, at in _attempts(table, frame, stream, level):
        decoder_name = decoder.__name__.removeprefix("_")
        try:
            pixels, has_more = _decoded(decoder, at, frame, stream, is_rgb)
        except DECODER_ERRORS as error:
            faults.append(f"{decoder_name}: {error}")
            continue
        if has_more:
            raise Undecodable(
                f"{name}: the codestream holds more rows than the {stream.columns} x {stream.rows} px that its frame"
                " header says, and a part of the picture would be left out: export the image again"
            )
        if pixels.shape[:2] != size_at(at, stream):
            faults.append(f"{decoder_name}: gave {pixels.shape}")
            continue
        if was_filled_up(decoder, frame, stream, is_rgb, pixels, lacked_end=lacked_end):
            raise Undecodable(f"{name}: the codestream is damaged, a part of its picture is missing: send it again")
        noted_end = (END_ABSENT,) if lacked_end else ()
        read_at = (f"reduced={at}",) if at else ()
        return Decoded(pixels, (*noted_end, *read_at, *(f"decoder_failed={fault}" for fault in faults)), at)
    found = "" if promised is stream.coding else f" (the codestream is {stream.coding})"
    raise Undecodable(f"{name}{found}: no decoder could read it ({'; '.join(faults)})")


def _check_whole(name: str, frame: bytes, stream: Codestream) -> None:
    """Raise Undecodable for a codestream without its end or all its parts, or of more scans than any encoder makes."""
    if stream.end is None:
        raise Undecodable(f"{name}: the codestream ends early, its end marker is missing: send the image again")
    if stream.scans > MAX_SCANS:
        raise Undecodable(f"{name}: {stream.scans:,} scans would keep the decoder busy, {MAX_SCANS} are taken")
    missing = missing_parts(frame, stream)
    if missing is not None:
        raise Undecodable(f"{name}: the codestream is damaged, {missing}: send the image again")


def _attempts(
    table: Mapping[Coding, tuple[Decoder, ...]], frame: bytes, stream: Codestream, level: int
) -> list[tuple[Decoder, int]]:
    """Decoders to try, each with its level: the reduced decoder first, then those that decode in full."""
    in_full: list[tuple[Decoder, int]] = [(decoder, 0) for decoder in table[stream.coding]]
    reduced = reduced_decoder(frame, stream, level) if level else None
    return in_full if reduced is None else [(reduced, level), *in_full]


def _decoded(decoder: Decoder, at: int, frame: bytes, stream: Codestream, is_rgb: bool) -> tuple[Pixels, bool]:
    """What a decoder gives at a level, and whether the codestream holds more rows than its header says."""
    below = rows_below(stream) if decoder is jpeg or at else 0
    if not below:
        return decoder(frame, stream, is_rgb), False
    taller = decoder(with_height(frame, stream, stream.rows + below), stream, is_rgb)
    if stream.is_subsampled:  # the colour of the last rows follows from the rows below
        return decoder(frame, stream, is_rgb), has_more_rows(taller, stream, at)
    return taller[: size_at(at, stream)[0]], has_more_rows(taller, stream, at)
