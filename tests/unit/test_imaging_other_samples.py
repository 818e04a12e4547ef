"""Native samples that lie otherwise than the header says: byte order, sign, planes, sides, items; windows and VOI LUTs
of other pictures. The picture is right and a note says what was assumed, or it is refused."""

from typing import Any

import imagecodecs
import numpy as np
import pytest

from tests.phantoms import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    FULL,
    JPEG_2000_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    LOSSLESS,
    LOSSLESS_ENCODERS,
    RLE,
    Pixels,
    dicom_file,
    lut_item,
    picture,
    window,
)
from worker.errors import Undecodable
from worker.imaging.image_file import read_display

PICTURE = picture(96, 128)
GREY = (PICTURE >> 4).astype(np.uint8)
SIGNED = (PICTURE.astype(np.int32) - 2048).astype(np.int16)
SHOWN = read_display(dicom_file(PICTURE, bits=12, **FULL)).pixels
SPREAD = read_display(dicom_file(PICTURE, bits=12)).pixels


def planes(pixels: Pixels) -> bytes:
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0)).tobytes()


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize(("syntax", "held"), [(EXPLICIT_LITTLE, ">u2"), (EXPLICIT_BIG, "<u2")])
def test_bytes_in_the_other_order(syntax: str, held: str, bits: int) -> None:
    pixels, voi = PICTURE << (bits - 12), window(1 << (bits - 1), 1 << bits)
    shown = read_display(dicom_file(pixels, syntax, bits=bits, pixel_data=pixels.astype(held).tobytes(), **voi))
    right = read_display(dicom_file(pixels, bits=bits, **voi))
    assert np.array_equal(shown.pixels, right.pixels)
    assert (shown.notes, right.notes) == (("byte_order=exchanged",), ())


def test_rle_segments_in_the_other_order() -> None:
    frame = dicom_file(PICTURE.byteswap(), RLE, bits=16, **window(2048, 4096))
    shown = read_display(frame)
    assert np.array_equal(shown.pixels, SHOWN)
    assert shown.notes == ("byte_order=exchanged",)


@pytest.mark.parametrize("is_swapped", [True, False])
@pytest.mark.parametrize("planar", [None, 0, 1])
def test_bytes_in_big_endian_words(planar: int | None, is_swapped: bool) -> None:
    """In a word the first of two bytes comes second (PS3.5 A.3); not all writers exchange them."""
    tinted = np.stack([GREY, GREY // 2, GREY // 3], -1)
    pixels, held = (
        (GREY, GREY.tobytes()) if planar is None else (tinted, planes(tinted) if planar else tinted.tobytes())
    )
    elements = window(128, 256) if planar is None else {"PlanarConfiguration": planar}
    words = np.frombuffer(held, np.uint16).byteswap().tobytes() if is_swapped else held
    shown = read_display(in_words(pixels, words, **elements))
    right = read_display(dicom_file(pixels, bits=8, pixel_data=held, **elements))
    assert np.array_equal(shown.pixels, right.pixels)
    assert ("byte_order=exchanged" in shown.notes) is not is_swapped


def in_words(pixels: Pixels, words: bytes, **elements: Any) -> bytes:
    """A file in big endian with samples of 8 bits in OW."""
    data = dicom_file(pixels, EXPLICIT_BIG, bits=8, pixel_data=words, **elements)
    at = data.rindex(b"\x7f\xe0\x00\x10OB") + 4
    return data[:at] + b"OW" + data[at + 2 :]


def test_bytes_in_words_are_judged_by_the_whole_picture() -> None:
    """A middle of one value says nothing of their order."""
    pixels = picture(900, 800, bits=8)
    pixels[200:700] = 7
    shown = read_display(in_words(pixels, pixels.tobytes(), **window(128, 256)))
    assert np.array_equal(shown.pixels, read_display(dicom_file(pixels, bits=8, **window(128, 256))).pixels)
    assert "byte_order=exchanged" in shown.notes


def test_indexes_of_a_palette_are_in_the_order_of_the_standard_unless_the_other_is_clearly_smoother() -> None:
    """An index may be far from that of a similar grey."""
    greys = bytes(range(256))
    tables: dict[str, Any] = {
        f"{colour}PaletteColorLookupTableDescriptor": [256, 0, 8] for colour in ("Red", "Green", "Blue")
    }
    tables |= {f"{colour}PaletteColorLookupTableData": greys for colour in ("Red", "Green", "Blue")}
    elements = {"PhotometricInterpretation": "PALETTE COLOR", **tables}
    for pixels, is_moved in ((GREY, True), (np.tile(np.array([0, 3, 8, 6, 1, 2], np.uint8), (96, 16)), False)):
        shown = read_display(in_words(pixels, pixels.tobytes(), **elements))
        assert ("byte_order=exchanged" in shown.notes) is is_moved


@pytest.mark.parametrize("pixels", [GREY.astype(np.uint16) << 8, GREY.astype(np.uint16) * 257], ids=["upper", "both"])
def test_eight_bits_in_words_are_in_order(pixels: Pixels) -> None:
    assert "byte_order=exchanged" not in read_display(dicom_file(pixels, bits=16)).notes


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("voi", [FULL, {}], ids=["window", "none"])
def test_signed_said_and_unsigned_held(voi: dict[str, Any], syntax: str) -> None:
    shown = read_display(dicom_file(PICTURE, syntax, bits=12, PixelRepresentation=1, **voi))
    assert np.array_equal(shown.pixels, SHOWN if voi else SPREAD)
    assert "pixel_representation=0 (said: 1)" in shown.notes


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("voi", [window(0, 4096), {}], ids=["window", "none"])
@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, RLE, JPEG_LOSSLESS_SV1, JPEG_LS, JPEG_2000_LOSSLESS])
def test_unsigned_said_and_signed_held(voi: dict[str, Any], bits: int, syntax: str) -> None:
    words = SIGNED.view(np.uint16)
    frame = None if syntax == EXPLICIT_LITTLE else LOSSLESS_ENCODERS[syntax](words, 16)
    shown = read_display(dicom_file(words, syntax, bits=bits, frame=frame, **voi))
    assert np.array_equal(shown.pixels, SHOWN if voi else SPREAD)
    assert "pixel_representation=1 (said: 0)" in shown.notes


