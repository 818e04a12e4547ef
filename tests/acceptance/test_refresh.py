"""A department makes its next model: screen, read, export, fit, compare, promote, screen again, with one worker."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from tests.acceptance.installation import QUICK, Installation, wait_until
from trainer.cli.fit import _population
from trainer.cli.main import app as trainer
from trainer.data.augment import Augmentation
from trainer.data.folders import read_samples
from trainer.data.manifest import Origin
from trainer.data.split import split
from trainer.progress import Report, silent
from trainer.recipes.recipe import Network, Phase, Recipe, Start
from trainer.run.record import RECORD, Record, write_record
from trainer.run.run import FitOptions, run
from trainer.training.warm_start import read_previous
from worker.cli.main import app as worker
from worker.errors import BadSetting, PromotionRefused
from worker.imaging.preprocess import Preprocessing
from worker.inference.card import Population
from worker.inference.model import open_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # it trains; a shared machine does that slowly

SIZE = 32
FIRST, READ, HELD_OUT, LATER = 60, 200, 200, 4

#: Ends a wait that a busy machine never needs.
PATIENCE_S = 240

SCREENED = "SELECT COUNT(*) FROM study WHERE state = 'screened'"
DECISIONS = "SELECT COUNT(*) FROM promotion"


def build(start: Start) -> Network:
    """Two convolutions to [8, 8, 6], average, one neuron."""
    image = keras.Input((start.size, start.size, 1), dtype="uint8", name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    features = keras.layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(x)
    neuron = keras.layers.Dense(1)
    logit = neuron(keras.layers.GlobalAveragePooling2D()(features))
    return Network(keras.Model(image, logit), keras.Model(image, features), (neuron,), "average")


RECIPE = Recipe(
    name="toy",
    summary="for tests",
    preprocessing=Preprocessing(size=SIZE),
    batch_size=8,
    label_smoothing=0.0,
    weight_decay=0.0,
    phases=(Phase("all", 4, 2e-2, "all"),),
    augmentation=Augmentation(),
    build=build,
)


def write_images(root: Path, count: int, seed: int, *, flat: bool = False) -> Path:
    """PNGs of 40 x 48 px, every second one with a bright patch: pneumonia. `flat`: all in one folder, as studies."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        sick = i % 2
        image = rng.normal(70, 12, (48, 40))
        if sick:
            image[16:32, 12:28] += 120
        name = f"person{seed}{i:03d}_virus_1.png" if sick else f"IM-{seed}{i:03d}-1.png"
        path = root / ("" if flat else ("PNEUMONIA" if sick else "NORMAL")) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        draft.write_bytes(cv2.imencode(".png", np.clip(image, 0, 255).astype(np.uint8))[1].tobytes())
        draft.rename(path)
    return root


def fit(data: Path, out: Path, recipe: Recipe = RECIPE, report: Report = silent, seed: int = 0) -> Path:
    return run(FitOptions(data, recipe, out, seed=seed, origin=Origin(attribution="made by a test")), report)


@dataclass
class Department:
    """A running installation, and the programs of its users."""

    site: Installation
    inbox: Path

    def says(self, *words: str | Path) -> str:
        """What `worker ...` prints; its error is raised."""
        answer = CliRunner().invoke(worker, list(map(str, words)), env=self.site.environment(), catch_exceptions=False)
        assert answer.exit_code == 0, answer.output
        return answer.stdout

    def json(self, *words: str | Path) -> Any:
        return json.loads(self.says(*words, "--json"))

    def screen(self, count: int, seed: int) -> list[dict[str, Any]]:
        """Drop so many new studies and wait for their places on the list."""
        known = {entry["study_uid"] for entry in self.json("worklist", "--limit", "999")}
        before = counted(self.site, SCREENED)
        write_images(self.inbox, count, seed, flat=True)
        wait_until(lambda: counted(self.site, SCREENED) == before + count, PATIENCE_S)
        new = [e for e in self.json("worklist", "--limit", "999") if e["study_uid"] not in known]
        assert len(new) == count
        return new


