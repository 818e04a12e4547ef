"""What a card promises of a model's answers, measured on the validation images; and the file that carries the card."""

import importlib.metadata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.manifest import Sample, digest
from trainer.evaluation.evaluate import Evaluation, familiar, measure
from trainer.export.familiarity import limit_of
from trainer.export.reference import measured
from trainer.statistics import metrics
from trainer.statistics.operating_point import ThresholdRule
from worker.inference.card import Estimate, ModelCard, OperatingPoint
from worker.inference.reference import Reference, make_reference


class Promises(NamedTuple):
    """Fields of a ModelCard, by their names."""

    operating_point: OperatingPoint
    familiarity_limit: float
    metrics: dict[str, Estimate]
    reference: Reference


def promises(
    rule: ThresholdRule,
    samples: Sequence[Sample],
    probabilities: metrics.Scores,
    distances: metrics.Scores,
    grids: Iterable[NDArray[np.uint8]],
) -> Promises:
    """What `rule` and these validation images make of a model's answers to them; `distances` are its familiarity.

    Raises ValueError where the rule misses a class, ModelRefused when a distance is no finite number.
    """
    labels = np.array([sample.label for sample in samples], np.int64)
    threshold = rule.choose(labels, probabilities)
    limit = limit_of(distances)
    quality = measure(labels, probabilities, threshold) | {"familiar": familiar(distances, limit)}
    rates = metrics.rates(metrics.confusion(labels, probabilities, threshold))
    point = OperatingPoint(
        threshold,
        str(rule),
        Estimate(*rates["sensitivity"]),
        Estimate(*rates["specificity"]),
        digest(samples),
    )
    reference = make_reference(measured(probabilities, distances, grids), list(labels), threshold, point.data_digest)
    return Promises(point, limit, {f"validation_{name}": value for name, value in quality.items()}, reference)


def quoted(tested: Evaluation) -> dict[str, Estimate]:
    """What a card quotes of the evaluation on the test split."""
    by_subtype = {f"test_sensitivity_{name}": value for name, value in tested.sensitivity_by_subtype.items()}
    return {f"test_{name}": value for name, value in tested.metrics.items()} | by_subtype


def write(proto: Any, card: ModelCard, path: Path) -> None:
    """Write an ONNX ModelProto with this card as its only metadata."""
    import onnx

    del proto.metadata_props[:]
    for key, value in card.to_metadata().items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of the packages that made the file; those not installed are left out."""
    installed = {}
    for package in packages:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
