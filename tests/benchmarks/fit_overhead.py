"""Time of `trainer fit` compared with a plain Keras loop: the same network, batches and steps, in turns.

    python -m tests.benchmarks.fit_overhead [--steps N] [--rounds N] [--weights FILE] [--write]

One side is `trainer.training.fit` on the trainer's own data path: grids from the cache, views made by its threads.
The other is `model.fit` on arrays of views made beforehand. A round is an epoch of each, from the first batch asked for
to the last step's end; both run once before they count. What happens between epochs (validation, checkpoint) is in
neither. On a busy machine compare the process's CPU time, not the wall time.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import cv2
import keras
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tests.benchmarks.machine import Watch, machine
from tests.benchmarks.studies import sources
from trainer.data.augment import augment
from trainer.data.folders import read_samples
from trainer.progress import Event, silent
from trainer.recipes import recipe_named
from trainer.recipes.backbone import RANDOM
from trainer.recipes.recipe import Network, Recipe, Start
from trainer.training.batches import TrainingBatches, labels_of, load_grids, seed_everything
from trainer.training.fit import choose_trained, fit

RESULT = Path(__file__).parent / "results" / "fit_overhead.json"
LIBRARIES = ("numpy", "opencv-python-headless", "keras", "tensorflow")

#: The target: the trainer takes at most so many times as long.
ALLOWED = 1.10

#: Views whose cost is measured alone, and images that both sides are validated on: the fewest possible.
COSTED_BATCHES, WATCHED = 8, 2


class Took(NamedTuple):
    """Wall time and CPU time of an epoch."""

    wall_s: float
    cpu_s: float

    @classmethod
    def until_now(cls, since: "Took | None" = None) -> "Took":
        """Since another reading, else since some fixed moment."""
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        return cls(wall_s - since.wall_s, cpu_s - since.cpu_s) if since else cls(wall_s, cpu_s)


@dataclass
class Bare:
    """A Keras loop over preloaded arrays, and the times of its epochs."""

    network: Network
    images: NDArray[np.uint8]
    labels: NDArray[np.float32]
    batch_size: int
    took: list[Took] = field(default_factory=list)

    def epoch(self) -> None:
        """Train for one epoch, timed to the end of its last step."""
        began, ends = Took.until_now(), []
        clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: ends.append(Took.until_now(began)))
        self.network.model.fit(
            self.images, self.labels, batch_size=self.batch_size, shuffle=False, verbose=0, callbacks=[clock]
        )
        self.took.append(ends[-1])


@dataclass
class Turns:
    """The trainer's `fit`, timed from outside; the plain loop runs after, before and after it in turn."""

    batches: Callable[[int], TrainingBatches]
    others_turn: Callable[[], None]
    took: list[Took] = field(default_factory=list)
    began: Took = field(default_factory=Took.until_now)
    so_far: Took = field(default_factory=Took.until_now)

    def dataset(self, epoch: int) -> TrainingBatches:
        """The epoch's batches; its clock starts."""
        if epoch % 2 == 1:
            self.others_turn()
        self.began = Took.until_now()
        return self.batches(epoch)

    def report(self, event: Event) -> None:
        """Record the time of the last step; when the epoch is over, the other loop runs."""
        if event["event"] == "batch":
            self.so_far = Took.until_now(self.began)
        elif event["event"] == "epoch":
            self.took.append(self.so_far)
            if event["epoch"] % 2 == 1:  # counted from one here
                self.others_turn()


def write_images(folder: Path, count: int) -> None:
    """`count` radiographs of each class at 224 px: varied copies of the samples."""
    rng = np.random.default_rng(0)
    how, originals = recipe_named("mobilenetv2_house").augmentation, sources()
    for label in ("NORMAL", "PNEUMONIA"):
        for number in range(count):
            image, other = (cv2.resize(originals[int(rng.integers(len(originals)))], (224, 224)) for _ in range(2))
            path = folder / label / f"{label}-{number}" / "image.png"
            path.parent.mkdir(parents=True)
            cv2.imwrite(str(path), augment(np.asarray(image, np.uint8), np.asarray(other, np.uint8), how, rng))


