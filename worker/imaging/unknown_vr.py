"""An element in explicit VR whose value representation is none of the Standard's: how long its value is.

Newer VRs have a length of 32 bits (PS3.5 7.1.2), what old writers put there (`??`, blanks, zeros) one of 16, and some
go over to implicit VR. The reading counts after which the next element begins. Knows no values.
"""

from struct import Struct, unpack_from
from typing import NamedTuple

#: Value representations by the width of their length field in explicit VR (PS3.5 7.1.2).
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
     b"ST", b"TM", b"UI", b"UL", b"US"}
)  # fmt: skip
VRS = LONG_VRS | SHORT_VRS

_TAG = {endian: Struct(f"{endian}HH") for endian in "<>"}
_DELIMITERS = 0xFFFE


class KnownAs(NamedTuple):
    """A VR of the Standard with a length field of the same width, and where the value is."""

    vr: bytes
    start: int
    length: int


def known_as(data: bytes, at: int, endian: str) -> KnownAs | None:
    """How to read the element at an offset; None where it is in implicit VR, or in no way that leads to another one."""
    if at + 12 > len(data) or _leads_on(data, at, at + 8 + unpack_from(f"{endian}I", data, at + 4)[0], endian):
        return None
    (short,) = unpack_from(f"{endian}H", data, at + 6)
    (long,) = unpack_from(f"{endian}I", data, at + 8)
    ways = [KnownAs(b"LT", at + 8, short)]
    if short == 0:  # the two bytes that are reserved before a length of 32 bits
        ways = [KnownAs(b"UN", at + 12, long), *ways]
    return next((way for way in ways if _leads_on(data, at, way.start + way.length, endian)), None)


def _leads_on(data: bytes, at: int, end: int, endian: str) -> bool:
    """Whether at `end` an element of a higher tag begins, of a known VR or the same unknown one, or the data end."""
    if end + 8 > len(data):
        return end == len(data)
    group, number = _TAG[endian].unpack_from(data, end)
    if group == _DELIMITERS:
        return True
    vr = data[end + 4 : end + 6]
    return (group, number) > _TAG[endian].unpack_from(data, at) and (vr in VRS or vr == data[at + 4 : at + 6])
