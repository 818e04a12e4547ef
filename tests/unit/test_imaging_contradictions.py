"""Headers that contradict their pixels: the picture is right and notes say what was assumed, or it is refused."""

import struct
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from tests import phantoms
from tests.phantoms import FULL, LOSSLESS, LOSSLESS_ENCODERS, Pixels, dicom_file, picture, window
from worker.errors import Rejected, Undecodable, UnsupportedPixels
from worker.imaging.codec.codestream import Coding
from worker.imaging.codec.resolution import MinimumSize
from worker.imaging.display.pipeline import Display
from worker.imaging.image_file import read_display

PICTURE = picture(96, 128)
GREY = (PICTURE >> 4).astype(np.uint8)
SHOWN = read_display(dicom_file(PICTURE, bits=12, **FULL)).pixels


def deep(codes: Pixels, syntax: str, **elements: Any) -> bytes:
    """Samples of 16 bits under a header that says 12, in any syntax, unless `elements` say otherwise."""
    frame = None if syntax in phantoms.NATIVE else LOSSLESS_ENCODERS[syntax](codes, 16)
    return dicom_file(codes, syntax, bits=elements.pop("BitsStored", 12), frame=frame, **elements)


def close(shown: Display, right: Pixels) -> bool:
    return shown.pixels.shape == right.shape and bool(np.abs(shown.pixels.astype(int) - right).max() <= 1)


# PS3.5 8.1.1: High Bit and Bits Stored that are not those of the samples


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize(
    ("shift", "elements", "note"),
    [
        (0, {"HighBit": 15}, "high_bit=11 (said: 15)"),
        (0, {"HighBit": 13}, "high_bit=11 (said: 13)"),
        (0, {"HighBit": 7}, "high_bit=11 (said: 7)"),
        (0, {"HighBit": 99}, "high_bit=11 (said: 99)"),
        (0, {"BitsStored": 16, "HighBit": 11}, "high_bit=15 (said: 11)"),
        (4, {"HighBit": 15}, None),
        (4, {"HighBit": 11}, "high_bit=15 (said: 11)"),
        (4, {"HighBit": 7}, "high_bit=15 (said: 7)"),
        (0, {"BitsStored": 10}, "bits_stored=12 (said: 10)"),
    ],
)
def test_samples_are_where_the_picture_is(shift: int, elements: dict[str, Any], note: str | None, syntax: str) -> None:
    shown = read_display(deep(PICTURE << shift, syntax, **elements, **FULL))
    assert np.array_equal(shown.pixels, SHOWN)
    assert shown.notes == (() if note is None else (note,))


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("high_bit", [11, 15])
def test_signed_samples_are_where_the_picture_is(high_bit: int, syntax: str) -> None:
    signed = (PICTURE.astype(np.int32) - 2048).astype(np.int16)
    codes = signed.view(np.uint16)
    for samples in (codes, codes & 0xFFF, codes << 4):
        data = deep(samples, syntax, HighBit=high_bit, PixelRepresentation=1, **window(0, 4096))
        assert np.array_equal(read_display(data).pixels, SHOWN)


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_bits_above_that_belong_to_no_picture_are_cut_off_in_every_syntax(syntax: str) -> None:
    marked = PICTURE.copy()
    marked[20:40, 20:90] |= 0x8000
    marked[50:60, 20:90] |= 0x3000
    shown = read_display(deep(marked, syntax, **FULL))
    assert np.array_equal(shown.pixels, SHOWN)


def test_a_dark_left_aligned_picture_is_taken_as_its_header_says() -> None:
    dark = (PICTURE >> 4) << 4  # of 255 at most
    shown = read_display(dicom_file(dark, bits=12, HighBit=15, **window(128, 256)))
    assert np.array_equal(shown.pixels, read_display(dicom_file(PICTURE >> 4, bits=12, **window(128, 256))).pixels)


# retired overlays in the bits of the pixels (PS3.5 8.1.2)


def with_overlay(codes: Pixels, syntax: str, position: int, allocated: int, **elements: Any) -> bytes:
    """Two overlays, in a bit and the one below it."""
    extra = Dataset()
    for group, bit in ((0x6000, position), (0x6004, max(0, position - 1))):
        at = group << 16
        for number, vr, value in ((0x10, "US", 96), (0x11, "US", 128), (0x40, "CS", "G"), (0x50, "SS", [1, 1])):
            extra.add_new(at | number, vr, value)
        extra.add_new(at | 0x100, "US", allocated)
        extra.add_new(at | 0x102, "US", bit)
    return deep(codes, syntax, extra=extra, **elements)


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("voi", [{}, FULL], ids=["no_voi", "window"])
@pytest.mark.parametrize("bits", [0x8000, 0xC000])
def test_overlays_in_the_pixels_are_masked_in_every_syntax(syntax: str, voi: dict[str, Any], bits: int) -> None:
    marked = PICTURE.copy()
    marked[20:40, 20:90] |= bits
    shown = read_display(with_overlay(marked, syntax, 15, 16, **voi))
    assert np.array_equal(shown.pixels, read_display(dicom_file(PICTURE, bits=12, **voi)).pixels)


