"""Synthetic DICOM, built in code: one table of pictures with the display values that the Standard asks for, and one
table of transfer syntaxes with their encoders. Shared by every test that needs a DICOM file.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.uid import UID

from worker.imaging.lenient_pydicom import lenient_pydicom

Pixels = NDArray[Any]

DX_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
STUDY_UID, SERIES_UID, SOP_INSTANCE_UID = "1.2.826.0.1.3680043.10.1.1", "1.2.826.0.1.3680043.10.1.2", "1.2.3.4.5.6"

IMPLICIT_LITTLE, EXPLICIT_LITTLE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, EXPLICIT_BIG, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"
JPEG_BASELINE, JPEG_EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS, JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
JPEG_LS, JPEG_LS_NEAR = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS, JPEG_2000, HTJ2K = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.201"

NATIVE = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED)


def _rle(pixels: Pixels, bits: int) -> bytes:
    samples = 1 if pixels.ndim == 2 else pixels.shape[2]
    return bytes(
        RLELosslessEncoder.encode(
            pixels, rows=pixels.shape[0], columns=pixels.shape[1], samples_per_pixel=samples, number_of_frames=1,
            bits_allocated=8 * pixels.dtype.itemsize, bits_stored=bits, pixel_representation=0, planar_configuration=0,
            photometric_interpretation="MONOCHROME2" if samples == 1 else "RGB",
        )
    )  # fmt: skip


def _lossless_jpeg(predictor: int) -> Callable[[Pixels, int], bytes]:
    def encode(pixels: Pixels, bits: int) -> bytes:
        return bytes(imagecodecs.jpeg_encode(pixels, lossless=True, predictor=predictor, bitspersample=bits))

    return encode


#: Transfer syntax -> (unsigned pixels, bits stored) -> codestream that loses nothing.
LOSSLESS_ENCODERS: dict[str, Callable[[Pixels, int], bytes]] = {
    RLE: _rle,
    JPEG_LOSSLESS: _lossless_jpeg(predictor=4),
    JPEG_LOSSLESS_SV1: _lossless_jpeg(predictor=1),
    JPEG_LS: lambda pixels, _: bytes(imagecodecs.jpegls_encode(pixels)),
    JPEG_2000_LOSSLESS: lambda pixels, bits: bytes(
        imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True, level=0, bitspersample=bits)
    ),
    HTJ2K: lambda pixels, _: bytes(imagecodecs.htj2k_encode(pixels, reversible=True)),
}
#: The same for syntaxes that lose a little.
LOSSY_ENCODERS: dict[str, Callable[[Pixels, int], bytes]] = {
    JPEG_BASELINE: lambda pixels, _: bytes(imagecodecs.jpeg_encode(pixels, level=98)),
    JPEG_EXTENDED: lambda pixels, bits: bytes(imagecodecs.jpeg_encode(pixels, level=98, bitspersample=bits)),
    JPEG_LS_NEAR: lambda pixels, _: bytes(imagecodecs.jpegls_encode(pixels, level=2)),
    JPEG_2000: lambda pixels, bits: bytes(
        imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=False, level=50, bitspersample=bits)
    ),
}
LOSSLESS = (*NATIVE, *LOSSLESS_ENCODERS)


def picture(rows: int = 48, columns: int = 64, bits: int = 12) -> Pixels:
    """A smooth picture that uses the whole range, with a dark border as a radiograph has; uint8 or uint16."""
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    values = 0.5 + 0.35 * np.sin(5 * x + 2 * y) + 0.15 * np.cos(9 * y)
    values[:2] = values[-2:] = values[:, :2] = values[:, -2:] = 0.0
    values[rows // 2, columns // 2] = 1.0
    return np.asarray(np.rint(values * ((1 << bits) - 1)), np.uint8 if bits <= 8 else np.uint16)


def native_bytes(pixels: Pixels, is_little_endian: bool = True) -> bytes:
    """Pixel Data of a native object, padded to even length."""
    raw = pixels.astype(pixels.dtype.newbyteorder("<" if is_little_endian else ">")).tobytes()
    return raw + b"\0" * (len(raw) % 2)


def dicom_file(
    pixels: Pixels | None, syntax: str = EXPLICIT_LITTLE, bits: int | None = None, frame: bytes | None = None,
    without: tuple[str, ...] = (), preamble: bool = True, meta: bool = True, pixel_data: bytes | None = None,
    extra: Dataset | None = None, **elements: Any,
) -> bytes:  # fmt: skip
    """The bytes of a Part 10 file: a chest radiograph of a four year old, unless `elements` say otherwise.

    `extra` holds elements that have no keyword of their own.
    `frame` replaces the codestream, `pixel_data` the whole value; `without` leaves elements out. Without `preamble`
    the file starts with its meta group, without `meta` with its data set.
    """
    dataset = _header()
    if pixels is not None:
        _describe(dataset, pixels, bits or 8 * pixels.dtype.itemsize)
    with lenient_pydicom():
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        dataset.update(extra or {})
        for keyword in without:
            if keyword in dataset:
                delattr(dataset, keyword)
        if pixels is not None and "PixelData" not in without:
            _fill(dataset, pixels, syntax, frame, pixel_data)
        return _written(dataset, syntax, preamble, meta)


def declare_syntax(data: bytes, syntax: str) -> bytes:
    """The same file with another Transfer Syntax UID in its meta group and nothing else changed."""
    at = data.index(b"\x02\x00\x10\x00UI")
    length = int.from_bytes(data[at + 6 : at + 8], "little")
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    return data[: at + 6] + len(value).to_bytes(2, "little") + value + data[at + 8 + length :]


def _header() -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = DX_FOR_PRESENTATION, SOP_INSTANCE_UID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY_UID, SERIES_UID
    dataset.StudyDate, dataset.StudyTime = "20240305", "101500"
    dataset.AccessionNumber, dataset.Modality, dataset.Manufacturer = "A-1", "DX", "Phantom Works"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.PatientName, dataset.PatientID, dataset.PatientAge = "SAMPLE^PHANTOM", "P-1", "004Y"
    dataset.BodyPartExamined, dataset.ViewPosition = "CHEST", "PA"
    return dataset


def _describe(dataset: Dataset, pixels: Pixels, bits: int) -> None:
    is_colour = pixels.ndim == 3
    dataset.SamplesPerPixel = 3 if is_colour else 1
    dataset.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
    if is_colour:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * pixels.dtype.itemsize, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")


def _fill(dataset: Dataset, pixels: Pixels, syntax: str, frame: bytes | None, pixel_data: bytes | None) -> None:
    encoders = LOSSLESS_ENCODERS | LOSSY_ENCODERS
    if pixel_data is not None:
        dataset.PixelData = pixel_data
    elif syntax in NATIVE and frame is None:
        dataset.PixelData = native_bytes(pixels, is_little_endian=syntax != EXPLICIT_BIG)
    else:
        # encoders know no sign: the codes are encoded, as other encoders do
        codes = pixels.view(pixels.dtype.str.replace("i", "u")) & ((1 << dataset.BitsStored) - 1)
        dataset.PixelData = encapsulate([frame or encoders[syntax](codes.astype(codes.dtype), dataset.BitsStored)])
        dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize == 2 and syntax in NATIVE else "OB"


def _written(dataset: Dataset, syntax: str, preamble: bool, meta: bool) -> bytes:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", DX_FOR_PRESENTATION)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", SOP_INSTANCE_UID)
    out = BytesIO()
    dataset.save_as(
        out, implicit_vr=syntax == IMPLICIT_LITTLE, little_endian=syntax != EXPLICIT_BIG, enforce_file_format=True
    )
    data = out.getvalue()
    if not meta:
        return data[132 + 12 + int.from_bytes(data[140:144], "little") :]
    return data if preamble else data[132:]


@dataclass(frozen=True)
class Phantom:
    """Stored values of one row of pixels, the elements around them, and the display values that must come out."""

    name: str
    stored: tuple[int, ...]
    expected: tuple[int, ...]
    bits: int = 12
    dtype: str = "uint16"
    elements: dict[str, Any] = field(default_factory=dict)
    note: str | None = None

    def pixels(self) -> Pixels:
        """Two equal rows: some codecs need more than one."""
        return np.array([self.stored, self.stored], self.dtype)


def lut_item(first: int, bits: int, data: list[int]) -> list[Dataset]:
    """A Modality or VOI LUT Sequence of one item."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(data), first & 0xFFFF, bits])
    item.add_new("LUTData", "OW", np.array(data, "<u2").tobytes())
    item.ModalityLUTType = "US"
    return [item]


