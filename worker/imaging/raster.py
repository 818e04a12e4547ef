"""PNG and JPEG -> Instance with UIDs derived from the bytes, stored values, display values.

A raster file holds no patient data, and every file is its own study. Its picture is read as viewers show it: EXIF
orientation applied, transparency on black, colour as luma. GIF, TIFF, BMP and WebP are not accepted.
"""

import hashlib
from dataclasses import dataclass
from struct import unpack_from
from typing import Any
from uuid import UUID, uuid5

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.errors import NotAnImage, Truncated, Undecodable, UnsupportedPixels
from worker.imaging.codec.codestream import (
    MAX_SEGMENTS,
    Codestream,
    Coding,
    exif_orientation,
    read_codestream,
    too_many_segments,
)
from worker.imaging.codec.resolution import MinimumSize, Reduction
from worker.imaging.codec.transfer_syntaxes import Decoded, decode_codestream
from worker.imaging.display.pipeline import Display, Grayscale, StoredValues, display_values
from worker.imaging.instance import Container, Instance
from worker.imaging.limits import Limits
from worker.imaging.png_palette import PALETTE, with_every_colour
from worker.imaging.png_rows import has_more_rows
from worker.imaging.pyramid import Pyramid, lifted
from worker.imaging.stored_values.stalled_copy import has_empty_block

#: Namespaces of the derived UIDs. Never change them: the same file must get the same UIDs again.
STUDY_NAMESPACE = UUID("6f0c1a52-5a7e-5c0b-9a3e-2d9b6a1c7e10")
SERIES_NAMESPACE = UUID("6f0c1a52-5a7e-5c0b-9a3e-2d9b6a1c7e11")
INSTANCE_NAMESPACE = UUID("6f0c1a52-5a7e-5c0b-9a3e-2d9b6a1c7e12")

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"

#: EXIF orientation -> how to turn the stored picture (JEITA CP-3451 4.6.4): transpose first, then flips.
_TURNS: dict[int, tuple[bool, int | None]] = {
    1: (False, None), 2: (False, 1), 3: (False, -1), 4: (False, 0),
    5: (True, None), 6: (True, 1), 7: (True, -1), 8: (True, 0),
}  # fmt: skip


@dataclass(frozen=True)
class RasterHeader:
    """The header of a PNG or JPEG, read before decoding."""

    rows: int  #: as stored, before the orientation
    columns: int
    samples: int
    bits: int
    is_complete: bool
    orientation: int = 1
    notes: tuple[str, ...] = ()
    transparent: int | None = None  #: of a grey PNG: the decoded value whose pixels are transparent
    palette_depth: int | None = None  #: of a palette PNG: how many bits name a colour


def looks_like_raster(data: bytes) -> bool:
    """PNG or JPEG signature."""
    return data.startswith((PNG_SIGNATURE, JPEG_SIGNATURE))


def could_become_raster(data: bytes) -> bool:
    """Whether the file is shorter than a signature and equals the beginning of one."""
    return PNG_SIGNATURE.startswith(data) or JPEG_SIGNATURE.startswith(data)


def read_instance(data: bytes, limits: Limits) -> Instance:
    """Header pass. Raises Truncated, TooLarge, UnsupportedPixels (JPEG-LS), Undecodable (no size)."""
    header = _admit(data, limits)
    rows, columns = header.rows, header.columns
    if _TURNS[header.orientation][0]:
        rows, columns = columns, rows
    digest = hashlib.sha256(data).hexdigest()
    return Instance(
        container=Container.RASTER,
        study_uid=derived_uid(STUDY_NAMESPACE, digest),
        series_uid=derived_uid(SERIES_NAMESPACE, digest),
        sop_instance_uid=derived_uid(INSTANCE_NAMESPACE, digest),
        rows=rows,
        columns=columns,
        is_compressed=True,
        notes=header.notes,
    )


def derived_uid(namespace: UUID, sha256: str) -> str:
    """`2.25.` and a UUID as a decimal number (PS3.5 B.2)."""
    return f"2.25.{uuid5(namespace, sha256).int}"


def read_stored_values(data: bytes, limits: Limits) -> NDArray[Any]:
    """[H, W] grey, uint8 or uint16, turned upright. Raises what `read_instance` raises, and Undecodable."""
    return _decode(data, _admit(data, limits)).pixels


