"""Every recipe at toy size: each phase trains the right layers, and the model is exported with a heat map."""

import importlib.util
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from numpy.typing import NDArray

from trainer.data.folders import read_samples
from trainer.data.manifest import Origin
from trainer.data.split import split
from trainer.export.attribution import METHODS
from trainer.export.familiarity import measure
from trainer.export.graph import export
from trainer.export.serving_graph import Served, complete, findings, logit_of, pooled, predict
from trainer.progress import Event, silent
from trainer.recipes import RECIPES, recipe_named
from trainer.recipes.backbone import RANDOM
from trainer.recipes.recipe import Network, Phase, Recipe, Start
from trainer.run.run import FitOptions, batches_of, run
from trainer.statistics.operating_point import Calibration
from trainer.training.batches import TrainingBatches, labels_of, load_grids, monitored_copies
from trainer.training.checkpoint import Checkpoint
from trainer.training.fit import choose_trained, fit
from trainer.training.teachers import NO_TEACHERS
from worker.errors import BadSetting
from worker.inference.model import open_model, replay_goldens

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # it trains; ResNet50's graph takes long on a busy machine

SIZE = 32

#: The three that may stand on another backbone stand on both.
VARIANTS = [*RECIPES, *(r.on(name) for r in RECIPES for name in r.other_backbones)]
EACH = pytest.mark.parametrize("recipe", VARIANTS, ids=lambda recipe: f"{recipe.name}-{recipe.backbone or 'own'}")

#: Each recipe on the smallest backbone it takes.
SMALLEST = [recipe.on("mobilenetv2") if recipe.other_backbones else recipe for recipe in RECIPES]

#: ResNet50 is exported once, by resnet50_youden; its graph alone takes half a minute.
DOORS = [recipe.on("mobilenetv2") if recipe.name == "resnet50_clahe" else recipe for recipe in RECIPES]


def toy(recipe: Recipe) -> Recipe:
    """The recipe at 32 px, one epoch of two steps a phase."""
    phases = tuple(replace(phase, epochs=1) for phase in recipe.phases)
    small = replace(recipe.preprocessing, size=SIZE, clahe_tiles=2)
    return replace(recipe, preprocessing=small, phases=phases, batch_size=16)


def build(recipe: Recipe) -> Network:
    keras.utils.set_random_seed(1)
    network = recipe.build(Start(SIZE, recipe.backbone, RANDOM))
    if recipe.backbone in ("mobilenetv2", "efficientnet_lite0"):  # their random weights damp the signal by 1e-12
        for layer in (layer for layer in network.backbone.layers if layer in network.frozen):
            layer.gamma.assign(layer.gamma * 3.0)
    return network


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 PNGs of 40 x 48 px, a third of them normal; pneumonia has a bright patch in the middle."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(64):
        sick = i % 3 > 0
        image = rng.normal(70, 12, (48, 40))
        if sick:
            image[16:32, 12:28] += 120
        name = f"PNEUMONIA/person{i}_virus_{i}.png" if sick else f"NORMAL/IM-{i:04d}-1.png"
        (root / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(root / name), np.clip(image, 0, 255).astype(np.uint8))
    return root


