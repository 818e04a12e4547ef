"""Make the sample inbox of `make screen`: real pixels of the Kermany radiographs, invented patients.

    python tests/data/make_samples.py KERMANY_FOLDER

KERMANY_FOLDER holds `native/{NORMAL,PNEUMONIA}` and `train/{NORMAL,PNEUMONIA}`. Only images of patients in `native`
are taken: the shipped model was not trained on them. Writes `inbox/` and `labels.csv` beside this script; the same
input gives the same bytes.
"""

import argparse
import csv
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.uid import UID

HERE = Path(__file__).parent
Pixels = NDArray[Any]

DX_FOR_PRESENTATION, CR_STORAGE = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1"
#: Root of the samples' UIDs: 2.25 and a fixed number nobody else uses.
UID_ROOT = "2.25.302604518842697361904185203657"

EXPLICIT = "1.2.840.10008.1.2.1"
RLE = "1.2.840.10008.1.2.5"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"


def encode_rle(pixels: Pixels, bits: int) -> bytes:
    rows, columns = pixels.shape
    return bytes(
        RLELosslessEncoder.encode(
            pixels, rows=rows, columns=columns, samples_per_pixel=1, number_of_frames=1, bits_stored=bits,
            bits_allocated=8 * pixels.dtype.itemsize, pixel_representation=0, photometric_interpretation="MONOCHROME2",
        )
    )  # fmt: skip


ENCODERS: dict[str, Callable[[Pixels, int], bytes]] = {
    RLE: encode_rle,
    JPEG_EXTENDED: lambda p, bits: bytes(imagecodecs.jpeg_encode(p, level=90, bitspersample=bits)),
    JPEG_LOSSLESS: lambda p, bits: bytes(imagecodecs.jpeg_encode(p, lossless=True, predictor=1, bitspersample=bits)),
    JPEG_LS: lambda p, _: bytes(imagecodecs.jpegls_encode(p)),
    JPEG_2000: lambda p, bits: bytes(
        imagecodecs.jpeg2k_encode(p, codecformat="j2k", reversible=True, level=0, bitspersample=bits)
    ),
}


@dataclass(frozen=True)
class Sample:
    """One file of the inbox: a source image, a container, an invented patient."""

    file: str
    source: str
    label: str
    study: int = 0
    syntax: str = ""
    bits: int = 8
    long_side_px: int = 640
    elements: dict[str, Any] = field(default_factory=dict)
    cut: float = 1.0  #: how much of the file is kept
    crop: tuple[float, float, float, float] = (0, 0, 1, 1)  #: top, left, bottom, right as fractions


def patient(name: str, age: int, view: str = "PA", modality: str = "DX", **more: Any) -> dict[str, Any]:
    """The elements that tell one invented patient from the next."""
    told = {"PatientName": f"SAMPLE^{name}", "PatientAge": f"{age:03d}Y", "ViewPosition": view, "Modality": modality}
    return told | more


NORMAL, PNEUMONIA, NONE = "normal", "pneumonia", ""
N, P = "native/NORMAL", "native/PNEUMONIA"