def measure(recipe: Recipe, folder: Path, rounds: int, weights: Path | None) -> dict[str, Any]:
    """Both sides on the images under `folder`, and what one batch of views costs alone."""
    samples = read_samples(folder)
    grids = load_grids(folder, samples, recipe.preprocessing, folder / "cache", silent).grids
    labels, propensity = labels_of(samples), np.full(len(samples), 0.5)

    def batches(epoch: int) -> TrainingBatches:
        return TrainingBatches(grids, labels, recipe, 0, epoch, propensity)

    ready = batches(0)
    views = [ready[step] for step in range(len(ready))]
    images, targets = (np.concatenate([view[part] for view in views]) for part in (0, 1))
    bare = Bare(built(recipe, weights), images, targets, recipe.batch_size)
    compile_bare(recipe, bare.network)
    turns = Turns(batches, bare.epoch)
    lasting = replace(recipe, phases=(replace(recipe.phases[-1], epochs=rounds + 1, patience=None),))
    watched = np.array([0, len(labels) - 1])
    fit(
        lasting, built(recipe, weights), turns.dataset, {"plain": np.asarray(grids[watched])}, labels[watched],
        "bench", None, lambda _: None, turns.report,
    )  # fmt: skip
    compared = {
        "wall": compare([each.wall_s for each in turns.took], [each.wall_s for each in bare.took], len(ready)),
        "cpu": compare([each.cpu_s for each in turns.took], [each.cpu_s for each in bare.took], len(ready)),
    }
    return compared | {
        "allowed": ALLOWED,
        "views_cpu_ms_a_batch": round(cost_of_views(batches(1)) * 1e3, 1),
        "steps": len(ready),
        "batch_size": recipe.batch_size,
        "recipe": recipe.name,
    }


def compare(mine: list[float], other: list[float], steps: int) -> dict[str, Any]:
    """The trainer's epochs against the bare ones of the same rounds; the first round warms up."""
    ratios = [one / another for one, another in zip(mine[1:], other[1:], strict=True)]
    return {
        "times_the_bare_loop": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "trainer_ms_a_step": [round(s / steps * 1e3, 1) for s in mine[1:]],
        "bare_ms_a_step": [round(s / steps * 1e3, 1) for s in other[1:]],
    }


def built(recipe: Recipe, weights: Path | None) -> Network:
    """The recipe's network, the same each time."""
    seed_everything(0)
    return recipe.build(Start(recipe.preprocessing.size, recipe.backbone, weights))


def compile_bare(recipe: Recipe, network: Network) -> None:
    """As the recipe's last phase trains it: layers, loss, optimizer, metric."""
    choose_trained(network, recipe.phases[-1])
    rate = recipe.phases[-1].learning_rate
    network.model.compile(
        keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, global_clipnorm=recipe.clip_norm),
        loss=keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
        metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)],
        jit_compile=False,
    )


def cost_of_views(batches: TrainingBatches) -> float:
    """CPU seconds that one batch of views takes, of all threads; waiting does not count, so a busy machine may."""
    count = min(COSTED_BATCHES, len(batches))
    began = time.process_time()
    for step in range(count):
        batches[step]
    return (time.process_time() - began) / count


def show(found: dict[str, Any], console: Console) -> None:
    """The outcome as a table of medians."""
    title = f"{found['recipe']}, {found['steps']} steps a round, {len(found['wall']['ratios'])} rounds"
    table = Table("ms a step", "trainer fit", "bare Keras", "times as long", "from", "to", title=title)
    for name, row in ((name, found[name]) for name in ("wall", "cpu")):
        sides = (f"{statistics.median(row[f'{side}_ms_a_step']):.0f}" for side in ("trainer", "bare"))
        spread = (f"{each(row['ratios']):.2f}" for each in (min, max))
        table.add_row(name, *sides, f"{row['times_the_bare_loop']:.3f}", *spread)
    table.caption = (
        f"{found['allowed']:.2f} allowed; a batch of views takes {found['views_cpu_ms_a_batch']:.0f} ms of CPU;"
        f" {found['machine']['share_taken_by_others']:.0%} of the cores' time went to other programs meanwhile"
    )
    console.print(table)


@click.command()
@click.option("--steps", default=16, show_default=True, type=click.IntRange(min=2), help="A round.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1), help="Of each side.")
@click.option("--weights", type=click.Path(path_type=Path), help="Of the backbone; random ones cost the same time.")
@click.option("--write", is_flag=True, help="Keep the result in tests/benchmarks/results/fit_overhead.json.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of a table.")
def main(steps: int, rounds: int, weights: Path | None, write: bool, as_json: bool) -> None:
    """Measure, compare, print."""
    recipe = recipe_named("mobilenetv2_house")
    with tempfile.TemporaryDirectory(prefix="fit-bench-") as name:
        write_images(Path(name), steps * recipe.batch_size // 2)
        watch = Watch()
        found = measure(recipe, Path(name), rounds, weights or RANDOM)
    found["machine"] = machine(watch.share_taken_by_others(), LIBRARIES)
    found["measured_on"] = datetime.now(UTC).date().isoformat()
    text = json.dumps(found, indent=2)
    if write:
        RESULT.write_text(text + "\n", encoding="utf-8")
    if as_json:
        click.echo(text)
    else:
        show(found, Console(width=100 if not sys.stdout.isatty() else None))


if __name__ == "__main__":
    main()
