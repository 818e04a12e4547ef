"""The reference of a model: inputs and predictions on images it was not trained on; and adding it to a model file."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.images import in_batches, read_images
from trainer.data.manifest import IMAGE_SUFFIXES, Sample, digest
from trainer.progress import Report
from worker.errors import BadData, ModelRefused
from worker.imaging.preprocess import apply
from worker.imaging.statistics import describe
from worker.inference.card import REFERENCE_KEY
from worker.inference.model import BATCH_SIZES, Model, OnnxModel, open_model, replay_goldens
from worker.inference.reference import MEASURES, Reference, Values, make_reference


def measured(probabilities: Values, familiarity: Values, grids: Iterable[NDArray[np.uint8]]) -> dict[str, Values]:
    """The values [N] of every measure, by name."""
    inputs = np.array([list(vars(describe(grid)).values()) for grid in grids], np.float64)
    return dict(zip(MEASURES, (probabilities, familiarity, *inputs.T), strict=True))


def measure(
    model: Model, root: Path, samples: Sequence[Sample], unreadable: list[dict[str, str]], report: Report
) -> tuple[list[Sample], dict[str, Values]]:
    """The samples that could be read, and the values [N] of every measure on them, by its name.

    Path, code and message of the others are added to `unreadable`. Raises BadData when no image can be read.
    """
    read: list[Sample] = []
    rows: list[Values] = []
    for part in in_batches(read_images(root, samples, unreadable, report), BATCH_SIZES[-1]):
        grids = np.stack([apply(loaded.pixels, model.card.preprocessing)[0] for loaded in part])
        predictions = model.predict(grids)
        scores = np.array([[p.probability, p.familiarity] for p in predictions], np.float64)
        rows.append(np.stack(list(measured(scores[:, 0], scores[:, 1], grids).values())))
        read += [loaded.sample for loaded in part]
    if not read:
        raise BadData("holds no image that can be read").about(str(root))
    return read, dict(zip(MEASURES, np.concatenate(rows, axis=1), strict=True))


def measure_reference(
    model: Model, root: Path, samples: Sequence[Sample], is_labelled: bool, report: Report
) -> tuple[Reference, list[dict[str, str]]]:
    """The reference of a model on these samples; and path, code and message of files that cannot be read.

    The labels of the samples are ignored unless `is_labelled`.
    """
    unreadable: list[dict[str, str]] = []
    read, values = measure(model, root, samples, unreadable, report)
    labels = [sample.label for sample in read] if is_labelled else None
    return make_reference(values, labels, model.card.operating_point.threshold, digest(read)), unreadable


def unlabelled(root: Path) -> tuple[Sample, ...]:
    """Every image file below a folder, in order of path, as samples whose label means nothing."""
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not paths:
        raise BadData(f"holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})").about(str(root))
    return tuple(Sample(path.relative_to(root).as_posix(), 0, "", "", "") for path in paths)


def complete(path: Path, reference: Reference, out: Path) -> OnnxModel:
    """Write the model of `path` with this reference to `out`, whole or not at all, and return it opened.

    Graph, weights, card and goldens stay as they are, byte for byte; the file's digest becomes another. Raises
    ModelRefused, leaving no file behind, when it does not pass its goldens.
    """
    import onnx

    before = open_model(path, "cpu")
    proto = onnx.load(path)
    kept = [prop for prop in proto.metadata_props if prop.key != REFERENCE_KEY]
    added = onnx.StringStringEntryProto(key=REFERENCE_KEY, value=reference.to_metadata())
    del proto.metadata_props[:]
    proto.metadata_props.extend([*kept, added])
    part = out.with_name(out.name + ".part")
    try:
        part.write_bytes(proto.SerializeToString())
        model = open_model(part, "cpu")
        if model.card.operating_point != before.card.operating_point or model.card.reference != reference:
            raise ModelRefused("the card in the written file differs from the one to be written").about(str(out))
        replay_goldens(model)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return model
