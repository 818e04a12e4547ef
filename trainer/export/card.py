"""The fields of a card that are measured on the validation images; and the model file that contains the card."""

import importlib.metadata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.atomic_file import write_synced
from trainer.data.manifest import Sample, digest
from trainer.evaluation.evaluate import Evaluation, familiar, measure
from trainer.export.familiarity import limit_of
from trainer.export.reference import measured, scores_of
from trainer.statistics import metrics
from trainer.statistics.operating_point import AND_ELSEWHERE, ThresholdRule
from worker.inference.card import ModelCard, OperatingPoint
from worker.inference.estimate import Estimate
from worker.inference.reference import Reference, make_reference
from worker.inference.site_point import ValidationScores

#: Prefix of a card's metrics on the images of another place that helped choose the threshold.
ELSEWHERE = "elsewhere"


class Elsewhere(NamedTuple):
    """Images of another place than the training's, which help choose the threshold and never train."""

    samples: Sequence[Sample]
    grids: NDArray[np.uint8]  #: [N, size, size]
    rule: ThresholdRule


class Answered(NamedTuple):
    """Samples of another place, a model's answers to them, and the rule that the threshold keeps there."""

    samples: Sequence[Sample]
    probabilities: metrics.Scores
    distances: metrics.Scores  #: familiarity
    rule: ThresholdRule

    @property
    def labels(self) -> metrics.Labels:
        """Their labels [N]."""
        return np.array([sample.label for sample in self.samples], np.int64)


class MeasuredFields(NamedTuple):
    """The fields of a ModelCard that are measured on the validation images."""

    operating_point: OperatingPoint
    familiarity_limit: float
    metrics: dict[str, Estimate]
    reference: Reference
    validation_scores: ValidationScores


def measure_fields(
    rule: ThresholdRule,
    samples: Sequence[Sample],
    probabilities: metrics.Scores,
    distances: metrics.Scores,
    grids: Iterable[NDArray[np.uint8]],
    elsewhere: Answered | None = None,
) -> MeasuredFields:
    """Measure the fields on the validation images; `rule` chooses the threshold, `distances` are the familiarity [N].

    With images of `elsewhere` the threshold also keeps their rule there: it is the lower of the two. Raises ValueError
    where a rule lacks a class, ModelRefused when a distance is not finite.
    """
    labels = np.array([sample.label for sample in samples], np.int64)
    threshold, words = rule.choose(labels, probabilities), str(rule)
    limit = limit_of(distances)
    further: dict[str, Estimate] = {}
    if elsewhere is not None:
        threshold = min(threshold, elsewhere.rule.choose(elsewhere.labels, elsewhere.probabilities))
        words += f"{AND_ELSEWHERE}{elsewhere.rule}"
        further = measure(elsewhere.labels, elsewhere.probabilities, threshold)
        further["familiar"] = familiar(elsewhere.distances, limit)
    quality = measure(labels, probabilities, threshold) | {"familiar": familiar(distances, limit)}
    rates = metrics.rates(metrics.confusion(labels, probabilities, threshold))
    point = OperatingPoint(
        threshold,
        words,
        Estimate(*rates["sensitivity"]),
        Estimate(*rates["specificity"]),
        digest(samples),
    )
    reference = make_reference(measured(probabilities, distances, grids), list(labels), threshold, point.data_digest)
    measures = {f"validation_{name}": value for name, value in quality.items()}
    measures |= {f"{ELSEWHERE}_{name}": value for name, value in further.items()}
    return MeasuredFields(point, limit, measures, reference, scores_of(labels, probabilities))


def metrics_on_test_split(tested: Evaluation) -> dict[str, Estimate]:
    """The estimates on the test split, under the names that a card gives them."""
    by_subtype = {f"test_sensitivity_{name}": value for name, value in tested.sensitivity_by_subtype.items()}
    return {f"test_{name}": value for name, value in tested.metrics.items()} | by_subtype


def write(proto: Any, card: ModelCard, path: Path) -> None:
    """Write an ONNX ModelProto with this card as its only metadata; on return the disk has it."""
    import onnx

    del proto.metadata_props[:]
    for key, value in card.to_metadata().items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto)
    write_synced(proto.SerializeToString(), path)


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The installed versions of these packages; packages that are not installed are left out."""
    installed = {}
    for package in packages:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
