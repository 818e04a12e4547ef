"""DICOM as a container (PS3.10): whether a file is one, where its elements end, where its pixel data start.

Walks over the bytes element by element, so that a short file is detected first and pydicom parses only a complete
header. Knows the meaning of no element except the transfer syntax.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from struct import pack, unpack_from

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from worker.errors import MissingElement, TooLarge, Truncated
from worker.imaging.header import MALFORMED, Header
from worker.imaging.limits import Limits
from worker.imaging.unknown_vr import LONG_VRS, VRS, known_as

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"

PIXEL_DATA = 0x7FE00010
FLOAT_PIXEL_DATA = frozenset({0x7FE00008, 0x7FE00009})
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF

#: Deepest nesting of sequences. A deeper one is no radiograph and could overflow the stack.
_MAX_DEPTH = 16

#: Elements, items and fragments of one object. A radiograph has some hundreds; each takes microseconds to walk over and
#: half a kilobyte once parsed, and a deflated file of four megabytes can hold millions.
MAX_ELEMENTS = 100_000

#: So many zeros at the end of a file are padding; more stand where a copy has not brought its bytes yet.
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
    renamed: dict[int, Element] = field(default_factory=dict)  #: offset of an unknown VR -> the element, read as UN

    @cached_property
    def zeros_from(self) -> int:
        """From which offset on there are only zeros. Found once: a hostile header may ask at each of its elements."""
        end = len(self.data)
        while end > 0 and not any(piece := self.data[max(0, end - MOST_PADDING) : end]):
            end -= len(piece)
        return end - len(piece) + len(piece.rstrip(b"\0")) if end > 0 else 0

    def known(self, start: int, end: int) -> bytes:
        """A span of the data, in which the elements of unknown VRs are written as those of UN, which pydicom reads."""
        span = bytearray()
        for at, element in self.renamed.items():
            if start <= at and element.start <= end:
                span += self.data[start:at] + pack(f"{self.endian}2sHI", b"UN", 0, element.length)
                start = element.start
        return bytes(span) + self.data[start:end]

    def count(self) -> None:
        """Count one more element; raises TooLarge when there are too many."""
        self.left -= 1
        if self.left < 0:
            raise TooLarge(f"the object holds more than {MAX_ELEMENTS:,} elements and items: it is no radiograph")


@dataclass(frozen=True)
class Part10:
    """One opened DICOM object. `ends_early` says where a file ends too early."""

    meta: Dataset = field(repr=False)  #: group 0002
    #: Everything before the pixel data; values are parsed on first use. No repr, because it identifies the patient.
    dataset: Dataset = field(repr=False)
    transfer_syntax_uid: str  #: as declared; detected from the bytes when the file declares none
    is_little_endian: bool
    is_forced: bool  #: neither preamble nor `DICM`
    pixel_tag: int | None = None
    data: bytes = field(default=b"", repr=False)  #: inflated if it was deflated
    pixel_span: tuple[int, int] = (0, 0)  #: start and end of the pixel data's value in `data`
    is_encapsulated: bool = False  #: the pixel data are items, whatever the transfer syntax says
    missing_bytes: int = 0  #: of the pixel data's declared length
    ends_early: str | None = None
    is_known_whole: bool = False  #: its pixels are not in `data`, and known to have no zeros where a copy stalled

    @property
    def pixel_data(self) -> memoryview:
        """The value of the pixel data element, not copied."""
        start, end = self.pixel_span
        return memoryview(self.data)[start:end]


def looks_like_dicom(data: bytes) -> bool:
    """`DICM` at byte 128 (PS3.10 7.1), or a plausible first element of group 0002 or 0008 at byte 0."""
    if data[128:132] == b"DICM":
        return True
    if len(data) < 16:
        return False
    if data[:2] in (b"\x02\x00", b"\x08\x00"):
        length = int.from_bytes(data[4:8], "little")
        return data[4:6] in VRS or (length <= 1024 and length % 2 == 0)
    return data[:2] == b"\x00\x08" and data[4:6] in VRS


def open_part10(data: bytes, limits: Limits) -> Part10:
    """Find header and pixel data. A file that ends early gives the part that is present.

    Raises MissingElement (sequences nested too deep), TooLarge (a deflated data set that grows beyond the limits, or
    too many elements).
    """
    is_forced = data[128:132] != b"DICM"
    start = at = 0 if is_forced else 132
    ends_early = None
    try:
        for element, end in elements_of(Walk(data, "<"), at, is_implicit=False):
            if element.tag >> 16 != 0x0002 or end > len(data):
                break
            at = end
    except Truncated:
        pass  # reading the body, which starts here, finds the same end
    meta = parse_elements(data[start:at], is_implicit=False, is_little_endian=True)
    syntax = Header(meta).text("TransferSyntaxUID") or ""
    if syntax == DEFLATED_LITTLE:
        data, ends_early = _inflate(data[at:], limits)
        at = 0
    return _open_body(data, at, meta, syntax, is_forced, ends_early)


def _open_body(data: bytes, at: int, meta: Dataset, syntax: str, is_forced: bool, ends_early: str | None) -> Part10:
    is_implicit, endian = encoding_of(data[at : at + 6])
    header_end, pixel, pixel_end = at, None, at
    walk = Walk(data, endian)
    try:
        for element, end in elements_of(walk, at, is_implicit):
            if pixel is None and (element.tag == PIXEL_DATA or element.tag in FLOAT_PIXEL_DATA):
                pixel, pixel_end = element, end
            elif pixel is not None and element.tag <= pixel.tag:
                break  # tags must ascend (PS3.5 7.1): these are trailing bytes, not elements
            elif end > len(data):
                raise Truncated(f"element {element.tag:08X} reaches beyond the end of the file")
            elif pixel is None:
                header_end = end
    except Truncated as short:
        ends_early = ends_early or short.message
    is_little = endian == "<"
    found = EXPLICIT_LITTLE if is_little else EXPLICIT_BIG
    return Part10(
        meta=meta,
        dataset=parse_elements(walk.known(at, header_end), is_implicit, is_little),
        transfer_syntax_uid=syntax or (IMPLICIT_LITTLE if is_implicit else found),
        is_little_endian=is_little,
        is_forced=is_forced,
        pixel_tag=None if pixel is None else pixel.tag,
        data=data,
        pixel_span=(0, 0) if pixel is None else (pixel.start, min(pixel_end, len(data))),
        is_encapsulated=pixel is not None and (pixel.length == _UNDEFINED or _is_items(data, pixel, pixel_end, endian)),
        missing_bytes=max(0, pixel_end - len(data)),
        ends_early=ends_early,
    )


def _is_items(data: bytes, pixel: Element, end: int, endian: str) -> bool:
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


def parse_elements(data: bytes, is_implicit: bool, is_little_endian: bool) -> Dataset:
    try:
        return read_dataset(BytesIO(data), is_implicit, is_little_endian)
    except MALFORMED as error:
        raise MissingElement(f"the header cannot be parsed ({type(error).__name__}): it is malformed") from error


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
    if is_named and vr not in VRS and (known := known_as(data, at, endian)) is not None:
        return walk.renamed.setdefault(at + 4, Element(tag, b"UN", known.start, known.length))
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
    if element.length != _UNDEFINED:
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
        at = item.start + item.length if item.length != _UNDEFINED else item.start
        if at > len(walk.data):
            raise Truncated(f"an item of element {element.tag:08X} reaches beyond the end of the file")
        if item.length == _UNDEFINED:
            is_inside = is_implicit or (is_open and walk.data[at + 4 : at + 6] not in VRS)
            at = _item_end(walk, at, is_inside, depth)


def _item_end(walk: Walk, at: int, is_implicit: bool, depth: int) -> int:
    while True:
        element = _element(walk, at, is_implicit)
        if element.tag == _ITEM_END:
            return element.start
        at = _value_end(walk, element, is_implicit, depth + 1)


def encoding_of(first: bytes) -> tuple[bool, str]:
    """(is implicit VR, struct's byte order) from the first element: files that declare another encoding exist."""
    # groups of a data set's first element are small: their first byte is zero only in big endian
    endian = ">" if len(first) >= 2 and first[0] == 0 and first[1] != 0 else "<"
    return first[4:6] not in VRS, endian


def _inflate(deflated: bytes, limits: Limits) -> tuple[bytes, str | None]:
    """Inflate a deflated data set (PS3.5 A.5) up to the limits: (data set, where it ends too early).

    Some writers wrap it as zlib does (RFC 1950), which the Standard forbids.
    """
    bound = limits.max_pixel_bytes + limits.max_header_bytes
    is_wrapped = len(deflated) > 1 and deflated[0] & 15 == 8 and (deflated[0] << 8 | deflated[1]) % 31 == 0
    inflater = zlib.decompressobj(zlib.MAX_WBITS if is_wrapped else -zlib.MAX_WBITS)
    try:
        data = inflater.decompress(deflated, bound)
    except zlib.error as error:
        return b"", f"the deflated data set is broken ({error})"
    if inflater.unconsumed_tail:
        raise TooLarge(f"the deflated data set grows beyond {bound / 2**20:,.0f} MiB")
    return data, None if inflater.eof else "the deflated data set ends early"
