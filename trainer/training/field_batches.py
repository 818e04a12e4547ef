"""Batches for networks with local evidence: views with their lung fields, and what is known of their cells."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.field_views import FieldView, Radiograph, field_view
from trainer.recipes.recipe import Recipe
from trainer.training.batches import AUGMENTATION, Grids, TrainingBatches


class FieldBatches(TrainingBatches):
    """One epoch: (uint8 [B, size, size, 3] of `field_view`, labels float32 [B, logits], weights float32 [B]).

    A view whose label is no longer known has weight 0: only its cells are learned from.
    """

    def __init__(
        self,
        grids: Grids,
        fields: Grids,
        labels: NDArray[np.int64],
        recipe: Recipe,
        seed: int,
        epoch: int,
        is_guest: NDArray[np.bool_] | None = None,
        logits: int = 1,
    ) -> None:
        """`logits`: how many the trained network gives for an image; each gets its label."""
        super().__init__(grids, labels, recipe, seed, epoch, is_guest=is_guest)
        self.fields, self.logits = fields, logits

    def __getitem__(self, step: int) -> tuple[NDArray[Any], ...]:
        rng = np.random.default_rng((self.seed, self.epoch, step, AUGMENTATION))
        members = self.order[step]
        views = [self._view(int(i), rng) for i in members]
        labels = np.repeat(self.labels[members].astype(np.float32)[:, None], self.logits, axis=1)
        return np.stack([v.layers for v in views]), labels, np.array([v.keeps_label for v in views], np.float32)

    def _view(self, i: int, rng: np.random.Generator) -> FieldView:
        normal = self._radiograph(int(rng.choice(self.by_class[0])))
        return field_view(self._radiograph(i), self._other(rng), self._other(rng), normal, self.how, rng)

    def _radiograph(self, i: int) -> Radiograph:
        return Radiograph(self.grids[i], self.fields[i], self.labels[i] == 0)
