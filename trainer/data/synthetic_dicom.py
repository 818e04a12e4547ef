"""DICOM objects of an invented patient, made from display values: for goldens and for test copies."""

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian

#: Longest side of the object in px, limited because its pixels are stored uncompressed.
DICOM_SIDE_PX = 512

#: Root of the invented objects; `2.25` UIDs need no registration (PS3.5 B.2).
_UID = "2.25.30318504563519219187165271"


def as_monochrome1(pixels: NDArray[np.uint8]) -> bytes:
    """Display values [H, W] as a 12-bit MONOCHROME1 CR object of an invented patient, explicit VR little endian.

    Its window maps the stored values exactly back to `pixels` (reduced if larger than DICOM_SIDE_PX).
    """
    shrink = max(pixels.shape) / DICOM_SIDE_PX
    if shrink > 1:
        size = (round(pixels.shape[1] / shrink), round(pixels.shape[0] / shrink))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = UID(f"{_UID}.1")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    ds.SOPClassUID = ComputedRadiographyImageStorage
    ds.SOPInstanceUID = f"{_UID}.1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{_UID}.2", f"{_UID}.3"
    ds.PatientID, ds.PatientName, ds.PatientAge = "GOLDEN", "Golden^Invented", "003Y"
    ds.Modality, ds.BodyPartExamined, ds.ViewPosition = "CR", "CHEST", "AP"
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME1"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    # PS3.3 C.11.2.1.2.1: y = ((x - (c - 0.5)) / (w - 1) + 0.5) * 255 is x / 16 for this window
    ds.WindowCenter, ds.WindowWidth = "2040.5", "4081"
    ds.PixelData = ((255 - pixels.astype(np.uint16)) * 16).astype("<u2").tobytes()
    content = io.BytesIO()
    ds.save_as(content, enforce_file_format=True)
    return content.getvalue()
