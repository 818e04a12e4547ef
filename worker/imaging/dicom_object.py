"""A DICOM object -> its Instance, its stored values, its display values. Combines container, header, pixels and
display pipeline, which do not know each other. `header_pass` makes the Instance."""

from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from worker.imaging.codec.resolution import MinimumSize, Reduction
from worker.imaging.display.elements import read_grayscale
from worker.imaging.display.pipeline import (
    VOI_LUT_MISSES,
    WINDOW_MISSES,
    Display,
    Grayscale,
    StoredValues,
    display_values,
    full_range,
    shows_padding_dark,
)
from worker.imaging.header import Header
from worker.imaging.header_pass import admitted_instance
from worker.imaging.instance import Instance
from worker.imaging.lenient_pydicom import lenient_pydicom
from worker.imaging.limits import Limits
from worker.imaging.part10 import Part10, open_part10
from worker.imaging.pyramid import Pyramid, lifted
from worker.imaging.stored_values.decoded_codes import DecodedCodes
from worker.imaging.stored_values.image_pixel import ImagePixel, check_showable, read_image_pixel
from worker.imaging.stored_values.pixel_data import decode_stored, grey_values


@dataclass(frozen=True)
class OpenObject:
    """An object whose header was read and accepted; its pixels are not decoded yet."""

    instance: Instance
    part10: Part10
    header: Header
    pixel: ImagePixel

    def display(self, reduction: Reduction | None = None) -> Display:
        """Display values, air dark; at a lower resolution if that has the minimum size, or at that of a pyramid.

        Raises any Rejected.
        """
        check_showable(self.part10, self.pixel)  # before tables are made for as many bits as the header says
        with lenient_pydicom():
            self.header.notes.clear()  # the notes of the header pass belong to the Instance
            if isinstance(reduction, Pyramid):
                return self._from_pyramid(reduction)
            return self._of_size(reduction)

    def _of_size(self, minimum: MinimumSize | None) -> Display:
        header, pixel = self.header, self.pixel
        grayscale = read_grayscale(header)
        # without a VOI the display range comes from the smallest and largest stored value, and a lower resolution
        # does not keep these, nor the bounds of padding
        is_reducible = grayscale.declares_voi and shows_padding_dark(grayscale, pixel.bits_stored, pixel.is_signed)
        decoded = self._decode(minimum if is_reducible else None)
        stored = grey_values(decoded, pixel, header)
        if not self.is_monochrome:
            return Display(full_range(stored), ("colour=grey", *header.notes))
        shown = display_values(stored, grayscale)
        if {WINDOW_MISSES, VOI_LUT_MISSES} & set(shown.notes) and decoded.level:
            return self.display()
        return self._noted(shown)

    def _from_pyramid(self, pyramid: Pyramid) -> Display:
        """Halved stored values through the display pipeline, which sees nothing else of the picture.

        Padding would run into the picture when it is halved: where it is declared, the whole picture's display values
        are halved, in which padding is dark. Grey made from colour or a palette is halved as it is shown.
        """
        level = pyramid.level(self.pixel.rows, self.pixel.columns)
        grayscale = read_grayscale(self.header)
        decoded = self._decode(pyramid if grayscale.padding is None else None)
        stored = grey_values(decoded, self.pixel, self.header)
        if self.is_monochrome and grayscale.padding is not None:
            shown = self._noted(display_values(stored, grayscale))
            return replace(shown, pixels=lifted(shown.pixels, 8, False, level))
        codes = lifted(stored.codes, stored.bits, stored.is_signed, level - decoded.level)
        halved = replace(stored, codes=codes)
        if not self.is_monochrome:
            return Display(full_range(halved), ("colour=grey", *self.header.notes))
        return self._noted(display_values(halved, grayscale))

    def _noted(self, shown: Display) -> Display:
        """The same with all notes on what was assumed."""
        assumed = () if self.header.text("PhotometricInterpretation") else ("photometric_interpretation=absent",)
        return replace(shown, notes=(*shown.notes, *assumed, *self.header.notes))

    def stored_grey(self) -> StoredValues:
        """Codes as stored, colour as grey. Raises any Rejected."""
        with lenient_pydicom():
            self.header.notes.clear()
            return grey_values(self._decode(None), self.pixel, self.header)

    def grayscale(self) -> Grayscale:
        """The elements of the display pipeline."""
        with lenient_pydicom():
            return read_grayscale(self.header)

    @property
    def is_monochrome(self) -> bool:
        """Whether the display pipeline applies; colour has none."""
        return self.pixel.photometric_interpretation.startswith("MONOCHROME")

    def stored(self) -> StoredValues:
        """Codes as stored in the file, one or three per pixel, and the number of used bits. Raises any Rejected."""
        with lenient_pydicom():
            self.header.notes.clear()
            decoded = self._decode(None)
        return StoredValues(decoded.codes, decoded.bits, decoded.is_signed)

    def stored_values(self) -> NDArray[Any]:
        """Stored values before any look-up table: [H, W] or [H, W, 3], sign restored. Raises any Rejected."""
        return self.stored().values

    def _decode(self, reduction: Reduction | None) -> DecodedCodes:
        check_showable(self.part10, self.pixel)
        decoded = decode_stored(self.part10, self.pixel, reduction)
        self.header.notes.extend(decoded.notes)
        return decoded


def open_object(data: bytes, limits: Limits) -> OpenObject:
    """Header pass. Raises NotAnImage, MissingElement, TooLarge, Truncated (with the Instance if the header has one)."""
    with lenient_pydicom():
        part10 = open_part10(data, limits)
        header = Header(part10.dataset)
        pixel = read_image_pixel(header)
        return OpenObject(admitted_instance(part10, header, pixel, limits), part10, header, pixel)
