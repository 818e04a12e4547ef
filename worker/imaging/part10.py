"""DICOM as a container (PS3.10): whether a file is one, where its elements end, where its pixel data start.

`element_walk` finds the elements, so that a short file is detected first and pydicom parses only a complete header.
Knows the meaning of no element except the transfer syntax.
"""

import zlib
from dataclasses import dataclass, field
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from worker.errors import MissingElement, TooLarge, Truncated
from worker.imaging.element_walk import (
    FLOAT_PIXEL_DATA,
    PIXEL_DATA,
    Element,
    Walk,
    elements_of,
    encoding_of,
    is_items,
)
from worker.imaging.header import MALFORMED, Header
from worker.imaging.limits import Limits
from worker.imaging.unknown_vr import UNDEFINED, VRS

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"


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
    pixel_vr: bytes | None = None  #: None in implicit VR
    data: bytes = field(default=b"", repr=False)  #: inflated if it was deflated
    pixel_span: tuple[int, int] = (0, 0)  #: start and end of the pixel data's value in `data`
    is_encapsulated: bool = False  #: the pixel data are items, whatever the transfer syntax says
    missing_bytes: int = 0  #: of the pixel data's declared length
    ends_early: str | None = None
    is_known_whole: bool = False  #: its pixels are not in `data`, and known to have no zeros where a copy stalled

    @property
    def has_bytes_in_words(self) -> bool:
        """Whether samples of a byte lie two in a word of big endian (PS3.5 A.3)."""
        return not self.is_little_endian and self.pixel_vr == b"OW"

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
    start = 0 if is_forced else 132
    meta_end = _meta_end(data, start)
    meta = parse_elements(data[start:meta_end], is_implicit=False, is_little_endian=True)
    syntax = Header(meta).text("TransferSyntaxUID") or ""
    if syntax == DEFLATED_LITTLE and not looks_like_dicom(data[meta_end : meta_end + 16]):  # some only say so
        inflated, ends_early = _inflate(data[meta_end:], limits)
        return _open_data_set(inflated, 0, meta, syntax, is_forced, ends_early)
    return _open_data_set(data, meta_end, meta, syntax, is_forced, None)


def _meta_end(data: bytes, at: int) -> int:
    """Where the file meta information ends, group 0002 (PS3.10 7.1), whose first element is at this offset."""
    try:
        for element, end in elements_of(Walk(data, "<"), at, is_implicit=False):
            if element.tag >> 16 != 0x0002 or end > len(data):
                break
            at = end
    except Truncated:
        pass  # reading the data set, which starts here, finds the same end
    return at


def _open_data_set(data: bytes, at: int, meta: Dataset, syntax: str, is_forced: bool, ends_early: str | None) -> Part10:
    is_implicit, endian = encoding_of(data[at : at + 6])
    walk, is_little = Walk(data, endian), endian == "<"
    parts = _parts(walk, at, is_implicit)
    pixel, pixel_end = parts.pixel, parts.pixel_end
    found = EXPLICIT_LITTLE if is_little else EXPLICIT_BIG
    return Part10(
        meta=meta,
        dataset=_parsed(walk, (at, parts.header_end), parts.private, is_implicit),
        transfer_syntax_uid=syntax or (IMPLICIT_LITTLE if is_implicit else found),
        is_little_endian=is_little,
        is_forced=is_forced,
        pixel_tag=None if pixel is None else pixel.tag,
        pixel_vr=None if pixel is None else pixel.vr,
        data=data,
        pixel_span=(0, 0) if pixel is None else (pixel.start, min(pixel_end, len(data))),
        is_encapsulated=pixel is not None and (pixel.length == UNDEFINED or is_items(data, pixel, pixel_end, endian)),
        missing_bytes=max(0, pixel_end - len(data)),
        ends_early=ends_early or parts.ends_early,
    )


@dataclass
class _Parts:
    """The parts of a data set, as offsets."""

    header_end: int  #: of the elements before the pixel data
    private: list[tuple[int, int]] = field(default_factory=list)  #: spans of the private elements among them
    pixel: Element | None = None
    pixel_end: int = 0  #: as declared: it may lie beyond the data
    ends_early: str | None = None


def _parts(walk: Walk, at: int, is_implicit: bool) -> _Parts:
    """The parts of the data set whose first element is at this offset, as far as they are there."""
    parts = _Parts(header_end=at)
    try:
        for element, end in elements_of(walk, at, is_implicit):
            if parts.pixel is None and (element.tag == PIXEL_DATA or element.tag in FLOAT_PIXEL_DATA):
                parts.pixel, parts.pixel_end = element, end
            elif parts.pixel is not None and element.tag <= parts.pixel.tag:
                break  # tags must ascend (PS3.5 7.1): these are trailing bytes, not elements
            elif end > len(walk.data):
                raise Truncated(f"element {element.tag:08X} reaches beyond the end of the file")
            elif parts.pixel is None:
                if element.tag >> 16 & 1:
                    parts.private.append((parts.header_end, end))
                parts.header_end = end
    except Truncated as short:
        parts.ends_early = short.message
    return parts


def _parsed(walk: Walk, span: tuple[int, int], private: list[tuple[int, int]], is_implicit: bool) -> Dataset:
    """The elements of a span; without its private ones where pydicom cannot parse them, which nothing here reads."""
    try:
        return parse_elements(walk.known(*span), is_implicit, walk.endian == "<")
    except MissingElement:
        if not private:
            raise
        starts = [span[0], *(end for _, end in private)]
        ends = [*(start for start, _ in private), span[1]]
        public = b"".join(walk.known(start, end) for start, end in zip(starts, ends, strict=True) if start < end)
        return parse_elements(public, is_implicit, walk.endian == "<")


def parse_elements(data: bytes, is_implicit: bool, is_little_endian: bool) -> Dataset:
    """Whole elements as a data set, whose values are parsed on first use. Raises MissingElement."""
    try:
        return read_dataset(BytesIO(data), is_implicit, is_little_endian)
    except MALFORMED as error:
        raise MissingElement(f"the header cannot be parsed ({type(error).__name__}): it is malformed") from error


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
