"""Elements whose value representation is none: the picture behind them is read, and nothing of the header is lost."""

import struct
import sys
from functools import partial
from types import FrameType
from typing import Any

import numpy as np
import pytest

from tests.phantoms import FULL, JPEG_LS, LOSSLESS_ENCODERS, dicom_file, picture
from worker.errors import Truncated
from worker.imaging.first_bytes import read_from_first_bytes
from worker.imaging.image_file import read_display, read_instance
from worker.imaging.limits import DEFAULT
from worker.imaging.unknown_vr import FOLLOWING, is_length

PICTURE = np.maximum(picture(96, 128), 5)
DATA = dicom_file(PICTURE, bits=12, **FULL)
SHOWN = read_display(DATA).pixels

IN_16 = struct.pack("<H", 4) + b"abcd"
IN_32 = b"\0\0" + struct.pack("<I", 4) + b"abcd"
IMPLICIT = struct.pack("<I", 4) + b"abcd"


#: Where the elements of group 0020 begin: Study Instance UID in explicit VR.
PLACE = DATA.index(b"\x20\0\x0d\0UI")


def with_private(*elements: bytes) -> bytes:
    """The file with private elements (0019,1001), (0019,1002), ..., given from their VR on."""
    private = [struct.pack("<HH", 0x19, 0x1001 + number) + element for number, element in enumerate(elements)]
    return DATA[:PLACE] + b"".join(private) + DATA[PLACE:]


@pytest.mark.parametrize(
    "elements",
    [
        [b"??" + IN_16], [b"  " + IN_16], [b"\0\0" + IN_16], [b"ox" + IN_16], [b"ZZ" + IN_16],
        [b"??" + IN_32], [b"  " + IN_32], [b"OX" + IN_32],
        [b"??" + IN_16, b"??" + IN_16, b"LO" + IN_16], [IMPLICIT], [IMPLICIT, IMPLICIT],
    ],
)  # fmt: skip
def test_a_vr_that_is_none_costs_no_picture_and_no_header(elements: list[bytes]) -> None:
    data = with_private(*elements)
    assert read_instance(data) == read_instance(DATA)
    assert np.array_equal(read_display(data).pixels, SHOWN)


#: Values whose text is that of an element in a VR of the Standard, where a header of 8 bytes is taken for one of 12.
LIKE_ELEMENTS = (b"HARRIS^ANN", b"MORRIS^A", b"THOMAS^B", b"CURTIS^B", b"WILLIS^A", b"MARCUS^C", b"CARESTREAM HEALTH ")


def implicit(value: bytes) -> bytes:
    return struct.pack("<I", len(value)) + value


@pytest.mark.parametrize("value", LIKE_ELEMENTS)
@pytest.mark.parametrize("run", [1, 2, 3])
def test_text_that_looks_like_an_element_ends_no_run_of_implicit_ones(value: bytes, run: int) -> None:
    for others in ([IMPLICIT], [implicit(b"")], [implicit(value)]):
        data = with_private(implicit(value), *others * (run - 1), b"LO" + IN_16)
        assert read_instance(data) == read_instance(DATA)
    assert np.array_equal(read_display(data).pixels, SHOWN)


@pytest.mark.parametrize("tag", [b"\x08\0\x70\0", b"\x10\0\x10\0"])
@pytest.mark.parametrize("value", LIKE_ELEMENTS)
def test_implicit_elements_of_an_explicit_header_are_read(tag: bytes, value: bytes) -> None:
    at = DATA.index(tag)
    end = at + 8 + DATA[at + 6]
    following = DATA[end : end + 4] + implicit(DATA[end + 8 : end + 8 + DATA[end + 6]])
    data = DATA[:at] + tag + implicit(value) + following + DATA[end + 8 + DATA[end + 6] :]
    plain = DATA[:at] + tag + DATA[at + 4 : at + 6] + struct.pack("<H", len(value)) + value + DATA[end:]
    assert read_instance(data) == read_instance(plain)


