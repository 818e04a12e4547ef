"""Numbers of a file that hold no anatomy. One that predicts the label is a shortcut that a network could learn.

Each is measured by the AUC that it reaches alone. Far from 0.5, the file predicts the class without the chest.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.statistics.metrics import Measured, roc_auc

#: An AUC this far from 0.5 gives a warning, if its interval does not contain 0.5.
MARGIN = 0.2

#: Share of the side that counts as border.
BORDER_SHARE = 0.05

#: Sum of the luminance table of quality 50 (ITU-T T.81, table K.1).
_STANDARD_TABLE_SUM = 3688

Probes = dict[str, float]


def probe(content: bytes, pixels: NDArray[np.uint8]) -> Probes:
    """The numbers of one file with these bytes and display values [H, W]; NaN where the file has no such number."""
    height, width = pixels.shape
    edge = max(1, round(min(height, width) * BORDER_SHARE))
    inside = pixels[edge:-edge, edge:-edge]
    border = (float(pixels.sum(dtype=np.int64)) - float(inside.sum(dtype=np.int64))) / (pixels.size - inside.size)
    table = quantisation_table(content)
    return {
        "file size": float(len(content)),
        "bytes per pixel": len(content) / pixels.size,
        "resolution": float(pixels.size),
        "aspect ratio": width / height,
        "file is a JPEG": float(content.startswith(b"\xff\xd8")),
        "JPEG quality": math.nan if table is None else quality_of(table),
        "mean grey": float(pixels.mean()),
        "border grey": border,
    }


def separations(labels: NDArray[np.int64], probes: Sequence[Probes]) -> dict[str, Measured]:
    """AUC of each number over the files that have it; a number that is the same everywhere is left out."""
    found: dict[str, Measured] = {}
    if not probes:
        return found
    for name in probes[0]:
        values = np.array([row[name] for row in probes], np.float64)
        known = ~np.isnan(values)
        if len(np.unique(labels[known])) == 2 and len(np.unique(values[known])) > 1:
            found[name] = roc_auc(labels[known], values[known])
    return found


def is_shortcut(auc: Measured) -> bool:
    """Whether the number alone separates the classes, by more than chance explains at this number of images."""
    return abs(auc.value - 0.5) > MARGIN and not auc.low <= 0.5 <= auc.high


def separation(auc: Measured) -> str:
    """The AUC in words, always 0.5 or more: "0.900, reversed" where small numbers are the pneumonias."""
    return f"{auc.value:.3f}" if auc.value >= 0.5 else f"{1 - auc.value:.3f}, reversed"


def quantisation_table(content: bytes) -> NDArray[np.int64] | None:
    """The first quantisation table [64] of a JPEG stream (ITU-T T.81 B.2.4.1), or None where there is none."""
    if not content.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == 0xDB:
            is_wide = content[at + 4] >> 4
            values = np.frombuffer(content, ">u2" if is_wide else np.uint8, 64, at + 5)
            return values.astype(np.int64)
        if marker == 0xDA or length < 2:
            return None
        at += 2 + length
    return None


def quality_of(table: NDArray[np.int64]) -> float:
    """The quality, 1 to 100, at which the Independent JPEG Group's encoder makes a table of about this sum."""
    scale = 100 * float(table.sum()) / _STANDARD_TABLE_SUM
    return 5000 / scale if scale > 100 else (200 - scale) / 2
