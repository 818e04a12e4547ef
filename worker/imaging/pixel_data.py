"""The pixel data of a DICOM object -> stored values: native or encapsulated, any bit depth up to 16, colour to grey.

Knows the Image Pixel Module (PS3.3 C.7.6.3, PS3.5 8). Does not know the display pipeline.
"""

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import encaps

from worker.errors import MissingElement, NoPixelData, Undecodable, UnsupportedPixels
from worker.imaging.codestream import Codestream, read_codestream
from worker.imaging.display import StoredValues
from worker.imaging.header import Header
from worker.imaging.part10 import FLOAT_PIXEL_DATA, Part10
from worker.imaging.resolution import MinimumSize
from worker.imaging.transfer_syntaxes import RLE, check_accepted, decode_codestream, decode_rle

Pixels = NDArray[Any]

MONOCHROME = frozenset({"MONOCHROME1", "MONOCHROME2"})
#: Three samples per pixel. The decoders of JPEG and JPEG 2000 return compressed YBR as RGB.
COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"})
PALETTE = "PALETTE COLOR"


@dataclass(frozen=True)
class ImagePixel:
    """The Image Pixel Module of a single-frame radiograph."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    is_planar: bool
    photometric_interpretation: str
    frames: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one native frame, without padding."""
        samples = 2 if self.is_subsampled else self.samples
        return (self.rows * self.columns * samples * self.bits_allocated + 7) // 8

    @property
    def is_subsampled(self) -> bool:
        """Native YBR_FULL_422: two pixels share their colour (PS3.3 C.7.6.3.1.2)."""
        return self.photometric_interpretation == "YBR_FULL_422"


def read_image_pixel(header: Header) -> ImagePixel:
    """The module with its defaults; absent bit depths are derived from the others. Checks nothing."""
    samples = header.integer("SamplesPerPixel") or 1
    allocated = header.integer("BitsAllocated") or 0
    stored = header.integer("BitsStored") or allocated
    high = header.integer("HighBit")
    photometric = (header.text("PhotometricInterpretation") or "").upper()
    return ImagePixel(
        rows=header.integer("Rows") or 0,
        columns=header.integer("Columns") or 0,
        samples=samples,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=stored - 1 if high is None else high,
        is_signed=header.integer("PixelRepresentation") == 1,
        is_planar=header.integer("PlanarConfiguration") == 1,
        photometric_interpretation=photometric or ("RGB" if samples == 3 else "MONOCHROME2"),
        frames=max(1, header.integer("NumberOfFrames") or 1),
    )


def check_showable(part10: Part10, pixel: ImagePixel) -> None:
    """Raise Rejected, with the reason, unless these are the pixels of a single-frame radiograph."""
    if part10.pixel_tag is None:
        raise NoPixelData("the object is a document, not an image: send the images of its study")
    if part10.pixel_tag in FLOAT_PIXEL_DATA:
        raise UnsupportedPixels("float pixel data: radiographs have integer pixels")
    check_accepted(part10.transfer_syntax_uid)
    if pixel.frames > 1:
        raise UnsupportedPixels(f"{pixel.frames} frames: only single-frame radiographs are screened")
    for keyword, value in (("Rows", pixel.rows), ("Columns", pixel.columns), ("BitsAllocated", pixel.bits_allocated)):
        if value <= 0:
            raise MissingElement(f"{keyword} is absent or zero: the pixels cannot be laid out")
    wanted = {1: MONOCHROME | {PALETTE}, 3: COLOUR}.get(pixel.samples, frozenset())
    if pixel.photometric_interpretation not in wanted:
        raise UnsupportedPixels(f"{pixel.photometric_interpretation} with {pixel.samples} samples per pixel")
    depths = (1, 8, 16, 32) if pixel.samples == 1 else (8, 16)
    if pixel.bits_allocated not in depths or not 1 <= pixel.bits_stored <= min(16, pixel.bits_allocated):
        raise UnsupportedPixels(f"{pixel.bits_stored} bits stored in {pixel.bits_allocated} allocated")
    if not pixel.bits_stored - 1 <= pixel.high_bit < pixel.bits_allocated:
        raise UnsupportedPixels(f"high bit {pixel.high_bit} with {pixel.bits_stored} bits stored")


