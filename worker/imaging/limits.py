"""How much memory one file may need before it is rejected. Knows numbers, no formats."""

from dataclasses import dataclass

from worker.errors import TooLarge


@dataclass(frozen=True)
class Limits:
    """Bounds that are checked against a header before memory is allocated for its pixels."""

    #: Rows x Columns x Samples x Frames x bytes per sample of the decoded image. The largest detectors give 40 MB.
    max_pixel_bytes: int = 512 * 1024 * 1024
    #: Bytes that an inflated data set may hold in addition to its pixels.
    max_header_bytes: int = 64 * 1024 * 1024

    def admit(self, rows: int, columns: int, samples: int = 1, frames: int = 1, bits: int = 8) -> None:
        """Raise TooLarge when an image of this size would take more than `max_pixel_bytes`."""
        needed = rows * columns * samples * frames * max(1, bits // 8)
        if needed > self.max_pixel_bytes:
            raise TooLarge(
                f"{columns} x {rows} px x {samples} samples x {frames} frames take {needed / 2**20:,.0f} MiB,"
                f" the limit is {self.max_pixel_bytes / 2**20:,.0f} MiB: raise SCREENING_MAX_PIXEL_MIB to admit it"
            )


#: The limits used when the caller gives none.
DEFAULT = Limits()
