"""Every transfer syntax: the same pixels in, the same display values out, and never a picture out of missing data."""

from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.encaps import encapsulate

from tests import phantoms
from tests.phantoms import (
    FULL,
    LOSSLESS,
    LOSSLESS_ENCODERS,
    LOSSY_ENCODERS,
    Pixels,
    declare_syntax,
    dicom_file,
    picture,
)
from worker.errors import Rejected, Truncated, Undecodable, UnsupportedPixels, UnsupportedSyntax
from worker.imaging.codec.codestream import read_codestream
from worker.imaging.codec.decoders import BY_CODING
from worker.imaging.codec.transfer_syntaxes import decode_codestream
from worker.imaging.image_file import read_display, read_instance, stored_digest

ENCAPSULATED = (*LOSSLESS_ENCODERS, *LOSSY_ENCODERS)
BASELINE_BITS = {phantoms.JPEG_BASELINE: 8}


def encoded(syntax: str, pixels: Pixels, bits: int) -> bytes:
    return (LOSSLESS_ENCODERS | LOSSY_ENCODERS)[syntax](pixels, bits)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_syntaxes_agree_with_uncompressed(syntax: str, bits: int) -> None:
    pixels = picture(bits=bits)
    plain = dicom_file(pixels, bits=bits)
    other = dicom_file(pixels, syntax, bits=bits)
    assert read_instance(other).transfer_syntax_uid == syntax
    assert np.array_equal(read_display(other).pixels, read_display(plain).pixels)
    assert stored_digest(other) == stored_digest(plain)


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_signed_pixels_keep_their_sign_in_every_lossless_syntax(syntax: str) -> None:
    pixels = (picture(bits=12).astype(np.int32) - 2048).astype(np.int16)
    shown = read_display(dicom_file(pixels, syntax, bits=12)).pixels
    assert np.array_equal(shown, read_display(dicom_file(picture(bits=12), bits=12)).pixels)


@pytest.mark.parametrize(("syntax", "least"), [(phantoms.JPEG_LOSSLESS, 0.8), (phantoms.JPEG_LS, 0.8)])
def test_wrong_bits_that_run_through_a_lossless_picture_are_refused_or_noted(syntax: str, least: float) -> None:
    """No codestream has a checksum: a wrong bit shows where the values leave their range, or the codes make none."""
    pixels = picture(160, 192)
    frame = phantoms.LOSSLESS_ENCODERS[syntax](pixels, 12)
    assert not any("beyond" in note for note in read_display(dicom_file(pixels, syntax, bits=12)).notes)
    stream = read_codestream(frame)
    assert stream is not None
    outcomes = []
    for at in range(stream.data_at + 7, len(frame) - 20, len(frame) // 60):
        damaged = frame[:at] + bytes([frame[at] ^ 8]) + frame[at + 1 :]
        try:
            shown = read_display(dicom_file(pixels, syntax, bits=12, frame=damaged))
        except Rejected:
            outcomes.append(True)
        else:
            outcomes.append("jpeg_values=beyond_12_bits" in shown.notes)
    assert np.mean(outcomes) >= least


def by_the_other_end(pixels: Pixels, bits: int) -> bytes:
    """Lossless JPEG of predictor 1 whose differences above zero go by way of the other end of the range."""
    codes = pixels.astype(np.int64)
    left = np.roll(codes, 1, 1)
    left[1:, 0], left[0, 0] = codes[:-1, 0], 1 << (bits - 1)
    steps = (codes - left).reshape(-1)
    written = []
    for step in np.where(
        steps > 0, steps - (1 << bits), steps
    ).tolist():  # categories of ISO 10918-1 H.1.2.2, in 5 bits
        size = abs(step).bit_length()
        written.append(f"{size:05b}" + (f"{step + (1 << size) - 1:0{size}b}" if size else ""))
    text = "".join(written)
    text += "1" * (-len(text) % 8)
    body = bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8)).replace(b"\xff", b"\xff\0")
    table = b"\xff\xc4" + (2 + 1 + 16 + 17).to_bytes(2, "big") + bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    rows, columns = pixels.shape
    frame = bytes([bits, *rows.to_bytes(2, "big"), *columns.to_bytes(2, "big"), 1, 1, 0x11, 0])
    scan = b"\xff\xda\0\x08" + bytes([1, 1, 0, 1, 0, 0])
    return b"\xff\xd8" + table + b"\xff\xc3\0\x0b" + frame + scan + body + b"\xff\xd9"


