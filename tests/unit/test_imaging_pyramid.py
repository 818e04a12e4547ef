"""One picture gives a `pyramid53` model the same bytes in every lossless transfer syntax, decoded in full or not."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image

from tests import phantoms
from tests.phantoms import LOSSLESS, Pixels, dicom_file, picture
from worker.decoding.decoder import Decoder
from worker.imaging.codec.codestream import read_codestream
from worker.imaging.codec.resolution import reduction_of
from worker.imaging.image_file import open_image, read_display, read_grid
from worker.imaging.preprocess import Fit, Placement, Preprocessing, Resize, apply, place
from worker.imaging.pyramid import Pyramid, lifted

GRID = Preprocessing(size=24, resize=Resize.PYRAMID53)
TO_24 = Pyramid(24)
FULL_WINDOW: dict[str, Any] = {"WindowCenter": 2048, "WindowWidth": 4096}
#: Halved twice for a grid of 24 px: odd sides, and even ones.
SHAPES = [(231, 197), (256, 200)]


def textured(rows: int, columns: int, bits: int, seed: int = 0) -> Pixels:
    """A picture with noise and hard edges over the whole range, so that wavelets go beyond it; codes."""
    noise = np.random.default_rng(seed).integers(0, 1 << bits, (rows, columns))
    values = np.where(np.indices((rows, columns)).sum(0) // 40 % 2, noise, picture(rows, columns, bits))
    values[: rows // 4, : columns // 4] = np.indices((rows // 4, columns // 4)).sum(0) % 2 * ((1 << bits) - 1)
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


def with_sign(codes: Pixels, bits: int) -> Pixels:
    """The pixels whose two's complements these codes are."""
    spare = 8 * codes.dtype.itemsize - bits
    return (codes << spare).view(codes.dtype.str.replace("u", "i")) >> spare


def j2k(pixels: Pixels, bits: int, **options: Any) -> bytes:
    encode: Any = imagecodecs.jpeg2k_encode
    return bytes(encode(pixels, codecformat="j2k", level=0, bitspersample=bits, **{"reversible": True, **options}))


def by_openjpeg(frame: bytes, level: int, bits: int, is_signed: bool) -> Pixels:
    """What OpenJPEG gives at a lower resolution, as codes. Pillow shifts them, and adds to signed ones."""
    with Image.open(BytesIO(frame), formats=("JPEG2000",)) as found:
        sides = [-(-side >> level) << level for side in found.size]
        found._size = (sides[0], sides[1])
        found.reduce = level  # type: ignore[method-assign, assignment]
        found.load()
        values = np.asarray(found)
    codes = values >> (8 * values.dtype.itemsize - bits)
    return codes ^ codes.dtype.type(1 << (bits - 1)) if is_signed else codes


@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 13, 14, 15, 16])
def test_halving_is_what_openjpeg_gives_at_a_lower_resolution(bits: int, is_signed: bool) -> None:
    for rows, columns in ((256, 256), (257, 259), (255, 300), (510, 259)):
        codes = textured(rows, columns, bits)
        frame = j2k(with_sign(codes, bits) if is_signed else codes, bits)
        for level in (1, 2, 3):
            halved = lifted(codes, bits, is_signed, level)
            assert halved.dtype == codes.dtype
            assert np.array_equal(halved, by_openjpeg(frame, level, bits, is_signed)), (rows, columns, level)


def low_pass(values: list[int]) -> list[int]:
    """ISO 15444-1 F.4.8.1, number by number."""
    last = len(values) - 1
    if not last:
        return values

    def at(i: int) -> int:
        return values[abs(i) if i <= last else 2 * last - i]

    def detail(i: int) -> int:
        return at(i) - (at(i - 1) + at(i + 1)) // 2

    last_detail = last - 1 if last % 2 == 0 else last
    around = ((i, detail(abs(i - 1)), detail(min(i + 1, last_detail))) for i in range(0, last + 1, 2))
    return [values[i] + (before + after + 2) // 4 for i, before, after in around]


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (7, 8), (10, 5)])
def test_halving_follows_the_standard_in_the_smallest_pictures(shape: tuple[int, int]) -> None:
    codes = np.random.default_rng(5).integers(0, 4096, shape).astype(np.uint16)
    rows = np.array([low_pass(column) for column in codes.T.tolist()]).T
    both = np.array([low_pass(row) for row in rows.tolist()])
    assert np.array_equal(lifted(codes, 12, False, 1), np.clip(both, 0, 4095))


