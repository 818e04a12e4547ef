"""Walk over the elements of a data set (PS3.5 7.1): where each begins, its value representation, where its value ends.

A short file is so detected before anything is parsed. Knows no element's meaning, and reads no value. Begin with
`elements_of`; each step of it reads one `_element` and finds its `_value_end`.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from struct import pack, unpack_from

from worker.errors import MissingElement, TooLarge, Truncated
from worker.imaging.unknown_vr import (
    LONG_VRS,
    UNDEFINED,
    VRS,
    implicit_value,
    is_length,
    known_as,
    long_value,
    short_value,
)

PIXEL_DATA = 0x7FE00010
FLOAT_PIXEL_DATA = frozenset({0x7FE00008, 0x7FE00009})
#: Item and its two delimiters (PS3.5 7.5).
_ITEM_GROUP, _ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

#: Deepest nesting of sequences. A deeper one is no radiograph and could overflow the stack.
_MAX_DEPTH = 16

#: Elements, items and fragments of one object. A radiograph has some hundreds; each takes microseconds to walk over and
#: half a kilobyte once parsed, and a deflated file of four megabytes can hold millions.
MAX_ELEMENTS = 100_000

#: Up to this many zeros at the end of a file are padding; more mean that a copy is not finished.
MOST_PADDING = 1024


@dataclass(frozen=True)
class Element:
    """Position of one element. Its value starts at `start`; a length of 0xFFFFFFFF means items up to a delimiter."""

    tag: int
    vr: bytes | None  #: None in implicit VR
    start: int
    length: int


@dataclass
class Walk:
    """The bytes to walk over, and how many more elements are allowed."""

    data: bytes
    endian: str  #: struct's
    left: int = MAX_ELEMENTS
    #: Offset of an unknown VR, and the element, read as UN. Offsets ascend.
    renamed: list[tuple[int, Element]] = field(default_factory=list)

    @cached_property
    def zeros_from(self) -> int:
        """From which offset on there are only zeros. Found once: a hostile header may ask at each of its elements."""
        end = len(self.data)
        while end > 0:
            piece = self.data[max(0, end - MOST_PADDING) : end]
            if any(piece):
                return end - len(piece) + len(piece.rstrip(b"\0"))
            end -= len(piece)
        return 0

    def known(self, start: int, end: int) -> bytes:
        """A span of the data, in which the elements of unknown VRs are written as those of UN, which pydicom reads."""
        span = bytearray()
        first = bisect_left(self.renamed, start, key=itemgetter(0))
        for vr_at, element in self.renamed[first:]:
            if element.start > end:
                break
            span += self.data[start:vr_at] + pack(f"{self.endian}2sHI", b"UN", 0, element.length)
            start = element.start
        return bytes(span) + self.data[start:end]

    def count(self) -> None:
        """Count one more element; raises TooLarge when there are too many."""
        self.left -= 1
        if self.left < 0:
            raise TooLarge(f"the object holds more than {MAX_ELEMENTS:,} elements and items: it is no radiograph")


def elements_of(walk: Walk, at: int, is_implicit: bool) -> Iterator[tuple[Element, int]]:
    """Top-level elements, each with its end offset; the last end may lie beyond the data.

    Raises Truncated where the data end or hold zeros inside an element, MissingElement where sequences are nested too
    deep or hold no items, and TooLarge where there are too many elements.
    """
    seen_pixels = False
    while at < len(walk.data) and not _is_rest(walk, at, is_implicit, seen_pixels):
        element = _element(walk, at, is_implicit)
        at = _value_end(walk, element, is_implicit)
        seen_pixels = seen_pixels or element.tag == PIXEL_DATA
        yield element, at


def _is_rest(walk: Walk, at: int, is_implicit: bool, seen_pixels: bool) -> bool:
    """Whether no element follows: padding at the end of the file, or any other bytes behind the pixel data."""
    left = len(walk.data) - at
    if (seen_pixels or left <= MOST_PADDING) and not any(walk.data[at : at + MOST_PADDING]):
        return True
    if not seen_pixels:
        return False
    return left < 8 or (not is_implicit and walk.data[at + 4 : at + 6] not in VRS)


def _element(walk: Walk, at: int, is_implicit: bool) -> Element:
    """The element at an offset: in implicit VR, with a length of 16 or of 32 bits, or under an unknown VR (as UN)."""
    walk.count()
    data, endian = walk.data, walk.endian
    if at + 8 > len(data):
        raise Truncated("the file ends inside an element's tag")
    group, number = unpack_from(endian + "HH", data, at)
    if group == number == 0 and len(data) - at > MOST_PADDING and at >= walk.zeros_from:
        raise Truncated(f"from byte {at:,} on the file holds zeros: it is still being copied, or its copy stalled")
    tag, vr = group << 16 | number, data[at + 4 : at + 6]
    if is_implicit or group == _ITEM_GROUP:  # items and delimiters never have a VR
        return Element(tag, None, *implicit_value(data, at, endian))
    if vr not in VRS or is_length(data, at, endian):
        known = known_as(data, at, endian)
        if known is not None:
            element = Element(tag, b"UN", known.start, known.length)
            walk.renamed.append((at + 4, element))
            return element
    if not (vr.isalpha() and vr.isupper()):  # a few writers fall back to implicit VR inside explicit data sets
        return Element(tag, None, *implicit_value(data, at, endian))
    if vr not in LONG_VRS:
        return Element(tag, vr, *short_value(data, at, endian))
    if at + 12 > len(data):
        raise Truncated("the file ends inside an element's length")
    return Element(tag, vr, *long_value(data, at, endian))


def _value_end(walk: Walk, element: Element, is_implicit: bool, depth: int = 0) -> int:
    """End offset of the value; walks over items when the length is undefined (PS3.5 7.5.2)."""
    if element.length != UNDEFINED:
        return element.start + element.length
    if depth > _MAX_DEPTH:
        raise MissingElement(f"sequences are nested deeper than {_MAX_DEPTH} levels: the header is malformed")
    at, items = element.start, 0
    # some writers omit the last delimiter; offset table and fragments are present
    while not (at == len(walk.data) and element.tag == PIXEL_DATA and items > 1):
        item = _element(walk, at, is_implicit=True)
        if item.tag == _SEQUENCE_END:
            return item.start
        _check_item(walk, item, element)
        items += 1
        if item.length == UNDEFINED:
            at = _item_end(walk, item.start, is_implicit or _is_implicit_inside(walk, element, item), depth)
        else:
            at = item.start + item.length
    return at


def _check_item(walk: Walk, item: Element, sequence: Element) -> None:
    """Raise Truncated or MissingElement unless this is an item whose value lies inside the data."""
    if item.tag == 0 and item.start >= walk.zeros_from:
        raise Truncated(f"element {sequence.tag:08X} ends in zeros: it is still being copied, or its copy stalled")
    if item.tag != _ITEM:
        raise MissingElement(f"element {sequence.tag:08X} holds something that is no item: the header is malformed")
    if item.length != UNDEFINED and item.start + item.length > len(walk.data):
        raise Truncated(f"an item of element {sequence.tag:08X} reaches beyond the end of the file")


def _is_implicit_inside(walk: Walk, sequence: Element, item: Element) -> bool:
    """Whether an item of an explicit data set is in implicit VR: those of UN are (PS3.5 6.2.2 note 2), but some writers
    leave them as they were."""
    if sequence.vr not in (None, b"UN"):
        return False
    vr = walk.data[item.start + 4 : item.start + 6]
    return vr not in VRS or is_length(walk.data, item.start, walk.endian)


def _item_end(walk: Walk, at: int, is_implicit: bool, depth: int) -> int:
    """End offset of an item of undefined length, whose first element is at this offset."""
    while True:
        element = _element(walk, at, is_implicit)
        if element.tag == _ITEM_END:
            return element.start
        at = _value_end(walk, element, is_implicit, depth + 1)


def is_items(data: bytes, pixel: Element, end: int, endian: str) -> bool:
    """Whether a value of defined length is nothing but items: an offset table and fragments (PS3.5 A.4)."""
    at, items = pixel.start, 0
    while at + 8 <= min(end, len(data)):
        group, number, length = unpack_from(endian + "HHI", data, at)
        if group << 16 | number == _SEQUENCE_END:
            break
        if group << 16 | number != _ITEM:
            return False
        at, items = at + 8 + length, items + 1
    return items > 1 and at <= end


def encoding_of(first: bytes) -> tuple[bool, str]:
    """(is implicit VR, struct's byte order) from the first element: files that declare another encoding exist."""
    # groups of a data set's first element are small: their first byte is zero only in big endian
    endian = ">" if len(first) >= 2 and first[0] == 0 and first[1] != 0 else "<"
    return first[4:6] not in VRS, endian