@pytest.mark.parametrize("depth", [12, 16])
def test_unsigned_said_of_a_jpeg_2000_that_says_signed_itself(depth: int) -> None:
    stream = imagecodecs.jpeg2k_encode(SIGNED, codecformat="j2k", reversible=True, level=0, bitspersample=depth)
    shown = read_display(dicom_file(PICTURE, JPEG_2000_LOSSLESS, bits=12, frame=bytes(stream), **window(0, 4096)))
    assert np.array_equal(shown.pixels, SHOWN)
    assert "pixel_representation=1 (said: 0)" in shown.notes


def test_a_jpeg_2000_of_fewer_bits_than_a_signed_header_says_holds_what_it_says() -> None:
    stream = LOSSLESS_ENCODERS[JPEG_2000_LOSSLESS](PICTURE, 12)
    data = dicom_file(PICTURE, JPEG_2000_LOSSLESS, bits=16, frame=stream, PixelRepresentation=1, **FULL)
    assert np.array_equal(read_display(data).pixels, SHOWN)


@pytest.mark.parametrize("value", [-2000, -2048])
def test_a_signed_picture_beside_its_border_is_signed(value: int) -> None:
    bright = np.maximum(SIGNED, 700)
    bright[:20] = bright[:, :20] = value
    shown = read_display(dicom_file(bright, bits=12, **window(0, 4096)))
    assert shown.notes == ()
    assert shown.pixels[0, 0] < 5 < 127 < shown.pixels[30:, 30:].min()


