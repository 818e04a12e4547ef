"""What a card promises, where the threshold must hold on images of another place too."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from tests.logistic_model import write_factory
from trainer.data.manifest import Sample
from trainer.export.card import Answered, measure_fields, write
from trainer.export.lung_field_limits import limits_of
from trainer.export.reference import MeasuredReference, complete
from trainer.statistics.operating_point import ThresholdRule
from worker.inference.lung_field import implausible
from worker.inference.model import open_model
from worker.inference.reference import MEASURES, make_reference

RULE, THERE = ThresholdRule("sensitivity", 0.9), ThresholdRule("sensitivity", 0.98)


def answered(positives: NDArray[np.float64], negatives: NDArray[np.float64]) -> Answered:
    probabilities = np.concatenate([positives, negatives])
    labels = [1] * len(positives) + [0] * len(negatives)
    samples = [Sample(f"{i}.png", label, "", f"{i}", f"{i}") for i, label in enumerate(labels)]
    return Answered(samples, probabilities, np.ones(len(samples)), THERE)


HERE = answered(np.linspace(0.6, 1.0, 50), np.linspace(0.0, 0.4, 50))
LOWER = answered(np.linspace(0.3, 0.9, 50), np.linspace(0.0, 0.4, 50))
HIGHER = answered(np.linspace(0.8, 1.0, 50), np.linspace(0.0, 0.4, 50))


@pytest.mark.parametrize("elsewhere", [LOWER, HIGHER], ids=["lower scores", "higher scores"])
def test_the_rule_is_kept_on_both_sets_by_the_lower_threshold(elsewhere: Answered) -> None:
    grids = np.zeros((100, 8, 8), np.uint8)
    grids[:, 2:6, 2:6] = np.arange(100, dtype=np.uint8)[:, None, None]
    fields = measure_fields(RULE, HERE.samples, HERE.probabilities, HERE.distances, grids, elsewhere)
    point, told = fields.operating_point, fields.metrics
    here, there = (rule.choose(e.labels, e.probabilities) for rule, e in ((RULE, HERE), (THERE, elsewhere)))
    assert point.threshold == min(here, there)
    assert point.sensitivity.value >= 0.9
    assert told["elsewhere_sensitivity"].value >= 0.98
    assert told["elsewhere_sensitivity"].low < told["elsewhere_sensitivity"].value
    assert told["elsewhere_familiar"].value == 1.0
    assert point.rule == f"{RULE}; and on images of elsewhere: {THERE}"


def test_limits_of_a_lung_field_hold_for_the_images_they_come_from() -> None:
    rng = np.random.default_rng(0)
    lungs = np.zeros((200, 64, 64), np.float32)
    for each in lungs:
        top, left, width = rng.integers(6, 14), rng.integers(4, 10), rng.integers(16, 22)
        each[top : top + 40, left : left + width] = each[top : top + 40, 34 : 34 + width] = rng.uniform(0.85, 0.98)
    limits = limits_of(lungs)
    assert sum(implausible(each, limits) != "" for each in lungs) <= 2
    assert implausible(np.rot90(lungs[0]), limits).startswith("lung field paired")
    assert implausible(lungs[0] * 0, limits).startswith("lung field area")


@pytest.mark.parametrize("adds_reference", [False, True], ids=["a new model", "a reference added"])
def test_the_disk_has_a_model_file_before_it_gets_its_name(
    adds_reference: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory, synced = write_factory(tmp_path / "factory.onnx"), []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_ino))
    out = tmp_path / "new.onnx"
    if adds_reference:
        reference = make_reference({name: np.linspace(0, 1, 50) for name in MEASURES}, None, 0.5, "digest")
        complete(factory, MeasuredReference(reference, None, []), out)
    else:
        write(onnx.load(factory), open_model(factory, "cpu").card, out)
    assert synced == [out.stat().st_ino]
