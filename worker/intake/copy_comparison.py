"""Compares a file with accepted copies of its image: which of them have its pixels, and how its header corrects theirs.

Reads them from the store. Knows no rows, and decides nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from worker.decoding.decoder import Decoder
from worker.decoding.pool import DecoderPool
from worker.errors import Rejected
from worker.imaging.limits import Limits
from worker.intake.header_differences import correction_of
from worker.ledger.intake.arrivals import AcceptedCopy, Correction
from worker.store import Store
from worker.store.fetch import fetch

#: Number of files whose pixel digests are remembered, 200 bytes each.
KNOWN_PIXELS_MAX = 50_000


@dataclass(frozen=True)
class CopyComparison:
    """Compares files that have other bytes and one SOP Instance UID."""

    store: Store
    decoder: Decoder | DecoderPool
    limits: Limits
    known_pixels: dict[str, str] = field(repr=False)  #: digest of a file -> digest of its stored values

    def with_same_pixels(self, copies: Sequence[AcceptedCopy], own: AcceptedCopy) -> list[AcceptedCopy]:
        """Those of these copies that the store still has, and whose pixels are those of `own`."""
        if not copies:
            return []
        pixels = self._pixels_of(own)
        if pixels is None:
            return []  # not decodable, so it counts as other pixels
        return [copy for copy in copies if self._pixels_of(copy) == pixels and self._is_held(copy)]

    def correction(self, same: Sequence[AcceptedCopy], own: AcceptedCopy) -> Correction | None:
        """How a file corrects the copy that counts of those with the same pixels."""
        if not same:
            return None
        copy, later = (fetch(self.store, each.digest, each.left_at) for each in (same[0], own))
        return correction_of(copy, same[0].digest, later, self.decoder, self.limits)

    def is_whole_of(self, whole: AcceptedCopy, stalled: AcceptedCopy) -> bool:
        """Whether one file has what the other has before its zeros, and is not stalled itself."""
        if whole.is_stalled or not stalled.is_stalled:
            return False
        try:
            held, begun = (fetch(self.store, copy.digest, copy.left_at) for copy in (whole, stalled))
        except Rejected:
            return False
        return len(held) == len(begun) and held.startswith(begun.rstrip(b"\0"))

    def _is_held(self, copy: AcceptedCopy) -> bool:
        """Whether the bytes of a copy still exist: its pixels may be known from an earlier decode."""
        try:
            fetch(self.store, copy.digest, copy.left_at)
        except Rejected:
            return False
        return True

    def _pixels_of(self, copy: AcceptedCopy) -> str | None:
        """Digest of a file's stored values, None where they cannot be decoded. Each file is decoded once, as some
        stations give all images one UID."""
        if copy.digest not in self.known_pixels:
            if len(self.known_pixels) >= KNOWN_PIXELS_MAX:
                self.known_pixels.clear()
            try:
                content = fetch(self.store, copy.digest, copy.left_at)
                self.known_pixels[copy.digest] = self.decoder.stored_digest(content, self.limits)
            except Rejected:
                return None
        return self.known_pixels[copy.digest]