def test_a_dark_signed_picture_beside_a_white_border_is_signed() -> None:
    dark = np.minimum(SIGNED // 8 - 1792, -1500)
    dark[:20] = dark[:, :20] = 2047
    shown = read_display(dicom_file(dark, JPEG_LOSSLESS_SV1, bits=12, **window(-1800, 500)))
    assert shown.notes == ()
    assert np.ptp(shown.pixels[30:, 30:]) > 200


def test_a_dark_signed_picture_of_8_bits_beside_a_white_border_is_signed() -> None:
    dark = (GREY // 4 - 128).astype(np.int8)
    dark[:20] = dark[:, :20] = 127
    shown = read_display(dicom_file(dark, JPEG_LOSSLESS_SV1, bits=8, **window(-96, 64)))
    assert shown.notes == ()
    assert np.ptp(shown.pixels[30:, 30:]) > 200


@pytest.mark.parametrize("brightest", [136, 140])
def test_an_unsigned_picture_of_8_bits_with_few_values_above_half_is_unsigned(brightest: int) -> None:
    grey = (picture(200, 240, bits=8) * (brightest / 255)).astype(np.uint8)
    shown = read_display(dicom_file(grey, JPEG_LOSSLESS_SV1, bits=8, PixelRepresentation=1))
    assert np.array_equal(shown.pixels, read_display(dicom_file(grey, bits=8)).pixels)
    assert "pixel_representation=0 (said: 1)" in shown.notes


@pytest.mark.parametrize("border", [0, 7])
def test_a_bright_picture_of_16_bits_beside_its_border_is_unsigned(border: int) -> None:
    bright = 49200 + PICTURE * 3
    bright[:20] = bright[:, :20] = border
    assert "pixel_representation=1 (said: 0)" not in read_display(dicom_file(bright, bits=16)).notes


@pytest.mark.parametrize("planar", [0, 1])
def test_planes_said_otherwise(planar: int) -> None:
    colour = np.repeat(GREY[..., None], 3, 2)
    held = colour.tobytes() if planar else planes(colour)
    shown = read_display(dicom_file(colour, PlanarConfiguration=planar, pixel_data=held))
    assert np.array_equal(shown.pixels, GREY)
    assert f"planar_configuration={1 - planar} (said: {planar})" in shown.notes


@pytest.mark.parametrize("said", [0, 1])
def test_planes_of_luma_and_chroma_said_otherwise(said: int) -> None:
    ybr = np.stack([GREY, np.full_like(GREY, 128), np.full_like(GREY, 128)], -1)
    held = ybr.tobytes() if said else planes(ybr)
    elements: dict[str, Any] = {"PhotometricInterpretation": "YBR_FULL", "PlanarConfiguration": said}
    shown = read_display(dicom_file(ybr, pixel_data=held, **elements))
    assert np.array_equal(shown.pixels, GREY)
    assert f"planar_configuration={1 - said} (said: {said})" in shown.notes


@pytest.mark.parametrize("held", [0, 1])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_a_planar_configuration_that_does_not_exist_is_found_out(photometric: str, held: int) -> None:
    chroma = GREY if photometric == "RGB" else np.full_like(GREY, 128)
    colour = np.stack([GREY, chroma, chroma], -1)
    elements: dict[str, Any] = {"PhotometricInterpretation": photometric, "PlanarConfiguration": 2}
    shown = read_display(dicom_file(colour, pixel_data=planes(colour) if held else colour.tobytes(), **elements))
    assert np.array_equal(shown.pixels, GREY)
    assert f"planar_configuration={held} (said: 2)" in shown.notes


def test_colours_of_no_known_order_are_refused() -> None:
    colour = np.random.default_rng(3).integers(0, 256, (*GREY.shape, 3), np.uint8)
    with pytest.raises(Undecodable, match=r"Planar Configuration \(0028,0006\) is 2"):
        read_display(dicom_file(colour, pixel_data=colour.tobytes(), PlanarConfiguration=2))
    assert read_display(dicom_file(colour, pixel_data=colour.tobytes())).pixels.shape == GREY.shape


@pytest.mark.parametrize("said", ["RGB", "YBR_ICT", "YBR_RCT"])
@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, JPEG_2000_LOSSLESS])
def test_luma_and_chroma_of_a_grey_picture_labelled_otherwise(said: str, syntax: str) -> None:
    ybr = np.stack([GREY, np.full_like(GREY, 128), np.full_like(GREY, 128)], -1)
    coded = bytes(imagecodecs.jpeg2k_encode(ybr, level=0, mct=False, codecformat="j2k"))
    frame = None if syntax == EXPLICIT_LITTLE else coded
    shown = read_display(dicom_file(ybr, syntax, frame=frame, PhotometricInterpretation=said))
    assert np.array_equal(shown.pixels, GREY)
    assert f"photometric_interpretation=YBR_FULL (said: {said})" in shown.notes


def test_rows_and_columns_exchanged_are_refused() -> None:
    with pytest.raises(Undecodable, match="exchanged"):
        read_display(dicom_file(PICTURE, bits=12, Rows=128, Columns=96, **FULL))


@pytest.mark.parametrize(("center", "width"), [(32768, 65536), (2048, 65536), (8192, 40000)])
def test_a_window_that_shows_a_picture_in_few_greys_is_none(center: int, width: int) -> None:
    shown = read_display(dicom_file(PICTURE, bits=12, **window(center, width)))
    assert np.array_equal(shown.pixels, SPREAD)
    assert {"window=misses_picture", "voi=none"} <= set(shown.notes)


def test_a_picture_of_hardly_any_values_is_as_dim_as_its_window() -> None:
    flat = (PICTURE % 50) + 2000
    shown = read_display(dicom_file(flat, bits=12, **FULL))
    assert shown.notes == ()
    assert np.ptp(shown.pixels) < 5


@pytest.mark.parametrize("voi", [FULL, {}], ids=["window", "none"])
def test_a_voi_lut_that_misses_the_picture_leaves_it_to_the_window(voi: dict[str, Any]) -> None:
    table = lut_item(0, 16, [257 * n for n in range(256)])
    shown = read_display(dicom_file(PICTURE, bits=12, VOILUTSequence=table, **voi))
    assert np.array_equal(shown.pixels, SHOWN if voi else SPREAD)
    assert "voi_lut=misses_picture" in shown.notes
