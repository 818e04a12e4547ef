"""Walk over the elements of a data set (PS3.5 7.1): where each begins, its value representation, where its value ends.

A short file is so detected before anything is parsed. Knows no element's meaning, and reads no value.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from struct import pack, unpack_from

from worker.errors import MissingElement, TooLarge, Truncated
from worker.imaging.unknown_vr import LONG_VRS, VRS, is_length, known_as

PIXEL_DATA = 0x7FE00010
FLOAT_PIXEL_DATA = frozenset({0x7FE00008, 0x7FE00009})
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF

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
        while end > 0 and not any(piece := self.data[max(0, end - MOST_PADDING) : end]):
            end -= len(piece)
        return end - len(piece) + len(piece.rstrip(b"\0")) if end > 0 else 0

    def known(self, start: int, end: int) -> bytes:
        """A span of the data, in which the elements of unknown VRs are written as those of UN, which pydicom reads."""
        span, number = bytearray(), bisect_left(self.renamed, start, key=itemgetter(0))
        while number < len(self.renamed) and (found := self.renamed[number])[1].start <= end:
            at, element = found
            span += self.data[start:at] + pack(f"{self.endian}2sHI", b"UN", 0, element.length)
            start, number = element.start, number + 1
        return bytes(span) + self.data[start:end]

    def count(self) -> None:
        """Count one more element; raises TooLarge when there are too many."""
        self.left -= 1
        if self.left < 0:
            raise TooLarge(f"the object holds more than {MAX_ELEMENTS:,} elements and items: it is no radiograph")


def elements_of(walk: Walk, at: int, is_implicit: bool) -> Iterator[tuple[Element, int]]:
    """Top-level elements, each with its end offset; the last end may lie beyond the data."""
    seen_pixels = False
    while at < len(walk.data):
        rest = walk.data[at : at + 8]
        is_short = len(walk.data) - at <= MOST_PADDING
        if (len(rest) < 8 and seen_pixels) or (
            (seen_pixels or is_short) and not any(walk.data[at : at + MOST_PADDING])
        ):
            return  # padding
        if seen_pixels and not is_implicit and rest[4:6] not in VRS:
            return  # trailing bytes, which are no element
        element = _element(walk, at, is_implicit)
        at = _value_end(walk, element, is_implicit)
        seen_pixels = seen_pixels or element.tag == PIXEL_DATA
        yield element, at


def _element(walk: Walk, at: int, is_implicit: bool) -> Element:
    walk.count()
    data, endian = walk.data, walk.endian
    if at + 8 > len(data):
        raise Truncated("the file ends inside an element's tag")
    group, number = unpack_from(endian + "HH", data, at)
    if group == number == 0 and len(data) - at > MOST_PADDING and at >= walk.zeros_from:
        raise Truncated(f"from byte {at:,} on the file holds zeros: it is still being copied, or its copy stalled")
    vr = data[at + 4 : at + 6]
    tag, is_named = group << 16 | number, not is_implicit and group != 0xFFFE  # delimiters never have a VR
    is_odd = is_named and (vr not in VRS or is_length(data, at, endian))
    if is_odd and (known := known_as(data, at, endian)) is not None:
        element = Element(tag, b"UN", known.start, known.length)
        walk.renamed.append((at + 4, element))
        return element
    # a few writers fall back to implicit VR inside explicit data sets
    if not is_named or not (vr.isalpha() and vr.isupper()):
        return Element(tag, None, at + 8, unpack_from(endian + "I", data, at + 4)[0])
    if vr not in LONG_VRS:
        return Element(tag, vr, at + 8, unpack_from(endian + "H", data, at + 6)[0])
    if at + 12 > len(data):
        raise Truncated("the file ends inside an element's length")
    return Element(tag, vr, at + 12, unpack_from(endian + "I", data, at + 8)[0])


def _value_end(walk: Walk, element: Element, is_implicit: bool, depth: int = 0) -> int:
    """End offset of the value; walks over items when the length is undefined (PS3.5 7.5.2)."""
    if element.length != UNDEFINED:
        return element.start + element.length
    if depth > _MAX_DEPTH:
        raise MissingElement(f"sequences are nested deeper than {_MAX_DEPTH} levels: the header is malformed")
    # items of UN are in implicit VR (PS3.5 6.2.2 note 2); some writers leave them as they were
    is_open = element.vr in (None, b"UN")
    at, items = element.start, 0
    while True:
        if at == len(walk.data) and element.tag == PIXEL_DATA and items > 1:
            return at  # some writers omit the last delimiter; offset table and fragments are present
        item = _element(walk, at, True)
        if item.tag == _SEQUENCE_END:
            return item.start
        if item.tag == 0 and item.start >= walk.zeros_from:
            raise Truncated(f"element {element.tag:08X} ends in zeros: it is still being copied, or its copy stalled")
        if item.tag != _ITEM:
            raise MissingElement(f"element {element.tag:08X} holds something that is no item: the header is malformed")
        items += 1
        at = item.start + item.length if item.length != UNDEFINED else item.start
        if at > len(walk.data):
            raise Truncated(f"an item of element {element.tag:08X} reaches beyond the end of the file")
        if item.length == UNDEFINED:
            has_vr = walk.data[at + 4 : at + 6] in VRS and not is_length(walk.data, at, walk.endian)
            is_inside = is_implicit or (is_open and not has_vr)
            at = _item_end(walk, at, is_inside, depth)


def _item_end(walk: Walk, at: int, is_implicit: bool, depth: int) -> int:
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