@pytest.mark.parametrize("length", [66, 76, 90, 330, 0x4242])
def test_an_implicit_length_that_looks_like_letters(length: int) -> None:
    """`B` and a zero, the length 66, is no VR."""
    data = with_private(implicit(b"a" * length), IMPLICIT)
    assert read_instance(data) == read_instance(DATA)


@pytest.mark.parametrize("vr", [b"??", b"  ", b"\0\0", b"ZZ"])
def test_known_elements_under_a_vr_that_is_none_still_count(vr: bytes) -> None:
    data = DATA
    for name in (b"\x18\0\x15\0CS", b"\x20\0\x0d\0UI", b"\x28\0\x10\0US", b"\x28\0\x02\x01US"):
        data = data.replace(name, name[:4] + vr)
    assert read_instance(data) == read_instance(DATA)
    assert np.array_equal(read_display(data).pixels, SHOWN)


@pytest.mark.parametrize("size", [96, 700])
@pytest.mark.parametrize("element", [b"??" + IN_16, b"\0\0" + IN_16, b"??" + IN_32, b"OX" + IN_32])
def test_no_pixels_are_taken_for_elements(element: bytes, size: int) -> None:
    """A 16-bit length read as one of 32 leads into the pixels of a picture of ordinary size."""
    ramp = (np.arange(size * size) % 4000).astype(np.uint16).reshape(size, size)
    noise = np.random.default_rng(1).integers(0, 4, (size, size)).astype(np.uint8)
    for pixels, bits in ((ramp, 12), (noise, 8), (np.full_like(ramp, 100), 12)):
        plain = dicom_file(pixels, bits=bits, **FULL)
        place = plain.index(DATA[PLACE : PLACE + 6])
        data = plain[:place] + struct.pack("<HH", 0x19, 0x1001) + element + plain[place:]
        assert read_instance(data) == read_instance(plain)


def test_the_first_bytes_of_a_file_do_not_answer_for_it() -> None:
    def read(data: bytes) -> object:
        return read_from_first_bytes(lambda at, size: data[at : at + size], len(data), DEFAULT)

    assert read(DATA) == read_instance(DATA)
    assert read(with_private(IMPLICIT)) == read_instance(DATA)  # in implicit VR, which is known
    assert read(with_private(b"ZZ" + IN_16)) is None


def test_a_length_that_leads_nowhere_is_still_no_whole_file() -> None:
    data = with_private(b"??" + struct.pack("<H", 3) + b"abcd")
    with pytest.raises(Truncated):
        read_instance(data)


@pytest.mark.parametrize("item_length", [None, 0xFFFFFFFF])
def test_items_of_un_that_are_in_explicit_vr(item_length: int | None) -> None:
    inner = struct.pack("<HH", 0x19, 0x1002) + b"LO" + IN_16
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner) if item_length is None else item_length) + inner
    ends = b"" if item_length is None else struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    data = with_private(b"UN\0\0" + b"\xff" * 4 + item + ends + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))
    assert read_instance(data) == read_instance(DATA)
    assert np.array_equal(read_display(data).pixels, SHOWN)


#: Lengths whose two lower bytes are a VR of the Standard.
SPELT = tuple(int.from_bytes(vr, "little") for vr in (b"DS", b"PN", b"LO", b"TM", b"FD"))


@pytest.mark.parametrize("length", SPELT)
@pytest.mark.parametrize("content", [b"\0", bytes(range(256)), b"HARRIS^ANN PN"], ids=["zeros", "all", "text"])
def test_an_implicit_length_that_is_a_vr(length: int, content: bytes) -> None:
    value = (content * length)[:length]
    for elements in ([implicit(value)], [implicit(value), b"PN\0\0"], [b"LO\0\0", implicit(value), b"LO" + IN_16]):
        data = with_private(*elements)
        assert read_instance(data) == read_instance(DATA)
        assert np.array_equal(read_display(data).pixels, SHOWN)


