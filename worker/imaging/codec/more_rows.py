"""Whether the data of a JPEG hold more rows than its frame header says. Decoders leave these out without a word.

The picture is decoded with some rows more. Where the data have ended, libjpeg fills these up with one value; the last
bits before the end may still give the beginning of the first of them. Fewer columns than there are show in the same
way: what is left of each row becomes further rows. Decodes nothing itself.
"""

from typing import Any

from numpy.typing import NDArray

from worker.imaging.codec.codestream import Codestream, Coding

#: Rows of MCUs (ISO 10918-1 A.2) that are decoded below the picture: the first may begin with the last bits.
_MCU_ROWS_BELOW = 2

#: The last bits before the end, seven at most, give less than a row of so many MCUs.
_LEAST_MCUS = 12

#: libjpeg decodes no higher picture (jmorecfg.h).
_HIGHEST = 65_500


def rows_below(stream: Codestream) -> int:
    """How many rows to decode below the picture; 0 where they would tell nothing.

    Arithmetic codes go on for ever, and of four components decoders make other values.
    """
    if stream.coding not in (Coding.JPEG, Coding.JPEG_LOSSLESS) or stream.is_arithmetic or stream.samples > 3:
        return 0
    if stream.columns < _LEAST_MCUS * stream.mcu_height:
        return 0
    below = -stream.rows % max(stream.mcu_height, 1) + _MCU_ROWS_BELOW * stream.mcu_height
    return below if stream.rows + below <= _HIGHEST else 0


def with_height(data: bytes, stream: Codestream, rows: int) -> bytes:
    """A JPEG with this height in its frame header, where decoders look for it; any other codestream as it is."""
    height = rows.to_bytes(2, "big")
    if not stream.height_at or data[stream.height_at : stream.height_at + 2] == height:
        return data
    return data[: stream.height_at] + height + data[stream.height_at + 2 :]


def has_more_rows(taller: NDArray[Any], stream: Codestream, level: int = 0) -> bool:
    """Whether the last row of MCUs of a picture with `rows_below` holds something that the decoder did not fill in.

    The picture was halved `level` times while it was decoded.
    """
    half_mcu = stream.mcu_height // 2 >> level  # colours run half an MCU into the next
    last = taller[len(taller) - max(1, half_mcu) :]
    filled_in = 1 << (stream.precision - 1)
    return bool((last != filled_in).any())
