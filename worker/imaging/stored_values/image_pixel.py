"""The Image Pixel Module (PS3.3 C.7.6.3) of a single-frame radiograph: what the header says of its pixels.

Knows no pixels: whether the header is right is found out where they are read.
"""

from dataclasses import dataclass

from worker.errors import MissingElement, NoPixelData, UnsupportedPixels
from worker.imaging.codec.transfer_syntaxes import check_accepted
from worker.imaging.element_walk import FLOAT_PIXEL_DATA
from worker.imaging.header import Header
from worker.imaging.part10 import Part10
from worker.imaging.stored_values.stored_bits import StoredBits, read_overlay_mask

MONOCHROME = frozenset({"MONOCHROME1", "MONOCHROME2"})
#: Three samples per pixel. The decoders of JPEG and JPEG 2000 return compressed YBR as RGB.
COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"})
PALETTE = "PALETTE COLOR"

#: What to do about a header that contradicts itself.
_CORRECT = "have the header corrected at the sender"


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
    planar_configuration: int  #: 0: by pixel; 1: by plane; 0 where the header says nothing
    photometric_interpretation: str
    frames: int
    overlay_mask: int = 0  #: bits of each sample that hold overlays
    padding_word: int | None = None  #: Pixel Padding Value as a word of 16 bits

    @property
    def frame_bytes(self) -> int:
        """Bytes of one native frame, without padding."""
        if self.is_subsampled:  # Y Y Cb Cr: each row holds whole pairs of pixels
            return self.rows * -(-self.columns // 2) * 4 * self.bits_allocated // 8
        return (self.rows * self.columns * self.samples * self.bits_allocated + 7) // 8

    @property
    def is_planar(self) -> bool:
        """Whether the header says that colours lie by plane."""
        return self.planar_configuration == 1

    @property
    def said_bits(self) -> StoredBits:
        """Which bits of a sample count, by the header."""
        return StoredBits(self.bits_stored, self.high_bit, self.is_signed, self.overlay_mask, self.padding_word)

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
    padding = header.integer("PixelPaddingValue")
    return ImagePixel(
        rows=header.integer("Rows") or 0,
        columns=header.integer("Columns") or 0,
        samples=samples,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=stored - 1 if high is None else high,
        is_signed=header.integer("PixelRepresentation") == 1,
        planar_configuration=header.integer("PlanarConfiguration") or 0,
        photometric_interpretation=photometric or ("RGB" if samples == 3 else "MONOCHROME2"),
        frames=max(1, header.integer("NumberOfFrames") or 1),
        overlay_mask=read_overlay_mask(header, allocated),
        padding_word=None if padding is None else padding & 0xFFFF,
    )


def check_showable(part10: Part10, pixel: ImagePixel) -> None:
    """Raise Rejected, with the reason, unless these are the pixels of a single-frame radiograph."""
    if part10.pixel_tag is None:
        raise NoPixelData("the object holds no pixel data, it is not an image: send the images of its study")
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
        raise UnsupportedPixels(
            f"{pixel.photometric_interpretation} with {pixel.samples} samples per pixel: {_CORRECT}, or send it in grey"
        )
    depths = (1, 8, 16, 32) if pixel.samples == 1 else (8, 16)
    if pixel.bits_allocated not in depths or not 1 <= pixel.bits_stored <= min(16, pixel.bits_allocated):
        raise UnsupportedPixels(f"{pixel.bits_stored} bits stored in {pixel.bits_allocated} allocated: {_CORRECT}")