def test_differences_by_the_other_end_of_the_range_are_no_damage() -> None:
    """Samples then lie anywhere in 16 bits, and are right once the bits above are cut off."""
    pixels = picture(96, 128)
    data = dicom_file(pixels, phantoms.JPEG_LOSSLESS_SV1, bits=12, frame=by_the_other_end(pixels, 12), **FULL)
    assert np.array_equal(read_display(data).pixels, read_display(dicom_file(pixels, bits=12, **FULL)).pixels)


@pytest.mark.parametrize(("predictor", "is_refused"), [(4, False), (5, True), (7, True)])
def test_bits_above_the_precision_are_refused_where_the_predictor_halves_them(predictor: int, is_refused: bool) -> None:
    pixels = picture(bits=12)
    frame = bytearray(imagecodecs.jpeg_encode(pixels << 3, lossless=True, predictor=predictor, bitspersample=16))
    frame[frame.index(b"\xff\xc3") + 4] = 12
    data = dicom_file(pixels, phantoms.JPEG_LOSSLESS, bits=12, frame=bytes(frame))
    if is_refused:
        with pytest.raises(Undecodable, match="lossless JPEG of 12 bits holds larger values"):
            read_display(data)
    else:
        assert "jpeg_values=beyond_12_bits" in read_display(data).notes


def test_lossless_jpeg_whose_samples_are_extended_by_their_sign_is_read() -> None:
    signed = (picture().astype(np.int32) - 2048).astype(np.int16)
    moved = (signed.view(np.uint16).astype(np.int32) + (1 << 15) - (1 << 11)).astype(np.uint16)
    frame = bytearray(phantoms.LOSSLESS_ENCODERS[phantoms.JPEG_LOSSLESS_SV1](moved, 16))
    frame[frame.index(b"\xff\xc3") + 4] = 12  # its first prediction is half of the range
    data = dicom_file(signed, phantoms.JPEG_LOSSLESS_SV1, bits=12, frame=bytes(frame))
    assert np.array_equal(read_display(data).pixels, read_display(dicom_file(signed, bits=12)).pixels)


def test_a_jpeg_2000_codestream_that_is_signed_itself_gives_the_same_picture() -> None:
    pixels = (picture(bits=16).astype(np.int32) - 32768).astype(np.int16)
    frame = bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True, level=0))
    signed = dicom_file(pixels, phantoms.JPEG_2000_LOSSLESS, bits=16, frame=frame)
    assert np.array_equal(read_display(signed).pixels, read_display(dicom_file(pixels, bits=16)).pixels)


@pytest.mark.parametrize("syntax", LOSSY_ENCODERS)
def test_lossy_syntaxes_stay_close(syntax: str) -> None:
    bits = BASELINE_BITS.get(syntax, 12)
    pixels = picture(rows=200, columns=300, bits=bits)
    window: dict[str, Any] = {"WindowCenter": 1 << (bits - 1), "WindowWidth": 1 << bits}
    lossy = read_display(dicom_file(pixels, syntax, bits=bits, **window)).pixels.astype(int)
    assert np.abs(lossy - read_display(dicom_file(pixels, bits=bits, **window)).pixels).mean() < 1.0


@pytest.mark.parametrize("syntax", ENCAPSULATED)
@pytest.mark.parametrize("keep", [0.5, 0.9])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"], ids=["cut", "cut_but_ended"])
def test_a_short_codestream_is_never_a_picture(syntax: str, keep: float, end: bytes) -> None:
    bits = BASELINE_BITS.get(syntax, 12)
    noise = np.random.default_rng(7).integers(0, 1 << bits, (256, 256))
    pixels = noise.astype(np.uint8 if bits == 8 else np.uint16)
    frame = encoded(syntax, pixels, bits)
    with pytest.raises((Undecodable, Truncated)):
        read_display(dicom_file(pixels, syntax, bits=bits, frame=frame[: int(len(frame) * keep)] + end))