def test_overlays_in_the_pixels_are_masked_at_a_lower_resolution_too() -> None:
    marked = PICTURE.copy()
    marked[20:40, 20:90] |= 0x8000
    minimum = MinimumSize(16, 16, frozenset(Coding))
    for data in (
        with_overlay(marked, phantoms.JPEG_2000_LOSSLESS, 15, 16, **FULL),
        deep(marked, phantoms.JPEG_2000_LOSSLESS, **FULL),
        deep(PICTURE << 4, phantoms.HTJ2K, HighBit=15, **FULL),
        deep(PICTURE << 4, phantoms.HTJ2K, **FULL),
    ):
        assert np.array_equal(read_display(data, reduction=minimum).pixels, SHOWN)


def test_an_overlay_with_data_of_its_own_masks_nothing() -> None:
    """One bit allocated, position 0: that is the lowest bit of no sample."""
    shown = read_display(with_overlay(PICTURE, phantoms.EXPLICIT_LITTLE, 0, 1, **window(2048, 16)))
    assert np.array_equal(shown.pixels, read_display(dicom_file(PICTURE, bits=12, **window(2048, 16))).pixels)


def test_an_overlay_that_claims_bits_of_the_picture_masks_nothing() -> None:
    assert np.array_equal(read_display(with_overlay(PICTURE, phantoms.RLE, 11, 16, **FULL)).pixels, SHOWN)


# more pixel data than the header needs


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize(
    "elements",
    [{"Rows": 48}, {"Columns": 64}, {"Rows": 95}, {"Columns": 127}, {"Rows": 32}, {"Rows": 48, "Columns": 64}],
)
def test_a_part_of_a_picture_is_never_screened_as_if_it_were_whole(elements: dict[str, Any], syntax: str) -> None:
    data = deep(PICTURE, syntax, **elements, **FULL)
    with pytest.raises(Undecodable) as caught:
        read_display(data)
    assert "header" in caught.value.message