#: The whole inbox. Numbers of studies make their UIDs, accession numbers and patient IDs.
SAMPLES = (
    Sample("anna_explicit.dcm", f"{P}/person1165_bacteria_3111.jpeg", PNEUMONIA, 1, EXPLICIT, long_side_px=512,
           elements=patient("ANNA", 4)),
    Sample("ben_jpeg2000.dcm", f"{N}/IM-0156-0001.jpeg", NORMAL, 2, JPEG_2000, elements=patient("BEN", 3)),
    Sample("clara_jpegls.dcm", f"{P}/person1207_bacteria_3159.jpeg", PNEUMONIA, 3, JPEG_LS,
           elements=patient("CLARA", 2, "AP", "CR")),
    Sample("david_jpeg_lossless.dcm", f"{N}/IM-0166-0001.jpeg", NORMAL, 4, JPEG_LOSSLESS, elements=patient("DAVID", 5)),
    Sample("emma_rle.dcm", f"{P}/person1219_virus_2067.jpeg", PNEUMONIA, 5, RLE, long_side_px=448,
           elements=patient("EMMA", 1, "AP")),
    Sample("finn_jpeg_extended_12_bit.dcm", f"{N}/IM-0168-0001.jpeg", NORMAL, 6, JPEG_EXTENDED, bits=12,
           long_side_px=1024, elements=patient("FINN", 4, "PA", "CR")),
    Sample("greta_monochrome1_12_bit.dcm", f"{P}/person1272_bacteria_3232.jpeg", PNEUMONIA, 7, JPEG_LS, bits=12,
           elements=patient("GRETA", 3, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE",
                            WindowCenter="2048", WindowWidth="4096", VOILUTFunction="LINEAR")),
    Sample("hugo_ap.dcm", f"{N}/IM-0177-0001.jpeg", NORMAL, 8, JPEG_2000, elements=patient("HUGO", 2, "AP")),
    Sample("hugo_pa.dcm", f"{N}/IM-0178-0001.jpeg", NORMAL, 8, JPEG_2000, elements=patient("HUGO", 2, "PA")),
    Sample("ida_8_bit.png", f"{N}/IM-0180-0001.jpeg", NORMAL, long_side_px=512),
    Sample("jakob_16_bit.png", f"{P}/person1320_bacteria_3340.jpeg", PNEUMONIA, bits=16, long_side_px=320),
    Sample("klara_native.jpeg", f"{P}/person1333_bacteria_3385.jpeg", PNEUMONIA, long_side_px=0),
    Sample("leo_native.jpeg", f"{N}/IM-0187-0001.jpeg", NORMAL, long_side_px=0),
    Sample("mia_224.jpeg", "train/PNEUMONIA/person1363_bacteria_3483.jpeg", PNEUMONIA, long_side_px=0),
    Sample("noah_224.jpeg", "train/NORMAL/IM-0191-0001.jpeg", NORMAL, long_side_px=0),
    Sample("olga_hand.dcm", f"{N}/IM-0206-0001.jpeg", NONE, 9, JPEG_LS, long_side_px=256, crop=(0.0, 0.0, 0.35, 0.3),
           elements=patient("OLGA", 5, BodyPartExamined="HAND")),
    Sample("paul_lateral.dcm", f"{N}/IM-0209-0001.jpeg", NONE, 10, JPEG_2000, long_side_px=448,
           elements=patient("PAUL", 4, "LL")),
    Sample("rosa_truncated.dcm", f"{P}/person1411_bacteria_3601.jpeg", NONE, 11, EXPLICIT, long_side_px=400, cut=0.5,
           elements=patient("ROSA", 3)),
)  # fmt: skip

#: Files made from others or from nothing.
DUPLICATE_OF = ("anna_explicit_again.dcm", "anna_explicit.dcm")
NO_IMAGE = ("report.txt", b"Chest PA: see the radiologist's report. This file is no image and belongs in quarantine.\n")


def read_source(sample: Sample, kermany: Path) -> Pixels:
    """Grey pixels of the source, cropped and reduced: uint8 [H, W]."""
    grey = np.asarray(cv2.imread(str(kermany / sample.source), cv2.IMREAD_GRAYSCALE))
    rows, columns = grey.shape
    top, left, bottom, right = sample.crop
    grey = grey[round(top * rows) : round(bottom * rows), round(left * columns) : round(right * columns)]
    scale = sample.long_side_px / max(grey.shape)
    return grey if scale >= 1 else np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def deepened(grey: Pixels, bits: int) -> Pixels:
    """8-bit grey spread over more bits, smoothed a little so that the new bits are not all zero."""
    if bits == 8:
        return grey
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (3, 3), 0.6)
    return np.rint(np.asarray(smooth) * (((1 << bits) - 1) / 255.0)).astype(np.uint16)