def read_display(data: bytes, limits: Limits, reduction: Reduction | None = None) -> Display:
    """8-bit values unchanged; 16-bit values linear between the smallest and the largest, with the note `voi=none`.

    An 8-bit JPEG is decoded at the lowest resolution that has the minimum size. For a pyramid, the upright grey picture
    is halved before its display range is found, or after where it has transparent pixels.
    """
    header = _admit(data, limits)
    pyramid = reduction if isinstance(reduction, Pyramid) else None
    grey = _decode(data, header, None if isinstance(reduction, Pyramid) else reduction)
    level = 0 if pyramid is None else pyramid.level(*grey.pixels.shape)
    notes = (*header.notes, *grey.notes)
    key = header.transparent
    if grey.pixels.dtype == np.uint8:
        opaque = grey.pixels if key is None else np.where(grey.pixels == key, np.uint8(0), grey.pixels)
        return Display(lifted(opaque, 8, False, level), notes)
    if key is None:
        shown = display_values(StoredValues(lifted(grey.pixels, 16, False, level), 16), Grayscale())
        return Display(shown.pixels, (*shown.notes, *notes))
    # transparent pixels are background, as padding is: they have no part in the display range
    shown = display_values(StoredValues(grey.pixels, 16), Grayscale(padding=(key, key)))
    return Display(lifted(shown.pixels, 8, False, level), (*shown.notes, *notes))


def transparent_value(data: bytes, limits: Limits) -> int | None:
    """Of a grey PNG with a colour key: the stored value that is shown black. Raises what `read_instance` raises."""
    return _admit(data, limits).transparent


def _admit(data: bytes, limits: Limits) -> RasterHeader:
    header = _png_header(data) if data.startswith(PNG_SIGNATURE) else _jpeg_header(data)
    if header.rows <= 0 or header.columns <= 0:
        raise Undecodable("the image has no size")
    limits.admit(header.rows, header.columns, header.samples, bits=header.bits)
    if not header.is_complete:
        raise Truncated("the image file ends before its picture does")
    return header


def _png_header(data: bytes) -> RasterHeader:
    """Walk over the chunks to IEND (ISO 15948 5.3); bytes after it are ignored."""
    chunks: dict[bytes, bytes] = {}
    at, is_complete, count = len(PNG_SIGNATURE), False, 0
    while at + 12 <= len(data) and not is_complete:
        count += 1
        if count > MAX_SEGMENTS:
            raise too_many_segments()
        (length,) = unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        if at + 12 + length > len(data):
            break
        if kind in (b"IHDR", b"eXIf", b"acTL", b"tRNS"):
            chunks.setdefault(kind, data[at + 8 : at + 8 + length])
        is_complete = kind == b"IEND"
        at += 12 + length
    if len(chunks.get(b"IHDR", b"")) < 13:
        raise Truncated("the PNG file ends inside its header")
    if b"acTL" in chunks:
        raise NotAnImage("an animated PNG is no radiograph")
    columns, rows, depth, colour = unpack_from(">IIBB", chunks[b"IHDR"])
    samples = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(colour, 4)
    key = _transparent_grey(chunks, depth) if colour == 0 else None
    # of colour, libpng honours the key or the palette's alpha and gives an alpha channel
    has_alpha = colour in (4, 6) or key is not None or (colour in (2, 3) and b"tRNS" in chunks)
    notes = (("colour=grey",) if colour in (2, 3, 6) else ()) + (("alpha=on_black",) if has_alpha else ())
    orientation = exif_orientation(chunks.get(b"eXIf", b""))
    notes += _turned(orientation)
    named_by = depth if colour == PALETTE and depth <= 8 else None
    return RasterHeader(rows, columns, samples, max(depth, 8), is_complete, orientation, notes, key, named_by)


def _transparent_grey(chunks: dict[bytes, bytes], depth: int) -> int | None:
    """tRNS of a grey PNG (ISO 15948 11.3.2.1): a sample value in 16 bits, given as it is decoded, in 8 or 16 bits."""
    key = chunks.get(b"tRNS", b"")
    if len(key) != 2 or not 1 <= depth <= 16:
        return None
    value = int.from_bytes(key, "big") & ((1 << depth) - 1)
    return value if depth >= 8 else value * 255 // ((1 << depth) - 1)


