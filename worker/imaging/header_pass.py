"""The header pass of a DICOM object: the Instance that its header gives, or the error that says why it is not admitted.

Checks that the file is whole and its size within the limits. Decodes no pixels.
"""

import re
from typing import NamedTuple

from pydicom.uid import UID

from worker.errors import MissingElement, NoPixelData, NotAnImage, TooLarge, Truncated
from worker.imaging.age import age_years, date_of
from worker.imaging.header import MAX_TEXT, Header
from worker.imaging.instance import Container, Instance
from worker.imaging.limits import Limits
from worker.imaging.part10 import Part10
from worker.imaging.stored_values.image_pixel import ImagePixel
from worker.imaging.stored_values.missing_pixels import has_stalled_rows, where_it_ends_early
from worker.imaging.stored_values.pixel_data import holds_codestream
from worker.imaging.stored_values.stalled_copy import LOWER_PART_EMPTY

MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"  # DICOMDIR

#: The remedies for an object that ends with a whole element and holds no pixels: nothing shows that it was cut.
_NO_PIXELS = (
    "the object ends with a whole element and holds no Pixel Data (7FE0,0010): have its sender or archive send the"
    " image itself, not its header alone or a reference to it"
)

#: In the name of every SOP Class of images, and of no other.
_IMAGE_CLASS = "Image Storage"


def admitted_instance(part10: Part10, header: Header, pixel: ImagePixel, limits: Limits) -> Instance:
    """The Instance of an object, after the checks of the header pass; the most useful error comes first.

    Raises NotAnImage, MissingElement, TooLarge, NoPixelData and Truncated; the last three with the Instance, if the
    header has one.
    """
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


def _names_image_class(header: Header, meta: Header) -> bool:
    """Whether the SOP Class is that of an image (PS3.4 B.5), which must contain pixel data, or bits are allocated."""
    return header.has("BitsAllocated") or any(_IMAGE_CLASS in name for name in _class_names(header, meta))


def _names_document_class(header: Header, meta: Header) -> bool:
    """Whether the SOP Class is one of the Standard and of no image: a report, a presentation state, a PDF."""
    names = _class_names(header, meta)
    return any(names) and not _names_image_class(header, meta)


def _class_names(header: Header, meta: Header) -> list[str]:
    """The names of the SOP Classes that the Standard has; empty for an absent or a private one."""
    uids = (header.value("SOPClassUID"), meta.value("MediaStorageSOPClassUID"))
    return [uid.name if isinstance(uid, UID) and uid.name != uid else "" for uid in uids]


def _instance(part10: Part10, header: Header, pixel: ImagePixel) -> Instance:
    """What the header says. Raises NotAnImage and MissingElement."""
    uids = _uids(part10, header)
    modality = header.words("Modality")
    if part10.pixel_tag is None and modality is None and not pixel.rows:
        raise NotAnImage("a DICOM object with neither pixel data nor Modality")
    meta = Header(part10.meta)
    region, view_code = header.code_meanings("AnatomicRegionSequence"), header.code_meanings("ViewCodeSequence")
    study_date = date_of(header, "StudyDate")
    age = age_years(header, study_date)
    return Instance(
        container=Container.DICOM,
        study_uid=uids.study,
        series_uid=uids.series,
        sop_instance_uid=uids.sop_instance,
        rows=pixel.rows,
        columns=pixel.columns,
        sop_class_uid=uids.sop_class,
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


class _Uids(NamedTuple):
    """The UIDs that name an object."""

    study: str
    series: str
    sop_instance: str
    sop_class: str | None


def _uids(part10: Part10, header: Header) -> _Uids:
    """The UIDs of an object. Raises NotAnImage for a DICOMDIR and for what is no DICOM, MissingElement for an absent
    or malformed one."""
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
    return _Uids(study, series, sop_instance, sop_class)


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
