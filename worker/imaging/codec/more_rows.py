"""Whether the data of a JPEG hold more rows than its frame header says. Decoders leave these out without a word.

The picture is decoded with some rows more. Where the data have ended, libjpeg fills these up with one value; the last
bits before the end may still give the beginning of the first of them. Fewer columns than there are show in the same
way: what is left of each row becomes further rows. Decodes nothing itself.
"""

from typing import Any

from numpy.typing import NDArray

from worker.imaging.codec.codestream import Codestream, Coding

#: Rows of coded units (ISO 10918-1 A.2) that are decoded below the picture: the first may begin with the last bits.
_UNITS_BELOW = 2

#: The last bits before the end, seven at most, give less than a row of so many units.
_LEAST_UNITS = 12

#: libjpeg decodes no higher picture (jmorecfg.h).
_HIGHEST = 65_500


def rows_below(stream: Codestream) -> int:
    """How many rows to decode below the picture; 0 where they would tell nothing.

    Arithmetic codes go on for ever, and of four components decoders make other values.
    """
    if stream.coding not in (Coding.JPEG, Coding.JPEG_LOSSLESS) or stream.is_arithmetic or stream.samples > 3:
        return 0
    if stream.columns < _LEAST_UNITS * stream.unit_rows:
        return 0
    below = -stream.rows % max(stream.unit_rows, 1) + _UNITS_BELOW * stream.unit_rows
    return below if stream.rows + below <= _HIGHEST else 0


def has_more_rows(taller: NDArray[Any], stream: Codestream, level: int = 0) -> bool:
    """Whether the last row of units of a picture with `rows_below` holds something that the decoder did not fill in.

    The picture was halved `level` times while it was decoded.
    """
    half_unit = stream.unit_rows // 2 >> level  # colours run half a unit into the next
    last = taller[len(taller) - max(1, half_unit) :]
    return bool((last != 1 << (stream.precision - 1)).any())
