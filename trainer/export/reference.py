"""The reference of a model: inputs and predictions on images it was not trained on; and adding it to a model file."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.atomic_file import write_synced
from trainer.data.image_files import image_files
from trainer.data.images import in_batches, read_images
from trainer.data.manifest import Sample, digest
from trainer.progress import Report
from worker.errors import BadData, ModelRefused
from worker.imaging.statistics import describe
from worker.inference.card import REFERENCE_KEY, VALIDATION_KEY
from worker.inference.model import BATCH_SIZES, Model, OnnxModel, open_model, replay_goldens
from worker.inference.reference import MEASURES, Reference, Values, make_reference
from worker.inference.site_point import ValidationScores


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
        grids = np.stack([loaded.grid(model.card.preprocessing) for loaded in part])
        predictions = model.predict(grids)
        scores = np.array([[p.probability, p.familiarity] for p in predictions], np.float64)
        rows.append(np.stack(list(measured(scores[:, 0], scores[:, 1], grids).values())))
        read += [loaded.sample for loaded in part]
    if not read:
        raise BadData("holds no image that can be read").about(str(root))
    return read, dict(zip(MEASURES, np.concatenate(rows, axis=1), strict=True))


class MeasuredReference(NamedTuple):
    """The reference of a model on some images."""

    reference: Reference
    scores: ValidationScores | None  #: if the images are those on which the card's threshold was chosen
    unreadable: list[dict[str, str]]  #: path, code and message of files that cannot be read


def measure_reference(
    model: Model, root: Path, samples: Sequence[Sample], is_labelled: bool, report: Report
) -> MeasuredReference:
    """The reference of a model on these samples. Their labels are ignored unless `is_labelled`."""
    unreadable: list[dict[str, str]] = []
    read, values = measure(model, root, samples, unreadable, report)
    data_digest, point = digest(read), model.card.operating_point
    if not is_labelled:
        return MeasuredReference(make_reference(values, None, point.threshold, data_digest), None, unreadable)
    labels = np.array([sample.label for sample in read], np.int64)
    reference = make_reference(values, list(labels), point.threshold, data_digest)
    are_of_the_card = data_digest == point.data_digest
    scores = scores_of(labels, values["probability"]) if are_of_the_card else None
    return MeasuredReference(reference, scores, unreadable)


def scores_of(labels: NDArray[np.int64], probabilities: Values) -> ValidationScores:
    """The probabilities of each class, ascending, for the card."""
    normals, positives = np.sort(probabilities[labels == 0]), np.sort(probabilities[labels == 1])
    return ValidationScores(tuple(map(float, normals)), tuple(map(float, positives)))


def unlabelled(root: Path) -> tuple[Sample, ...]:
    """Every image file below a folder, in order of path, as samples whose label means nothing."""
    paths = image_files(root)
    if not paths:
        raise BadData("holds no image (DICOM, PNG or JPEG)").about(str(root))
    return tuple(Sample(path.relative_to(root).as_posix(), 0, "", "", "") for path in paths)


def complete(path: Path, made: MeasuredReference, out: Path) -> OnnxModel:
    """Write the model of `path` with this reference to `out`, whole or not at all, and return it opened.

    Graph, weights, card and goldens stay as they are, byte for byte; the file's digest becomes another. Raises
    ModelRefused, leaving no file behind, when it does not pass its goldens.
    """
    import onnx

    before = open_model(path, "cpu")
    proto = onnx.load(path)
    added = {REFERENCE_KEY: made.reference.to_metadata()}
    if made.scores is not None:
        added[VALIDATION_KEY] = made.scores.to_metadata()
    kept = [prop for prop in proto.metadata_props if prop.key not in added]
    del proto.metadata_props[:]
    proto.metadata_props.extend([*kept, *(onnx.StringStringEntryProto(key=k, value=v) for k, v in added.items())])
    part = out.with_name(out.name + ".part")
    try:
        write_synced(proto.SerializeToString(), part)
        model = open_model(part, "cpu")
        if model.card.operating_point != before.card.operating_point or model.card.reference != made.reference:
            raise ModelRefused("the card in the written file differs from the one to be written").about(str(out))
        replay_goldens(model)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return model
