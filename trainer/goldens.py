"""The files that prove a model where it is installed: chosen from the validation split, one of them as DICOM.

A worker replays them from their bytes on, so a decoder, a resize operator or a provider that differs is found out.
"""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from trainer.manifest import Sample
from trainer.served import Served, predict
from worker.errors import BadData
from worker.imaging.preprocess import Preprocessing, apply
from worker.imaging.reading import read_display
from worker.modelcard import Golden

#: Largest |difference| of the probability that float32 arithmetic may make, by execution provider.
TOLERANCES = {"CPUExecutionProvider": 1e-4, "CUDAExecutionProvider": 2e-3}

#: Longest side of the DICOM golden, px: its pixels are stored uncompressed.
DICOM_SIDE_PX = 512

#: Root of the invented objects; `2.25` UIDs need no registration (PS3.5 B.2).
_UID = "2.25.30318504563519219187165271"


def choose_goldens(
    served: Served,
    samples: Sequence[Sample],
    probabilities: NDArray[np.float64],
    threshold: float,
    root: Path,
    preprocessing: Preprocessing,
    attribution: str,
) -> tuple[Golden, ...]:
    """Two clear positives, two clear negatives, the one nearest the threshold, and a positive as MONOCHROME1 DICOM.

    `probabilities` are those of `samples`, the validation split. Each golden's score is Keras' own, from its bytes on.
    """
    labels = np.array([sample.label for sample in samples])
    margin = (probabilities - threshold) * np.where(labels == 1, 1, -1)
    chosen: list[int] = []
    for label in (1, 0):
        members = np.flatnonzero(labels == label)
        clear = members[margin[members] >= np.median(margin[members])]
        chosen += sorted(clear, key=lambda i: ((root / samples[i].path).stat().st_size, i))[:2]
    rest = [i for i in np.argsort(np.abs(probabilities - threshold), kind="stable") if i not in chosen]
    chosen += rest[:1]
    contents = {samples[i].path: (root / samples[i].path).read_bytes() for i in chosen}
    first = samples[chosen[0]].path
    contents[f"{Path(first).stem} as MONOCHROME1.dcm"] = as_monochrome1(read_display(contents[first]).pixels)
    plain = tuple(Golden(name, content, 0.0, TOLERANCES, attribution) for name, content in contents.items())
    return tuple(_scored(golden, served, preprocessing) for golden in plain)


def as_monochrome1(pixels: NDArray[np.uint8]) -> bytes:
    """Display values [H, W] as a 12-bit MONOCHROME1 CR object of an invented patient, explicit VR little endian.

    Its window maps the stored values exactly back to `pixels` (made smaller if beyond DICOM_SIDE_PX).
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


def _scored(golden: Golden, served: Served, preprocessing: Preprocessing) -> Golden:
    grid, _ = apply(read_display(golden.content).pixels, preprocessing)
    probability = float(predict(served, grid[None, :, :, 0])["probability"][0])
    if not np.isfinite(probability):
        raise BadData(f"golden {golden.name!r} scores {probability}")
    return replace(golden, probability=probability)