@contextmanager
def at_work(site: Installation, inbox: Path, log: Path) -> Iterator[Department]:
    """`worker run` on the inbox: one process from beginning to end."""
    inbox.mkdir()
    with log.open("wb") as output:
        running = subprocess.Popen(site.command("run", inbox), env=site.environment(), stderr=output)
        try:
            wait_until(lambda: (site.home / "screening.sqlite").exists(), PATIENCE_S)
            wait_until(lambda: counted(site, DECISIONS) > 0, PATIENCE_S)
            yield Department(site, inbox)
            assert running.poll() is None, "the same process from beginning to end"
        finally:
            running.send_signal(signal.SIGTERM)
            running.wait(timeout=PATIENCE_S)


def counted(site: Installation, question: str) -> int:
    """What the database answers, 0 until it is migrated: asked often, it leaves the cores to the worker."""
    try:
        with closing(sqlite3.connect(f"file:{site.home / 'screening.sqlite'}?mode=ro", uri=True)) as connection:
            return int(connection.execute(question).fetchone()[0])
    except sqlite3.OperationalError:
        return 0


@pytest.fixture(scope="module")
def old_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the model that the department starts with."""
    folder = tmp_path_factory.mktemp("old")
    fit(write_images(folder / "data", FIRST, 1), folder / "run")
    return folder / "run"


def test_the_refresh_loop(old_run: Path, tmp_path: Path) -> None:
    old = old_run / "toy.onnx"
    site = Installation(tmp_path / "home", {**QUICK, "SCREENING_MODEL": str(old), "SCREENING_PROCESSES": "1"})
    with at_work(site, tmp_path / "inbox", tmp_path / "log") as department:
        first = department.screen(READ, 2)
        assert {entry["model_digest"] for entry in first} == {open_model(old).digest}
        labels = review(department, first, tmp_path / "labels")

        new = fit(labels, tmp_path / "new", read_previous(old_run).start_of(RECIPE), seed=1)
        assert open_model(new).card.recipe.startswith("toy (from ")

        comparison = compare(old, new, tmp_path)
        with pytest.raises(PromotionRefused, match="no --comparison was given"):
            department.says("model", "promote", new, "--by", "Dr A")
        said = department.says("model", "promote", new, "--comparison", comparison, "--by", "Dr A")
        assert "the point difference" in said
        assert department.json("model", "show")["digest"] == open_model(new).digest

        second = department.screen(LATER, 3)
        assert {entry["model_digest"] for entry in second} == {open_model(new).digest}
        department.says("model", "rollback", "--by", "Dr B", "--reason", "a drill")
        third = department.screen(LATER, 4)
        assert {entry["model_digest"] for entry in third} == {open_model(old).digest}

        uid = second[0]["study_uid"]
        (kept,) = department.json("show", uid)["screenings"]
        assert kept["model_digest"] == open_model(new).digest, "results stay tied to their model"
        (active, before) = department.json("model", "list")
        assert [d["action"] for d in active["decisions"]] == ["installed", "rolled_back"]
        assert [(d["action"], d["by"]) for d in before["decisions"]] == [("promoted", "Dr A")]
        assert department.json("reconcile")["holds"]


def review(department: Department, entries: list[dict[str, Any]], out: Path) -> Path:
    """Read every study by its file's name, and take the labels out."""
    for entry in entries:
        is_sick = Path(entry["sources"][0]).name.startswith("person")
        verdict = "pneumonia" if is_sick else "no_pneumonia"
        department.says("review", entry["study_uid"], "--verdict", verdict, "--reader", "Dr Test")
    answer = department.says("export-labels", out)
    assert f"{len(entries)} images of {len(entries)} studies" in answer
    with (out / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    verdicts = {entry["study_uid"]: entry["verdict"] for entry in entries}
    for row in rows:
        said = {"flagged": True, "not_flagged": False}.get(verdicts[row["study_uid"]])
        is_confirmed = said == (row["label"] == "pneumonia")
        # an unfamiliar image had no verdict that could be confirmed or corrected
        assert row["review"] == ("given" if said is None else "confirmed" if is_confirmed else "corrected")
    assert sum(verdict in ("flagged", "not_flagged") for verdict in verdicts.values()) > 0.8 * len(entries)
    return out


def compare(old: Path, new: Path, tmp_path: Path) -> Path:
    data = write_images(tmp_path / "held out", HELD_OUT, 5)
    words = ["compare", str(old), str(new), "--data", str(data), "--out", str(tmp_path / "compared")]
    answer = CliRunner().invoke(trainer, words, catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return tmp_path / "compared" / "comparison.json"


def test_a_fit_starts_from_the_weights_of_an_earlier_run(old_run: Path) -> None:
    """Before its first step, the new network scores as the old model file does."""
    old = open_model(old_run / "toy.onnx", "cpu")
    network = read_previous(old_run).start_of(RECIPE).build(Start(SIZE))
    grids = np.random.default_rng(8).integers(0, 256, (6, SIZE, SIZE, 1), np.uint8)
    logits = np.asarray(network.model.predict_on_batch(grids))[:, 0] / old.card.temperature + old.card.bias
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), [p.probability for p in old.predict(grids)], atol=1e-4)
    assert np.ptp(logits) > 1e-3


