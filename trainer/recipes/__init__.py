"""The recipes, one file each; the tuple below is the whole registry.

Knows networks and their phases. Does not know images, or how a network is fitted and exported.
Begin with `recipe` (what a recipe is), then `scratch_cnn`, the shortest one.
"""

from trainer.recipes.efficientnet_lite0_lungs import EFFICIENTNET_LITE0_LUNGS
from trainer.recipes.mobilenetv2_house import MOBILENETV2_HOUSE
from trainer.recipes.mobilenetv2_saliency import MOBILENETV2_SALIENCY
from trainer.recipes.recipe import Recipe
from trainer.recipes.resnet50_clahe import RESNET50_CLAHE
from trainer.recipes.resnet50_youden import RESNET50_YOUDEN
from trainer.recipes.scratch_cnn import SCRATCH_CNN
from trainer.recipes.vgg16_frozen import VGG16_FROZEN
from trainer.recipes.vgg21m_softmax import VGG21M_SOFTMAX
from worker.errors import BadSetting

RECIPES: tuple[Recipe, ...] = (
    EFFICIENTNET_LITE0_LUNGS,
    MOBILENETV2_HOUSE,
    VGG16_FROZEN,
    RESNET50_CLAHE,
    SCRATCH_CNN,
    MOBILENETV2_SALIENCY,
    RESNET50_YOUDEN,
    VGG21M_SOFTMAX,
)


def recipe_named(name: str) -> Recipe:
    """The recipe of that name; raises BadSetting with the names there are."""
    for recipe in RECIPES:
        if recipe.name == name:
            return recipe
    raise BadSetting(f"no recipe {name!r}: choose one of {', '.join(r.name for r in RECIPES)}")
