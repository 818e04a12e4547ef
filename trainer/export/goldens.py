"""The goldens: files from the validation split, one of them as DICOM, with the probability that the model gives them.

A worker screens them again at start, from the bytes of the file. A decoder, a resize operator or an execution
provider that computes something else is found that way.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.manifest import Sample
from trainer.data.synthetic_dicom import as_monochrome1
from trainer.export.serving_graph import Served, predict
from worker.errors import BadData
from worker.imaging.image_file import read_display, read_grid
from worker.imaging.preprocess import Preprocessing
from worker.inference.card import Golden

#: Largest |difference| of the probability that float32 arithmetic may make, by execution provider.
TOLERANCES = {"CPUExecutionProvider": 1e-4, "CUDAExecutionProvider": 2e-3}


def choose_goldens(
    served: Served,
    samples: Sequence[Sample],
    probabilities: NDArray[np.float64],
    threshold: float,
    root: Path,
    preprocessing: Preprocessing,
    attribution: str,
) -> tuple[Golden, ...]:
    """Two clear positives, two clear negatives, the one nearest the threshold, and a positive as MONOCHROME1 DICOM.

    `probabilities` are those of `samples`, the validation split. The probability of each golden is computed by Keras
    from the bytes of the file.
    """
    labels = np.array([sample.label for sample in samples])
    margin = (probabilities - threshold) * np.where(labels == 1, 1, -1)
    chosen: list[int] = []
    for label in (1, 0):
        members = np.flatnonzero(labels == label)
        clear = members[margin[members] >= np.median(margin[members])]
        chosen += sorted(clear, key=lambda i: ((root / samples[i].path).stat().st_size, i))[:2]
    rest = [i for i in np.argsort(np.abs(probabilities - threshold), kind="stable") if i not in chosen]
    chosen += rest[:1]
    contents = {samples[i].path: (root / samples[i].path).read_bytes() for i in chosen}
    first = samples[chosen[0]].path
    contents[f"{Path(first).stem} as MONOCHROME1.dcm"] = as_monochrome1(read_display(contents[first]).pixels)
    plain = tuple(Golden(name, content, 0.0, TOLERANCES, attribution) for name, content in contents.items())
    return tuple(_scored(golden, served, preprocessing) for golden in plain)


def _scored(golden: Golden, served: Served, preprocessing: Preprocessing) -> Golden:
    grid = read_grid(golden.content, preprocessing)
    probability = float(predict(served, grid[None, :, :, 0])["probability"][0])
    if not np.isfinite(probability):
        raise BadData(f"golden {golden.name!r} scores {probability}")
    return replace(golden, probability=probability)