def holds_codestream(part10: Part10, pixel: ImagePixel) -> bool:
    """Whether the pixel data may be a codestream, for any transfer syntax: they are too short for native pixels."""
    start, end = part10.pixel_span
    return part10.is_encapsulated or end - start < pixel.frame_bytes


def decode_stored(
    part10: Part10, pixel: ImagePixel, minimum: MinimumSize | None = None
) -> tuple[Pixels, int, tuple[str, ...]]:
    """(codes [H, W] or [H, W, 3], their effective bits, notes): masked, unsigned containers, upper bits zero.

    Monochrome pixels are decoded at the lowest resolution that has the `minimum` size, if the codestream
    offers one; otherwise in full. The module must have passed `check_showable`. Raises Undecodable.
    """
    frame = _single_frame(part10)
    if holds_codestream(part10, pixel):
        coded = bytes(frame)
        stream = read_codestream(coded)
        if stream is not None:
            return _from_codestream(part10.transfer_syntax_uid, coded, stream, pixel, minimum)
    if part10.is_encapsulated and part10.transfer_syntax_uid == RLE:
        # PS3.5 G.2: one segment per byte of a sample
        shape = (pixel.rows, pixel.columns, pixel.samples)
        if pixel.bits_allocated not in (8, 16):
            raise UnsupportedPixels(f"RLE with {pixel.bits_allocated} bits allocated")
        return (
            _masked(decode_rle(bytes(frame), shape, pixel.bits_allocated // 8), pixel, shift=0),
            pixel.bits_stored,
            (),
        )
    if len(frame) < pixel.frame_bytes:
        raise Undecodable(
            f"the pixel data hold {len(frame):,} bytes, the header needs {pixel.frame_bytes:,}"
            if not part10.is_encapsulated
            else f"transfer syntax {part10.transfer_syntax_uid}: the pixel data begin no codestream"
        )
    # header says compressed, pixels are not (fo-dicom#2008), or simply native
    return _native(frame, pixel, part10.is_little_endian), pixel.bits_stored, ()


def grey_values(codes: Pixels, bits: int, pixel: ImagePixel, header: Header, is_native: bool) -> StoredValues:
    """Colour -> grey of the same depth by BT.601 luma; monochrome is unchanged."""
    if pixel.photometric_interpretation == PALETTE:
        return _palette_grey(codes, header)
    if codes.ndim == 2:
        return StoredValues(codes, bits, pixel.is_signed)
    if is_native and pixel.photometric_interpretation.startswith("YBR_FULL"):
        return StoredValues(np.ascontiguousarray(codes[..., 0]), bits)  # Y is the luma (PS3.3 C.7.6.3.1.2)
    return StoredValues(np.asarray(cv2.cvtColor(np.ascontiguousarray(codes), cv2.COLOR_RGB2GRAY)), bits)


def _single_frame(part10: Part10) -> bytes | memoryview:
    if not part10.is_encapsulated:
        return part10.pixel_data
    try:
        return next(encaps.generate_frames(bytes(part10.pixel_data), number_of_frames=1))
    except (ValueError, StopIteration, RuntimeError, OSError) as error:
        raise Undecodable(f"the encapsulated pixel data hold no frame ({error})") from error


def _from_codestream(
    uid: str, frame: bytes, stream: Codestream, pixel: ImagePixel, minimum: MinimumSize | None
) -> tuple[Pixels, int, tuple[str, ...]]:
    if (stream.rows, stream.columns, stream.samples) != (pixel.rows, pixel.columns, pixel.samples):
        raise Undecodable(
            f"the codestream is {stream.columns} x {stream.rows} x {stream.samples},"
            f" the header says {pixel.columns} x {pixel.rows} x {pixel.samples}"
        )
    if stream.precision > 16:
        raise UnsupportedPixels(f"a codestream of {stream.precision} bits")
    level = minimum.level(stream) if minimum is not None and _may_be_reduced(stream, pixel) else 0
    decoded = decode_codestream(uid, frame, stream, pixel.photometric_interpretation == "RGB", level=level)
    codes = decoded.pixels.view(decoded.pixels.dtype.str.replace("i", "u"))
    bits = min(stream.precision, pixel.bits_stored)
    if stream.precision > bits and not pixel.is_signed and int(codes.max()) >> bits:
        bits = stream.precision  # the header understates the depth; masking would wrap the brightest values
    wide = replace(pixel, bits_stored=bits, bits_allocated=8 * codes.dtype.itemsize)
    return _masked(codes, wide, shift=0), bits, decoded.notes


def _may_be_reduced(stream: Codestream, pixel: ImagePixel) -> bool:
    """Monochrome, and header and codestream agree on the sign: otherwise interpolated values would be wrong."""
    if pixel.photometric_interpretation not in MONOCHROME or stream.is_signed != pixel.is_signed:
        return False
    return not pixel.is_signed or stream.precision == pixel.bits_stored


def _native(frame: bytes | memoryview, pixel: ImagePixel, is_little_endian: bool) -> Pixels:
    rows, columns, samples = pixel.rows, pixel.columns, pixel.samples
    if pixel.bits_allocated == 1:  # PS3.5 8.1.1: packed from the least significant bit
        bits = np.unpackbits(np.frombuffer(frame, np.uint8, pixel.frame_bytes), bitorder="little")
        return bits[: rows * columns].reshape(rows, columns)
    kind = np.dtype(f"{'<' if is_little_endian else '>'}u{pixel.bits_allocated // 8}")
    flat = np.frombuffer(frame, kind, pixel.frame_bytes // kind.itemsize)
    if pixel.is_subsampled and samples == 3:  # Y Y Cb Cr: only Y is needed
        quads = flat.reshape(-1, 4)
        luma = quads[:, :2].reshape(rows, columns)
        return _masked(np.repeat(luma[..., None], 3, axis=2), pixel, shift=pixel.high_bit + 1 - pixel.bits_stored)
    shape = (samples, rows, columns) if pixel.is_planar and samples > 1 else (rows, columns, samples)
    array = flat.reshape(shape)
    array = np.moveaxis(array, 0, -1) if pixel.is_planar and samples > 1 else array
    array = array[..., 0] if samples == 1 else array
    return _masked(array, pixel, shift=pixel.high_bit + 1 - pixel.bits_stored)


def _masked(codes: Pixels, pixel: ImagePixel, shift: int) -> Pixels:
    """Only the stored bits, in the machine's byte order, uint8 or uint16."""
    native = codes.astype(codes.dtype.newbyteorder("="), copy=False)
    if shift:
        native = native >> shift
    largest = native.dtype.type((1 << pixel.bits_stored) - 1)
    if native.max() > largest:  # this test takes a third of the time of a copy, and upper bits are rarely used
        native = native & largest
    wanted = np.uint8 if pixel.bits_stored <= 8 else np.uint16
    return np.require(native, wanted, ["C_CONTIGUOUS", "ALIGNED"])  # a view of the file's bytes if possible


def _palette_grey(codes: Pixels, header: Header) -> StoredValues:
    """PALETTE COLOR (PS3.3 C.7.6.3.1.5) through its three tables to luma, 8 bits."""
    tables = []
    for colour in ("Red", "Green", "Blue"):
        descriptor = [int(v) for v in header.numbers(f"{colour}PaletteColorLookupTableDescriptor")]
        raw = header.value(f"{colour}PaletteColorLookupTableData")
        if len(descriptor) != 3 or not isinstance(raw, bytes):
            raise MissingElement(f"{colour} Palette Color Lookup Table is absent or segmented: the colours are unknown")
        entries = descriptor[0] & 0xFFFF or 65536
        wide = len(raw) >= 2 * entries
        data = np.frombuffer(raw[: len(raw) // 2 * 2] if wide else raw, "<u2" if wide else "u1")
        if len(data) < entries:
            raise MissingElement(f"{colour} Palette Color Lookup Table is shorter than its descriptor says")
        index = np.clip(np.arange(65536) - descriptor[1], 0, entries - 1)
        values = data[:entries].astype(np.float64)[index]
        tables.append(values / (65535.0 if wide and descriptor[2] > 8 else 255.0))
    luma = 0.299 * tables[0] + 0.587 * tables[1] + 0.114 * tables[2]
    table = np.rint(np.clip(luma, 0.0, 1.0) * 255.0).astype(np.uint8)
    return StoredValues(table[codes], 8)
