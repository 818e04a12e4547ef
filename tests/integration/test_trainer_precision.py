"""A fit that computes in bfloat16, and a file that computes in float32."""

from dataclasses import replace
from pathlib import Path

import keras
import pytest

from tests.toy_network import RECIPE, Event, fit_options, toy
from trainer.recipes import recipe_named
from trainer.recipes.backbone import RANDOM
from trainer.recipes.recipe import Start
from trainer.run.run import run, run_folds
from trainer.training.precision import as_exported, build_to_train
from trainer.training.variables import values_of
from worker.errors import BadSetting

BFLOAT16 = RECIPE.computing_in("mixed_bfloat16")


def test_layers_compute_in_bfloat16_and_keep_weights_of_float32() -> None:
    trained = build_to_train(BFLOAT16, Start(32))
    assert {layer.compute_dtype for layer in trained.head} == {"bfloat16"}
    assert {str(weight.dtype) for weight in trained.model.weights} == {"float32"}
    assert keras.config.dtype_policy().name == "float32", "of whatever is built next"
    exported = as_exported(BFLOAT16, Start(32), trained)
    assert {layer.compute_dtype for layer in exported.head} == {"float32"}
    for mine, theirs in zip(values_of(exported.model.weights), values_of(trained.model.weights), strict=True):
        assert (mine == theirs).all()


@pytest.mark.slow
def test_the_file_agrees_with_keras_in_float32_and_its_card_names_the_precision(images: Path, tmp_path: Path) -> None:
    told: list[Event] = []
    run(fit_options(images, tmp_path, recipe=BFLOAT16), told.append)
    exported = next(event for event in told if event["event"] == "exported")
    assert exported["probability_difference"] < 1e-4
    assert BFLOAT16.title == "toy (in mixed_bfloat16)"


def test_a_network_with_local_evidence_is_trained_in_float32() -> None:
    recipe = recipe_named("efficientnet_lite0_lungs").computing_in("mixed_bfloat16")
    with pytest.raises(BadSetting, match="leave out --precision"):
        build_to_train(recipe, Start(recipe.preprocessing.size, recipe.backbone, RANDOM))


@pytest.mark.parametrize("folds", [1, 2])
def test_it_is_refused_for_local_evidence_before_an_image_is_read(images: Path, tmp_path: Path, folds: int) -> None:
    local = replace(BFLOAT16, build=lambda _: replace(toy(), local=object()))
    options = fit_options(images, tmp_path / "run", recipe=local)
    told: list[Event] = []
    with pytest.raises(BadSetting, match="recipe toy pools local evidence: leave out --precision"):
        run(options, told.append) if folds == 1 else run_folds(options, folds, told.append)
    assert told == []
    assert not options.out.exists()
