"""Read labelled files one after the other, with the worker's imaging. A file that cannot be read is listed."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.manifest import Sample
from trainer.progress import Report
from worker.errors import Rejected
from worker.imaging.image_file import read_display, read_grid
from worker.imaging.preprocess import Preprocessing, apply


class LoadedImage(NamedTuple):
    """One file that could be read: its bytes, and its display values [H, W], air dark."""

    sample: Sample
    content: bytes
    pixels: NDArray[np.uint8]

    def grid(self, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """The image on a model's grid, [size, size, 1], as the worker makes it: read again where the model has a rule
        for the reading."""
        if preprocessing.pyramid is None:
            return apply(self.pixels, preprocessing)[0]
        return read_grid(self.content, preprocessing)


def read_images(
    root: Path, samples: Sequence[Sample], unreadable: list[dict[str, str]], report: Report
) -> Iterator[LoadedImage]:
    """Each sample under `root` that can be read; path, code and message of the others are added to `unreadable`."""
    for i, sample in enumerate(samples):
        try:
            content = (root / sample.path).read_bytes()
            pixels = read_display(content).pixels
        except Rejected as error:
            unreadable.append({"path": sample.path, "code": error.code, "message": error.message})
        except OSError as error:
            unreadable.append({"path": sample.path, "code": "unreadable_file", "message": str(error.strerror)})
        else:
            yield LoadedImage(sample, content, pixels)
        report({"event": "reading", "done": i + 1, "total": len(samples)})


def in_batches(images: Iterable[LoadedImage], size: int) -> Iterator[list[LoadedImage]]:
    """The images in lists of `size`; the last list may be shorter."""
    rest = iter(images)
    while batch := list(islice(rest, size)):
        yield batch
