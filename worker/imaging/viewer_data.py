"""What a viewer needs of one file: stored values, the table that makes display values of them, the windows that the
header offers, the spacing of its pixels. Knows no page.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.imaging import dicom_object, part10, raster
from worker.imaging.display.elements import read_voi_luts, usable_windows, voi_header
from worker.imaging.display.pipeline import (
    Grayscale,
    LookUpTable,
    StoredValues,
    VoiFunction,
    display_table,
    full_range_table,
)
from worker.imaging.header import Header
from worker.imaging.lenient_pydicom import lenient_pydicom
from worker.imaging.limits import DEFAULT, Limits


@dataclass(frozen=True)
class OfferedWindow:
    """One of the header's windows, in modality values, with its explanation."""

    label: str
    center: float
    width: float


@dataclass(frozen=True)
class Spacing:
    """Size of a pixel in mm, down and across. Without calibration it is measured at the detector (PS3.3 10.7.1.3)."""

    row_mm: float
    column_mm: float
    is_at_detector: bool


@dataclass(frozen=True)
class Person:
    """What a header says of the patient and the examination; it is kept nowhere else."""

    name: str | None = None
    sex: str | None = None
    birth_date: str | None = None
    study_description: str | None = None


@dataclass(frozen=True)
class View:
    """The header of a file, for a viewer."""

    grayscale: Grayscale
    is_monochrome: bool
    windows: tuple[OfferedWindow, ...] = ()
    function: VoiFunction = VoiFunction.LINEAR
    voi_luts: tuple[tuple[str, LookUpTable], ...] = ()
    spacing: Spacing | None = None
    person: Person = Person()


def read_stored(data: bytes, limits: Limits = DEFAULT) -> StoredValues:
    """Stored values of a file, colour as grey. Raises what `image_file.read_display` raises."""
    if part10.looks_like_dicom(data):
        return dicom_object.open_object(data, limits).stored_grey()
    codes = raster.read_stored_values(data, limits)
    return StoredValues(codes, 8 * codes.dtype.itemsize)


def read_table(data: bytes, stored: StoredValues, limits: Limits = DEFAULT) -> NDArray[np.uint8]:
    """The table whose look-up of `stored` gives the display values of this file, byte for byte."""
    if part10.looks_like_dicom(data):
        opened = dicom_object.open_object(data, limits)
        return display_table(stored, opened.grayscale())[0] if opened.is_monochrome else full_range_table(stored)
    key = raster.transparent_value(data, limits)
    if stored.bits > 8:
        return display_table(stored, Grayscale(padding=None if key is None else (key, key)))[0]
    table = np.arange(256, dtype=np.uint8)
    if key is not None:
        table[key] = 0
    return table


def read_view(data: bytes, limits: Limits = DEFAULT) -> View:
    """What the header offers; a raster file offers nothing. Raises what `image_file.read_instance` raises."""
    if not part10.looks_like_dicom(data):
        return View(Grayscale(), is_monochrome=True)
    opened = dicom_object.open_object(data, limits)
    with lenient_pydicom():
        header = opened.header
        voi = voi_header(header)
        name = (voi.text("VOILUTFunction") or "LINEAR").upper()
        return View(
            grayscale=opened.grayscale(),
            is_monochrome=opened.is_monochrome,
            windows=_windows(voi) if opened.is_monochrome else (),
            function=VoiFunction[name] if name in VoiFunction.__members__ else VoiFunction.LINEAR,
            voi_luts=read_voi_luts(header) if opened.is_monochrome else (),
            spacing=_spacing(header),
            person=_person(header),
        )


def _windows(header: Header) -> tuple[OfferedWindow, ...]:
    """Every window that can be used (PS3.3 C.11.2.1.2), with Window Center & Width Explanation."""
    explained = header.value("WindowCenterWidthExplanation")
    labels = [explained] if isinstance(explained, str) else [str(label) for label in explained or ()]
    return tuple(
        OfferedWindow((labels[i].strip() if i < len(labels) else "") or f"window {i + 1}", window.center, window.width)
        for i, window in usable_windows(header)
    )


def _spacing(header: Header) -> Spacing | None:
    """Pixel Spacing if it is there, else Imager Pixel Spacing, which is that of the detector (PS3.3 10.7.1.3)."""
    for keyword, is_at_detector in (("PixelSpacing", False), ("ImagerPixelSpacing", True)):
        numbers = header.numbers(keyword)
        if len(numbers) == 2 and min(numbers) > 0:
            return Spacing(numbers[0], numbers[1], is_at_detector)
    return None


def _person(header: Header) -> Person:
    keywords = ("PatientName", "PatientSex", "PatientBirthDate", "StudyDescription")
    values = (header.text(keyword) for keyword in keywords)
    return Person(*(None if value is None else value.replace("^", " ").strip() for value in values))