@contextmanager
def eagerly() -> Iterator[None]:
    """Two steps are sooner run than compiled."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not apply to tf.data functions", UserWarning)
            yield
    finally:
        tf.config.run_functions_eagerly(False)


def trained(
    recipe: Recipe,
    network: Network,
    images: Path,
    cache: Path,
    latest: Checkpoint | None = None,
    save: Callable[[Checkpoint], None] = lambda _: None,
) -> tuple[Any, NDArray[np.uint8], list[Event]]:
    manifest = split(read_samples(images), 0)
    loaded = {
        name: load_grids(images, manifest.of(name), recipe.preprocessing, cache, silent)
        for name in ("train", "validation")
    }
    grids = {name: part.grids for name, part in loaded.items()}
    labels = {name: labels_of(manifest.of(name)) for name in grids}
    copies, watched = monitored_copies(recipe, grids["validation"], labels["validation"], 0)
    batches = batches_of(recipe, network, loaded["train"], NO_TEACHERS, 0)
    events: list[Event] = []
    with eagerly():
        fit(
            recipe,
            network,
            batches,
            copies,
            watched,
            "toy",
            latest,
            save,
            events.append,
        )
    return manifest, grids["validation"], events


@pytest.mark.parametrize("recipe", DOORS, ids=lambda recipe: recipe.name)
def test_two_steps_then_out_through_the_door(recipe: Recipe, images: Path, tmp_path: Path) -> None:
    recipe = toy(recipe)
    network = build(recipe)
    before = {layer: layer.get_weights() for layer in layers_of(network) if layer.weights}
    manifest, validation, events = trained(recipe, network, images, tmp_path)
    changed = {layer for layer, old in before.items() if any(map(differ, old, layer.get_weights()))}
    assert set(network.head) <= changed
    assert not changed & set(network.frozen)
    if all(phase.trains == "head" for phase in recipe.phases):
        assert changed == set(network.head)
    steps = [event for event in events if event["event"] == "batch"]
    assert len(steps) >= 2 * len(recipe.phases) - recipe.undersampled
    if not raw(network, validation).any():  # untrained, all evidence may speak against: turn it round
        network.head[-1].kernel.assign(-network.head[-1].kernel)
    heat_scale = float(raw(network, validation).max())
    assert heat_scale > 1e-5
    halfway = keras.ops.convert_to_numpy(pooled(findings(network, validation[..., None]).halfway))
    served = Served(network, Calibration(1.3, 0.4), heat_scale, measure(halfway))
    said: list[Event] = []
    model = export(recipe, served, manifest, images, validation, tmp_path / "toy.onnx", Origin(), said.append)
    own = "tape" if network.local is None else "lungs"  # a tape's heat; local evidence is its own witness
    for name in ("probability", "heat", "familiarity", own):  # of the opened file from Keras
        assert said[-1][f"{name}_difference"] < 1e-4
    assert model.card.recipe == recipe.title
    assert model.card.heat_method == METHODS[network.pooling]
    assert (model.card.field_limits is None) is (network.local is None)
    assert model.card.operating_point.rule == str(recipe.threshold)
    assert model.card.metrics["validation_familiar"].value == 1.0, "so few images are all within the limit"
    assert network.stages is not None
    middle, last = (m.shape for m in network.stages.outputs)
    assert middle[1] >= 2 * last[1], "familiarity looks at a map of the middle"
    reopened = open_model(tmp_path / "toy.onnx", "cpu")
    replay_goldens(reopened)
    assert max(p.heatmap.max() for p in reopened.predict(validation[..., None])) > 0


def test_a_head_that_serves_training_alone_is_in_the_checkpoint(images: Path, tmp_path: Path) -> None:
    recipe = toy(recipe_named("efficientnet_lite0_lungs"))
    network, other = build(recipe), build(recipe)
    kept: list[Checkpoint] = []
    trained(recipe, network, images, tmp_path, save=kept.append)
    trained(recipe, other, images, tmp_path, latest=kept[-1])  # nothing is left to train: it takes the weights over
    head = network.taught.get_layer("whole_image")
    assert id(head.kernel) not in map(id, network.model.variables)
    one, two = (n.taught.get_layer("whole_image").get_weights()[0] for n in (network, other))
    assert not differ(one, two)


def differ(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return bool((one != other).any())


def raw(network: Network, grids: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Heat before its scale."""
    heat: NDArray[np.float32] = keras.ops.convert_to_numpy(findings(network, grids[..., None]).heat)
    return heat


@EACH
def test_a_phase_trains_what_it_says_and_nothing_else(recipe: Recipe) -> None:
    network = build(recipe)
    body = [layer for layer in layers_of(network) if layer.weights and layer not in network.head]
    for phase in recipe.phases:
        choose_trained(network, phase)
        trains = {layer for layer in (*body, *network.head) if layer.trainable_weights}
        assert set(network.head) <= trains
        assert not trains & set(network.frozen)
        if phase.trains == "head":
            assert trains == set(network.head)
        elif phase.trains == "all":
            assert trains == {*body, *network.head} - set(network.frozen)
        else:
            below, above = network.backbone.layers[: phase.trains], network.backbone.layers[phase.trains :]
            assert trains == {layer for layer in (*above, *network.head) if layer.weights} - set(network.frozen)
            assert not trains & set(below)


def layers_of(network: Network) -> list[Any]:
    """Of the whole network, none of them a network itself."""

    def inside(model: Any) -> Iterator[Any]:
        for layer in model.layers:
            yield from inside(layer) if isinstance(layer, keras.Model) else (layer,)

    return list(dict.fromkeys(inside(network.model)))


def test_vgg21m_has_as_many_parameters_as_published() -> None:
    recipe = recipe_named("vgg21m_softmax")
    network = recipe.build(Start(recipe.preprocessing.size))
    assert network.model.count_params() == 21_154_050
    assert network.head[-1].units == 2


