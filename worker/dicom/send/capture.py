"""The overlay of the deciding image as Secondary Capture, with model, date and disclaimer in the picture. Pure.

The source's own image data are never altered or sent again.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from schema.vocabulary import DispatchKind
from worker.dicom.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MANUFACTURER, MODEL_NAME
from worker.dicom.send.report import Device, finish, software_version
from worker.imaging.lenient_pydicom import lenient_pydicom
from worker.ledger.dispatch.dispatches import series_uid
from worker.ledger.dispatch.result_facts import Facts, ReportedImage

SERIES_NUMBER = 9903

#: Longest side of the picture, px.
LONG_SIDE_PX = 1024

_LINE_PX, _FONT, _FONT_SCALE, _TEXT = 18, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (225, 225, 225)


def capture(
    facts: Facts, header: Dataset, image: ReportedImage, overlay: bytes, device: Device, sop_instance_uid: str
) -> Dataset:
    """The Secondary Capture of an overlay (PNG), the same whenever it is made again."""
    rgb = picture(overlay, facts)
    with lenient_pydicom():
        made = Dataset()
        made.update(header)
        made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, UID(sop_instance_uid)
        made.SeriesInstanceUID = series_uid(facts.study_uid, facts.revision, facts.model_digest, DispatchKind.OVERLAY)
        made.SeriesNumber, made.InstanceNumber = SERIES_NUMBER, 1
        made.SeriesDescription = "AI heat map RESEARCH ONLY"
        made.Modality, made.ConversionType = "OT", "WSD"
        made.Manufacturer, made.ManufacturerModelName = MANUFACTURER, MODEL_NAME
        made.DeviceSerialNumber, made.SoftwareVersions = device.serial_number, software_version(device, facts)
        made.ImageType, made.BodyPartExamined = ["DERIVED", "SECONDARY"], "CHEST"
        made.BurnedInAnnotation, made.PatientOrientation = "YES", ""
        made.DerivationDescription = "heat map of an AI model, reduced; not a diagnosis; RESEARCH USE ONLY"
        made.SourceImageSequence = [_source(image)]
        made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
        made.Rows, made.Columns = rgb.shape[:2]
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
        content = rgb.tobytes()
        made.PixelData = content + b"\0" * (len(content) % 2)
        made["PixelData"].VR = "OB"
        finish(made, header, facts.at)
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        made.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
        made.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
        return made


def picture(overlay: bytes, facts: Facts) -> NDArray[np.uint8]:
    """RGB [H, W, 3] of the overlay with a band of text below it, at most LONG_SIDE_PX long."""
    lines = (
        f"{facts.model_name} {facts.model_digest[:12]}",
        f"{facts.at:%Y-%m-%d %H:%M} UTC, revision {facts.revision}",
        "RESEARCH USE ONLY, not a diagnosis",
    )
    shown = np.asarray(cv2.imdecode(np.frombuffer(overlay, np.uint8), cv2.IMREAD_COLOR_RGB))
    band_px = _LINE_PX * len(lines) + 6
    height, width = shown.shape[:2]
    scale = min(1.0, LONG_SIDE_PX / width, (LONG_SIDE_PX - band_px) / height)
    if scale < 1.0:
        size = max(1, int(width * scale)), max(1, int(height * scale))
        shown = np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_AREA))
    band = np.zeros((band_px, shown.shape[1], 3), np.uint8)
    for at, line in enumerate(lines):
        ascii_line = line.encode("ascii", "replace").decode()
        place = (6, _LINE_PX * (at + 1))
        cv2.putText(band, ascii_line, place, _FONT, _FONT_SCALE, _TEXT, 1, cv2.LINE_AA)
    return np.vstack([shown, band])


def _source(image: ReportedImage) -> Dataset:
    named = Dataset()
    named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID = image.sop_class_uid, image.sop_instance_uid
    return named