@pytest.mark.parametrize(
    ("rows", "columns", "grid", "level"),
    [
        (3056, 2544, 192, 2),
        (3056, 2544, 224, 2),
        (3056, 2544, 318, 2),
        (3056, 2544, 319, 1),  # 636 px are less than twice that
        (383, 5000, 192, 0),
        (767, 767, 192, 1),  # rounded up
        (766, 766, 192, 0),
    ],
)
def test_the_level_follows_the_size(rows: int, columns: int, grid: int, level: int) -> None:
    assert Pyramid(grid).level(rows, columns) == Pyramid(grid).level(columns, rows) == level


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("voi", ["declared", "none"])
def test_every_lossless_syntax_gives_the_same_bytes(shape: tuple[int, int], bits: int, sign: int, voi: str) -> None:
    codes = textured(*shape, bits)
    middle = 0 if sign else 1 << (bits - 1)
    window: dict[str, Any] = {"WindowCenter": middle, "WindowWidth": 1 << bits} if voi == "declared" else {}
    pixels = with_sign(codes, bits) if sign else codes
    grids = [
        read_grid(dicom_file(pixels, syntax, bits=bits, PhotometricInterpretation=photometric, **window), GRID)
        for photometric in ("MONOCHROME1", "MONOCHROME2")
        for syntax in LOSSLESS
    ]
    each = len(LOSSLESS)
    assert np.array_equal(np.stack(grids[:each]), np.stack([grids[0]] * each))
    assert np.array_equal(np.stack(grids[each:]), np.stack([grids[each]] * each))
    assert np.ptp(grids[0]) > 100


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with closing(Decoder()) as decoder:
        yield decoder


@pytest.mark.parametrize(("syntax", "bits"), [(phantoms.JPEG_2000_LOSSLESS, 12), (phantoms.HTJ2K, 16)])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_codestream_that_holds_the_halving_is_decoded_at_that(
    decoder: Decoder, syntax: str, bits: int, shape: tuple[int, int]
) -> None:
    data = dicom_file(textured(*shape, bits), syntax, bits=bits, WindowCenter=1 << (bits - 1), WindowWidth=1 << bits)
    there = decoder.read_display(open_image(data), TO_24)
    in_full = decoder.read_display(open_image(data), replace(TO_24, is_decoded_reduced=False))
    assert ("reduced=2" in there.notes, "reduced=2" in in_full.notes) == (True, False)
    assert np.array_equal(there.pixels, in_full.pixels)
    assert there.pixels.shape == (-(-shape[0] >> 2), -(-shape[1] >> 2))


def test_signed_codestreams_are_decoded_at_the_level_too() -> None:
    codes = textured(*SHAPES[0], 12)
    pixels = with_sign(codes, 12)
    window: dict[str, Any] = {"WindowCenter": 0, "WindowWidth": 4096}
    signed = dicom_file(pixels, phantoms.JPEG_2000_LOSSLESS, bits=12, frame=j2k(pixels, 12), **window)
    assert "reduced=2" in read_display(signed, reduction=TO_24).notes
    assert np.array_equal(read_grid(signed, GRID), read_grid(dicom_file(pixels, bits=12, **window), GRID))


def test_a_codestream_of_more_bits_than_bits_stored_is_decoded_at_the_level_too() -> None:
    """Bright edges go beyond Bits Stored when they are halved, and are clipped there."""
    pixels = picture(*SHAPES[0])
    pixels[60:120, 40:90] = 4095
    assert by_openjpeg(j2k(pixels, 16), 2, 16, False).max() > 4095
    data = dicom_file(pixels, phantoms.HTJ2K, bits=12, **FULL_WINDOW)
    stream = read_codestream(phantoms.LOSSLESS_ENCODERS[phantoms.HTJ2K](pixels, 12))
    assert stream is not None
    assert stream.precision == 16
    assert "reduced=2" in read_display(data, reduction=TO_24).notes
    assert np.array_equal(read_grid(data, GRID), read_grid(dicom_file(pixels, bits=12, **FULL_WINDOW), GRID))


PICTURE = textured(*SHAPES[0], 12)
EIGHT = textured(*SHAPES[0], 8)


def by_pillow(**options: Any) -> bytes:
    out = BytesIO()
    Image.fromarray(EIGHT).save(out, "JPEG2000", no_jp2=True, irreversible=False, **options)
    return out.getvalue()


