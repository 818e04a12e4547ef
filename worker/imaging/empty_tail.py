"""Whether pixels end in zeros as a stalled copy leaves them: a share may show a file at its full length, with zeros
where its bytes have not come yet. Knows bytes and rows, and no file."""

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
    held = np.frombuffer(data, f"u{sample_bytes}").reshape(rows, -1) != 0
    is_held = held.any(axis=1)
    last = int(np.flatnonzero(is_held)[-1]) if is_held.any() else -1
    below, above = rows - 1 - last, int((~is_held[: last + 1]).sum())
    if below > MOST_SHARE * rows:
        return True
    if below <= SAME_BORDER * above:
        return False
    if _is_cut(held[max(0, last - ROWS_ABOVE) : last + 1]):
        return True
    columns = np.flatnonzero(held.any(axis=0))
    beside = max(int(columns[0]), held.shape[1] - 1 - int(columns[-1]))
    return not is_padded_with_zero and below > max(LIKE_ABOVE * above, LIKE_BESIDE * beside)


def _is_cut(held: NDArray[np.bool_]) -> bool:
    """Whether the last of these rows begins as those above it do, and ends long before.

    Edges that run aslant (a turned collimator, a round field) move from row to row; they may move on as fast.
    """
    *above, last = ((int(at[0]), int(at[-1])) for at in map(np.flatnonzero, held) if len(at))
    if not above:
        return False
    starts, ends = np.array(above).T
    begins_as_usual = last[0] <= starts.max() + 2 * np.ptp(starts) + SLACK
    return bool(begins_as_usual and last[1] < ends.min() - 2 * np.ptp(ends) - SLACK)
