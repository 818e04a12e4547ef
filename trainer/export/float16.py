"""Convert the convolutions of a model to float16. The result is a new model with its own file, card and goldens.

Everything on its card is measured with the new file, on the execution provider that runs the conversion. The
differences from the original are reported, and a model that differs too much is refused.
"""

from pathlib import Path

from trainer.data.manifest import Manifest
from trainer.evaluation.agreement import differences, load_split, predict_split, require_near
from trainer.evaluation.model_file import open_on_all_cores
from trainer.export.card import versions, write
from trainer.export.conversion import PACKAGES, Conversion, measured_card, scored_again, summary
from trainer.export.float16_graph import halve
from trainer.progress import Report
from trainer.statistics.operating_point import ThresholdRule, rule_in_words
from worker.errors import BadSetting
from worker.inference.model import PROVIDERS, replay_goldens

SUFFIX = "_fp16"
PRECISION = "float16 from the first convolution to the last, else float32"

CPU, CUDA = PROVIDERS["cpu"], PROVIDERS["cuda"]

#: Largest |difference| of a golden's probability: provider that scored it -> provider that replays it. On a CPU, ONNX
#: Runtime rounds the weights but computes in float32; on CUDA every result is rounded to float16, and devices and
#: releases round differently. Near the threshold that changes a probability by some thousandths.
TOLERANCES = {CPU: {CPU: 1e-3, CUDA: 1e-2}, CUDA: {CPU: 1e-2, CUDA: 5e-3}}


def convert(
    path: Path, provider: str, root: Path, manifest: Manifest, rule: ThresholdRule | None, out: Path, report: Report
) -> Conversion:
    """Write the model of `path` in float16 to `out`, whole or not at all, measured on the manifest's splits.

    The threshold is chosen again on the validation split, by `rule` or else by the rule on the card. Raises
    ModelRefused, leaving no file behind, when a prediction is not finite, when too many flags change or when a golden
    fails; BadData when a split lacks a class.
    """
    import onnx

    if out.resolve() == path.resolve():
        raise BadSetting("a model in float16 is another model: give --out another name than the original's")
    original = open_on_all_cores(path, provider)
    rule = rule or rule_in_words(original.card.operating_point.rule)
    splits = {
        split: load_split(root, manifest.of(split), original.card.preprocessing, report)
        for split in ("validation", "test")
    }
    proto = halve(onnx.load(path))
    part = out.with_name(out.name + ".part")
    try:
        write(proto, original.card, part)  # a preliminary card, to measure the model with
        made = open_on_all_cores(part, _setting_of(original.provider))
        before = {split: predict_split(original, images) for split, images in splits.items()}
        after = {split: predict_split(made, images) for split, images in splits.items()}
        card = measured_card(
            original, made, rule, splits, after,
            name=original.card.name + SUFFIX,
            versions=versions(PACKAGES) | {"precision": PRECISION, "made from": original.digest},
            goldens=tuple(scored_again(golden, made, TOLERANCES[made.provider]) for golden in original.card.goldens),
        )  # fmt: skip
        thresholds = original.card.operating_point.threshold, card.operating_point.threshold
        by_split = {split: differences(before[split], after[split], thresholds) for split in splits}
        require_near(by_split)
        write(proto, card, part)
        for each in dict.fromkeys((CPU, made.provider)):
            made = open_on_all_cores(part, _setting_of(each))
            replay_goldens(made)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    unreadable = [fault for images in splits.values() for fault in images.unreadable]
    return summary(original, made, path, out, by_split, unreadable)


def _setting_of(provider: str) -> str:
    """The name of this execution provider in the settings and in `open_model`."""
    return next(name for name, each in PROVIDERS.items() if each == provider)
