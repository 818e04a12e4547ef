"""The smallest size at which a picture may be decoded, and the lowest resolution of a codestream that is large enough.

JPEG 2000 and HTJ2K hold the picture at 1/2 of its size, 1/4 and so on; JPEG's cosine transform can be inverted at 1/2,
1/4 and 1/8. Knows no decoders.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.imaging.codec.codestream import Codestream, Coding
from worker.imaging.pyramid import Pyramid, size_of

#: ISO 10918-1: blocks of 8 px, so an eighth is their mean. Only 8-bit JPEG: no decoder of 12 bits offers it.
JPEG_LEVELS = 3


@dataclass(frozen=True)
class MinimumSize:
    """The smallest size that is enough, and the codings that may be decoded at less than their full size."""

    short_px: int
    long_px: int
    codings: frozenset[Coding]

    def level(self, stream: Codestream) -> int:
        """How often the picture may be halved; 0: decode it in full."""
        deepest = _levels_of(stream) if stream.coding in self.codings else 0
        return max((level for level in range(1, deepest + 1) if self._holds_at(level, stream)), default=0)

    def _holds_at(self, level: int, stream: Codestream) -> bool:
        short, long = sorted(size_at(level, stream))
        return short >= self.short_px and long >= self.long_px

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the decoder child."""
        return {"short_px": self.short_px, "long_px": self.long_px, "codings": sorted(self.codings)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "MinimumSize":
        """Inverse of `to_json`."""
        return cls(values["short_px"], values["long_px"], frozenset(map(Coding, values["codings"])))


#: At which resolution a file is read: at any that is large enough, or at that of a model's pyramid.
Reduction = MinimumSize | Pyramid


def reduction_of(values: Mapping[str, Any]) -> Reduction:
    """Inverse of the `to_json` of either."""
    return Pyramid.from_json(values) if "grid_px" in values else MinimumSize.from_json(values)


def size_at(level: int, stream: Codestream) -> tuple[int, int]:
    """(rows, columns) after `level` halvings, each rounded up (ISO 15444-1 B.5, libjpeg's jdmaster.c)."""
    return size_of(level, stream.rows), size_of(level, stream.columns)


def _levels_of(stream: Codestream) -> int:
    if stream.coding is Coding.JPEG_2000:
        return stream.levels
    return JPEG_LEVELS if stream.coding is Coding.JPEG and stream.precision == 8 else 0
