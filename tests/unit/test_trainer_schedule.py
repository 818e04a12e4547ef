"""Which epoch comes next, from the scores alone: patience, plateaus, phases, fewer epochs."""

import pytest

from trainer.recipes import RECIPES, recipe_named
from trainer.recipes.recipe import Phase, Plateau
from trainer.training.schedule import next_step
from worker.errors import BadSetting

PHASES = (
    Phase("head", epochs=2, learning_rate=1e-3, trains="head", schedule="constant"),
    Phase(
        "upper", epochs=9, learning_rate=1e-4, trains=3, schedule="constant", patience=3, plateau=Plateau(0.1, 2, 1e-6)
    ),
)


def run_through(scores: list[float]) -> list[tuple[str, int, float]]:
    """What an uninterrupted fit does when its epochs score so."""
    seen: list[tuple[str, int, float]] = []
    while (step := next_step(PHASES, scores[: len(seen)])) is not None and len(seen) < len(scores):
        assert step.epoch == len(seen)
        seen.append((step.phase.name, step.epoch_in_phase, step.learning_rate))
    return seen


def test_phases_follow_each_other_and_end() -> None:
    rising = [i / 100 for i in range(40)]
    seen = run_through(rising)
    assert [name for name, _, _ in seen] == ["head"] * 2 + ["upper"] * 9
    assert [epoch for _, epoch, _ in seen] == [0, 1, *range(9)]
    assert next_step(PHASES, rising[:11]) is None


def test_a_phase_without_progress_ends_after_its_patience() -> None:
    seen = run_through([0.9, 0.9, 0.5, 0.6, 0.55, 0.6, 0.4, 0.9, 0.9])
    assert len(seen) == 7  # best at the phase's second epoch, three more in vain; an equal score is no progress
    assert next_step(PHASES, [0.9, 0.9, 0.5, 0.6, 0.55, 0.6, 0.4]) is None


def test_an_early_end_opens_the_next_phase() -> None:
    impatient = (Phase("a", 5, 1e-3, "head", patience=1), Phase("b", 2, 1e-4, "all"))
    step = next_step(impatient, [0.5, 0.4])
    assert step is not None
    assert (step.phase.name, step.epoch, step.epoch_in_phase) == ("b", 2, 0)
    assert next_step(impatient, [0.5, 0.4, 0.1, 0.2]) is None


def test_the_rate_falls_on_a_plateau_and_not_below_its_floor() -> None:
    patient = (Phase("p", 12, 1e-4, "all", schedule="constant", plateau=Plateau(0.1, 2, 1e-6)),)
    scores = [0.5, 0.4, 0.4, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    rates = []
    for n in range(11):
        step = next_step(patient, scores[:n])
        assert step is not None
        rates.append(step.learning_rate)
    expected = [1e-4] * 3 + [1e-5] * 3 + [1e-6] * 5
    assert rates == pytest.approx(expected)


def test_shorter_orders_keep_the_phases_and_tell_the_card() -> None:
    recipe = recipe_named("resnet50_clahe")
    assert [p.epochs for p in recipe.lasting([2, 4]).phases] == [2, 4]
    assert [p.epochs for p in recipe.lasting([7]).phases] == [5, 2]
    assert [p.name for p in recipe.lasting([3]).phases] == ["frozen"]
    assert recipe.on("mobilenetv2").lasting([2, 4]).title == "resnet50_clahe (backbone mobilenetv2, epochs 2+4)"
    assert recipe.lasting([5, 60]).title == recipe.on("resnet50").title == "resnet50_clahe"
    with pytest.raises(BadSetting, match=r"2 phase\(s\)"):
        recipe.lasting([1, 2, 3])


def test_only_recipes_that_allow_it_change_their_backbone() -> None:
    changeable = {recipe.name for recipe in RECIPES if recipe.other_backbones}
    assert changeable == {"vgg16_frozen", "resnet50_clahe", "resnet50_youden"}
    with pytest.raises(BadSetting, match="scratch_cnn cannot take the backbone 'mobilenetv2': it takes none"):
        recipe_named("scratch_cnn").on("mobilenetv2")
    with pytest.raises(BadSetting, match="it takes vgg16, mobilenetv2"):
        recipe_named("vgg16_frozen").on("densenet")