def test_two_softmax_neurons_are_the_logit_of_their_difference() -> None:
    network = build(recipe_named("vgg21m_softmax"))
    grids = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 1), np.uint8)
    value = keras.ops.reshape(network.trunk(grids), (4, -1))
    for layer in network.head:
        value = layer(value)
    softmax = keras.ops.convert_to_numpy(keras.ops.softmax(value))[:, 1]
    logit = keras.ops.convert_to_numpy(logit_of(network.trunk(grids), network))
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), softmax, rtol=1e-5)
    np.testing.assert_allclose(network.model.predict_on_batch(grids)[:, 0], logit, rtol=1e-4, atol=1e-6)


PRIORS: dict[str, dict[str, Any]] = {
    "balanced": {"batches": "balanced"},
    "undersampled": {"batches": "shuffled", "undersampled": True},
    "class weights": {"batches": "shuffled", "class_weighted": True},
    "as they come": {"batches": "shuffled"},
}


@pytest.mark.parametrize("name", PRIORS)
def test_whatever_prior_was_trained_the_graph_answers_at_the_validations(name: str) -> None:
    """Nine of ten are sick and the classes overlap: only the right prior makes the probabilities add up."""
    rng = np.random.default_rng(2)
    labels = (rng.random(600) < 0.9).astype(np.int64)
    grids = np.clip(rng.normal(100, 40, (600, 1, 1)) + 40 * labels[:, None, None], 0, 255).astype(np.uint8)
    grids = np.tile(grids, (1, SIZE, SIZE))
    phase = Phase("all", 8, 3e-2, "all", schedule="constant")
    base = toy(recipe_named("scratch_cnn"))
    recipe = replace(base, phases=(phase,), augmentation=replace(base.augmentation, scale_max=0.0), **PRIORS[name])
    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 1), dtype="uint8")
    scaled = keras.layers.Rescaling(1 / 64, offset=-2.0)(image)
    features = keras.layers.AveragePooling2D(16)(keras.layers.Concatenate()([scaled, scaled, scaled]))
    neuron = keras.layers.Dense(1)
    logit = neuron(keras.layers.GlobalAveragePooling2D()(features))
    network = Network(keras.Model(image, logit), keras.Model(image, features), (neuron,), "average")
    fit(
        recipe,
        network,
        lambda epoch: TrainingBatches(grids[:300], labels[:300], recipe, 0, epoch),
        *monitored_copies(recipe, grids[300:], labels[300:], 0),
        "toy",
        None,
        lambda _: None,
        silent,
    )
    logits = keras.ops.convert_to_numpy(logit_of(network.trunk.predict(grids[300:, ..., None], verbose=0), network))
    uncorrected = float((1 / (1 + np.exp(-logits))).mean())
    served = complete(network, grids[:300], [], grids[300:], labels[300:])
    corrected = float(predict(served, grids[300:])["probability"].mean())
    prevalence = labels[300:].mean()
    assert corrected == pytest.approx(prevalence, abs=0.01)
    if name != "as they come":
        assert uncorrected < prevalence - 0.1
        assert served.calibration.bias > 0.5


@pytest.mark.usefixtures("weightless")
def test_without_network_a_recipe_asks_for_its_weights(images: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"resnet50_weights.*--weights FILE"):
        run(FitOptions(images, toy(recipe_named("resnet50_youden")), tmp_path), silent)


@pytest.fixture
def weightless(tmp_path: Path) -> Iterator[None]:
    """An empty Keras home, and a proxy that is not there."""
    kept = {name: os.environ.get(name) for name in ("KERAS_HOME", "https_proxy")}
    os.environ.update(KERAS_HOME=str(tmp_path), https_proxy="http://127.0.0.1:9")
    yield
    for name, value in kept.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


STEP_ON_JAX = """
import sys; sys.path.insert(0, ".")
from pathlib import Path
import keras; assert keras.backend.backend() == "jax"
from tests.integration.test_trainer_recipes import SMALLEST, build, toy, trained
import tempfile
for recipe in SMALLEST:
    with tempfile.TemporaryDirectory() as cache:
        _, _, events = trained(toy(recipe), build(recipe), Path(sys.argv[1]), Path(cache))
        print(recipe.title, [e["loss"] for e in events if e["event"] == "epoch"], flush=True)
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_every_recipe_takes_its_steps_on_jax(images: Path) -> None:
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", STEP_ON_JAX, str(images)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == len(SMALLEST)
