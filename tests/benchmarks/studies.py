"""The studies a benchmark screens: uncompressed 12-bit chest radiographs of full size, as many as asked for.

Real pixels of the sample inbox, enlarged; a drawn phantom where the samples are missing. Invented patients;
no two files have the same pixels.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from tests.benchmarks.machine import cores
from tests.phantoms import EXPLICIT_LITTLE, LOSSLESS_ENCODERS

ROWS, COLUMNS, BITS = 3056, 2544, 12
DX_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
#: Root of the UIDs: 2.25 and a fixed number nobody else uses.
UID_ROOT = "2.25.302604518842697361904185203658"

SAMPLES = Path("tests/data/inbox")
#: Noise of a detector, in stored values: without it, the flat patches of an enlarged JPEG compress too well.
NOISE = 12

#: What one process writes at a time.
CHUNK = 10

Codes = NDArray[np.uint16]


def write_studies(folder: Path, count: int, *, first: int = 0, syntax: str = EXPLICIT_LITTLE) -> list[Path]:
    """Write `count` studies of one image each into `folder`, numbered from `first`; returns their paths in order.

    `syntax`: the transfer syntax, native or lossless.
    """
    radiographs = [enlarged(grey) for grey in sources()]
    noise = np.random.default_rng(5).integers(-NOISE, NOISE + 1, (ROWS, COLUMNS), dtype=np.int16)
    paths = []
    for number in range(first, first + count):
        path = folder / f"study_{number:05d}.dcm"
        dataset = header(number, varied(radiographs[number % len(radiographs)], noise, number))
        if syntax != EXPLICIT_LITTLE:
            codes = np.frombuffer(dataset.PixelData, np.uint16).reshape(ROWS, COLUMNS)
            dataset.PixelData = encapsulate([LOSSLESS_ENCODERS[syntax](codes, BITS)])
            dataset.file_meta.TransferSyntaxUID = UID(syntax)
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def write_all(folder: Path, numbers: range, syntax: str) -> list[Path]:
    """`write_studies` into a new folder, on all cores."""
    folder.mkdir(parents=True)
    starts = range(numbers.start, numbers.stop, CHUNK)
    with ProcessPoolExecutor(cores(), get_context("spawn")) as pool:
        written = [
            pool.submit(write_studies, folder, min(CHUNK, numbers.stop - start), first=start, syntax=syntax)
            for start in starts
        ]
        return [path for chunk in written for path in chunk.result()]


def sources() -> list[NDArray[np.uint8]]:
    """Grey radiographs to enlarge: the frontal JPEG and PNG samples, else one phantom."""
    found = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(_rasters(SAMPLES))]
    return [np.asarray(grey, np.uint8) for grey in found if grey is not None] or [phantom()]


def phantom(side: int = 512) -> NDArray[np.uint8]:
    """Two dark lungs in a grey chest on black air: every stage has its usual work with it."""
    grey = np.zeros((side, side), np.uint8)
    cv2.ellipse(grey, (side // 2, side // 2), (side * 45 // 100, side * 48 // 100), 0, 0, 360, (170,), -1)
    for centre in (side * 32 // 100, side * 68 // 100):
        cv2.ellipse(grey, (centre, side * 48 // 100), (side // 8, side * 3 // 10), 0, 0, 360, (60,), -1)
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), side / 64), np.uint8)


def enlarged(grey: NDArray[np.uint8]) -> Codes:
    """8-bit grey -> 12-bit stored values [3056, 2544]."""
    full = np.asarray(cv2.resize(grey, (COLUMNS, ROWS), interpolation=cv2.INTER_CUBIC), np.float32)
    scale = ((1 << BITS) - 1 - 2 * NOISE) / 255.0
    return np.asarray(np.rint(full * scale + NOISE), np.uint16)


def varied(codes: Codes, noise: NDArray[np.int16], number: int) -> Codes:
    """The same radiograph with its noise shifted: other bytes, other pixels, the same picture to a reader."""
    shifted = np.roll(noise, (number * 37, number * 53), (0, 1))
    return np.asarray(codes.astype(np.int16) + shifted, np.uint16)


def header(number: int, codes: Codes) -> Dataset:
    """A digital radiograph, for presentation, with a window, of an invented child."""
    study = f"{UID_ROOT}.{number + 1}"
    dataset = Dataset()
    elements: dict[str, Any] = {
        "SOPClassUID": DX_FOR_PRESENTATION, "SOPInstanceUID": f"{study}.1.1", "SeriesInstanceUID": f"{study}.1",
        "StudyInstanceUID": study, "StudyDate": "20240401", "StudyTime": "081500", "AccessionNumber": f"B{number:05d}",
        "PatientID": f"BENCH-{number:05d}", "PatientName": f"BENCH^{number:05d}", "PatientAge": "003Y",
        "Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "PA", "Manufacturer": "Sample Works",
        "PresentationIntentType": "FOR PRESENTATION", "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1, "Rows": ROWS, "Columns": COLUMNS, "BitsAllocated": 16, "BitsStored": BITS,
        "HighBit": BITS - 1, "PixelRepresentation": 0, "RescaleSlope": "1", "RescaleIntercept": "0",
        "RescaleType": "US", "WindowCenter": "2048", "WindowWidth": "4096", "PixelData": codes.tobytes(),
    }  # fmt: skip
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(EXPLICIT_LITTLE)
    return dataset


def _rasters(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("*") if path.suffix in (".jpeg", ".png"))