def window(center: float | str, width: float | str, function: str | None = None) -> dict[str, Any]:
    """The elements of one VOI window."""
    named = {} if function is None else {"VOILUTFunction": function}
    return {"WindowCenter": center, "WindowWidth": width} | named


def rescale(slope: float, intercept: float) -> dict[str, Any]:
    """The elements of a linear modality transform."""
    return {"RescaleSlope": slope, "RescaleIntercept": intercept}


MONO1: dict[str, Any] = {"PhotometricInterpretation": "MONOCHROME1"}
FULL = window(2048, 4096)  # 0..4095 -> 0..255 exactly (C.11.2.1.2.1)
VOI_NONE = "voi=none"

#: The expected values are worked out by hand from the clauses of PS3.3 named beside them.
PHANTOMS = (
    Phantom("no_voi_spreads", (100, 300, 500), (0, 128, 255), note=VOI_NONE),
    Phantom("no_voi_mono1", (100, 300, 500), (255, 128, 0), elements=MONO1, note=VOI_NONE),
    Phantom("no_voi_8_bit", (10, 61, 112, 214), (0, 64, 128, 255), bits=8, dtype="uint8", note=VOI_NONE),
    Phantom("no_voi_16_bit", (1, 32768, 65535), (0, 128, 255), bits=16, note=VOI_NONE),
    Phantom("flat", (700, 700, 700), (0, 0, 0), note=VOI_NONE),
    # LINEAR, C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255
    Phantom("linear", (0, 1024, 2048, 4095), (0, 64, 128, 255), elements=FULL),
    Phantom("linear_narrow", (899, 1000, 1050, 1101), (0, 127, 191, 255), elements=window(1001, 201)),
    Phantom("first_of_two_windows", (0, 2048, 4095), (0, 128, 255),
            elements={"WindowCenter": [2048, 5], "WindowWidth": [4096, 2]}),
    Phantom("width_1_is_a_step", (999, 1000, 1001), (0, 255, 255), elements=window(1000, 1)),
    Phantom("width_0_is_absent", (100, 300, 500), (0, 128, 255), elements=window(300, 0), note=VOI_NONE),
    Phantom("nan_window_is_absent", (100, 300, 500), (0, 128, 255), elements=window("NaN", 9), note=VOI_NONE),
    # LINEAR_EXACT, C.11.2.1.3.2: ((x - c) / w + 0.5) * 255
    Phantom("linear_exact", (0, 1000, 1500, 2000), (0, 128, 191, 255), elements=window(1000, 2000, "LINEAR_EXACT")),
    Phantom("linear_exact_of_any_width", (0, 1024, 2048, 4095), (0, 64, 128, 255),
            elements=rescale(1 / 4096, 0) | window(0.5, 1.0, "LINEAR_EXACT")),
    Phantom("linear_exact_below_1", (0, 1024, 2048, 4095), (0, 0, 128, 255),
            elements=rescale(1 / 4096, 0) | window(0.5, 0.5, "LINEAR_EXACT")),
    Phantom("sigmoid_below_1", (1024, 2048, 3072), (30, 128, 225),
            elements=rescale(1 / 4096, 0) | window(0.5, 0.5, "SIGMOID")),
    Phantom("linear_below_1_is_absent", (0, 2048, 4095), (0, 128, 255), note=VOI_NONE,
            elements=rescale(1 / 4096, 0) | window(0.5, 0.5)),
    Phantom("second_window_where_the_first_has_no_width", (899, 1000, 1050, 1101), (0, 127, 191, 255),
            elements={"WindowCenter": [5, 1001], "WindowWidth": [0, 201]}),
    # SIGMOID, C.11.2.1.3.1: 255 / (1 + exp(-4 (x - c) / w))
    Phantom("sigmoid", (0, 1000, 1500, 4000), (30, 128, 186, 254), elements=window(1000, 2000, "SIGMOID")),
    # values run -1000..3095; "2**bits - 1 - x" and "the largest of this image" give other numbers
    Phantom("mono1_window_and_intercept", (0, 1000, 2047, 4095), (255, 193, 128, 0),
            elements=MONO1 | rescale(1, -1000) | window(1048, 4096)),
    Phantom("mono1_window_beyond_the_image", (0, 100), (255, 249), elements=MONO1 | FULL),
    Phantom("rescale_then_window", (0, 512, 1023), (0, 64, 127), bits=10, elements=FULL | rescale(2, 0)),
    Phantom("negative_slope", (0, 1000, 4095), (255, 193, 0), elements=rescale(-1, 0) | window(-2047, 4096)),
    Phantom("slope_0_is_absent", (100, 300, 500), (0, 128, 255), note="rescale_slope=malformed",
            elements=rescale(0, 0)),
    Phantom("signed_16", (-1000, 0, 1000), (0, 128, 255), bits=16, dtype="int16", note=VOI_NONE),
    Phantom("signed_12_in_16", (-2048, -1, 0, 2047), (0, 127, 128, 255), dtype="int16", elements=window(0, 4096)),
    Phantom("signed_8", (-128, 0, 127), (0, 128, 255), bits=8, dtype="int8", note=VOI_NONE),
    # C.7.5.1.1.2
    Phantom("padding_is_left_out", (0, 100, 300, 500), (0, 0, 128, 255), note=VOI_NONE,
            elements={"PixelPaddingValue": 0}),
    Phantom("padding_range_is_left_out", (0, 40, 100, 300, 500), (0, 0, 0, 128, 255), note=VOI_NONE,
            elements={"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 50}),
    Phantom("padding_upwards", (100, 300, 500, 4095), (0, 128, 255, 0), note=VOI_NONE,
            elements={"PixelPaddingValue": 4095}),
    Phantom("padding_is_dark_in_mono1", (0, 1, 2048, 4095), (0, 255, 127, 0),
            elements=MONO1 | FULL | {"PixelPaddingValue": 0}),
    Phantom("padding_is_dark_within_a_window", (100, 2048, 4095), (0, 128, 255),
            elements=FULL | {"PixelPaddingValue": 100}),
    # C.11.1.1.1: ends are held below the first and beyond the last entry
    Phantom("modality_lut", (5, 10, 11, 12, 13, 20), (0, 0, 85, 170, 255, 255), note=VOI_NONE,
            elements={"ModalityLUTSequence": lut_item(10, 16, [0, 100, 200, 300])}),
    Phantom("voi_lut_before_window", (0, 1, 2, 9), (255, 128, 0, 0),
            elements=FULL | {"VOILUTSequence": lut_item(0, 8, [255, 128, 0])}),
    Phantom("voi_lut_on_negative_values", (0, 1, 2), (0, 128, 255),
            elements=rescale(1, -1000) | {"VOILUTSequence": lut_item(-1000, 12, [0, 2048, 4095])}),
    Phantom("mono1_voi_lut_within_declared_range", (0, 1), (255, 193),
            elements=MONO1 | {"VOILUTSequence": lut_item(0, 12, [0, 1000])}),
    Phantom("short_voi_lut_is_absent", (0, 2048, 4095), (0, 128, 255), note="voi_lut=malformed",
            elements=FULL | {"VOILUTSequence": lut_item(0, 99, [1, 2])}),
    # C.8.11.3.1.2: the shape restates the photometric interpretation
    Phantom("mono1_inverse_inverts_once", (0, 4095), (255, 0),
            elements=MONO1 | FULL | {"PresentationLUTShape": "INVERSE"}),
    Phantom("mono1_identity_inverts", (0, 4095), (255, 0), note="presentation_lut_shape=IDENTITY",
            elements=MONO1 | FULL | {"PresentationLUTShape": "IDENTITY"}),
    Phantom("mono2_inverse_does_not", (0, 4095), (0, 255), note="presentation_lut_shape=INVERSE",
            elements=FULL | {"PresentationLUTShape": "INVERSE"}),
    # PS3.5 8.1.1: bits outside High Bit and Bits Stored are no pixels
    Phantom("bits_above_are_masked", (0xF000, 0x8400, 0x1FFF), (0, 64, 255), elements=FULL),
    Phantom("high_bit_15", (0x0000, 0x4005, 0xFFF0), (0, 64, 255), elements=FULL | {"HighBit": 15}),
)  # fmt: skip