@pytest.mark.parametrize("length", SPELT)
@pytest.mark.parametrize("is_open", [False, True])
def test_an_item_of_un_whose_first_length_is_a_vr(length: int, is_open: bool) -> None:
    inner = struct.pack("<HH", 0x19, 0x1002) + implicit(b"x" * length)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF if is_open else len(inner)) + inner
    ends = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) if is_open else b""
    data = with_private(b"UN\0\0" + b"\xff" * 4 + item + ends + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))
    assert read_instance(data) == read_instance(DATA)
    assert np.array_equal(read_display(data).pixels, SHOWN)


def piece(data: bytes, at: int, size: int) -> bytes:
    return data[at : at + size]


def test_empty_elements_of_an_explicit_header_stay_empty() -> None:
    for vr in (b"DS", b"PN", b"LO", b"TM", b"FD"):
        data = with_private(vr + b"\0\0", vr + b"\0\0", b"UN" + IN_32)
        assert read_instance(data) == read_instance(DATA)
        assert read_from_first_bytes(partial(piece, data), len(data), DEFAULT) is not None


@pytest.mark.parametrize("size", [10**6, 800])
def test_fragments_without_an_offset_table_are_one_picture(size: int) -> None:
    frame = LOSSLESS_ENCODERS[JPEG_LS](PICTURE, 12)
    frame += b"\0" * (len(frame) % 2)
    items = [frame[at : at + size] for at in range(0, len(frame), size)]
    value = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    table = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    for held in (table + value, value):
        data = dicom_file(PICTURE, JPEG_LS, bits=12, pixel_data=held, **FULL)
        assert np.array_equal(read_display(data).pixels, SHOWN)


#: A sequence whose item holds no element: the walk leads over it, pydicom cannot parse it.
BROKEN = b"SQ\0\0" + b"\xff" * 4 + struct.pack("<HHI6sHHI", 0xFFFE, 0xE000, 6, b"abcdef", 0xFFFE, 0xE0DD, 0)


def lines_run(data: bytes) -> int:
    """How many lines of this package are run to read a header."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace if "imaging" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        assert read_instance(data) == read_instance(DATA)
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize("public", [b"", b"LO\0\0"], ids=["adjacent", "between public ones"])
def test_twice_the_private_elements_of_no_vr_are_twice_the_work(public: bytes) -> None:
    """Where pydicom cannot parse the header, each of them was looked at once more for each other one."""
    place = DATA.index(b"\xe0\x7f\x10\0O")

    def held(number: int) -> bytes:
        groups = range(0x4003, 0x4003 + 2 * number, 2)
        private = [struct.pack("<HH", group, 0x1001) + b"??" + IN_16 for group in groups]
        others = [struct.pack("<HH", group + 1, 1) + public if public else b"" for group in groups]
        elements = b"".join(element + other for element, other in zip(private, others, strict=True))
        return DATA[:place] + struct.pack("<HH", 0x4001, 0x1001) + BROKEN + elements + DATA[place:]

    some, twice, four_times = (lines_run(held(number)) for number in (100, 200, 400))
    assert four_times - twice < 2.5 * (twice - some)


class Looked(bytes):
    """Counts how often somebody looks at a piece of it."""

    times = 0

    def __getitem__(self, place: Any) -> Any:
        self.times += 1
        return super().__getitem__(place)


@pytest.mark.parametrize("vr", [b"DS", b"PN", b"LO", b"TM", b"FD"])
def test_an_ordinary_empty_element_is_known_by_its_own_bytes(vr: bytes) -> None:
    """The five elements after it were walked over first, at each empty element of each header."""
    data = Looked(with_private(vr + b"\0\0"))
    assert not is_length(data, PLACE, "<")
    assert data.times < FOLLOWING