@pytest.mark.parametrize("syntax", [phantoms.JPEG_BASELINE, phantoms.JPEG_LOSSLESS_SV1])
def test_a_picture_whose_last_rows_look_like_fill_is_still_a_picture(syntax: str) -> None:
    pixels = picture(bits=8)
    pixels[-16:] = 128
    shown = read_display(dicom_file(pixels, syntax, bits=8)).pixels
    assert np.abs(shown.astype(int) - read_display(dicom_file(pixels, bits=8)).pixels).max() <= 6


@pytest.mark.parametrize("syntax", ENCAPSULATED)
def test_frames_in_several_fragments_without_offset_table(syntax: str) -> None:
    bits = BASELINE_BITS.get(syntax, 12)
    pixels = picture(rows=100, columns=100, bits=bits)
    frame = encoded(syntax, pixels, bits)
    value = encapsulate([frame], fragments_per_frame=3 if syntax != phantoms.RLE else 1, has_bot=False)
    several = dicom_file(pixels, syntax, bits=bits, pixel_data=value)
    whole = dicom_file(pixels, syntax, bits=bits, frame=frame)
    assert np.array_equal(read_display(several).pixels, read_display(whole).pixels)


@pytest.mark.parametrize("syntax", ENCAPSULATED)
def test_native_pixels_under_a_header_that_says_compressed(syntax: str) -> None:  # fo-dicom#2008
    plain = dicom_file(picture(), bits=12, **FULL)
    lying = declare_syntax(plain, syntax)
    assert read_instance(lying).transfer_syntax_uid == syntax
    assert np.array_equal(read_display(lying).pixels, read_display(plain).pixels)


@pytest.mark.parametrize("syntax", [s for s in ENCAPSULATED if s != phantoms.RLE])
def test_compressed_pixels_under_a_header_that_says_native(syntax: str) -> None:
    bits = BASELINE_BITS.get(syntax, 12)
    honest = dicom_file(picture(bits=bits), syntax, bits=bits, **FULL)
    lying = declare_syntax(honest, phantoms.EXPLICIT_LITTLE)
    assert np.array_equal(read_display(lying).pixels, read_display(honest).pixels)


def test_a_codestream_of_another_size_than_the_header_is_refused_before_it_is_decoded() -> None:
    frame = encoded(phantoms.JPEG_LS, picture(rows=100, columns=100), 12)
    with pytest.raises(Undecodable, match="100 x 100"):
        read_display(dicom_file(picture(), phantoms.JPEG_LS, bits=12, frame=frame))


def test_a_codestream_deeper_than_the_header_says_does_not_wrap_around() -> None:
    pixels = picture(bits=12)
    frame = encoded(phantoms.JPEG_LS, pixels, 12)
    shown = read_display(dicom_file(pixels, phantoms.JPEG_LS, bits=10, frame=frame)).pixels
    assert np.array_equal(shown, read_display(dicom_file(pixels, bits=12)).pixels)


@pytest.mark.parametrize("between", [b"", b"\0", b"\0\0\0"])
@pytest.mark.parametrize("syntax", [s for s in ENCAPSULATED if s != phantoms.RLE])
def test_two_codestreams_are_no_single_frame(syntax: str, between: bytes) -> None:
    bits = BASELINE_BITS.get(syntax, 12)
    pixels = picture(bits=bits)
    frame = encoded(syntax, pixels, bits)
    with pytest.raises(UnsupportedPixels, match="more than one codestream"):
        read_display(dicom_file(pixels, syntax, bits=bits, frame=frame + between + frame))


