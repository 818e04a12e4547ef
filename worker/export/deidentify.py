"""De-identify one radiograph: write a new DICOM object with the elements listed here, and no others.

Follows the Basic Application Level Confidentiality Profile (PS3.15 E.2) and goes beyond it: no text of the old header
is copied, only parsed numbers and words of the lists here. The pixels are stored values, encoded again, so comments of
a codestream, hidden upper bits, overlays and private elements are not copied.
"""

from io import BytesIO
from typing import Any

import numpy as np
from pydicom import dcmwrite
from pydicom.config import IGNORE
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID
from pydicom.valuerep import DSfloat

from worker.imaging.dicom_object import OpenObject
from worker.imaging.display.elements import read_grayscale
from worker.imaging.display.pipeline import LookUpTable
from worker.imaging.lenient_pydicom import lenient_pydicom
from worker.imaging.part10 import EXPLICIT_LITTLE
from worker.imaging.stored_values.image_pixel import MONOCHROME
from worker.ledger.pseudonyms import digest
from worker.screening import modalities
from worker.screening.rules import Answer, eligible, view_position

#: Elements that are required and may be empty (type 2), and that the profile empties (PS3.15 table E.1-1, Z).
EMPTIED = (
    *("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
    *("ReferringPhysicianName", "Manufacturer", "SeriesNumber", "InstanceNumber", "PatientOrientation", "Laterality"),
)

#: Numbers that help a reader and identify nobody: (row, column), in mm.
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing")


#: Transfer syntaxes with lossy compression, or possibly lossy, which must stay recorded (PS3.3 C.7.6.1.1.5).
LOSSY = frozenset(f"1.2.840.10008.1.2.4.{last}" for last in (50, 51, 81, 91, 203))

METHOD = "chest-screening: listed elements only, pixels written anew"

#: Code of the profile (PS3.16 CID 7050).
PROFILE = ("113100", "DCM", "Basic Application Confidentiality Profile")


def fault(opened: OpenObject) -> str | None:
    """Why this object must not be exported, or None."""
    header = opened.header
    exclusion = eligible(opened.instance).exclusion
    if exclusion is not None:
        return str(exclusion)
    if (header.text("BurnedInAnnotation") or "").upper() == "YES":
        return "its header says that words are burned into the picture"
    if opened.pixel.photometric_interpretation not in MONOCHROME or opened.pixel.samples != 1:
        return "in colour, as screenshots are"
    sop_class = UID(opened.instance.sop_class_uid or "", validation_mode=IGNORE)
    return None if sop_class.type == "SOP Class" else "no SOP Class of the Standard"


def uid(key: bytes, original: str) -> UID:
    """The replacement for a UID, always the same for one key and UID (PS3.5 B.2, a UUID of version 8)."""
    number = int.from_bytes(digest(key, "uid", original)[:16], "big")
    number = number & ~(0xF << 76) | (0x8 << 76)
    return UID(f"2.25.{number & ~(0x3 << 62) | (0x2 << 62)}")


def deidentify(opened: OpenObject, key: bytes, patient: str) -> tuple[UID, bytes]:
    """SOP Instance UID and file of the new object, with `patient` as Patient ID. `fault` must have returned None.

    Raises the errors of decoding.
    """
    dataset = Dataset()
    _identify(dataset, opened, key, patient)
    _describe(dataset, opened)
    _picture(dataset, opened)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(EXPLICIT_LITTLE)
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    dataset.file_meta = meta
    file = BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return dataset.SOPInstanceUID, file.getvalue()


def _identify(dataset: Dataset, opened: OpenObject, key: bytes, patient: str) -> None:
    instance = opened.instance
    for keyword in EMPTIED:
        setattr(dataset, keyword, "")
    dataset.PatientID = patient
    dataset.SOPClassUID = UID(instance.sop_class_uid or "")
    dataset.SOPInstanceUID = uid(key, instance.sop_instance_uid)
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = uid(key, instance.series_uid), uid(key, instance.study_uid)
    dataset.PatientIdentityRemoved, dataset.DeidentificationMethod = "YES", METHOD
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = PROFILE
    dataset.DeidentificationMethodCodeSequence = [code]
    dataset.LongitudinalTemporalInformationModified = "REMOVED"


def _describe(dataset: Dataset, opened: OpenObject) -> None:
    instance, header, answers = opened.instance, opened.header, eligible(opened.instance)
    modality = (instance.modality or "").upper()
    dataset.Modality = modality if modality in modalities.RADIOGRAPHS else ""
    if answers.chest is Answer.YES:
        dataset.BodyPartExamined = "CHEST"
    position = view_position(instance.view)
    if answers.frontal is Answer.YES and position is not None:
        dataset.ViewPosition = position
    if answers.presentation is Answer.YES:
        dataset.PresentationIntentType = "FOR PRESENTATION"
    if header.text("BurnedInAnnotation") == "NO":
        dataset.BurnedInAnnotation = "NO"
    if opened.part10.transfer_syntax_uid in LOSSY or header.text("LossyImageCompression") == "01":
        dataset.LossyImageCompression = "01"
    with lenient_pydicom():
        for keyword in SPACINGS:
            numbers = header.numbers(keyword)
            if len(numbers) == 2:
                setattr(dataset, keyword, [_decimal(number) for number in numbers])


def _picture(dataset: Dataset, opened: OpenObject) -> None:
    """Pixels, and all elements for their display."""
    stored, pixel = opened.stored(), opened.pixel
    with lenient_pydicom():
        shown = read_grayscale(opened.header)
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, pixel.photometric_interpretation
    values = stored.values
    dataset.Rows, dataset.Columns = values.shape
    dataset.BitsAllocated, dataset.BitsStored = 8 * values.dtype.itemsize, stored.bits
    dataset.HighBit, dataset.PixelRepresentation = stored.bits - 1, int(stored.is_signed)
    kind = "SS" if stored.is_signed else "US"
    if shown.padding is not None:
        low, high = (number if stored.is_signed else number & 0xFFFF for number in shown.padding)
        dataset.add_new("PixelPaddingValue", kind, low)
        dataset.add_new("PixelPaddingRangeLimit", kind, high)
    if shown.modality_lut is not None:
        dataset.ModalityLUTSequence = [_table(shown.modality_lut, ModalityLUTType="US")]
    else:
        dataset.RescaleSlope, dataset.RescaleIntercept = _decimal(shown.slope), _decimal(shown.intercept)
        dataset.RescaleType = "US"
    if shown.voi_lut is not None:
        dataset.VOILUTSequence = [_table(shown.voi_lut)]
    if shown.window is not None:
        dataset.WindowCenter, dataset.WindowWidth = _decimal(shown.window.center), _decimal(shown.window.width)
        dataset.VOILUTFunction = str(shown.window.function)
    if shown.presentation_lut_shape in ("IDENTITY", "INVERSE"):
        dataset.PresentationLUTShape = shown.presentation_lut_shape
    raw = values.astype(values.dtype.newbyteorder("<")).tobytes()
    dataset.add_new("PixelData", "OW", raw + b"\0" * (len(raw) % 2))


def _table(table: LookUpTable, **more: str) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(table.data) & 0xFFFF, table.first & 0xFFFF, table.bits])
    for keyword, word in more.items():
        setattr(item, keyword, word)
    item.add_new("LUTData", "OW", np.asarray(table.data, "<u2").tobytes())
    return item


def _decimal(number: float) -> Any:
    return DSfloat(number, auto_format=True)