#: Why the lower resolution of a codestream is another than the picture's -> pixels, bits, codestream, elements.
OTHERWISE: dict[str, tuple[Pixels, int, bytes, dict[str, Any]]] = {
    "several tiles": (EIGHT, 8, by_pillow(tile_size=(64, 64)), {}),
    "its grid begins elsewhere": (EIGHT, 8, by_pillow(offset=(1, 1), tile_size=(1024, 1024)), {}),
    "too few resolutions": (EIGHT, 8, by_pillow(num_resolutions=2), {}),
    "padding": (PICTURE, 12, j2k(PICTURE, 12), {"PixelPaddingValue": 0}),
    "an overlay in the upper bits": (
        PICTURE | (np.uint16(1 << 12) * (np.indices(PICTURE.shape).sum(0) % 50 < 25)).astype(np.uint16), 12,
        j2k(PICTURE | (np.uint16(1 << 12) * (np.indices(PICTURE.shape).sum(0) % 50 < 25)).astype(np.uint16), 16), {},
    ),
    "left aligned": (PICTURE << 4, 12, j2k(PICTURE << 4, 16), {"HighBit": 15}),
}  # fmt: skip


@pytest.mark.parametrize("why", OTHERWISE)
def test_another_codestream_is_decoded_in_full_and_halved(why: str) -> None:
    pixels, bits, frame, elements = OTHERWISE[why]
    stream = read_codestream(frame)
    assert stream is not None
    assert stream.is_reversible
    plain = dicom_file(pixels, bits=bits, **elements)
    data = dicom_file(pixels, phantoms.JPEG_2000_LOSSLESS, bits=bits, frame=frame, **elements)
    assert np.array_equal(read_grid(data, GRID), read_grid(plain, GRID))
    assert not any(note.startswith("reduced") for note in read_display(data, reduction=TO_24).notes)


def test_the_codestreams_above_would_give_another_picture_at_a_lower_resolution() -> None:
    """Each reason is one: what OpenJPEG gives at that level is not the halved picture."""
    halved = lifted(EIGHT, 8, False, 2)
    for why in ("several tiles", "its grid begins elsewhere"):
        found = by_openjpeg(OTHERWISE[why][2], 2, 8, False)
        assert found.shape != halved.shape or not np.array_equal(found, halved), why


def test_padding_stays_dark_and_does_not_run_into_the_picture() -> None:
    pixels = np.full((256, 256), 2000, np.uint16)
    pixels[:, 130:] = 4095
    pixels[:, 120:] -= np.uint16(100)
    pixels[:, :60] = 4095
    padded = dicom_file(pixels, bits=12, PixelPaddingValue=4095, **FULL_WINDOW)
    shown = read_display(padded, reduction=TO_24).pixels
    whole = read_display(padded).pixels
    assert np.array_equal(shown, lifted(whole, 8, False, 2))
    assert (shown[:, :14] == 0).all()
    assert shown[:, 16:30].max() <= whole.max()


def test_a_lossy_wavelet_is_close_and_noted() -> None:
    pixels = picture(*SHAPES[0])
    data = dicom_file(pixels, phantoms.JPEG_2000, bits=12, **FULL_WINDOW)
    shown = read_display(data, reduction=TO_24)
    assert {"reduced=2", "wavelet=9/7"} <= set(shown.notes)
    exact = read_display(dicom_file(pixels, bits=12, **FULL_WINDOW), reduction=TO_24).pixels
    assert np.abs(shown.pixels.astype(int) - exact)[3:-3, 3:-3].mean() < 1.0


def test_an_8_bit_jpeg_is_decoded_in_full_and_halved() -> None:
    data = bytes(cv2.imencode(".jpg", picture(*SHAPES[0], 8))[1])
    whole = read_display(data).pixels
    assert np.array_equal(read_display(data, reduction=TO_24).pixels, lifted(whole, 8, False, 2))
    assert np.array_equal(read_grid(data, GRID), apply(whole, GRID)[0])


def test_a_grey_png_gives_what_dicom_of_the_same_values_gives() -> None:
    png = bytes(cv2.imencode(".png", EIGHT)[1])
    dicom = dicom_file(EIGHT, bits=8, WindowCenter=128, WindowWidth=256)
    assert np.array_equal(read_grid(png, GRID), read_grid(dicom, GRID))


