"""Set a model's point for a site: the same weights, with calibration, threshold, limit and reference from its images.

The sensitivity has a floor, on the site's own positives and on the validation images of the file as it was made. Of
several images of a patient, the rule sees the highest score of a normal and the lowest of a positive.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.manifest import Sample, digest
from trainer.evaluation.evaluate import familiar, measure
from trainer.evaluation.logit_line import Line, logits_of, set_line
from trainer.evaluation.model_file import open_on_all_cores
from trainer.export.card import write
from trainer.export.familiarity import limit_of
from trainer.export.reference import measured
from trainer.export.sensitivity_floor import below_floor, highest_allowed, remarks_on, validation_sensitivity
from trainer.export.site_images import Scored, one_of_each_patient, score
from trainer.export.trade_off import Choice, choice, choices
from trainer.progress import Report
from trainer.statistics import metrics
from trainer.statistics.operating_point import Calibration, ThresholdRule, calibrate, smoothed
from worker.errors import BadData, BadSetting, ModelRefused
from worker.imaging.image_file import read_grid
from worker.inference.card import Golden, ModelCard, OperatingPoint, ReducedDecode
from worker.inference.estimate import Estimate
from worker.inference.json_values import without_nan
from worker.inference.model import OnnxModel, replay_goldens
from worker.inference.reference import make_reference
from worker.inference.site_point import SitePoint

SUFFIX = "_site"

#: Measures of a card that neither threshold nor calibration change.
LASTING = ("_auc", "_familiar")

#: Distance in probability, before the line, that the bounds for reduced decoding keep from the threshold.
REDUCED_MARGIN = 0.01


@dataclass(frozen=True)
class Calibrated:
    """A model at a site's point, as it was measured on the site's images."""

    model: str
    model_digest: str
    threshold: float
    rule: str
    temperature: float
    bias: float
    prevalence: float  #: of the site's images; the probabilities hold at it
    familiarity_limit: float
    factory_familiarity_limit: float | None
    site: SitePoint
    choices: tuple[Choice, ...]  #: what other thresholds would give, the factory's first
    normals: tuple[float, ...]  #: probability of each normal, ascending, and of each positive
    positives: tuple[float, ...]
    unreadable: list[dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null."""
        plain: dict[str, Any] = without_nan(self)
        return plain


@dataclass(frozen=True)
class Site:
    """Whose images they are, the rule of the threshold, and whether a sensitivity below the floor is accepted."""

    place: str
    rule: ThresholdRule
    accepts_lower_sensitivity: bool = False


@dataclass(frozen=True)
class Point:
    """A point of a site, and all that its card is made from."""

    site: Site
    factory: OnnxModel  #: the file as it was made
    made: OnnxModel  #: the same weights behind the line
    line: Line  #: from the factory's logits to those that fit the site
    before: Scored  #: the site's images with the answers of `factory`
    after: Scored  #: the same images with the answers of `made`
    threshold: float  #: on the probabilities of `made`

    @property
    def rates(self) -> tuple[Estimate, Estimate]:
        """Sensitivity and specificity on the site's images."""
        return _rates(self.after.labels, self.after.probabilities, self.threshold)

    @property
    def rates_of_patients(self) -> tuple[Estimate, Estimate]:
        """The share of patients with pneumonia who are flagged, and of those without who are not, in all images."""
        return _rates(*one_of_each_patient(self.after), self.threshold)

    @property
    def factory_threshold(self) -> float:
        """The factory's threshold, on the probabilities of `factory`."""
        return self.factory.card.operating_point.threshold


