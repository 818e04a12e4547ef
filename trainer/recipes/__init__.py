"""The recipes, one file each; this tuple is the whole registry."""

from trainer.recipe import Recipe
from trainer.recipes.mobilenetv2_house import MOBILENETV2_HOUSE
from worker.errors import BadSetting

RECIPES: tuple[Recipe, ...] = (MOBILENETV2_HOUSE,)


def recipe_named(name: str) -> Recipe:
    """The recipe of that name; raises BadSetting with the names there are."""
    for recipe in RECIPES:
        if recipe.name == name:
            return recipe
    raise BadSetting(f"no recipe {name!r}: choose one of {', '.join(r.name for r in RECIPES)}")
