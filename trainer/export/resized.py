"""The same weights behind another resize rule: a new model file, with everything on its card measured again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainer.data.manifest import Manifest, Sample
from trainer.evaluation.agreement import LoadedSplit, Predictions, differences, load_split, predict_split
from trainer.evaluation.logit_line import Line, add_line, logits_of
from trainer.evaluation.model_file import open_on_all_cores
from trainer.export.card import Answered, write
from trainer.export.conversion import Conversion, measured_card, scored_again, summary
from trainer.export.lung_field_limits import limits_of
from trainer.progress import Report
from trainer.statistics.operating_point import Calibration, ThresholdRule, calibrate, rules_in_words
from worker.errors import BadSetting, ModelRefused
from worker.imaging.preprocess import Preprocessing, Resize
from worker.inference.card import ModelCard
from worker.inference.lung_field import FieldLimits
from worker.inference.model import OnnxModel, replay_goldens

#: The splits of a manifest that a card states something of.
SPLITS = ("validation", "test")


class OtherPlace(NamedTuple):
    """Labelled images of another place, on which the threshold must hold too; None: by the rule on the card."""

    root: Path
    samples: Sequence[Sample]
    rule: ThresholdRule | None = None


@dataclass(frozen=True)
class Rules:
    """How the threshold is chosen on the validation images, and on those of another place."""

    own: ThresholdRule
    elsewhere: ThresholdRule | None


def resize(
    path: Path,
    to: Resize,
    provider: str,
    root: Path,
    manifest: Manifest,
    rule: ThresholdRule | None,
    elsewhere: OtherPlace | None,
    out: Path,
    report: Report,
) -> Conversion:
    """Write the model of `path` with the resize rule `to` to `out`, whole or not at all.

    Calibration, threshold, familiarity limit, lung field limits, reference and goldens are measured again on the
    manifest's validation split, the metrics on its test split too; the threshold is chosen by `rule` or else as the
    card says. Weights, heat scale and the measure of familiarity stay. Raises BadSetting when the card has the rule
    already or was calibrated for a site, or when images of elsewhere are missing or not wanted; BadData when a split
    lacks a class; ModelRefused when a prediction is not finite or a golden fails.
    """
    original = open_on_all_cores(path, provider)
    _require_other(original.card, to, path, out)
    rules = _rules(original.card, rule, elsewhere)
    seen_before, seen_now = original.card.preprocessing, replace(original.card.preprocessing, resize=to)
    before = {name: load_split(root, manifest.of(name), seen_before, report) for name in SPLITS}
    after = {name: load_split(root, manifest.of(name), seen_now, report) for name in SPLITS}
    answers = {name: predict_split(original, images) for name, images in before.items()}
    part = out.with_name(out.name + ".part")
    try:
        made = _recalibrated(path, original, seen_now, after["validation"], part, provider)
        found = {name: predict_split(made, images) for name, images in after.items()}
        card = _card(original, made, rules, after, found, _answered(made, elsewhere, rules, report))
        thresholds = original.card.operating_point.threshold, card.operating_point.threshold
        by_split = {name: differences(answers[name], found[name], thresholds) for name in SPLITS}
        _rewrite(part, card)
        made = open_on_all_cores(part, provider)
        replay_goldens(made)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    unreadable = [fault for images in after.values() for fault in images.unreadable]
    return summary(original, made, path, out, by_split, unreadable)


def _require_other(card: ModelCard, to: Resize, path: Path, out: Path) -> None:
    if out.resolve() == path.resolve():
        raise BadSetting("a model with another resize rule is another model: give --out another name")
    if card.preprocessing.resize is to:
        raise BadSetting(f"its card says resize = {to} already").about(str(path))
    if card.site is not None:
        raise BadSetting(
            f"has the point of {card.site.place}: give the file that it was made from, {card.site.factory_digest[:12]},"
            " and calibrate again"
        ).about(str(path))


def _rules(card: ModelCard, rule: ThresholdRule | None, elsewhere: OtherPlace | None) -> Rules:
    """The rules of the card, each replaced by the one that is given."""
    if rule is not None and elsewhere is None:
        return Rules(rule, None)
    words = card.operating_point.rule
    own, there = rules_in_words(words)
    if elsewhere is not None:
        return Rules(rule or own, elsewhere.rule or there or own)
    if there is not None:
        raise BadSetting(f"its threshold holds on images of elsewhere too ({words}): give them with --elsewhere")
    return Rules(own, None)


def _recalibrated(
    path: Path, original: OnnxModel, preprocessing: Preprocessing, images: LoadedSplit, part: Path, provider: str
) -> OnnxModel:
    """The model in `part`, whose probabilities fit the validation images as they are seen now."""
    import onnx

    old, labels = original.card, np.array([sample.label for sample in images.samples], np.int64)
    logits = logits_of(predict_split(original, images).probabilities)
    try:
        fitted = calibrate(labels, logits)
    except ValueError as error:
        raise ModelRefused(f"cannot be calibrated on its validation split: {error}") from error
    if old.prevalence is not None:
        fitted = fitted.at(old.prevalence, float(labels.mean()))
    line = Line(float(np.float32(1 / fitted.temperature)), float(np.float32(fitted.bias)))
    proto = onnx.load(path)
    name = f"{preprocessing.resize}_{original.digest[:8]}"
    add_line(proto, line, f"{name}_scale", f"{name}_shift")
    both = line.after_calibration(Calibration(old.temperature, old.bias))
    card = replace(old, preprocessing=preprocessing, temperature=both.temperature, bias=both.bias, reduced_decode=None)
    write(proto, card, part)  # a preliminary card, to measure the model with
    return open_on_all_cores(part, provider)


def _card(
    original: OnnxModel,
    made: OnnxModel,
    rules: Rules,
    splits: dict[str, LoadedSplit],
    answers: dict[str, Predictions],
    elsewhere: Answered | None,
) -> ModelCard:
    card = made.card
    return measured_card(
        original, made, rules.own, splits, answers, elsewhere,
        recipe=f"{card.recipe}, resize {card.preprocessing.resize}",
        preprocessing=card.preprocessing,
        temperature=card.temperature,
        bias=card.bias,
        field_limits=_field_limits(made, splits["validation"]),
        goldens=tuple(scored_again(golden, made, golden.tolerances) for golden in card.goldens),
    )  # fmt: skip


def _field_limits(made: OnnxModel, images: LoadedSplit) -> FieldLimits | None:
    """Those of the lung fields that the model finds now; None where it finds none."""
    if made.card.field_limits is None:
        return None
    found = [prediction.lungs for prediction in made.predict(images.grids)]
    return limits_of(np.stack([lungs for lungs in found if lungs is not None]))


def _answered(made: OnnxModel, elsewhere: OtherPlace | None, rules: Rules, report: Report) -> Answered | None:
    if elsewhere is None or rules.elsewhere is None:
        return None
    images = load_split(elsewhere.root, elsewhere.samples, made.card.preprocessing, report)
    found = predict_split(made, images)
    return Answered(images.samples, found.probabilities, found.familiarity, rules.elsewhere)


def _rewrite(part: Path, card: ModelCard) -> None:
    import onnx

    write(onnx.load(part), card, part)
