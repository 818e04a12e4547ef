"""Several decoder children, for several images at a time. Each image uses its own child: a crash affects no other."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import LifoQueue
from typing import Self

from worker.decoding.decoder import Decoder
from worker.imaging.codec.resolution import Reduction
from worker.imaging.display.pipeline import Display, StoredValues
from worker.imaging.image_file import OpenImage
from worker.imaging.limits import Limits
from worker.settings import Settings


class DecoderPool:
    """A `Decoder` for as many threads as there are children; further threads wait until a child is free.

    Deadline and memory limit apply to each child.
    """

    def __init__(self, decoders: Sequence[Decoder]) -> None:
        self._all = tuple(decoders)
        # the last one used is used next: its caches are warm, and unused children are not started
        self._free = LifoQueue[Decoder]()
        for decoder in reversed(self._all):
            self._free.put(decoder)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As many children as studies are screened at a time."""
        return cls([Decoder.of(settings) for _ in range(settings.studies_at_once)])

    def start(self) -> None:
        """Start every child without waiting."""
        for decoder in self._all:
            decoder.start()

    def prove(self) -> None:
        """Start every child and wait until it answers; raises DecoderUnavailable."""
        self.start()  # so that they load their libraries in parallel
        for decoder in self._all:
            decoder.prove()

    def close(self) -> None:
        """End every child; the next image would start another."""
        for decoder in self._all:
            decoder.close()

    def read_display(self, image: OpenImage, reduction: Reduction | None = None) -> Display:
        """As `Decoder.read_display`, by a free child."""
        with self._one() as decoder:
            return decoder.read_display(image, reduction)

    def read_stored(self, image: OpenImage) -> StoredValues:
        """As `Decoder.read_stored`, by a free child."""
        with self._one() as decoder:
            return decoder.read_stored(image)

    def stored_digest(self, content: bytes, limits: Limits) -> str:
        """As `Decoder.stored_digest`, by a free child."""
        with self._one() as decoder:
            return decoder.stored_digest(content, limits)

    @contextmanager
    def _one(self) -> Iterator[Decoder]:
        decoder = self._free.get()
        try:
            yield decoder
        finally:
            self._free.put(decoder)