def test_without_a_voi_the_range_is_that_of_the_halved_picture() -> None:
    """A lone bright pixel does not darken the rest of the picture by its own value."""
    pixels = (picture(*SHAPES[1]) // 4).astype(np.uint16)
    pixels[100, 100] = 4095
    halved = lifted(pixels, 12, False, 2)
    assert halved.max() < 4095
    files = [dicom_file(pixels, bits=12), bytes(cv2.imencode(".png", pixels)[1])]
    for data in files:
        shown = read_display(data, reduction=TO_24)
        assert "voi=none" in shown.notes
        assert (int(shown.pixels.min()), int(shown.pixels.max())) == (0, 255)
        expected = np.rint((halved - float(halved.min())) / float(np.ptp(halved)) * 255)
        assert np.array_equal(shown.pixels, expected)


def at_one_pixel(values: Pixels, row: int, column: int, size: int) -> int:
    """The last step at one pixel of a grid, number by number."""

    def beside(pixel: int, side: int) -> list[tuple[int, int]]:
        at = Fraction((2 * pixel + 1) * side - size, 2 * size)
        at = min(max(at, Fraction(0)), Fraction(side - 1))
        share = round((at - int(at)) * 2048)  # halves to even
        return [(int(at), 2048 - share), (min(int(at) + 1, side - 1), share)]

    rows, columns = values.shape
    lines = [(sum(int(values[y, x]) * part for x, part in beside(column, columns)) >> 4, y_part)
             for y, y_part in beside(row, rows)]  # fmt: skip
    return (sum(line * part >> 16 for line, part in lines) + 2) >> 2


@pytest.mark.parametrize("shape", [(47, 40), (48, 48), (95, 93), (71, 90), (23, 30)])
def test_the_last_step_is_bilinear_in_integers(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    grid, _ = apply(values, GRID)
    assert grid[:, :, 0].tolist() == [[at_one_pixel(values, y, x, 24) for x in range(24)] for y in range(24)]


@pytest.mark.parametrize("shape", [(224, 224), (321, 383), (150, 200)])
def test_a_picture_that_is_not_halved_looks_as_to_a_linear_model(shape: tuple[int, int]) -> None:
    """So that a model trained on small images with `linear` can have a `pyramid53` card."""
    values = np.random.default_rng(2).integers(0, 256, shape).astype(np.uint8)
    pyramid, linear = (
        apply(values, Preprocessing(192, resize=resize))[0] for resize in (Resize.PYRAMID53, Resize.LINEAR)
    )
    moved = np.abs(pyramid.astype(int) - linear)
    assert moved.max() <= 1
    assert moved.mean() < 0.01


@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize("resize", [Resize.PYRAMID53, Resize.AREA])
def test_a_spot_is_found_again_where_it_is(fit: Fit, resize: Resize) -> None:
    """Samples of the pyramid lie 3.5 px before the middle of the 8 x 8 pixels that they stand for."""
    rows, columns, x, y = 801, 650, 411.5, 268.0
    down, across = np.mgrid[:rows, :columns] + 0.5
    spot = np.rint(255 * np.exp(-((across - x) ** 2 + (down - y) ** 2) / (2 * 40**2))).astype(np.uint8)
    grid, placement = apply(spot, Preprocessing(size=40, fit=fit, resize=resize))
    heat = grid[:, :, 0].astype(np.float32)
    weights = heat / heat.sum()
    at_y, at_x = (float((weights.sum(axis=1 - axis) * (np.arange(40) + 0.5)).sum()) for axis in (0, 1))
    assert at_x * placement.scale_x + placement.offset_x == pytest.approx(x, abs=0.6)
    assert at_y * placement.scale_y + placement.offset_y == pytest.approx(y, abs=0.6)
    back = placement.to_original(heat, columns, rows)
    top, left = np.unravel_index(int(np.argmax(cv2.GaussianBlur(back, (0, 0), 20))), back.shape)
    assert abs(left + 0.5 - x) <= 6
    assert abs(top + 0.5 - y) <= 6


@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize("shape", [(801, 650), (640, 320), (90, 79), (50, 60)])
def test_the_place_is_the_same_for_the_halved_picture(shape: tuple[int, int], fit: Fit) -> None:
    preprocessing = replace(GRID, fit=fit)
    whole = np.zeros(shape, np.uint8)
    halved = lifted(whole, 8, False, TO_24.level(*shape))
    placed = place(preprocessing, shape[1], shape[0])
    assert apply(whole, preprocessing)[1] == placed
    assert apply(halved, preprocessing)[1].of(shape[1], shape[0]) == placed


def test_a_picture_that_is_no_halving_has_no_place() -> None:
    with pytest.raises(ValueError, match="20 x 20 is no halving of 80 x 100"):
        Placement(24, 20, 20, 1.0, 1.0, is_pyramid=True).of(80, 100)


def test_a_grid_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="a grid of 0 px"):
        Pyramid(0)


def test_the_rule_travels_to_the_decoder_child() -> None:
    for rule in (TO_24, Pyramid(7, is_decoded_reduced=False)):
        assert reduction_of(rule.to_json()) == rule


def test_the_card_says_where_ranges_come_from() -> None:
    plain = GRID.to_json()
    assert (plain["resize"], plain["ranges_from"]) == ("pyramid53", "reduced picture")
    assert Preprocessing.from_json(plain) == GRID
    with pytest.raises(ValueError, match="whole picture"):
        Preprocessing.from_json(plain | {"ranges_from": "whole picture"})
    assert "ranges_from" not in Preprocessing(resize=Resize.LINEAR).to_json()
