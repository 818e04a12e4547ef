"""Whether the pixel data of an object are all there: to their end, and without zeros where a copy has not brought them.

Knows no values but zero.
"""

from worker.imaging.element_walk import MOST_PADDING
from worker.imaging.header import Header
from worker.imaging.part10 import Part10
from worker.imaging.stored_values.image_pixel import ImagePixel
from worker.imaging.stored_values.pixel_data import holds_codestream
from worker.imaging.stored_values.stalled_copy import ends_in_zeros, has_empty_block, has_hole, has_stalled


def has_stalled_rows(part10: Part10, pixel: ImagePixel, header: Header) -> bool:
    """Whether uncompressed pixels end as those of a stalled copy do."""
    if part10.is_known_whole:
        return False
    laid_out = _frame_rows(part10, pixel)
    if laid_out is None:
        return False
    lowest, highest = (header.integer(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit"))
    is_padded = False
    if lowest is not None:
        first, last = sorted((lowest, highest or lowest))
        is_padded = first <= 0 <= last
    return has_stalled(*laid_out, pixel.bits_allocated // 8, is_padded_with_zero=is_padded)


def _frame_rows(part10: Part10, pixel: ImagePixel) -> tuple[memoryview, int] | None:
    """The bytes of the frame and their number of rows, if they are uncompressed samples of whole bytes."""
    if pixel.bits_allocated not in (8, 16, 32) or min(pixel.rows, pixel.columns, pixel.samples) < 1:
        return None
    if holds_codestream(part10, pixel):
        return None
    rows = pixel.rows * (pixel.samples if pixel.is_planar and not pixel.is_subsampled else 1)
    return part10.pixel_data[: pixel.frame_bytes], rows


def where_it_ends_early(part10: Part10, pixel: ImagePixel) -> str | None:
    """A text that says where the object ends too early; None when it is complete."""
    if part10.missing_bytes:
        needed = pixel.frame_bytes * pixel.frames
        if part10.is_encapsulated or part10.pixel_span[1] - part10.pixel_span[0] < needed or needed == 0:
            return f"the file ends {part10.missing_bytes:,} bytes before its pixel data do"
        return None  # all pixels are present; only padding is missing
    if part10.ends_early is not None:
        return part10.ends_early
    if part10.pixel_tag is not None and not part10.is_known_whole:
        return _stalled_codestream(part10, pixel) or _hole(part10, pixel)
    return None if part10.is_known_whole or len(part10.dataset) else "the file ends before its data set begins"


def _hole(part10: Part10, pixel: ImagePixel) -> str | None:
    """A text that says that zeros stand inside the pixel data; None when they do not."""
    laid_out = _frame_rows(part10, pixel)
    if laid_out is not None:
        has = pixel.frames == 1 and has_hole(*laid_out, pixel.bits_allocated // 8, part10.pixel_span[0])
    else:
        has = holds_codestream(part10, pixel) and has_empty_block(part10.data, *part10.pixel_span)
    return "zeros stand inside its picture: a part of it is still being copied, or was lost" if has else None


def _stalled_codestream(part10: Part10, pixel: ImagePixel) -> str | None:
    """A text that says that zeros stand in place of the end of a codestream (FFD9); None when they do not."""
    if not holds_codestream(part10, pixel) or not ends_in_zeros(part10.pixel_data):
        return None
    held = bytes(part10.pixel_data).rstrip(b"\0")
    is_padding = len(part10.pixel_data) - len(held) <= MOST_PADDING or held.endswith(b"\xff\xd9")
    return None if is_padding else "zeros stand where its codestream should go on: its copy stalled, or goes on"
