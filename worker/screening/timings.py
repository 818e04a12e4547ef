"""How long the stages of one screening took. Stored in its row, so that metrics need no counters in processes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """The stages of a worker between claim and record, in order. Recording is not timed, because it writes the row."""

    READ = "read"  #: fetching and parsing
    DECODE = "decode"  #: pixels to display values
    PREDICT = "predict"  #: resizing and inference
    DRAW = "draw"  #: overlays, drawn and stored


@dataclass
class Times:
    """Seconds in each stage, over all images of a study; None: the stage was not reached."""

    read_s: float | None = None
    decode_s: float | None = None
    predict_s: float | None = None
    draw_s: float | None = None
    batch_size: int | None = None  #: images in the largest batch that the model was given

    @contextmanager
    def spent(self, stage: Stage) -> Iterator[None]:
        """Add the time that the block takes, also when it raises."""
        name, began = f"{stage}_s", time.perf_counter()
        try:
            yield
        finally:
            setattr(self, name, (getattr(self, name) or 0.0) + time.perf_counter() - began)

    def batched(self, images: int) -> None:
        """Note a batch."""
        self.batch_size = max(images, self.batch_size or 0)