def test_garbage_instead_of_a_codestream_names_the_syntax() -> None:
    frame = bytearray(encoded(phantoms.JPEG_2000_LOSSLESS, picture(), 12))
    frame[60:-2] = bytes(len(frame) - 62)
    with pytest.raises(Undecodable, match="JPEG 2000 Lossless"):
        read_display(dicom_file(picture(), phantoms.JPEG_2000_LOSSLESS, bits=12, frame=bytes(frame)))


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.103", "1.2.3.4"])
def test_other_syntaxes_are_named_and_their_study_is_still_known(uid: str) -> None:
    data = declare_syntax(dicom_file(picture(), bits=12), uid)
    assert read_instance(data).study_uid == phantoms.STUDY_UID
    with pytest.raises(UnsupportedSyntax, match=uid):
        read_display(data)


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("syntax", [*phantoms.NATIVE, phantoms.RLE, phantoms.JPEG_2000_LOSSLESS])
def test_colour_becomes_luma(syntax: str, planar: int) -> None:
    rgb = np.dstack([picture(bits=8), picture(bits=8)[::-1], picture(bits=8)[:, ::-1]])
    luma = 0.299 * rgb[..., 0] + 0.587 * rgb[..., 1] + 0.114 * rgb[..., 2]
    if syntax in phantoms.NATIVE:
        laid_out = np.ascontiguousarray(np.moveaxis(rgb, -1, 0)) if planar else rgb
        data = dicom_file(rgb, syntax, pixel_data=laid_out.tobytes(), PlanarConfiguration=planar)
    else:
        data = dicom_file(rgb, syntax, PlanarConfiguration=planar)
    shown = read_display(data)
    assert np.abs(shown.pixels - luma).max() <= 1.0
    assert "colour=grey" in shown.notes


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "RGB"])
def test_colour_jpeg_becomes_luma(photometric: str) -> None:
    grey = picture(rows=64, columns=64, bits=8)
    frame = encoded(phantoms.JPEG_BASELINE, np.dstack([grey, grey, grey]), 8)
    data = dicom_file(np.dstack([grey] * 3), phantoms.JPEG_BASELINE, frame=frame, PhotometricInterpretation=photometric)
    assert np.abs(read_display(data).pixels.astype(int) - grey).mean() < 1.0