@pytest.mark.parametrize("syntax", phantoms.NATIVE)
@pytest.mark.parametrize(
    "elements",
    [{"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}, {"SamplesPerPixel": 1}],
    ids=["8_over_16", "1_over_3"],
)
def test_samples_of_another_size_are_refused(elements: dict[str, Any], syntax: str) -> None:
    pixels = PICTURE if "BitsAllocated" in elements else np.dstack([PICTURE.astype(np.uint8)] * 3)
    mono: dict[str, Any] = {"PhotometricInterpretation": "MONOCHROME2"}
    with pytest.raises(Undecodable, match="have them corrected at the sender"):
        read_display(dicom_file(pixels, syntax, **elements, **mono))


@pytest.mark.parametrize("times", [2, 3, 1.5])
def test_frames_of_which_the_header_says_nothing_are_refused(times: float) -> None:
    value = (PICTURE.tobytes() * 3)[: int(times * 2 * PICTURE.size)]
    with pytest.raises(Undecodable, match="the header needs 24,576"):
        read_display(dicom_file(PICTURE, bits=12, pixel_data=value, **FULL))


@pytest.mark.parametrize("has_offsets", [True, False])
@pytest.mark.parametrize("syntax", LOSSLESS_ENCODERS)
def test_compressed_frames_of_which_the_header_says_nothing_are_refused(syntax: str, has_offsets: bool) -> None:
    frame = LOSSLESS_ENCODERS[syntax](PICTURE, 12)
    value = encapsulate([frame, frame], has_bot=has_offsets)
    with pytest.raises(Rejected) as caught:
        read_display(dicom_file(PICTURE, syntax, bits=12, pixel_data=value, **FULL))
    assert caught.value.code in ("unsupported_pixels", "undecodable")


@pytest.mark.parametrize("tail", [b"\0\0", b"\0" * 64, b"\xff" * 100])
def test_padding_that_is_less_than_a_row_and_a_column_is_no_picture(tail: bytes) -> None:
    shown = read_display(dicom_file(PICTURE, bits=12, pixel_data=PICTURE.tobytes() + tail, **FULL))
    assert np.array_equal(shown.pixels, SHOWN)
    assert shown.notes == (f"pixel_data_padding={len(tail)} bytes",)


# PS3.3 C.7.6.3.1.2: YBR_FULL_422


def subsampled(grey: Pixels) -> bytes:
    wide = np.pad(grey, ((0, 0), (0, grey.shape[1] % 2)), mode="edge")
    quads = np.stack([wide[:, ::2], wide[:, 1::2], wide[:, ::2] // 3, wide[:, ::2] // 5], axis=-1)
    return quads.astype(np.uint8).tobytes()


@pytest.mark.parametrize("syntax", phantoms.NATIVE)
@pytest.mark.parametrize("columns", [128, 127, 1])
@pytest.mark.parametrize("rows", [96, 95])
def test_422_of_any_size(rows: int, columns: int, syntax: str) -> None:
    grey = np.ascontiguousarray(GREY[:rows, :columns])
    colour: dict[str, Any] = {"PhotometricInterpretation": "YBR_FULL_422"}
    data = dicom_file(np.dstack([grey] * 3), syntax, pixel_data=subsampled(grey), **colour)
    assert np.array_equal(read_display(data).pixels, grey)


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("syntax", phantoms.NATIVE)
def test_422_said_and_444_held(syntax: str, planar: int) -> None:
    full = np.dstack([GREY, GREY // 3, GREY // 5])
    laid_out = np.ascontiguousarray(np.moveaxis(full, -1, 0)) if planar else full
    elements: dict[str, Any] = {"PhotometricInterpretation": "YBR_FULL_422", "PlanarConfiguration": planar}
    shown = read_display(dicom_file(full, syntax, pixel_data=laid_out.tobytes(), **elements))
    assert np.array_equal(shown.pixels, GREY)
    assert "photometric_interpretation=YBR_FULL (said: YBR_FULL_422)" in shown.notes


@pytest.mark.parametrize("syntax", [s for s in LOSSLESS if s != phantoms.HTJ2K])  # its encoder always mixes colours
def test_the_luma_of_ybr_is_the_same_in_every_syntax(syntax: str) -> None:
    full = np.dstack([GREY, np.full_like(GREY, 40), np.full_like(GREY, 200)])
    frame = None
    if syntax == phantoms.JPEG_2000_LOSSLESS:
        encoded = imagecodecs.jpeg2k_encode(full, codecformat="j2k", reversible=True, level=0, mct=False)
        frame = bytes(encoded)
    shown = read_display(dicom_file(full, syntax, frame=frame, PhotometricInterpretation="YBR_FULL"))
    assert np.array_equal(shown.pixels, GREY)


# JPEG whose chroma is subsampled is YCbCr, whatever the label says


def without_markers(stream: bytes) -> bytes:
    """JPEG without its JFIF and Adobe segments."""
    at, kept = 2, stream[:2]
    while stream[at + 1] != 0xDA:
        end = at + 2 + struct.unpack_from(">H", stream, at + 2)[0]
        if stream[at + 1] not in (0xE0, 0xEE):
            kept += stream[at:end]
        at = end
    return kept + stream[at:]


@pytest.mark.parametrize("subsampling", ["420", "422"])
@pytest.mark.parametrize("mark", [without_markers, lambda stream: stream], ids=["bare", "marked"])
def test_subsampled_jpeg_labelled_rgb(subsampling: str, mark: Callable[[bytes], bytes]) -> None:
    rgb = np.dstack([GREY, GREY // 2, 255 - GREY])
    stream = bytes(imagecodecs.jpeg8_encode(rgb, level=98, subsampling=subsampling))
    data = dicom_file(rgb, phantoms.JPEG_BASELINE, frame=mark(stream), PhotometricInterpretation="RGB")
    shown = read_display(data)
    luma = 0.299 * rgb[..., 0] + 0.587 * rgb[..., 1] + 0.114 * rgb[..., 2]
    assert np.abs(shown.pixels - luma).mean() < 2.0
    assert ("photometric_interpretation=YBR_FULL_422 (said: RGB)" in shown.notes) is (mark is without_markers)


def test_rgb_jpeg_without_subsampling_stays_rgb() -> None:
    rgb = np.dstack([GREY, GREY // 2, 255 - GREY])
    stream = imagecodecs.jpeg8_encode(rgb, level=98, colorspace="RGB", outcolorspace="RGB", subsampling="444")
    data = dicom_file(
        rgb, phantoms.JPEG_BASELINE, frame=without_markers(bytes(stream)), PhotometricInterpretation="RGB"
    )
    luma = 0.299 * rgb[..., 0] + 0.587 * rgb[..., 1] + 0.114 * rgb[..., 2]
    assert np.abs(read_display(data).pixels - luma).mean() < 2.0


# PS3.3 C.7.6.3.1.5, C.7.6.3.1.6: palettes


CURVE = np.rint((np.arange(256) / 255) ** 0.7 * 255).astype(int)


@pytest.mark.parametrize("syntax", [*phantoms.NATIVE, phantoms.RLE])
@pytest.mark.parametrize(
    ("said", "entries", "note"),
    [
        (16, CURVE * 257, None), (8, CURVE * 257, "palette_bits=16 (said: 8)"),
        (16, CURVE, "palette_bits=8 (said: 16)"),
        (8, CURVE, None), (16, CURVE * 256, None), (16, CURVE * 100, None),
    ],
)  # fmt: skip
def test_palettes_in_words(said: int, entries: Any, note: str | None, syntax: str) -> None:
    kind = ">u2" if syntax == phantoms.EXPLICIT_BIG else "<u2"
    shown = read_display(dicom_file(GREY, syntax, **palette(said, entries.astype(kind).tobytes())))
    top = 255 if max(entries) < 256 else 65535
    assert close(shown, np.rint(entries[GREY] / top * 255))
    assert shown.notes == ("colour=grey", *(() if note is None else (note,)))


@pytest.mark.parametrize("syntax", [*phantoms.NATIVE, phantoms.RLE])
@pytest.mark.parametrize(("said", "swaps"), [(8, False), (16, False), (8, True)])
def test_palettes_in_bytes(said: int, swaps: bool, syntax: str) -> None:
    entries = CURVE.astype(np.uint8)
    swaps = swaps and syntax == phantoms.EXPLICIT_BIG
    held = entries.reshape(-1, 2)[:, ::-1] if swaps else entries
    shown = read_display(dicom_file(GREY, syntax, **palette(said, held.tobytes())))
    assert close(shown, CURVE[GREY])


@pytest.mark.parametrize("vr", ["US", "SS"])
@pytest.mark.parametrize("syntax", [phantoms.EXPLICIT_LITTLE, phantoms.EXPLICIT_BIG])
def test_palettes_in_numbers(syntax: str, vr: str) -> None:
    kind = np.int16 if vr == "SS" else np.uint16
    numbers = Dataset()
    for tag in (0x00281201, 0x00281202, 0x00281203):
        numbers.add_new(tag, vr, (CURVE * 257).astype(np.uint16).view(kind).tolist())
    shown = read_display(dicom_file(GREY, syntax, extra=numbers, **palette(16, b"")))
    assert close(shown, CURVE[GREY])


@pytest.mark.parametrize(("first", "vr"), [(-128, "SS"), (0xFF80, "US")])
def test_palettes_of_signed_values(first: int, vr: str) -> None:
    descriptors = Dataset()
    for tag in (0x00281101, 0x00281102, 0x00281103):
        descriptors.add_new(tag, vr, [256, first, 16])
    signed = (GREY.astype(int) - 128).astype(np.int8)
    elements = palette(16, (CURVE * 257).astype("<u2").tobytes())
    tables = {keyword: value for keyword, value in elements.items() if not keyword.endswith("Descriptor")}
    assert close(read_display(dicom_file(signed, extra=descriptors, **tables)), CURVE[GREY])


@pytest.mark.parametrize("said", [0, 1])
def test_a_palette_of_all_codes_from_zero_is_one_of_unsigned_values(said: int) -> None:
    tables = palette(16, (CURVE * 257).astype("<u2").tobytes())
    shown = read_display(dicom_file(GREY, PixelRepresentation=said, **tables))
    assert close(shown, CURVE[GREY])
    assert shown.notes == ("colour=grey", *["pixel_representation=0 (said: 1)"] * said)


def palette(said: int, data: bytes) -> dict[str, Any]:
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, said]
        elements[f"{colour}PaletteColorLookupTableData"] = data
    return elements


def test_several_frames_named_by_their_offsets_say_how_many() -> None:
    frame = LOSSLESS_ENCODERS[phantoms.JPEG_LS](PICTURE, 12)
    data = dicom_file(PICTURE, phantoms.JPEG_LS, bits=12, pixel_data=encapsulate([frame] * 3))
    with pytest.raises(UnsupportedPixels, match="3 frames"):
        read_display(data)


@pytest.mark.parametrize("planar", [0, 1])
def test_422_with_planes_and_a_dark_lower_part_is_read_or_refused(planar: int) -> None:
    grey = np.zeros((3, 2), np.uint8)
    elements: dict[str, Any] = {"PhotometricInterpretation": "YBR_FULL_422", "PlanarConfiguration": planar}
    data = dicom_file(np.dstack([grey] * 3), pixel_data=subsampled(grey), **elements)
    assert np.array_equal(read_display(data).pixels, grey)