def make_dicom(sample: Sample, number: int, kermany: Path) -> bytes:
    """A Part 10 file of the sample's syntax and depth."""
    pixels = deepened(read_source(sample, kermany), sample.bits)
    if sample.elements.get("PhotometricInterpretation") == "MONOCHROME1":
        pixels = (1 << sample.bits) - 1 - pixels
    dataset = header(sample, number)
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * pixels.dtype.itemsize, sample.bits, sample.bits - 1
    if sample.syntax == EXPLICIT:
        dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    else:
        dataset.PixelData = encapsulate([ENCODERS[sample.syntax](pixels, sample.bits)])
    out = BytesIO()
    dataset.save_as(out, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return out.getvalue()


def header(sample: Sample, number: int) -> Dataset:
    """All but the pixels. The patient is invented."""
    study = f"{UID_ROOT}.{sample.study}"
    dataset = Dataset()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.1"
    dataset.SOPInstanceUID = f"{study}.1.{number}"
    dataset.StudyDate, dataset.StudyTime = f"202403{sample.study:02d}", f"{8 + sample.study:02d}1500"
    dataset.AccessionNumber, dataset.PatientID = f"ACC-{sample.study:04d}", f"SMP-{sample.study:04d}"
    dataset.Manufacturer, dataset.StationName, dataset.IssuerOfPatientID = "Sample Works", "SAMPLE1", "SAMPLES"
    dataset.PresentationIntentType, dataset.BodyPartExamined = "FOR PRESENTATION", "CHEST"
    dataset.PatientBirthDate, dataset.PatientSex = "", "O"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    if sample.syntax == JPEG_EXTENDED:
        dataset.LossyImageCompression, dataset.LossyImageCompressionMethod = "01", "ISO_10918_1"
    for keyword, value in sample.elements.items():
        setattr(dataset, keyword, value)
    dataset.SOPClassUID = CR_STORAGE if dataset.Modality == "CR" else DX_FOR_PRESENTATION
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(sample.syntax)
    return dataset


def make_raster(sample: Sample, kermany: Path) -> bytes:
    """JPEG files as published, PNG files of the reduced grey."""
    if sample.file.endswith(".jpeg"):
        return (kermany / sample.source).read_bytes()
    pixels = deepened(read_source(sample, kermany), sample.bits)
    return bytes(cv2.imencode(".png", pixels, (cv2.IMWRITE_PNG_COMPRESSION, 9))[1])


def write_inbox(kermany: Path, inbox: Path) -> int:
    """Write every file afresh; returns the bytes written."""
    shutil.rmtree(inbox, ignore_errors=True)
    inbox.mkdir(parents=True)
    for number, sample in enumerate(SAMPLES, start=1):
        data = make_dicom(sample, number, kermany) if sample.syntax else make_raster(sample, kermany)
        (inbox / sample.file).write_bytes(data[: round(len(data) * sample.cut)])
    (inbox / DUPLICATE_OF[0]).write_bytes((inbox / DUPLICATE_OF[1]).read_bytes())
    (inbox / NO_IMAGE[0]).write_bytes(NO_IMAGE[1])
    return sum(path.stat().st_size for path in inbox.iterdir())


def write_labels(path: Path) -> None:
    """What each sample shows, for tests and readers; not part of the inbox."""
    with path.open("w", newline="") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(("file", "source", "label"))
        rows.writerows((s.file, f"kermany/{s.source}", s.label) for s in SAMPLES)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kermany", type=Path, help="folder with native/ and train/")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for inbox/ and labels.csv (default: here)")
    arguments = parser.parse_args()
    missing = [s.source for s in SAMPLES if not (arguments.kermany / s.source).is_file()]
    if missing:
        parser.error(f"{arguments.kermany} lacks {', '.join(missing)}")
    size = write_inbox(arguments.kermany, arguments.out / "inbox")
    write_labels(arguments.out / "labels.csv")
    sys.stdout.write(f"{len(SAMPLES) + 2} files, {size / 2**20:.2f} MB\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