def test_native_ybr_gives_its_luma() -> None:
    grey = picture(bits=8)
    full = np.dstack([grey, np.full_like(grey, 40), np.full_like(grey, 200)])
    data = dicom_file(full, PhotometricInterpretation="YBR_FULL")
    assert np.array_equal(read_display(data).pixels, grey)
    subsampled = np.stack([grey[:, ::2], grey[:, 1::2], grey[:, ::2] // 3, grey[:, ::2] // 5], axis=-1)
    data = dicom_file(full, pixel_data=subsampled.tobytes(), PhotometricInterpretation="YBR_FULL_422")
    assert np.array_equal(read_display(data).pixels, grey)


def test_palette_colour_goes_through_its_tables() -> None:
    ramp = np.arange(256, dtype="<u2") * 257
    tables: dict[str, Any] = {f"{c}PaletteColorLookupTableDescriptor": [256, 0, 16] for c in ("Red", "Green", "Blue")}
    tables |= {f"{c}PaletteColorLookupTableData": ramp[::-1].tobytes() for c in ("Red", "Green", "Blue")}
    data = dicom_file(picture(bits=8), PhotometricInterpretation="PALETTE COLOR", **tables)
    assert np.array_equal(read_display(data).pixels, 255 - picture(bits=8))


def test_one_bit_pixels() -> None:
    bits = picture(bits=8) > 127
    packed = np.packbits(bits, bitorder="little").tobytes()
    elements: dict[str, Any] = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}
    data = dicom_file(bits.astype(np.uint8), pixel_data=packed, **elements)
    assert np.array_equal(read_display(data).pixels, bits * np.uint8(255))


@pytest.mark.parametrize(
    ("elements", "word"),
    [
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11}, "12 allocated"),
        ({"BitsAllocated": 16, "BitsStored": 20, "HighBit": 19}, "20 bits stored"),
        ({"PhotometricInterpretation": "HSV"}, "HSV"),
        ({"SamplesPerPixel": 4}, "4 samples"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_pixels_of_no_radiograph_keep_their_study_and_say_why(elements: dict[str, Any], word: str) -> None:
    wide = np.zeros((4, 48, 64), np.uint16)  # enough bytes for whatever the header claims
    data = dicom_file(picture(), bits=12, pixel_data=wide.tobytes(), **elements)
    assert read_instance(data).study_uid == phantoms.STUDY_UID
    with pytest.raises(UnsupportedPixels, match=word) as caught:
        read_display(data)
    assert "send" in str(caught.value) or "radiographs are screened" in str(caught.value)


def test_float_pixels_are_unsupported() -> None:
    data = dicom_file(
        picture(), bits=12, without=("PixelData",), FloatPixelData=picture().astype("<f4").tobytes(), BitsAllocated=32
    )
    assert read_instance(data).rows == 48
    with pytest.raises(UnsupportedPixels, match="float"):
        read_display(data)


def test_fewer_pixels_than_the_header_says_are_no_picture() -> None:
    data = dicom_file(picture(), bits=12, pixel_data=picture()[:40].tobytes())
    with pytest.raises(Undecodable, match="the header needs 6,144"):
        read_display(data)


def test_the_digest_tells_other_pixels_and_ignores_the_header() -> None:
    pixels = picture()
    other = pixels.copy()
    other[10, 10] ^= 1
    assert stored_digest(dicom_file(pixels, bits=12)) == stored_digest(dicom_file(pixels, bits=12, PatientID="other"))
    assert stored_digest(dicom_file(pixels, bits=12)) != stored_digest(dicom_file(other, bits=12))


def test_every_rejection_has_a_code_and_a_message() -> None:
    with pytest.raises(Rejected) as caught:
        read_display(dicom_file(picture(), bits=12, NumberOfFrames=3))
    assert (caught.value.code, bool(caught.value.message)) == ("unsupported_pixels", True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: b"\x0f" + f[1:],  # more segments than bytes in a sample
        lambda f: f[:4] + b"\xff\xff\xff\x7f" + f[8:],  # the first starts beyond the frame
        lambda f: f[:64] + b"\x81\x00" * 4000 + f[64:],  # a segment that would overflow its plane
        lambda f: f[:40],  # not even a header
    ],
    ids=["segments", "offset", "overflow", "short"],
)
def test_damaged_rle_is_refused(damage: Callable[[bytes], bytes]) -> None:
    frame = damage(encoded(phantoms.RLE, picture(), 12))
    with pytest.raises(Undecodable, match="RLE Lossless"):
        read_display(dicom_file(picture(), phantoms.RLE, bits=12, frame=frame))


def test_where_the_first_decoder_fails_the_next_one_reads_and_it_is_noted() -> None:
    pixels = picture(bits=12)
    frame = encoded(phantoms.JPEG_LS, pixels, 12)
    stream = read_codestream(frame)
    assert stream is not None

    def _moody(*_: Any) -> Pixels:
        raise RuntimeError("not today")

    decoders = (_moody, *BY_CODING[stream.coding])
    decoded = decode_codestream(phantoms.JPEG_LS, frame, stream, False, {stream.coding: decoders})
    assert np.array_equal(decoded.pixels, pixels)
    assert decoded.notes == ("decoder_failed=moody: not today",)


@pytest.mark.parametrize("syntax", [phantoms.JPEG_BASELINE, phantoms.JPEG_LOSSLESS, phantoms.JPEG_LOSSLESS_SV1])
def test_a_height_that_comes_after_the_scan(syntax: str) -> None:
    """ISO 10918-1 B.2.5: 0 in the frame header, the number of lines in a DNL segment behind the first scan."""
    pixels = picture(bits=8)
    frame = encoded(syntax, pixels, 8)
    sof = max(frame.find(b"\xff\xc0\0"), frame.find(b"\xff\xc3\0"))
    lines = frame[sof + 5 : sof + 7]
    late = frame[: sof + 5] + b"\0\0" + frame[sof + 7 : -2] + b"\xff\xdc\0\4" + lines + b"\xff\xd9"
    shown = read_display(dicom_file(pixels, syntax, bits=8, frame=late))
    assert np.array_equal(shown.pixels, read_display(dicom_file(pixels, syntax, bits=8, frame=frame)).pixels)
    with pytest.raises(Undecodable):
        read_display(dicom_file(pixels, syntax, bits=8, frame=late.replace(b"\xff\xdc\0\4" + lines, b"")))