def test_whom_the_earlier_run_trained_on_is_told(old_run: Path, tmp_path: Path) -> None:
    previous = read_previous(old_run / "toy.onnx")
    samples = read_samples(old_run.parent / "data")
    assert previous.leaks_into(split(samples, seed=0)) == [], "the same seed deals the same patients out"
    validation, test = previous.leaks_into(split(samples, seed=3))
    assert "of the validation split were used to train the earlier run" in validation
    assert "of the test split were used to train the earlier run" in test
    others = read_samples(write_images(tmp_path / "others", FIRST, 7))
    assert previous.leaks_into(split(others, seed=3)) == []


def test_a_refresh_inherits_for_whom_the_earlier_model_was_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = Record(
        command="", recipe={}, seed=0, weights_digest="", split_digest="", checkpoint_digest="", model_file="m.onnx",
        origin=asdict(Origin(Population("children of Guangzhou", 1, 5))), model_digest="", backend="tensorflow",
    )  # fmt: skip
    write_record(earlier, tmp_path)
    assert _population(None, None, tmp_path) == Population("children of Guangzhou", 1, 5)
    assert _population("adults", (18, 99), tmp_path / "m.onnx") == Population("adults", 18, 99)
    assert _population("all of ours", None, tmp_path) == Population("all of ours", 1, 5)
    assert "population: children of Guangzhou, ages 1 to 5" in capsys.readouterr().err
    (tmp_path / RECORD).unlink()
    with pytest.raises(BadSetting, match="give --population and --ages"):
        _population("all of ours", None, tmp_path)
    assert _population("all of ours", (0, 150), tmp_path) == Population("all of ours", 0, 150)
    assert _population(None, None, None) == Population("not stated")


def test_a_place_without_a_run_is_refused(old_run: Path) -> None:
    for place in (old_run.parent / "data", old_run.parent / "nowhere"):
        with pytest.raises(BadSetting, match=r"checkpoint\.npz is missing"):
            read_previous(place)


def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.npz").write_bytes(b"no archive")
    with pytest.raises(BadSetting, match=r"checkpoint\.npz: cannot be read"):
        read_previous(tmp_path)


def test_weights_of_another_network_are_refused(old_run: Path) -> None:
    other = read_previous(old_run).start_of(replace(RECIPE, build=with_more_filters))
    with pytest.raises(BadSetting, match="belong to another network"):
        other.build(Start(SIZE))


def with_more_filters(start: Start) -> Network:
    network = build(start)
    neuron = keras.layers.Dense(1)
    features = keras.layers.Conv2D(12, 1)(network.trunk.output)
    logit = neuron(keras.layers.GlobalAveragePooling2D()(features))
    image = network.trunk.input
    return Network(keras.Model(image, logit), keras.Model(image, features), (neuron,), "average")