def calibrate_for(
    path: Path, provider: str, root: Path, samples: Sequence[Sample], site: Site, out: Path, report: Report
) -> Calibrated:
    """Write the model of `path` with the point of a site to `out`, whole or not at all.

    Raises BadSetting when `out` is the model itself or the model has a site's point already; BadData when the images
    are too few for the rule, lack a class, or trained the model; ModelRefused when the sensitivity would fall below
    the floor, or the written file does not give what was measured.
    """
    import onnx

    if out.resolve() == path.resolve():
        raise BadSetting("a model with another point is another model: give --out another name than the original's")
    factory = open_on_all_cores(path, provider)
    _require_factory(factory, samples, path)
    unreadable: list[dict[str, str]] = []
    before = score(factory, root, samples, unreadable, report)
    line = _line(before)
    proto = onnx.load(path)
    set_line(proto, line)
    part = out.with_name(out.name + ".part")
    try:
        write(proto, factory.card, part)  # a preliminary card, to measure the model with
        made = open_on_all_cores(part, provider)
        after = before.by(made)
        point = Point(site, factory, made, line, before, after, _threshold(site.rule, after))
        write(proto, _card(point), part)
        made = open_on_all_cores(part, provider)
        _prove(made, after, point.threshold)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return _summary(replace(point, made=made), unreadable)


def _require_factory(factory: OnnxModel, samples: Sequence[Sample], path: Path) -> None:
    site = factory.card.site
    if site is not None:
        raise BadSetting(
            f"has the point of {site.place} already: give the file that it was made from, {site.factory_digest[:12]}"
        ).about(str(path))
    if any(sample.split == "train" for sample in samples):
        raise BadData("these images trained a model: give images of the site that it has not seen")


def _line(scored: Scored) -> Line:
    try:
        found = calibrate(smoothed(scored.labels), logits_of(scored.probabilities))
    except ValueError as error:
        raise ModelRefused(f"cannot be calibrated on these images: {error}") from error
    return Line(float(np.float32(1 / found.temperature)), float(np.float32(found.bias)))


def _threshold(rule: ThresholdRule, scored: Scored) -> float:
    try:
        return rule.choose(*one_of_each_patient(scored))
    except BadData as error:
        raise BadData(f"{error.message}; of several images of a patient one counts") from error


