"""Export a trained network to one ONNX file with its card. The file is opened, compared with Keras and else refused.

TensorFlow is imported only when an export runs.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from trainer.data.manifest import Manifest, Origin
from trainer.evaluation.evaluate import evaluate
from trainer.export.attribution import METHODS
from trainer.export.card import Answered, Elsewhere, measure_fields, metrics_on_test_split, versions, write
from trainer.export.goldens import choose_goldens
from trainer.export.lung_field_limits import limits_of
from trainer.export.serving_graph import Served, logit_of, predict
from trainer.progress import Report
from trainer.recipes.recipe import Recipe
from worker.errors import BadSetting, ModelRefused
from worker.inference.card import ModelCard
from worker.inference.model import Model, open_model, replay_goldens

OPSET = 18

#: Limit of the |difference| between the file and Keras, in probability, heat and familiarity.
AGREEMENT = 1e-4
COMPARED_IMAGES = 16

PACKAGES = ("chest-screening", "keras", "tensorflow", "tf2onnx", "onnx", "numpy", "opencv-python-headless")


def export(
    recipe: Recipe,
    served: Served,
    manifest: Manifest,
    root: Path,
    validation: NDArray[np.uint8],
    path: Path,
    origin: Origin,
    report: Report,
    elsewhere: Elsewhere | None = None,
) -> Model:
    """Write the model file `path`, whole or not at all, and return the opened model.

    `validation` are the grids of the manifest's validation split, `elsewhere` those of another place, which help choose
    the threshold. The card states what `evaluate` gives for the test split. Raises
    ModelRefused, leaving no file behind, when the reopened file differs from Keras or fails its goldens; BadSetting
    when Keras runs on another backend than TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise BadSetting("export needs TensorFlow: set KERAS_BACKEND=tensorflow and start the same command again")
    part = path.with_name(path.name + ".part")
    try:
        proto = to_onnx(served, recipe.preprocessing.size)
        card = _card(recipe, served, manifest, root, validation, origin, elsewhere)
        write(proto, card, part)
        tested = evaluate(open_model(part, "cpu"), root, manifest.of("test"), report)
        write(proto, replace(card, metrics=card.metrics | metrics_on_test_split(tested)), part)
        model = open_model(part, "cpu")
        differences = compare(model, served, validation[_spread(len(validation))])
        replay_goldens(model)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    size = path.stat().st_size
    report({"event": "exported", "model": path.name, "digest": model.digest, "bytes": size, **differences})
    return model


def to_onnx(served: Callable[[Any], dict[str, Any]], size: int) -> Any:
    """The graph as an ONNX ModelProto with the names of the tensor contract."""
    import tensorflow as tf
    import tf2onnx

    signature = (tf.TensorSpec((None, size, size, 1), tf.uint8, name="image"),)

    # tf2onnx takes the name of the input from the parameter and the names of the outputs from the dictionary
    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def graph(image: Any) -> Any:
        return {name: tf.identity(value, name=name) for name, value in served(image).items()}

    proto, _ = tf2onnx.convert.from_function(graph, input_signature=signature, opset=OPSET)
    return proto


def compare(model: Model, served: Served, grids: NDArray[np.uint8]) -> dict[str, float]:
    """Largest |difference| of the opened file from Keras, and of its heat from a gradient tape's Grad-CAM.

    Local evidence is not compared with a tape: its heat is the map from which the probability is pooled. The difference
    of familiarity is relative above 1, because familiarity has no upper limit. Raises ModelRefused when a difference
    is AGREEMENT or more, or not a number.
    """
    predictions = model.predict(np.asarray(grids)[..., None])
    wanted = predict(served, grids)
    probability = np.array([p.probability for p in predictions])
    heat = np.stack([p.heatmap for p in predictions])
    familiarity = np.array([p.familiarity for p in predictions])
    of_familiarity = np.abs(familiarity - wanted["familiarity"]) / np.maximum(wanted["familiarity"], 1)
    differences = {
        "probability_difference": float(np.abs(probability - wanted["probability"]).max()),
        "heat_difference": float(np.abs(heat - wanted["heatmap"]).max()),
        "familiarity_difference": float(of_familiarity.max()),
    }
    if served.network.local is None:
        differences["tape_difference"] = float(np.abs(heat - tape_heat(served, grids)).max())
    if "lungs" in wanted:
        lungs = np.stack([p.lungs for p in predictions if p.lungs is not None])
        differences["lungs_difference"] = float(np.abs(lungs - wanted["lungs"]).max())
    for name, value in differences.items():
        if not value < AGREEMENT:
            raise ModelRefused(f"the exported graph differs from Keras: {name} {value:.2g} >= {AGREEMENT:g}")
    return differences


def tape_heat(served: Served, grids: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The heat map [N, h, w] by automatic differentiation, as in the literature, to check the exported one."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        features = served.network.trunk(np.asarray(grids)[..., None], training=False)
        tape.watch(features)
        logit = logit_of(features, served.network)
    gradient = tape.gradient(logit, features).numpy()
    if served.network.pooling == "average":
        gradient = gradient.mean(axis=(1, 2), keepdims=True)
    raw = np.maximum((features.numpy() * gradient).sum(axis=-1), 0)
    return np.asarray(np.clip(raw / served.heat_scale, 0, 1), np.float32)


def _card(
    recipe: Recipe,
    served: Served,
    manifest: Manifest,
    root: Path,
    validation: NDArray[np.uint8],
    origin: Origin,
    elsewhere: Elsewhere | None,
) -> ModelCard:
    samples = manifest.of("validation")
    predicted = {name: values.astype(np.float64) for name, values in predict(served, validation).items()}
    probabilities = predicted["probability"]
    answered = _answered(served, elsewhere)
    fields = measure_fields(recipe.threshold, samples, probabilities, predicted["familiarity"], validation, answered)
    threshold = fields.operating_point.threshold
    goldens = choose_goldens(served, samples, probabilities, threshold, root, recipe.preprocessing, origin.attribution)
    return ModelCard(
        name=recipe.name,
        recipe=recipe.title,
        preprocessing=recipe.preprocessing,
        temperature=served.calibration.temperature,
        bias=served.calibration.bias,
        heat_scale=served.heat_scale,
        heat_method=METHODS[served.network.pooling],
        population=origin.population,
        data_digest=manifest.digest,
        versions=versions(PACKAGES),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        attribution=origin.attribution,
        goldens=goldens,
        prevalence=recipe.prevalence or float(np.mean([sample.label for sample in samples])),
        field_limits=limits_of(predicted["lungs"]) if "lungs" in predicted else None,
        **fields._asdict(),
    )


def _answered(served: Served, elsewhere: Elsewhere | None) -> Answered | None:
    if elsewhere is None:
        return None
    found = predict(served, elsewhere.grids)
    probabilities, distances = (found[name].astype(np.float64) for name in ("probability", "familiarity"))
    return Answered(elsewhere.samples, probabilities, distances, elsewhere.rule)


def _spread(count: int) -> NDArray[np.int64]:
    """Indices of up to COMPARED_IMAGES images, evenly spread, because the split is sorted by class."""
    return np.unique(np.linspace(0, count - 1, min(count, COMPARED_IMAGES)).astype(np.int64))
