"""A codestream that lacks its end marker alone, as some encoders leave it, is a picture; a short one is not."""

import numpy as np
import pytest

from tests import phantoms
from tests.phantoms import LOSSLESS_ENCODERS, LOSSY_ENCODERS, Pixels, dicom_file, picture
from worker.errors import Undecodable
from worker.imaging.image_file import read_display

ENCODERS = LOSSLESS_ENCODERS | LOSSY_ENCODERS
SYNTAXES = (
    phantoms.JPEG_BASELINE, phantoms.JPEG_EXTENDED, phantoms.JPEG_LOSSLESS, phantoms.JPEG_LOSSLESS_SV1,
    phantoms.JPEG_2000_LOSSLESS, phantoms.JPEG_2000, phantoms.HTJ2K,
)  # fmt: skip


def pictures(syntax: str) -> tuple[Pixels, Pixels, int]:
    """One with a border of one value, one of noise, and their bits."""
    bits = 8 if syntax == phantoms.JPEG_BASELINE else 12
    noise = np.random.default_rng(5).integers(0, 1 << bits, (96, 128))
    bordered = picture(96, 128, bits=bits)
    bordered[-12:] = 0
    return bordered, noise.astype(bordered.dtype), bits


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_codestream_without_its_end_marker_is_read_and_noted(syntax: str) -> None:
    for pixels in pictures(syntax)[:2]:
        bits = pictures(syntax)[2]
        frame = ENCODERS[syntax](pixels, bits)
        unended = frame[: frame.rindex(b"\xff\xd9")]
        shown = read_display(dicom_file(pixels, syntax, bits=bits, frame=unended))
        assert np.array_equal(shown.pixels, read_display(dicom_file(pixels, syntax, bits=bits, frame=frame)).pixels)
        assert "codestream_end=absent" in shown.notes


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("cut", [2, 9, 400])
@pytest.mark.parametrize("end", [b"", b"\0", b"\0\0", bytes(40)], ids=["cut", "even", "zeros", "more_zeros"])
def test_one_that_lacks_more_is_refused(syntax: str, cut: int, end: bytes) -> None:
    for pixels in pictures(syntax)[:2]:
        bits = pictures(syntax)[2]
        frame = ENCODERS[syntax](pixels, bits)
        short = frame[: frame.rindex(b"\xff\xd9") - cut]
        with pytest.raises(Undecodable):
            read_display(dicom_file(pixels, syntax, bits=bits, frame=short + end))


def test_a_jpeg_ls_without_its_end_marker_is_refused() -> None:
    frame = ENCODERS[phantoms.JPEG_LS](picture(96, 128), 12)
    with pytest.raises(Undecodable, match="end marker is missing"):
        read_display(dicom_file(picture(96, 128), phantoms.JPEG_LS, bits=12, frame=frame[: frame.rindex(b"\xff\xd9")]))
