"""Rebuild the network of a finished run from recipe and checkpoint, and compare it with the model file."""

import keras
import numpy as np

from trainer.recipes import recipe_named
from trainer.recipes.backbone import RANDOM
from trainer.recipes.recipe import Network, Recipe, Start
from trainer.run.folder import RunFolder
from trainer.statistics.operating_point import Calibration, apply_calibration
from trainer.training.warm_start import read_previous
from worker.errors import BadSetting
from worker.imaging.image_file import read_grid
from worker.inference.model import Model

#: Limit of the |difference| of probabilities from the model file; the weights of another epoch differ much more.
AGREEMENT = 1e-3


def rebuild(run: RunFolder, model: Model, recipe: Recipe | None = None) -> Network:
    """The network with the weights of its best epoch; `recipe` if it is not a registered one.

    Raises BadSetting where there is no checkpoint, or where its probabilities differ from those of the model file.
    """
    earlier = read_previous(run.path)
    recipe = recipe or _recipe_of(run, model)
    network = recipe.build(Start(model.card.preprocessing.size, recipe.backbone, RANDOM))
    earlier.load_into(network)
    if not _difference(network, model) < AGREEMENT:
        raise BadSetting("its weights differ from those of the model file").about(str(earlier.path))
    return network


def _recipe_of(run: RunFolder, model: Model) -> Recipe:
    """The recipe with the card's name, on the backbone in the record or else in the card's title."""
    recipe = recipe_named(model.card.name)
    named = [run.record.recipe.get("backbone")] if run.record else model.card.recipe.replace(",", " ").split()
    other = next((name for name in recipe.other_backbones if name in named), None)
    return recipe.on(other) if other else recipe


def _difference(network: Network, model: Model) -> float:
    """Largest |difference| between the probabilities of network and model file, on the card's goldens."""
    card = model.card
    grids = np.stack([read_grid(golden.content, card.preprocessing) for golden in card.goldens])
    logits = keras.ops.convert_to_numpy(network.model(grids, training=False))[:, 0]
    probabilities = apply_calibration(logits, Calibration(card.temperature, card.bias))
    served = np.array([prediction.probability for prediction in model.predict(grids)])
    return float(np.abs(probabilities - served).max())
