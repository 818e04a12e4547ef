"""PNG and JPEG files: what a viewer would show, in grey, upright."""

import struct
import zlib
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest

from tests.phantoms import Pixels, dicom_file, picture
from worker.errors import NotAnImage, TooLarge, Truncated, Undecodable, UnsupportedPixels
from worker.imaging import viewer_data
from worker.imaging.display.pipeline import look_up
from worker.imaging.image_file import read_display, read_instance, stored_digest
from worker.imaging.instance import Container
from worker.imaging.limits import Limits

GREY = picture(rows=40, columns=60, bits=8)


def png(pixels: Pixels) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1])


def jpeg(pixels: Pixels, *options: int) -> bytes:
    return bytes(cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, 100, *options))[1])


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def exif(orientation: int, order: str = "<") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def with_exif(data: bytes, block: bytes) -> bytes:
    body = b"Exif\0\0" + block
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def test_8_bit_png_is_shown_as_it_is() -> None:
    data = png(GREY)
    assert np.array_equal(read_display(data).pixels, GREY)
    assert read_display(data).notes == ()
    instance = read_instance(data)
    assert (instance.container, instance.rows, instance.columns) == (Container.RASTER, 40, 60)
    assert (instance.modality, instance.patient_id, instance.transfer_syntax_uid) == (None, None, None)


def test_8_bit_jpeg_is_shown_as_it_is() -> None:
    assert np.abs(read_display(jpeg(GREY)).pixels.astype(int) - GREY).mean() < 1.0


def test_a_16_bit_png_is_spread_between_its_smallest_and_largest_value() -> None:
    shown = read_display(png(np.array([[1000, 2000, 3000]], np.uint16)))
    assert shown.pixels.tolist() == [[0, 128, 255]]
    assert shown.notes == ("voi=none",)


def test_a_png_and_a_dicom_of_the_same_pixels_agree() -> None:
    full: dict[str, Any] = {"WindowCenter": 128, "WindowWidth": 256}
    assert np.array_equal(read_display(png(GREY)).pixels, read_display(dicom_file(GREY, **full)).pixels)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_colour_becomes_luma_and_is_noted(depth: Any) -> None:
    top = np.iinfo(depth).max
    bgr = np.zeros((2, 3, 3), depth)
    bgr[:, 0, 2] = bgr[:, 1, 1] = bgr[:, 2, 0] = top  # red, green, blue
    shown = read_display(png(bgr))
    expected = [76, 150, 29] if depth is np.uint8 else [round(255 * (v - 29) / (150 - 29)) for v in (76.2, 149.7, 29.1)]
    assert np.abs(shown.pixels[0].astype(int) - expected).max() <= 1
    assert "colour=grey" in shown.notes


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_transparency_lies_on_black(depth: Any) -> None:
    top = int(np.iinfo(depth).max)
    bgra = np.full((2, 3, 4), top, depth)
    bgra[:, 1, 3], bgra[:, 2, 3] = top // 2, 0
    shown = read_display(png(bgra))
    assert np.abs(shown.pixels[0].astype(int) - [255, 127, 0]).max() <= 1
    assert "alpha=on_black" in shown.notes


def test_grey_with_alpha() -> None:
    grey_alpha = np.dstack([GREY, np.full_like(GREY, 255)])
    shown = read_display(bytes(imagecodecs.png_encode(grey_alpha)))
    assert np.array_equal(shown.pixels, GREY)
    assert shown.notes == ("alpha=on_black",)


def test_palette_png() -> None:
    header = struct.pack(">IIBBBBB", 3, 1, 8, 3, 0, 0, 0)
    palette = bytes([0, 0, 0, 90, 90, 90, 255, 255, 255])
    body = chunk(b"IHDR", header) + chunk(b"PLTE", palette) + chunk(b"IDAT", zlib.compress(b"\0\2\1\0"))
    data = b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")
    assert read_display(data).pixels.tolist() == [[255, 90, 0]]


def palette_png(colours: int, pixels: bytes, depth: int = 8) -> bytes:
    """One row of pixels, given as they are packed, and a palette of so many greys, in steps of 10."""
    header = struct.pack(">IIBBBBB", len(pixels) * 8 // depth, 1, depth, 3, 0, 0, 0)
    greys = bytes(value for grey in range(colours) for value in [10 * grey] * 3)
    parts = ((b"IHDR", header), (b"PLTE", greys), (b"IDAT", zlib.compress(b"\0" + pixels)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_a_palette_may_hold_fewer_colours_than_its_bits_name() -> None:
    assert read_display(palette_png(3, b"\0\1\2\1")).pixels.tolist() == [[0, 10, 20, 10]]
    assert read_display(palette_png(3, b"\x02\x11", depth=4)).pixels.tolist() == [[0, 20, 10, 10]]


@pytest.mark.parametrize(("pixels", "depth"), [(b"\0\1\2\3", 8), (b"\xff\0\0\0", 8), (b"\x02\x13", 4)])
def test_colours_that_the_palette_lacks_are_refused_and_not_shown_black(pixels: bytes, depth: int) -> None:
    with pytest.raises(Undecodable, match="palette"):
        read_display(palette_png(3, pixels, depth))
    with pytest.raises(Undecodable, match="palette"):
        stored_digest(palette_png(3, pixels, depth))


def test_one_bit_png() -> None:
    header = struct.pack(">IIBBBBB", 3, 1, 1, 0, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\xa0")) + chunk(b"IEND", b"")
    )
    assert read_display(data).pixels.tolist() == [[255, 0, 255]]


def test_cmyk_jpeg_is_read_as_a_picture_not_as_its_negative() -> None:
    inked = np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)])  # Adobe stores CMYK inverted
    data = bytes(imagecodecs.jpeg_encode(inked, level=100, colorspace="CMYK", outcolorspace="CMYK"))
    assert np.abs(read_display(data).pixels.astype(int) - GREY).mean() < 3


