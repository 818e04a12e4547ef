"""Whether pixels end in zeros, or hold some inside, as a stalled copy leaves them: a share may show a file at its full
length, with zeros where its bytes have not come yet. Knows bytes and rows, and no file."""

import numpy as np
from numpy.typing import NDArray

#: Note on an image whose pixels end so.
LOWER_PART_EMPTY = "lower_part_empty"

#: Fewer zeros at the end, as a share of the pixel bytes, say nothing.
LEAST_SHARE = 0.05

#: Where the rows below the last that holds something are more than this share, no border explains them.
MOST_SHARE = 0.9

#: The last row that holds something is compared with so many above it.
ROWS_ABOVE = 16

#: A row may end so many samples before those above it do.
SLACK = 2

#: How many times as wide as the empty rows above the picture, or as the empty columns beside it, the empty rows below
#: it may be for both to be one border; at the first, however its last row ends.
SAME_BORDER, LIKE_ABOVE, LIKE_BESIDE = 1.1, 2.0, 1.5

#: A field that narrows at its top, as a round one does, narrows as much at its bottom: over this share of the rows it
#: is at most so many times as wide there, unless less than a quarter of its width.
EDGE_SHARE, AS_NARROW, NARROW = 0.01, 2.0, 0.25

#: A copy brings, or leaves out, blocks of this size; and so many zeros more may belong to the codestream beside one.
_BLOCK, _MORE = 4096, 8


def ends_in_zeros(data: memoryview | bytes) -> bool:
    """Whether at least LEAST_SHARE of these bytes, at their end, are zero."""
    whole = np.frombuffer(data, np.uint8)
    return bool(len(whole)) and not whole[-max(1, int(np.ceil(len(whole) * LEAST_SHARE))) :].any()


def has_stalled(data: memoryview | bytes, rows: int, sample_bytes: int, *, is_padded_with_zero: bool = False) -> bool:
    """Whether the zeros at the end of uncompressed pixels begin inside a row, or below rows that have no such border.

    `data` holds `rows` rows of equal length, of samples of 1, 2 or 4 bytes. A border of zeros is ordinary: letterboxed
    and collimated images have one on another side too, padded ones may declare it (`is_padded_with_zero`).
    """
    if not ends_in_zeros(data):
        return False
    has_value = np.frombuffer(data, f"u{sample_bytes}").reshape(rows, -1) != 0
    is_used = has_value.any(axis=1)
    last = int(np.flatnonzero(is_used)[-1]) if is_used.any() else -1
    below, above = rows - 1 - last, int((~is_used[: last + 1]).sum())  # numbers of empty rows
    if below > MOST_SHARE * rows:
        return True
    if below <= SAME_BORDER * above:
        return False
    first = int(is_used.argmax())
    begins_late = first > 0 and _is_cut(has_value[first : first + ROWS_ABOVE + 1][::-1, ::-1])
    ends_early = _is_cut(has_value[max(0, last - ROWS_ABOVE) : last + 1])
    if ends_early and not begins_late:  # a picture that is turned does both
        return True
    if _is_cut_across(has_value[is_used]):
        return True
    columns = np.flatnonzero(has_value.any(axis=0))
    beside = max(int(columns[0]), has_value.shape[1] - 1 - int(columns[-1]))
    return not is_padded_with_zero and below > max(LIKE_ABOVE * above, LIKE_BESIDE * beside)


def has_hole(data: memoryview | bytes, rows: int, sample_bytes: int, offset: int) -> bool:
    """Whether zeros stand inside uncompressed pixels, or at their beginning, where a copy that brings its parts in any
    order has not brought one: rows without a value which begin and end inside a row, or where a block of the file does.

    `data` as of `has_stalled`, at this `offset` in the file. A border, or a band between two pictures, is ordinary: it
    begins and ends as the rows beside it do.
    """
    samples = np.frombuffer(data, f"u{sample_bytes}").reshape(rows, -1)
    sampled = sampled_rows(rows)
    if samples[sampled.start :: sampled.step].any(axis=1).all():
        return False
    has_value = samples != 0
    is_used = np.concatenate(([True], has_value.any(axis=1), [True]))
    begins, ends = (np.flatnonzero(np.diff(is_used.astype(np.int8)) == step) for step in (-1, 1))
    return any(
        _is_hole(has_value, int(first), int(end), sample_bytes, offset)
        for first, end in zip(begins, ends, strict=True)
        if LEAST_SHARE * rows <= end - first and end < rows
    )


def sampled_rows(rows: int) -> range:
    """The rows of which each holds a value if there is no hole as large as `has_hole` finds."""
    return range(0, rows, max(1, int(LEAST_SHARE * rows / 2)))


def _is_hole(has_value: NDArray[np.bool_], first: int, end: int, sample_bytes: int, offset: int) -> bool:
    """Whether the empty rows from `first` on, before `end`, are a hole: each of its ends lies inside a row or at a
    block, and one of them inside a row."""
    columns = has_value.shape[1]
    above, below = has_value[max(0, first - ROWS_ABOVE - 1) : first], has_value[end : end + ROWS_ABOVE + 1]
    begins_inside, ends_inside = first > 0 and _is_cut(above), _is_cut(below[::-1, ::-1])
    start = 0 if not first else (first - 1) * columns + int(np.flatnonzero(has_value[first - 1])[-1]) + 1
    stop = end * columns + int(np.flatnonzero(has_value[end])[0])
    begins_at_block = -(offset + start * sample_bytes) % _BLOCK < _MORE
    ends_at_block = (offset + stop * sample_bytes) % _BLOCK < _MORE
    if not (begins_inside or begins_at_block) or not (ends_inside or ends_at_block):
        return False
    return begins_inside or ends_inside


def has_empty_block(data: bytes, start: int, end: int) -> bool:
    """Whether zeros stand in `data[start:end]` from the beginning of one block of the file to the end of another.

    Codestreams of flat pictures hold zeros too, and they end anywhere.
    """
    blocks = range(-(-start // _BLOCK) * _BLOCK, end - _BLOCK + 1, _BLOCK)
    empty = [at for at in blocks if not any(data[at : at + _BLOCK])]
    for first in (at for at in empty if at - _BLOCK not in empty):
        last = next(at for at in empty if at >= first and at + _BLOCK not in empty) + _BLOCK
        if any(data[max(start, first - _MORE) : first]) and any(data[last : min(end, last + _MORE)]):
            return True
    return False


def _is_cut_across(has_value: NDArray[np.bool_]) -> bool:
    """Whether these rows narrow at the top and end wide, as a round field does whose lower part is missing."""
    edge = int(EDGE_SHARE * len(has_value))
    if edge < ROWS_ABOVE // 4:
        return False  # too few rows to tell an edge from chance
    widths = has_value.shape[1] - has_value.argmax(axis=1) - has_value[:, ::-1].argmax(axis=1)
    top, bottom = float(widths[:edge].mean()), float(widths[-edge:].mean())
    return bottom > max(AS_NARROW * top, NARROW * float(widths.max()))


def _is_cut(has_value: NDArray[np.bool_]) -> bool:
    """Whether the last of these rows begins as those above it do, and ends long before.

    Edges that run aslant (a turned collimator, a round field) move from row to row; they may move on as fast.
    """
    *above, last = ((int(at[0]), int(at[-1])) for at in map(np.flatnonzero, has_value) if len(at))
    if not above:
        return False
    starts, ends = np.array(above).T
    begins_as_usual = last[0] <= starts.max() + 2 * np.ptp(starts) + SLACK
    return bool(begins_as_usual and last[1] < ends.min() - 2 * np.ptp(ends) - SLACK)