def _card(point: Point) -> ModelCard:
    """The original's card, with everything that the point and the images of the site change."""
    old, after, threshold, data = point.factory.card, point.after, point.threshold, digest(point.after.samples)
    limit = limit_of(after.familiarity)
    calibration = point.line.after_calibration(Calibration(old.temperature, old.bias))
    found = measure(after.labels, after.probabilities, threshold) | {"familiar": familiar(after.familiarity, limit)}
    lasting = {name: value for name, value in old.metrics.items() if name.endswith(LASTING)}
    values = measured(after.probabilities, after.familiarity, after.grids[..., 0])
    return replace(
        old,
        name=old.name + SUFFIX,
        temperature=calibration.temperature,
        bias=calibration.bias,
        prevalence=float(after.labels.mean()),
        operating_point=OperatingPoint(threshold, _words(point.site), *point.rates, data),
        familiarity_limit=limit,
        metrics=lasting | {f"site_{name}": value for name, value in found.items()},
        reference=make_reference(values, list(after.labels), threshold, data),
        site=_site_point(point),
        goldens=tuple(_scored(golden, point.made, point.line) for golden in old.goldens),
        reduced_decode=_reduced(old.reduced_decode, point.line, threshold),
        validation_scores=None,  # they are those of the file as it was made
        versions=old.versions | {"made from": point.factory.digest},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _site_point(point: Point) -> SitePoint:
    """What the card says of the point; raises ModelRefused below the floor, unless that is accepted."""
    (sensitivity, specificity), of_patients = point.rates, point.rates_of_patients
    on_validation = validation_sensitivity(point.factory.card, point.line, point.threshold)
    below = below_floor(sensitivity, of_patients[0], on_validation)
    if below and not point.site.accepts_lower_sensitivity:
        allowed = highest_allowed(point.after, point.factory.card, point.line)
        raise ModelRefused(f"{below}: take a rule with a lower threshold{allowed}, or name --accept-lower-sensitivity")
    before = _rates(point.before.labels, point.before.probabilities, point.factory_threshold)
    return SitePoint(
        place=point.site.place,
        normals=specificity.n,
        positives=sensitivity.n,
        sensitivity=sensitivity,
        specificity=specificity,
        factory_sensitivity=before[0],
        factory_specificity=before[1],
        factory_threshold=point.factory_threshold,
        validation_sensitivity=on_validation.exact,
        remarks=remarks_on(len(point.after.samples), *of_patients, on_validation, below),
        accepts_lower_sensitivity=bool(below),
        factory_digest=point.factory.digest,
    )


def _rates(labels: metrics.Labels, probabilities: metrics.Scores, threshold: float) -> tuple[Estimate, Estimate]:
    found = metrics.rates(metrics.confusion(labels, probabilities, threshold))
    return Estimate(*found["sensitivity"]), Estimate(*found["specificity"])


def _words(site: Site) -> str:
    return f"{site.rule}, on images of {site.place}".replace("validation ", "").replace(" on validation", "")


def _scored(golden: Golden, made: OnnxModel, line: Line) -> Golden:
    """The same file with the probability of the new model; a steeper line also enlarges rounding errors."""
    grid = read_grid(golden.content, made.card.preprocessing)
    wider = {name: tolerance * max(1.0, line.scale) for name, tolerance in golden.tolerances.items()}
    return replace(golden, probability=made.predict(grid[None])[0].probability, tolerances=wider)


def _reduced(measured_before: ReducedDecode | None, line: Line, threshold: float) -> ReducedDecode | None:
    """The bounds on the new probabilities, widened until they surround the new threshold as they did the old one."""
    if measured_before is None:
        return None
    back = Line(1 / line.scale, -line.shift / line.scale)
    near = float(back.of(np.array([threshold]))[0])
    below = max(0.0, min(measured_before.sure_below, near - REDUCED_MARGIN))
    above = min(1.0, max(measured_before.sure_above, near + REDUCED_MARGIN))
    new_below, new_above = map(float, line.of(np.array([below, above])))
    return replace(
        measured_before,
        sure_below=min(new_below, threshold) if below else 0.0,
        sure_above=max(new_above, threshold) if above < 1 else 1.0,
    )


def _prove(made: OnnxModel, wanted: Scored, threshold: float) -> None:
    """Replay the goldens and the site's images in the written file; raises ModelRefused."""
    replay_goldens(made)
    again = wanted.by(made)
    counts = [metrics.confusion(each.labels, each.probabilities, threshold) for each in (wanted, again)]
    if counts[0] != counts[1]:
        raise ModelRefused(f"the written file flags otherwise than was measured: {counts[1]}, not {counts[0]}")


def _summary(point: Point, unreadable: list[dict[str, str]]) -> Calibrated:
    """What the verb shows of the file that was written."""
    card, after = point.made.card, point.after
    assert card.site is not None, "the card was written with it"
    assert card.familiarity_limit is not None, "and with its limit"
    normals, positives = (np.sort(after.probabilities[after.labels == label]) for label in (0, 1))
    return Calibrated(
        model=card.name,
        model_digest=point.made.digest,
        threshold=point.threshold,
        rule=card.operating_point.rule,
        temperature=card.temperature,
        bias=card.bias,
        prevalence=float(after.labels.mean()),
        familiarity_limit=card.familiarity_limit,
        factory_familiarity_limit=point.factory.card.familiarity_limit,
        site=card.site,
        choices=choices(after.labels, after.probabilities, _factory_choice(point), point.threshold),
        normals=tuple(map(float, normals)),
        positives=tuple(map(float, positives)),
        unreadable=unreadable,
    )


def _factory_choice(point: Point) -> Choice:
    """The factory's threshold among the new probabilities, named by the one on its card."""
    threshold, before = point.factory_threshold, point.before
    counts = metrics.confusion(before.labels, before.probabilities, threshold)
    name = f"factory: {threshold:.4f} before calibration"
    return choice(name, float(point.line.of(np.array([threshold]))[0]), counts)
