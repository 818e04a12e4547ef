"""Finished models that teach a new one: their probability for a view becomes a part of its label.

Distillation (Hinton, Vinyals, Dean 2015). The teachers see a view before it is degraded, the new network sees it after:
so it also learns to give the same probability whatever the exposure, optics and storage of a picture.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.errors import BadSetting
from worker.inference.model import Model, open_model


@dataclass(frozen=True)
class Teachers:
    """Model files with one grid size; each counts the same."""

    models: tuple[Model, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over the digests of the files, hexadecimal; empty without a teacher."""
        joined = " ".join(model.digest for model in self.models)
        return hashlib.sha256(joined.encode()).hexdigest() if joined else ""

    def require_grid(self, size: int) -> None:
        """Raise BadSetting where a teacher takes another grid than `size`."""
        for model in self.models:
            card = model.card
            if card.preprocessing.size != size:
                raise BadSetting(f"the teacher {card.name} takes {card.preprocessing.size} px, the recipe {size} px")

    def require_split(self, data_digest: str) -> None:
        """Raise BadSetting where a teacher learned from another split than that of this digest.

        A teacher that was trained on images that this run holds out would tell the new model of them.
        """
        for model in self.models:
            if model.card.data_digest != data_digest:
                raise BadSetting(
                    f"the teacher {model.card.name} ({model.digest[:8]}) was trained on other data or another split:"
                    " fit it on the same data with the same --split-seed, and leave out the files that its run listed"
                    " as unreadable"
                )

    def judge(self, grids: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The mean probability [N] of views [N, size, size]."""
        found = [[said.probability for said in model.predict(grids[..., None])] for model in self.models]
        return np.asarray(np.mean(found, axis=0), np.float32)


NO_TEACHERS = Teachers()


def open_teachers(paths: Sequence[Path]) -> Teachers:
    """Open the model files on the CPU; raises ModelRefused, which names the file."""
    return Teachers(tuple(open_model(path, "cpu") for path in paths))
