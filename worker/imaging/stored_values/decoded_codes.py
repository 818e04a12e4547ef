"""The pixels of one frame after decoding, before colour becomes grey. Knows neither how they were stored nor shown."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class DecodedCodes:
    """Codes [H, W] or [H, W, 3] without other bits, in an unsigned container."""

    codes: NDArray[Any]
    bits: int  #: how many of each code count
    notes: tuple[str, ...]  #: what was assumed
    is_signed: bool  #: whether the codes are two's complements
    is_rgb: bool = False  #: the decoder gave RGB, whatever the photometric interpretation
    level: int = 0  #: how often the picture was halved while it was decoded