@pytest.mark.parametrize("options", [(cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
def test_progressive_jpeg_and_restart_markers(options: tuple[int, int]) -> None:
    assert np.abs(read_display(jpeg(GREY, *options)).pixels.astype(int) - GREY).mean() < 1.0


def test_12_bit_jpeg_keeps_its_depth() -> None:
    deep = picture(rows=40, columns=60, bits=12)
    shown = read_display(bytes(imagecodecs.jpeg_encode(deep, level=98, bitspersample=12)))
    assert np.abs(shown.pixels.astype(int) - np.rint(deep / 4095 * 255)).mean() < 1.0
    assert shown.notes == ("voi=none",)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed_as_viewers_do(orientation: int, order: str) -> None:
    data = with_exif(jpeg(GREY), exif(orientation, order))
    as_viewers: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    shown, instance = read_display(data), read_instance(data)
    assert np.array_equal(shown.pixels, as_viewers)
    assert (instance.rows, instance.columns) == shown.pixels.shape
    assert shown.notes == (() if orientation == 1 else (f"exif_orientation={orientation}",))


@pytest.mark.parametrize("orientation", [0, 9, 4711])
def test_an_orientation_without_sense_is_none(orientation: int) -> None:
    assert read_display(with_exif(jpeg(GREY), exif(orientation))).pixels.shape == GREY.shape


def test_an_exif_block_of_garbage_does_not_matter() -> None:
    assert read_display(with_exif(jpeg(GREY), b"II*\0\xff\xff\xff\xff")).pixels.shape == GREY.shape


@pytest.mark.parametrize("make", [png, jpeg])
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.7, 0.99])
def test_a_cut_file_is_truncated(make: Any, keep: float) -> None:
    data = make(picture(rows=200, columns=200, bits=8))
    for reading in (read_instance, read_display):
        with pytest.raises(Truncated):
            reading(data[: int(len(data) * keep)])


def test_a_cut_jpeg_with_a_thumbnail_is_truncated_although_the_thumbnail_ends() -> None:
    data = with_exif(jpeg(GREY), exif(1) + jpeg(GREY[:8, :8]))
    assert read_display(data).pixels.shape == GREY.shape
    with pytest.raises(Truncated):
        read_instance(data[:-2])


def test_a_jpeg_whose_middle_is_gone_is_no_picture() -> None:
    data = jpeg(np.random.default_rng(3).integers(0, 256, (200, 200)).astype(np.uint8))
    with pytest.raises(Undecodable):
        read_display(data[: len(data) // 2] + b"\xff\xd9")


def test_a_damaged_png_is_no_picture() -> None:
    data = bytearray(png(picture(rows=200, columns=200, bits=8)))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(Undecodable):
        read_display(bytes(data))


@pytest.mark.parametrize("make", [png, jpeg])
def test_trailing_bytes_are_tolerated(make: Any) -> None:
    data = make(GREY)
    assert np.array_equal(read_display(data + b"\0trailing\xff\xd8").pixels, read_display(data).pixels)


def test_size_is_held_against_the_limit_before_decoding() -> None:
    huge = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 16, 6, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + huge + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    for reading in (read_instance, read_display):
        with pytest.raises(TooLarge):
            reading(data)
    with pytest.raises(TooLarge):
        read_instance(jpeg(GREY), Limits(max_pixel_bytes=100))


def test_an_animated_png_is_no_radiograph() -> None:
    data = png(GREY)
    animated = data[:33] + chunk(b"acTL", struct.pack(">II", 2, 0)) + data[33:]
    with pytest.raises(NotAnImage, match="animated"):
        read_instance(animated)


def test_a_bare_jpeg_ls_file_says_what_to_send_instead() -> None:
    with pytest.raises(UnsupportedPixels, match="send"):
        read_instance(bytes(imagecodecs.jpegls_encode(GREY)))


@pytest.mark.parametrize(
    ("extension", "held"), [(".tiff", "TIFF"), (".bmp", "BMP"), (".webp", "WebP"), (".jp2", "JPEG 2000")]
)
def test_a_picture_of_another_format_is_named(extension: str, held: str) -> None:
    """Renamed to `.png`, it looks to its sender like what is asked for."""
    with pytest.raises(NotAnImage, match=f"by its content a {held} file, neither DICOM nor PNG or JPEG: send"):
        read_instance(bytes(cv2.imencode(extension, GREY)[1]))


def test_uids_follow_from_the_bytes_alone() -> None:
    """Stored in databases: a change here makes every raster a new study."""
    first, again, other = read_instance(png(GREY)), read_instance(png(GREY)), read_instance(png(GREY + 1))
    assert first == again
    uids = {first.study_uid, first.series_uid, first.sop_instance_uid, other.study_uid}
    assert len(uids) == 4
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    fixed = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", b"x\x01\x01\x02\x00\xfd\xff\x00\x07\x00\t\x00\x08")
    )
    assert read_instance(fixed + chunk(b"IEND", b"")).study_uid == "2.25.224671288833948012906625591918492456710"


def test_the_digest_is_of_the_pixels() -> None:
    other_bytes = bytes(cv2.imencode(".png", GREY, (cv2.IMWRITE_PNG_COMPRESSION, 0))[1])
    assert other_bytes != png(GREY)
    assert stored_digest(other_bytes) == stored_digest(png(GREY))
    assert stored_digest(png(GREY)) == stored_digest(dicom_file(GREY))
    assert stored_digest(png(255 - GREY)) != stored_digest(png(GREY))


def keyed(samples: bytes, columns: int, rows: int, depth: int, key: int, colour: int = 0) -> bytes:
    """A PNG of given sample bytes and a tRNS chunk."""
    header = struct.pack(">IIBBBBB", columns, rows, depth, colour, 0, 0, 0)
    width = len(samples) // rows
    lines = b"".join(b"\0" + samples[row * width : (row + 1) * width] for row in range(rows))
    transparent = struct.pack(">H", key) * (3 if colour == 2 else 1)
    body = chunk(b"IHDR", header) + chunk(b"tRNS", transparent) + chunk(b"IDAT", zlib.compress(lines))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("interesting", [200, 0, 255])
def test_the_transparent_value_of_a_grey_png_is_dark(interesting: int) -> None:
    grey = np.array([[200, 40, 80], [255, 0, 200]], np.uint8)
    shown = read_display(keyed(grey.tobytes(), 3, 2, 8, interesting))
    assert np.array_equal(shown.pixels, np.where(grey == interesting, 0, grey))
    assert shown.notes == ("alpha=on_black",)


def test_the_transparent_value_of_16_bits_has_no_part_in_the_display_range() -> None:
    grey = np.array([[65535, 1000, 2000], [3000, 65535, 65535]], ">u2")
    shown = read_display(keyed(grey.tobytes(), 3, 2, 16, 65535))
    assert shown.pixels.tolist() == [[0, 0, 128], [255, 0, 0]]
    assert "alpha=on_black" in shown.notes


@pytest.mark.parametrize(
    ("depth", "samples", "right"), [(4, b"\x0f\x3f", [0, 255, 0, 255]), (2, b"\x1b", [0, 85, 170, 0])]
)
def test_the_transparent_value_of_few_bits(depth: int, samples: bytes, right: list[int]) -> None:
    key = {4: 3, 2: 3}[depth]
    assert read_display(keyed(samples, 4, 1, depth, key)).pixels.tolist() == [right]


def test_the_transparent_colour_is_dark() -> None:
    rgb = np.dstack([np.array([[200, 40, 80]], np.uint8)] * 3)
    shown = read_display(keyed(rgb.tobytes(), 3, 1, 8, 200, colour=2))
    assert shown.pixels.tolist() == [[0, 40, 80]]
    assert "alpha=on_black" in shown.notes


def test_a_transparent_value_that_is_malformed_is_not_claimed() -> None:
    data = keyed(bytes([200, 40, 80]), 3, 1, 8, 200).replace(chunk(b"tRNS", b"\0\xc8"), chunk(b"tRNS", b"\xc8"))
    shown = read_display(data)
    assert (shown.pixels.tolist(), shown.notes) == ([[200, 40, 80]], ())


@pytest.mark.parametrize(
    "pixels",
    [GREY, GREY.astype(np.uint16) * 200 + 7, np.where(GREY > 100, GREY | 1, 0).astype(np.uint8)],
    ids=["8", "16", "cut"],
)
def test_the_viewer_shows_transparent_pixels_as_the_model_sees_them(pixels: Pixels) -> None:
    coded = png(pixels)
    key = struct.pack(">H", int(pixels[20, 30]))
    data = coded[:33] + chunk(b"tRNS", key) + coded[33:]
    stored = viewer_data.read_stored(data)
    shown = look_up(stored.codes, viewer_data.read_table(data, stored))
    assert np.array_equal(shown, read_display(data).pixels)
    assert shown[20, 30] == 0 < shown.max()
