"""A DICOM object -> its Instance, its stored values, its display values. Combines container, header, pixels and
display pipeline, which do not know each other."""

import re
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray
from pydicom.uid import UID

from worker.errors import MissingElement, NoPixelData, NotAnImage, TooLarge, Truncated
from worker.imaging.age import age_years, date_of
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
from worker.imaging.header import MAX_TEXT, Header, lenient_pydicom
from worker.imaging.instance import Container, Instance
from worker.imaging.limits import Limits
from worker.imaging.part10 import Part10, open_part10
from worker.imaging.pyramid import Pyramid, lifted
from worker.imaging.stored_values.image_pixel import ImagePixel, check_showable, read_image_pixel
from worker.imaging.stored_values.missing_pixels import has_stalled_rows, where_it_ends_early
from worker.imaging.stored_values.pixel_data import Decoded, decode_stored, grey_values, holds_codestream
from worker.imaging.stored_values.stalled_copy import LOWER_PART_EMPTY

MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"  # DICOMDIR


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
        return StoredValues(decoded.codes, decoded.bits, decoded.has_sign(self.pixel))

    def stored_values(self) -> NDArray[Any]:
        """Stored values before any look-up table: [H, W] or [H, W, 3], sign restored. Raises any Rejected."""
        return self.stored().values

    def _decode(self, reduction: Reduction | None) -> Decoded:
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
        return OpenObject(admitted(part10, header, pixel, limits), part10, header, pixel)


def admitted(part10: Part10, header: Header, pixel: ImagePixel, limits: Limits) -> Instance:
    """The checks of the header pass; the most useful error comes first. Raises as `open_object`."""
    ends_early = where_it_ends_early(part10, pixel)
    try:
        instance = _instance(part10, header, pixel)
    except (MissingElement, NotAnImage) as error:
        if ends_early is None and part10.pixel_tag is None and _names_image_class(header, Header(part10.meta)):
            ends_early = "the file ends before its pixel data begin"
        if ends_early is None or part10.is_forced:
            raise
        raise Truncated(ends_early) from error
    if ends_early is not None:
        raise Truncated(ends_early, instance)
    if part10.pixel_tag is None and (pixel.rows or _names_image_class(header, Header(part10.meta))):
        raise NoPixelData(_NO_PIXELS, instance)
    try:
        limits.admit(pixel.rows, pixel.columns, pixel.samples, pixel.frames, pixel.bits_allocated)
    except TooLarge as error:
        error.instance = instance
        raise
    if has_stalled_rows(part10, pixel, header):
        instance = instance.with_notes((LOWER_PART_EMPTY,))
    return instance


#: The remedies for an object that ends with a whole element and holds no pixels: nothing shows that it was cut.
_NO_PIXELS = (
    "the object ends with a whole element and holds no Pixel Data (7FE0,0010): have its sender or archive send the"
    " image itself, not its header alone or a reference to it"
)


def _names_image_class(header: Header, meta: Header) -> bool:
    """Whether the SOP Class is that of an image (PS3.4 B.5), which must contain pixel data, or bits are allocated."""
    return header.has("BitsAllocated") or any(_IMAGE_CLASS in name for name in _class_names(header, meta))


def _names_document_class(header: Header, meta: Header) -> bool:
    """Whether the SOP Class is one of the Standard and of no image: a report, a presentation state, a PDF."""
    names = _class_names(header, meta)
    return any(names) and not _names_image_class(header, meta)


#: In the name of every SOP Class of images, and of no other.
_IMAGE_CLASS = "Image Storage"


def _class_names(header: Header, meta: Header) -> list[str]:
    """The names of the SOP Classes that the Standard has; empty for an absent or a private one."""
    uids = (header.value("SOPClassUID"), meta.value("MediaStorageSOPClassUID"))
    return [uid.name if isinstance(uid, UID) and uid.name != uid else "" for uid in uids]


def _instance(part10: Part10, header: Header, pixel: ImagePixel) -> Instance:
    meta = Header(part10.meta)
    sop_class = _uid(header, "SOPClassUID") or _uid(meta, "MediaStorageSOPClassUID")
    if sop_class == MEDIA_DIRECTORY:
        raise NotAnImage("a DICOMDIR, the index of a medium: send the files that it lists")
    sop_instance = _uid(header, "SOPInstanceUID") or _uid(meta, "MediaStorageSOPInstanceUID")
    study, series = _uid(header, "StudyInstanceUID"), _uid(header, "SeriesInstanceUID")
    if part10.is_forced and not (sop_class and sop_instance and study):
        raise NotAnImage("neither DICOM nor PNG or JPEG: it has no DICM prefix and names no study")
    if study is None or series is None or sop_instance is None:
        named = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": sop_instance}
        missing = ", ".join(name for name, value in named.items() if value is None)
        raise MissingElement(f"{missing} absent, empty or malformed: correct the object at its sender")
    modality = header.words("Modality")
    if part10.pixel_tag is None and modality is None and not pixel.rows:
        raise NotAnImage("a DICOM object with neither pixel data nor Modality")
    region, view_code = header.code_meanings("AnatomicRegionSequence"), header.code_meanings("ViewCodeSequence")
    study_date = date_of(header, "StudyDate")
    age = age_years(header, study_date)
    return Instance(
        container=Container.DICOM,
        study_uid=study,
        series_uid=series,
        sop_instance_uid=sop_instance,
        rows=pixel.rows,
        columns=pixel.columns,
        sop_class_uid=sop_class,
        transfer_syntax_uid=part10.transfer_syntax_uid,
        modality=modality,
        body_part=header.words("BodyPartExamined") or region,
        anatomic_region=region,
        view=header.words("ViewPosition") or view_code,
        view_code=view_code,
        photometric_interpretation=header.text("PhotometricInterpretation"),
        presentation_intent_type=header.text("PresentationIntentType"),
        number_of_frames=pixel.frames,
        age_years=age,
        patient_id=header.text("PatientID"),
        issuer_of_patient_id=header.text("IssuerOfPatientID"),
        accession_number=header.text("AccessionNumber"),
        study_date=None if study_date is None else study_date.strftime("%Y%m%d"),
        study_time=_time(header),
        manufacturer=header.text("Manufacturer"),
        station_name=header.text("StationName"),
        device_serial_number=header.text("DeviceSerialNumber"),
        is_image=part10.pixel_tag is not None or bool(pixel.rows) or not _names_document_class(header, meta),
        is_compressed=part10.pixel_tag is not None and holds_codestream(part10, pixel),
        notes=tuple(header.notes),
    )


def _uid(header: Header, keyword: str) -> str | None:
    """A UID as text. It is untrusted input: printable text of at most 64 characters is kept, nothing is repaired."""
    value = header.value(keyword)
    if not isinstance(value, str):  # several values, or a VR that is not text
        return None
    text = value.strip(" \0")
    return text if 0 < len(text) <= MAX_TEXT and text.isprintable() else None


def _time(header: Header) -> str | None:
    """A TM value: HH, HHMM, HHMMSS or HHMMSS.F (PS3.5 6.2)."""
    text = header.text("StudyTime")
    if text is None:
        return None
    if not re.fullmatch(r"([01][0-9]|2[0-3])([0-5][0-9]([0-5][0-9]|60)?)?(\.[0-9]{1,6})?", text.replace(":", "")):
        header.malformed("study_time")
        return None
    return text.replace(":", "")
