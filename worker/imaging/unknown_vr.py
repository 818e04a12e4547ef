"""An element in explicit VR whose value representation is none of the Standard's: where its value is.

Newer VRs have a length of 32 bits (PS3.5 7.1.2), what old writers put there (`??`, blanks, zeros) one of 16, and some
go over to implicit VR. The reading counts after which further elements follow. Knows no values.
"""

from collections.abc import Iterator
from struct import Struct, unpack_from
from typing import NamedTuple

#: Value representations by the width of their length field in explicit VR (PS3.5 7.1.2).
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
     b"ST", b"TM", b"UI", b"UL", b"US"}
)  # fmt: skip
VRS = LONG_VRS | SHORT_VRS

#: The length of a value that ends with a delimiter (PS3.5 7.1.1).
UNDEFINED = 0xFFFFFFFF

#: Elements that must follow a value, unless the data or the header end before. The text of a value can look like one
#: element (`HARRIS^ANN` is (4148,5252) in IS), but hardly like five of ascending tags.
FOLLOWING = 5

_TAG = {endian: Struct(f"{endian}HH") for endian in "<>"}
#: Tags after which nothing else needs to be proved: Pixel Data, Item and its two delimiters.
_LANDMARKS = frozenset({(0x7FE0, 0x0010), (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)})


class Value(NamedTuple):
    """Where a value is."""

    start: int
    length: int

    @property
    def end(self) -> int:
        """The offset after the value, or of the first item where the length is undefined."""
        return self.start + (0 if self.length == UNDEFINED else self.length)


def implicit_value(data: bytes, at: int, endian: str) -> Value:
    """The value of the element at an offset, in implicit VR (PS3.5 7.1.3)."""
    return Value(at + 8, unpack_from(f"{endian}I", data, at + 4)[0])


def short_value(data: bytes, at: int, endian: str) -> Value:
    """The value of the element at an offset, behind a VR and a length of 16 bits."""
    return Value(at + 8, unpack_from(f"{endian}H", data, at + 6)[0])


def long_value(data: bytes, at: int, endian: str) -> Value:
    """The value of the element at an offset, behind a VR, two reserved bytes and a length of 32 bits."""
    return Value(at + 12, unpack_from(f"{endian}I", data, at + 8)[0])


def known_as(data: bytes, at: int, endian: str) -> Value | None:
    """The value of the element at an offset; None where it is in implicit VR as every reader sees, or no way leads on.

    The element can be read as one of VR UN, whose value is as in implicit VR (PS3.5 6.2.2).
    """
    if at + 12 > len(data):
        return None
    vr = data[at + 4 : at + 6]
    implicit = implicit_value(data, at, endian)
    if _leads_on(data, at, implicit, endian, None, FOLLOWING):
        return implicit if b"AA" <= vr <= b"ZZ" else None  # pydicom takes these for a VR, though `B\0` is a length
    ways = _explicit(data, at, endian)
    return next((way for way in ways if _leads_on(data, at, way, endian, vr, FOLLOWING)), None)


def is_length(data: bytes, at: int, endian: str) -> bool:
    """Whether what looks like a VR and a length of 0 is the length of an element in implicit VR: `PN` is 20,048.

    Only then something follows the value of that length, and nothing what would follow an empty one.
    """
    if endian != "<" or data[at + 4 : at + 6] not in SHORT_VRS or data[at + 6 : at + 8] != b"\0\0":
        return False
    implicit, empty = implicit_value(data, at, endian), Value(at + 8, 0)
    # in this order: of an ordinary empty element the first nearly always ends at once, the second walks over five more
    return _leads_on(data, at, implicit, endian, None, FOLLOWING) and not _leads_on(
        data, at, empty, endian, None, FOLLOWING
    )


def _explicit(data: bytes, at: int, endian: str) -> Iterator[Value]:
    """Where the value is if a VR unknown here stands before its length."""
    short = short_value(data, at, endian)
    if short.length == 0 and at + 12 <= len(data):  # or these are the two reserved bytes
        yield long_value(data, at, endian)
    yield short


def _leads_on(data: bytes, at: int, value: Value, endian: str, unknown: bytes | None, left: int) -> bool:
    """Whether after a value so many elements of ascending tags lie inside the data, or the data or the header end.

    They have known VRs, the one `unknown` VR, or are in implicit VR.
    """
    end = value.end
    if end + 8 > len(data):
        return end == len(data)
    tag = _TAG[endian].unpack_from(data, end)
    if tag in _LANDMARKS:
        return True
    if value.length == UNDEFINED or tag <= _TAG[endian].unpack_from(data, at):
        return False
    if left == 0:
        return True
    ways = _ways(data, end, endian, unknown)
    return any(_leads_on(data, end, way, endian, unknown, left - 1) for way in ways)


def _ways(data: bytes, at: int, endian: str, unknown: bytes | None) -> Iterator[Value]:
    """Every way to read an element that may follow."""
    vr = data[at + 4 : at + 6]
    if vr in SHORT_VRS:
        yield short_value(data, at, endian)
    elif vr not in LONG_VRS:
        yield implicit_value(data, at, endian)
        yield from _explicit(data, at, endian) if vr == unknown else ()
    elif at + 12 <= len(data):
        yield long_value(data, at, endian)