def _jpeg_header(data: bytes) -> RasterHeader:
    stream = read_codestream(data)
    if stream is None:
        raise Truncated("the JPEG file ends inside its header")
    if stream.coding is not Coding.JPEG:
        raise UnsupportedPixels(f"{stream.coding} is taken inside DICOM only: send a baseline JPEG, a PNG or DICOM")
    notes = ("colour=grey",) if stream.samples > 1 else ()
    if has_empty_block(data, stream.data_at, len(data) if stream.end is None else stream.end):
        raise Truncated("zeros stand inside its picture: a part of it is still being copied, or was lost")
    bits = 8 if stream.precision == 8 else 16
    return RasterHeader(
        stream.rows, stream.columns, stream.samples, bits, stream.end is not None, stream.orientation,
        notes + _turned(stream.orientation),
    )  # fmt: skip


def _turned(orientation: int) -> tuple[str, ...]:
    return () if orientation == 1 else (f"exif_orientation={orientation}",)


def _decode(data: bytes, header: RasterHeader, minimum: MinimumSize | None = None) -> Decoded:
    """[H, W] grey, upright, with notes on how it was decoded."""
    is_jpeg = data.startswith(JPEG_SIGNATURE)
    picture = _decode_jpeg(data, minimum) if is_jpeg else Decoded(_decode_png(data, header.palette_depth))
    transpose, flip = _TURNS[header.orientation]
    grey = _grey(picture.pixels)
    grey = cv2.transpose(grey) if transpose else grey
    return Decoded(np.asarray(grey if flip is None else cv2.flip(grey, flip)), picture.notes)


def _decode_jpeg(data: bytes, minimum: MinimumSize | None) -> Decoded:
    """Grey, or BGR. OpenCV converts CMYK and YCCK to BGR and undoes Adobe's inversion."""
    stream = read_codestream(data)
    if stream is None:
        return Decoded(_decode_with_opencv(data))
    if stream.samples == 4:
        return decode_codestream("JPEG", data, stream, is_rgb=False, table={Coding.JPEG: (_inks,)})
    level = 0 if minimum is None else minimum.level(stream)
    decoded = decode_codestream("JPEG", data, stream, is_rgb=False, level=level)
    pixels = decoded.pixels
    if pixels.dtype == np.uint16:  # 12 bits
        pixels = pixels << (16 - stream.precision)
    return Decoded(pixels[..., ::-1] if pixels.ndim == 3 else pixels, decoded.notes)


def _inks(data: bytes, stream: Codestream, is_rgb: bool) -> NDArray[Any]:
    """A JPEG of four samples, CMYK or YCCK."""
    del stream, is_rgb
    return _decode_with_opencv(data)


def _decode_png(data: bytes, palette_depth: int | None) -> NDArray[Any]:
    """As `_decode_with_opencv`; raises Undecodable too where rows are left over, or a pixel's colour is not there."""
    picture = _decode_with_opencv(data)
    if has_more_rows(data):
        raise Undecodable(
            f"the PNG holds more rows than the {picture.shape[1]} x {picture.shape[0]} px that its header says, and a"
            " part of the picture would be left out: export the image again"
        )
    whole = None if palette_depth is None else with_every_colour(data, palette_depth)
    if whole is not None and not np.array_equal(picture, _decode_with_opencv(whole)):
        raise Undecodable(
            "the PNG's pixels name colours that its palette does not hold: export the image again, in grey"
        )
    return picture


def _decode_with_opencv(data: bytes) -> NDArray[Any]:
    """[H, W], BGR or BGRA, as stored (IMREAD_UNCHANGED does not apply the EXIF orientation)."""
    try:
        decoded: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise Undecodable(f"the image cannot be decoded ({error.err})") from error
    if decoded is None:
        raise Undecodable("the image cannot be decoded: its data are broken")
    return np.asarray(decoded)


def _grey(picture: NDArray[Any]) -> NDArray[Any]:
    """BT.601 luma; transparent pixels are put on black (air)."""
    if picture.ndim == 2:
        return picture
    grey: NDArray[Any] = np.asarray(cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_BGR2GRAY))
    if picture.shape[2] < 4:
        return grey
    alpha, opaque = picture[..., 3], np.iinfo(picture.dtype).max
    if bool((alpha == opaque).all()):
        return grey
    return np.rint(grey.astype(np.float32) * (alpha.astype(np.float32) / opaque)).astype(picture.dtype)
