"""The network of a finished run, built again from recipe and checkpoint, and held against its model file."""

import keras
import numpy as np

from trainer.recipes import recipe_named
from trainer.recipes.backbone import RANDOM
from trainer.recipes.recipe import Network, Recipe, Start
from trainer.run.folder import RunFolder
from trainer.statistics.operating_point import Calibration, apply_calibration
from trainer.training.warm_start import read_previous
from worker.errors import BadSetting
from worker.imaging.preprocess import apply
from worker.imaging.reading import read_display
from worker.inference.model import Model

#: Largest |difference| of its probabilities from the model file's; another epoch's weights differ by far more.
AGREEMENT = 1e-3


def rebuild(run: RunFolder, model: Model, recipe: Recipe | None = None) -> Network:
    """The network with the weights of its best epoch; `recipe` where the registry does not know the run's.

    Raises BadSetting where there is no checkpoint, or where it gives other probabilities than the model file.
    """
    earlier = read_previous(run.path)
    recipe = recipe or _recipe_of(run, model)
    network = recipe.build(Start(model.card.preprocessing.size, recipe.backbone, RANDOM))
    earlier.load_into(network.model)
    if not _difference(network, model) < AGREEMENT:
        raise BadSetting("its weights are not those of the model file").about(str(earlier.path))
    return network


def _recipe_of(run: RunFolder, model: Model) -> Recipe:
    """By the card's name, on the backbone that the record, or else the card's title, tells."""
    recipe = recipe_named(model.card.name)
    told = [run.record.recipe.get("backbone")] if run.record else model.card.recipe.replace(",", " ").split()
    other = next((name for name in recipe.other_backbones if name in told), None)
    return recipe.on(other) if other else recipe


def _difference(network: Network, model: Model) -> float:
    """Largest |difference| of the network's probabilities from the model file's, on the card's goldens."""
    card = model.card
    grids = np.stack([apply(read_display(golden.content).pixels, card.preprocessing)[0] for golden in card.goldens])
    logits = keras.ops.convert_to_numpy(network.model(grids, training=False))[:, 0]
    probabilities = apply_calibration(logits, Calibration(card.temperature, card.bias))
    served = np.array([prediction.probability for prediction in model.predict(grids)])
    return float(np.abs(probabilities - served).max())
