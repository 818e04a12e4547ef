"""The header pass of an ordinary uncompressed object, which reads its first bytes and some of its rows and no more.

It answers only where `read_instance` of the whole file would give the same Instance; for every other file, and for each
fault, it gives None, and the file must be read whole.
"""

from collections.abc import Callable
from dataclasses import replace

from worker.errors import Rejected
from worker.imaging.element_walk import (
    FLOAT_PIXEL_DATA,
    PIXEL_DATA,
    Element,
    Walk,
    elements_of,
    encoding_of,
)
from worker.imaging.header import Header
from worker.imaging.header_pass import admitted_instance
from worker.imaging.instance import Instance
from worker.imaging.lenient_pydicom import lenient_pydicom
from worker.imaging.limits import Limits
from worker.imaging.part10 import EXPLICIT_LITTLE, Part10, parse_elements
from worker.imaging.stored_values.image_pixel import ImagePixel, read_image_pixel
from worker.imaging.stored_values.stalled_copy import LEAST_SHARE, sampled_rows

#: This much of a file is read for its header. If the header is larger, the file is read whole.
FIRST_BYTES = 1 << 16

#: The last bytes of the pixels, of which one must not be zero; `ends_in_zeros` looks at more.
LAST_BYTES = 1 << 12

#: Where the file meta information begins, its group (PS3.10 7.1), and the bytes of the group of items.
START, META_GROUP, ITEM_GROUP = 132, 0x0002, b"\xfe\xff"

#: Reads bytes: offset, number of bytes.
ReadAt = Callable[[int, int], bytes]


def read_from_first_bytes(read_at: ReadAt, size: int, limits: Limits) -> Instance | None:
    """The Instance of a file of this size; None when its first bytes do not say enough."""
    with lenient_pydicom():
        try:
            part10 = _open(read_at(0, min(FIRST_BYTES, size)), size)
            if part10 is None:
                return None
            header = Header(part10.dataset)
            pixel = read_image_pixel(header)
            if not _is_ordinary(part10, pixel) or not _holds_values(part10, pixel, read_at):
                return None
            return admitted_instance(replace(part10, is_known_whole=True), header, pixel, limits)
        except Rejected:
            return None


def _open(head: bytes, size: int) -> Part10 | None:
    """An object in explicit VR little endian whose pixel data end the file; they are not in its `data`."""
    meta_end, header_end, pixel = _walk(head)
    if pixel is None or pixel.vr not in (b"OB", b"OW") or pixel.start + pixel.length != size:
        return None
    is_encapsulated = head[pixel.start : pixel.start + 2] == ITEM_GROUP
    if encoding_of(head[meta_end : meta_end + 6]) != (False, "<") or is_encapsulated:
        return None
    meta = parse_elements(head[START:meta_end], is_implicit=False, is_little_endian=True)
    if Header(meta).text("TransferSyntaxUID") != EXPLICIT_LITTLE:
        return None
    dataset = parse_elements(head[meta_end:header_end], is_implicit=False, is_little_endian=True)
    return Part10(
        meta, dataset, EXPLICIT_LITTLE, is_little_endian=True, is_forced=False, pixel_tag=PIXEL_DATA,
        pixel_span=(pixel.start, size),
    )  # fmt: skip


def _walk(head: bytes) -> tuple[int, int, Element | None]:
    """Where the file meta information ends, where the data set's elements before the pixel data end, and those."""
    meta_end = at = START
    if head[128:132] != b"DICM":
        return meta_end, at, None
    walk = Walk(head, "<")
    for element, end in elements_of(walk, START, is_implicit=False):
        if element.tag == PIXEL_DATA and not walk.renamed:
            return meta_end, at, element
        if end > len(head) or element.tag == 0 or element.tag in FLOAT_PIXEL_DATA:
            break
        if element.tag >> 16 == META_GROUP and at == meta_end:
            meta_end = end
        at = end
    return meta_end, at, None


def _is_ordinary(part10: Part10, pixel: ImagePixel) -> bool:
    """One frame of one sample of whole bytes, of just the length that the header says."""
    if (
        (pixel.samples, pixel.frames) != (1, 1)
        or pixel.bits_allocated not in (8, 16, 32)
        or min(pixel.rows, pixel.columns) < 1
    ):
        return False
    start, end = part10.pixel_span
    return pixel.frame_bytes % pixel.rows == 0 and end - start - pixel.frame_bytes in (0, 1)


def _holds_values(part10: Part10, pixel: ImagePixel, read_at: ReadAt) -> bool:
    """Whether neither `has_hole` nor `ends_in_zeros` would look at other rows than these."""
    start, length = part10.pixel_span[0], pixel.frame_bytes // pixel.rows
    last = min(LAST_BYTES, int(pixel.frame_bytes * LEAST_SHARE))
    if not any(read_at(start + pixel.frame_bytes - last, last)):
        return False
    empty = bytes(length)
    rows = (read_at(start + row * length, length) for row in sampled_rows(pixel.rows))
    return all(len(row) == length and row != empty for row in rows)
