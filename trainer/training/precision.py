"""Train in bfloat16 where the processor has instructions for it; what is exported is float32."""

from dataclasses import replace

import keras

from trainer.recipes.backbone import RANDOM
from trainer.recipes.recipe import Network, Recipe, Start
from trainer.training.variables import assign, values_of
from worker.errors import BadSetting


def build_to_train(recipe: Recipe, start: Start) -> Network:
    """The recipe's network, which computes in the recipe's precision; its weights are float32 in each of them.

    Raises BadSetting for a network with local evidence: its pooling adds numbers that bfloat16 cannot tell apart.
    """
    keras.config.set_dtype_policy(recipe.precision)
    try:
        network = recipe.build(start)
    finally:
        keras.config.set_dtype_policy("float32")
    if network.local is not None and recipe.precision != "float32":
        raise BadSetting(f"recipe {recipe.name} pools local evidence: leave out --precision")
    return network


def require_precision(recipe: Recipe) -> None:
    """Raise what `build_to_train` raises, from the network alone: before an image is read or a weight fetched."""
    if recipe.precision != "float32":
        build_to_train(recipe, Start(recipe.preprocessing.size, recipe.backbone, RANDOM))


def as_exported(recipe: Recipe, start: Start, trained: Network) -> Network:
    """The trained network, computing in float32."""
    if recipe.precision == "float32":
        return trained
    network = recipe.build(replace(start, weights=RANDOM))
    assign(network.variables, values_of(trained.variables))
    return network
