"""How long the stages of one screening took. Kept in its row, so that metrics need no counters in processes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """What a worker does between claim and record, in order. Recording cannot be timed in the row that it writes."""

    READ = "read"  #: fetching and parsing
    DECODE = "decode"  #: pixels to display values
    PREDICT = "predict"  #: resizing and inference
    DRAW = "draw"  #: overlays, drawn and stored


@dataclass
class Times:
    """Seconds in each stage, over all images of a study; None: it was not entered."""

    read_s: float | None = None
    decode_s: float | None = None
    predict_s: float | None = None
    draw_s: float | None = None
    batch_size: int | None = None  #: images in the largest batch that the model was given

    @contextmanager
    def spent(self, stage: Stage) -> Iterator[None]:
        """Add what the block takes, whether it ends well or not."""
        name, began = f"{stage}_s", time.perf_counter()
        try:
            yield
        finally:
            setattr(self, name, (getattr(self, name) or 0.0) + time.perf_counter() - began)

    def batched(self, images: int) -> None:
        """Note a batch."""
        self.batch_size = max(images, self.batch_size or 0)
