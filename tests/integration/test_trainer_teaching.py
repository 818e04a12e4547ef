"""Weights averaged along a fit, and labels that finished models give a part of."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.brightness_model import write_model
from tests.toy_network import RECIPE, SIZE, Event, fit_options
from trainer.progress import silent
from trainer.recipes import recipe_named
from trainer.recipes.recipe import Monitor, Phase, Recipe
from trainer.run.run import read_data, run, run_folds
from trainer.training import callbacks, fit, variables
from trainer.training.checkpoint import Arrays
from trainer.training.lung_field_batches import TEACHERS_SHARE, FieldBatches
from trainer.training.teachers import Teachers, open_teachers
from worker.errors import BadSetting, ModelRefused
from worker.inference.prediction import Prediction

AVERAGED = replace(RECIPE, monitor=Monitor.LAST, phases=(Phase("all", 3, 2e-2, "all"),)).averaging(2)


def weights(folder: Path, name: str) -> Arrays:
    """The floating-point arrays `name` of the checkpoint in a run folder."""
    with np.load(folder / "checkpoint.npz") as stored:
        arrays = [stored[key] for key in sorted(stored.files) if key.startswith(f"{name}/")]
    return [array for array in arrays if np.issubdtype(array.dtype, np.floating)]


@pytest.mark.slow
def test_the_result_is_the_mean_of_the_weights_along_the_last_epochs(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "MEANS_AN_EPOCH", 1)
    ends: list[Arrays] = []

    def report(event: Event) -> None:
        if event["event"] == "epoch":
            ends.append(weights(tmp_path, "variables"))

    run(fit_options(images, tmp_path, recipe=AVERAGED), report)
    _, second, third = ends
    for mean, *both in zip(weights(tmp_path, "best_variables"), second, third, strict=True):
        np.testing.assert_allclose(mean, np.mean(both, axis=0), rtol=1e-5, atol=1e-7)
    assert any(np.abs(one - other).max() > 1e-3 for one, other in zip(second, third, strict=True)), "it was going on"


def test_a_mean_needs_a_recipe_that_takes_its_last_epoch_and_has_so_many() -> None:
    with pytest.raises(BadSetting, match="takes its best epoch"):
        RECIPE.averaging(2)
    with pytest.raises(BadSetting, match="has 14 epochs"):
        recipe_named("efficientnet_lite0_lungs").averaging(15)


@pytest.mark.slow
def test_a_mean_goes_on_after_an_interruption(images: Path, tmp_path: Path) -> None:
    class PowerCut(Exception):
        pass

    def cut(event: Event) -> None:
        if event["event"] == "epoch" and event["epoch"] == 2:
            raise PowerCut

    whole, halves = tmp_path / "whole", tmp_path / "halves"
    run(fit_options(images, whole, recipe=AVERAGED), silent)
    with pytest.raises(PowerCut):
        run(fit_options(images, halves, recipe=AVERAGED), cut)
    run(fit_options(images, halves, recipe=AVERAGED), silent)
    for one, other in zip(weights(whole, "best_variables"), weights(halves, "best_variables"), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@dataclass
class Sure:
    """A model that always says the same, and keeps what it was shown."""

    says: float
    shown: list[NDArray[np.uint8]]
    digest: str = "abcdef0123"
    provider: str = "CPUExecutionProvider"

    def predict(self, batch: NDArray[np.uint8]) -> list[Prediction]:
        self.shown.append(batch)
        return [Prediction(self.says, np.zeros((2, 2), np.float32), 1.0, None)] * len(batch)


@pytest.fixture
def batches() -> Any:
    """Makes the batches of one epoch of a recipe with lung fields, for some teachers."""
    recipe = recipe_named("efficientnet_lite0_lungs")
    rng = np.random.default_rng(0)
    grids = rng.integers(0, 256, (40, SIZE, SIZE), np.uint8)
    labels = (np.arange(40) % 2).astype(np.int64)
    return lambda *models: FieldBatches(
        grids, np.full_like(grids, 255), labels, recipe, 0, 0, teachers=Teachers(models), logits=2
    )


def test_teachers_give_their_share_of_a_label_and_see_the_view_before_it_is_degraded(batches: Any) -> None:
    plain_views, plain_labels, plain_weights = batches()[0]
    assert set(np.unique(plain_labels)) == {0.0, 1.0}
    one, other = Sure(0.9, []), Sure(0.5, [])
    views, labels, weights = batches(one, other)[0]
    assert np.array_equal(views, plain_views)
    assert np.array_equal(weights, plain_weights)
    np.testing.assert_allclose(labels, (1 - TEACHERS_SHARE) * plain_labels + TEACHERS_SHARE * 0.7, rtol=1e-6)
    (shown,) = one.shown
    assert shown.shape == (*views.shape[:3], 1)
    same = [np.array_equal(seen, view[..., :1]) for seen, view in zip(shown, views, strict=True)]
    assert not all(same), "views are degraded"
    assert np.array_equal(shown, other.shown[0])


def nothing_is_read(event: Event) -> None:
    """A report of a run that must end before it reads an image or writes a file."""
    raise AssertionError(event)


@pytest.mark.parametrize(
    ("size", "error", "words"),
    [(None, ModelRefused, "teacher.onnx"), (SIZE * 2, BadSetting, f"takes {SIZE * 2} px"),
     (SIZE, BadSetting, "another split")],
    ids=["no file", "grid", "split"],
)  # fmt: skip
@pytest.mark.parametrize("folds", [1, 2])
def test_a_teacher_that_cannot_teach_is_refused_before_an_image_is_read(
    images: Path, tmp_path: Path, size: int | None, error: type[Exception], words: str, folds: int
) -> None:
    teacher = tmp_path / "teacher.onnx"
    if size is not None:
        write_model(teacher, size=size)
    options = fit_options(images, tmp_path / "run", teachers=(teacher,))
    with pytest.raises(error, match=words):
        run(options, nothing_is_read) if folds == 1 else run_folds(options, folds, ignoring_folds)
    assert not options.out.exists()


def ignoring_folds(event: Event) -> None:
    """The same for a run over folds, which names each fold first."""
    if event["event"] != "fold":
        nothing_is_read(event)


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "times"), [(RECIPE, 1), (AVERAGED, 5)], ids=["no mean", "a mean of two epochs"])
def test_weights_are_put_into_the_network_only_where_a_mean_is_judged(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Recipe, times: int
) -> None:
    assigned: list[int] = []
    assign = variables.assign
    monkeypatch.setattr(fit, "assign", lambda to, values: assigned.append(assign(to, values) or 0))
    run(fit_options(images, tmp_path, recipe=recipe), silent)
    assert len(assigned) == times, "the best weights at the end, and twice after each epoch that takes a mean"


def test_one_split_seed_gives_several_seeds_the_same_images(images: Path, tmp_path: Path) -> None:
    one, other, alone = (
        read_data(fit_options(images, tmp_path, limit=12, **seeds))
        for seeds in ({"seed": 1, "split_seed": 5}, {"seed": 2, "split_seed": 5}, {"seed": 1})
    )
    assert one == other
    assert one != alone


@pytest.mark.slow
def test_a_recipe_without_local_evidence_takes_no_teacher(finished: Path, images: Path, tmp_path: Path) -> None:
    model = finished / "toy.onnx"
    assert open_teachers([model]).digest
    with pytest.raises(BadSetting, match="takes no --teacher"):
        run(fit_options(images, tmp_path, teachers=(model,)), silent)
    with pytest.raises(BadSetting, match="--split-seed"):
        run(fit_options(images, tmp_path / "other", teachers=(model,), split_seed=5), silent)
