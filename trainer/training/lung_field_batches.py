"""Batches for networks with local evidence: views with their lung fields, and which cells are known to be normal."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.lung_field_views import FieldView, Radiograph, field_view
from trainer.recipes.recipe import Recipe
from trainer.training.batches import AUGMENTATION, Grids, TrainingBatches
from trainer.training.teachers import NO_TEACHERS, Teachers

#: Share of a label that the teachers give; the rest stays that of the person who read the image.
TEACHERS_SHARE = 0.6


class FieldBatches(TrainingBatches):
    """One epoch: (uint8 [B, size, size, 3] of `field_view`, labels float32 [B, logits], weights float32 [B]).

    A view whose label is no longer known has weight 0: only its cells are learned from. With teachers a label is mixed
    with what they say of the view.
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
        teachers: Teachers = NO_TEACHERS,
    ) -> None:
        """`logits`: how many the trained network gives for an image; each gets its label."""
        super().__init__(grids, labels, recipe, seed, epoch, is_guest=is_guest)
        self.fields, self.logits, self.teachers = fields, logits, teachers

    def __getitem__(self, step: int) -> tuple[NDArray[Any], ...]:
        rng = np.random.default_rng((self.seed, self.epoch, step, AUGMENTATION))
        members = self.order[step]
        views = [self._view(int(i), rng) for i in members]
        labels = self.labels[members].astype(np.float32)
        if self.teachers.models:
            labels += TEACHERS_SHARE * (self.teachers.judge(np.stack([v.clean for v in views])) - labels)
        weights = np.array([v.keeps_label for v in views], np.float32)
        return np.stack([v.layers for v in views]), np.repeat(labels[:, None], self.logits, axis=1), weights

    def _view(self, i: int, rng: np.random.Generator) -> FieldView:
        normal = self._radiograph(int(rng.choice(self.by_class[0])))
        return field_view(self._radiograph(i), self._other(rng), self._other(rng), normal, self.how, rng)

    def _radiograph(self, i: int) -> Radiograph:
        return Radiograph(self.grids[i], self.fields[i], self.labels[i] == 0)
