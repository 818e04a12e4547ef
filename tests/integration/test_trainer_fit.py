"""A toy fit from end to end: split, train, interrupt, resume, export, reopen, evaluate."""

import csv
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from click.testing import CliRunner

from tests.toy_network import RECIPE, SIZE, Event, fit_options, toy
from trainer.cli.main import app
from trainer.data.folders import read_samples
from trainer.data.manifest import Origin, read_manifest
from trainer.data.split import split
from trainer.evaluation.evaluate import evaluate
from trainer.export.attribution import raw_heat
from trainer.export.familiarity import measure
from trainer.export.graph import compare, export, tape_heat
from trainer.export.reference import measure_reference
from trainer.export.serving_graph import Served, predict
from trainer.progress import silent
from trainer.recipes.recipe import Network
from trainer.recipes.weights import fetch, load
from trainer.run.run import read_data, run, run_folds
from trainer.statistics.metrics import roc_auc
from trainer.statistics.operating_point import Calibration, ThresholdRule
from trainer.training.batches import TrainingBatches, labels_of, load_grids
from worker.errors import BadData, BadSetting, ModelRefused
from worker.imaging.image_file import read_grid
from worker.imaging.preprocess import Resize
from worker.inference.model import open_model, replay_goldens

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # it trains; a shared machine does that slowly


class PowerCut(Exception):
    """Ends a run in the middle, as a kill does: nothing of ours catches it."""


def cut_after(epoch: int) -> Callable[[Event], None]:
    def report(event: Event) -> None:
        if event["event"] == "epoch" and event["epoch"] == epoch:
            raise PowerCut

    return report


def cut_in_fold(fold: int, epoch: int) -> Callable[[Event], None]:
    """Folds and epochs count from one; epochs anew in each fold."""
    cut, folds = cut_after(epoch), []

    def report(event: Event) -> None:
        if event["event"] == "fold":
            folds.append(event["fold"])
        if folds and folds[-1] == fold:
            cut(event)

    return report


def test_the_model_serves_and_knows_its_classes(finished: Path, images: Path) -> None:
    model = open_model(finished / "toy.onnx", "cpu")
    replay_goldens(model)
    test = read_manifest(finished / "split.csv").of("test")
    report = evaluate(model, images, test, silent)
    assert report.n == len(test)
    assert report.metrics["auc"].value > 0.9
    assert set(report.sensitivity_by_subtype) <= {"bacteria", "virus"}


def test_the_card_quotes_what_evaluate_measures(finished: Path, images: Path) -> None:
    model = open_model(finished / "toy.onnx", "cpu")
    manifest = read_manifest(finished / "split.csv")
    report = evaluate(model, images, manifest.of("test"), silent)
    assert model.card.metrics["test_auc"] == report.metrics["auc"]
    assert model.card.metrics["test_brier"] == report.metrics["brier"]
    assert model.card.data_digest == manifest.digest
    point = model.card.operating_point
    again = evaluate(model, images, manifest.of("validation"), silent)
    assert point.sensitivity.value >= 0.985
    assert again.metrics["specificity"].value == pytest.approx(point.specificity.value)
    measured = measure_reference(model, images, manifest.of("validation"), True, silent)
    reference, seen = model.card.reference, measured.reference
    scores = model.card.validation_scores
    assert scores is not None
    assert measured.scores is not None, "the images are those of the card"
    assert scores.positives == pytest.approx(measured.scores.positives, abs=1e-4)
    assert [len(each) for each in vars(scores).values()] == list(seen.n)
    assert reference is not None
    assert (reference.n, reference.flagged, reference.data_digest) == (seen.n, seen.flagged, seen.data_digest)
    assert reference.histograms["display_mean"] == seen.histograms["display_mean"]
    assert reference.histograms["familiarity"].means == pytest.approx(seen.histograms["familiarity"].means, abs=1e-3)


def test_goldens_hold_both_classes_and_a_dicom(finished: Path) -> None:
    goldens = open_model(finished / "toy.onnx", "cpu").card.goldens
    assert len(goldens) == 6
    assert sum(g.name.endswith(".dcm") and g.content[128:132] == b"DICM" for g in goldens) == 1
    assert {g.name.split("/")[0] for g in goldens} >= {"PNEUMONIA", "NORMAL"}
    assert all(g.attribution == "made by a test" for g in goldens)


def test_the_log_tells_every_epoch_as_json(finished: Path) -> None:
    events = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    epochs = [e for e in events if e["event"] == "epoch"]
    assert [e["epoch"] for e in epochs] == [1, 2, 3, 4]
    assert all(e["score"] == min(v for k, v in e.items() if k.startswith("auc_")) for e in epochs)
    assert {e["event"] for e in events} >= {"audit", "split", "batch", "exported"}
    assert [json.loads(line) for line in (finished / "said").read_text().splitlines()]


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(finished: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(PowerCut):
        run(fit_options(images, tmp_path), cut_after(2))
    assert not (tmp_path / "toy.onnx").exists()
    events: list[Event] = []
    run(fit_options(images, tmp_path), events.append)
    assert next(e for e in events if e["event"] == "resumed")["epoch"] == 2
    assert [e["epoch"] for e in events if e["event"] == "epoch"] == [3, 4]
    with np.load(finished / "checkpoint.npz") as one, np.load(tmp_path / "checkpoint.npz") as other:
        assert one.files == other.files
        for name in one.files:
            if name != "plain":
                np.testing.assert_allclose(one[name], other[name], rtol=1e-3, atol=1e-4)


def test_another_threshold_rule_makes_another_file_without_training(images: Path, tmp_path: Path) -> None:
    options = fit_options(images, tmp_path)
    first = open_model(run(options, silent), "cpu")
    rule = ThresholdRule("fixed", 0.4)
    events: list[Event] = []
    second = open_model(run(replace(options, recipe=replace(options.recipe, threshold=rule)), events.append), "cpu")
    assert not [event for event in events if event["event"] == "epoch"]
    assert (second.card.operating_point.threshold, second.card.operating_point.rule) == (0.4, "fixed at 0.4")
    assert first.card.operating_point.rule != second.card.operating_point.rule
    assert first.card.temperature == pytest.approx(second.card.temperature)


def test_a_recipe_may_see_the_pyramid(images: Path, tmp_path: Path) -> None:
    """Training, goldens and card see files as a worker reads them for such a card."""
    larger = tmp_path / "larger"
    for path in images.rglob("*.png"):
        (larger / path.relative_to(images)).parent.mkdir(parents=True, exist_ok=True)
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert grey is not None
        cv2.imwrite(str(larger / path.relative_to(images)), cv2.resize(grey, (157, 190)))
    recipe = RECIPE.seeing(Resize.PYRAMID53)
    model = open_model(run(replace(fit_options(larger, tmp_path / "run"), recipe=recipe), silent), "cpu")
    replay_goldens(model)
    assert model.card.preprocessing == replace(RECIPE.preprocessing, resize=Resize.PYRAMID53)
    assert model.card.recipe == "toy (resize pyramid53)"
    train = read_manifest(tmp_path / "run" / "split.csv").of("train")
    loaded = load_grids(larger, train, recipe.preprocessing, tmp_path / "run" / "cache", silent)
    seen = [read_grid((larger / sample.path).read_bytes(), model.card.preprocessing)[..., 0] for sample in train]
    assert np.array_equal(loaded.grids, np.stack(seen))


def test_another_runs_checkpoint_is_refused(finished: Path, images: Path) -> None:
    with pytest.raises(BadSetting, match=r"checkpoint\.npz.*another --out"):
        run(fit_options(images, finished, seed=1), silent)
    run_again = read_manifest(finished / "split.csv")
    assert run_again.seed == 0, "a refused run must not touch what the finished one wrote"


def served(pooling: str) -> tuple[Served, Any]:
    keras.utils.set_random_seed(3)
    network = toy(pooling)
    grids = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE), np.uint8)
    features = network.trunk.predict_on_batch(grids[..., None])
    scale = float(np.asarray(raw_heat(features, network.head, pooling)).max()) or 1.0
    return Served(network, Calibration(1.3, 0.4), scale, measure(features.mean(axis=(1, 2)))), grids


@pytest.mark.parametrize("pooling", ["average", "flatten"])
def test_forward_heat_equals_the_gradient_tapes(pooling: str) -> None:
    model, grids = served(pooling)
    heat = predict(model, grids)["heatmap"]
    assert heat.max() == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(heat, tape_heat(model, grids), atol=1e-5)


def test_familiarity_is_about_one_at_home_and_large_abroad() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(0, 1, (8, 24))
    home = (rng.normal(0, 1, (400, 8)) @ mixing + rng.normal(0, 0.1, (400, 24)) + 5).astype(np.float32)
    familiarity = measure(home[:300])
    distances = np.asarray(keras.ops.convert_to_numpy(familiarity.distance(home[300:])))
    abroad = rng.normal(5, 3, (100, 24)).astype(np.float32)  # as far, but in no direction that home knows
    assert np.median(distances) == pytest.approx(1.0, abs=0.2)
    assert np.asarray(keras.ops.convert_to_numpy(familiarity.distance(abroad))).min() > 2 * distances.max()


class Moody(keras.layers.Layer):  # type: ignore[misc]
    """Does one thing when traced into a graph and another when run: what an export must not believe."""

    def call(self, inputs: Any) -> Any:
        import tensorflow as tf

        return inputs * 1.5 if tf.executing_eagerly() else inputs


def test_an_export_that_differs_from_keras_is_refused_and_leaves_no_file(images: Path, tmp_path: Path) -> None:
    plain = toy()
    features = Moody()(plain.trunk.output)
    neuron = keras.layers.Dense(1)
    logit = neuron(keras.layers.GlobalAveragePooling2D()(features))
    network = Network(
        keras.Model(plain.trunk.input, logit), keras.Model(plain.trunk.input, features), (neuron,), "average"
    )
    manifest = split(read_samples(images), 0)
    grids = load_grids(images, manifest.of("validation"), RECIPE.preprocessing, tmp_path / "cache", silent).grids
    pooled = network.trunk.predict_on_batch(grids[..., None]).mean(axis=(1, 2))
    served_model = Served(network, Calibration(1.0, 0.0), 1.0, measure(pooled))
    target = tmp_path / "out" / "moody.onnx"
    target.parent.mkdir()
    with pytest.raises(ModelRefused, match="differs from Keras"):
        export(RECIPE, served_model, manifest, images, grids, target, Origin(), silent)
    assert list(target.parent.iterdir()) == []


def test_another_models_file_is_told_apart(finished: Path) -> None:
    model, grids = served("average")
    with pytest.raises(ModelRefused, match="probability_difference"):
        compare(open_model(finished / "toy.onnx", "cpu"), model, grids)


def test_evaluate_lists_what_it_cannot_read_and_goes_on(finished: Path, images: Path, tmp_path: Path) -> None:
    copy = tmp_path / "set"
    for name in ("NORMAL/IM-0000-1.png", "PNEUMONIA/person1_bacteria_1.png"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((images / name).read_bytes())
    (copy / "NORMAL" / "IM-0002-1.png").write_bytes(b"no image at all")
    answer = CliRunner().invoke(app, ["evaluate", str(finished / "toy.onnx"), "--data", str(copy), "--json"])
    assert answer.exit_code == 0
    report = json.loads(answer.stdout)
    assert report["n"] == 2
    assert [fault["path"] for fault in report["unreadable"]] == ["NORMAL/IM-0002-1.png"]
    assert str(tmp_path) not in answer.stdout


def test_evaluate_measures_the_split_it_is_given(finished: Path, images: Path) -> None:
    arguments = ["evaluate", str(finished / "toy.onnx"), "--data", str(images), "--split-manifest"]
    answer = CliRunner().invoke(app, [*arguments, str(finished / "split.csv"), "--split", "validation", "--json"])
    assert json.loads(answer.stdout)["n"] == len(read_manifest(finished / "split.csv").of("validation"))


def test_the_audit_finds_the_shortcut_that_was_planted(images: Path, tmp_path: Path) -> None:
    for label in ("NORMAL", "PNEUMONIA"):
        (tmp_path / label).mkdir()
        for file in sorted((images / label).iterdir()):
            padding = b"\0" * (50_000 if label == "NORMAL" else 0)  # PNG readers stop at IEND
            (tmp_path / label / file.name).write_bytes(file.read_bytes() + padding)
    answer = CliRunner().invoke(app, ["audit", str(tmp_path), "--json"])
    findings = json.loads(answer.stdout)
    assert findings["shortcuts"]["file size"]["value"] < 0.05
    assert any("file size alone" in warning for warning in findings["warnings"])


def test_batches_repeat_by_seed_epoch_and_step(images: Path, tmp_path: Path) -> None:
    manifest = split(read_samples(images), 0)
    train = load_grids(images, manifest.of("train"), RECIPE.preprocessing, tmp_path, silent).grids
    labels = labels_of(manifest.of("train"))
    batches = [TrainingBatches(train, labels, RECIPE, seed=1, epoch=e)[2] for e in (0, 0, 1)]
    assert np.array_equal(batches[0][0], batches[1][0])
    assert not np.array_equal(batches[0][0], batches[2][0])
    assert batches[0][1].mean() == 0.5


def test_files_that_cannot_be_read_are_listed_and_the_rest_is_trained_on(images: Path, tmp_path: Path) -> None:
    data = tmp_path / "set"
    shutil.copytree(images, data)
    broken = [s for s in split(read_samples(images), 0).of("train") if s.label][:2]
    for sample in broken:
        (data / sample.path).write_bytes(b"nothing")
    events: list[Event] = []
    out = tmp_path / "out"
    run(fit_options(data, out, recipe=RECIPE.lasting([1])), events.append)
    listed = [event for event in events if event["event"] == "unreadable"]
    assert [event["code"] for event in listed] == ["not_an_image"] * 2
    assert {event["path"] for event in listed} == {s.path for s in read_manifest(out / "split.csv").of("unreadable")}
    assert sum(event.get("normal", 0) + event.get("virus", 0) + event.get("bacteria", 0)
               for event in events if event["event"] == "split") == 90  # fmt: skip
    again = load_grids(data, read_samples(data), RECIPE.preprocessing, tmp_path / "cache", silent)
    assert len(again.grids) == len(again.samples) == 88
    assert (
        load_grids(data, read_samples(data), RECIPE.preprocessing, tmp_path / "cache", silent).samples == again.samples
    )


def test_a_file_that_changes_is_read_again_though_its_row_names_the_same_source(images: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(images, data)
    named = [replace(sample, source_sha256="0" * 64) for sample in read_samples(data)]

    def first() -> int:
        grids = load_grids(data, named, RECIPE.preprocessing, tmp_path / "cache", silent).grids
        return int(np.asarray(grids[0], np.int64).sum())

    before = first()
    assert first() == before
    shutil.copy(data / named[-1].path, data / named[0].path)
    assert first() != before


def test_a_full_disk_leaves_nothing_of_the_cache_and_the_next_start_goes_on(images: Path, tmp_path: Path) -> None:
    data, cache = read_samples(images), tmp_path / "cache"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for least in (2 * SIZE**2, len(data) * SIZE**2):  # full while the first grids are written, and before the last
        resource.setrlimit(resource.RLIMIT_FSIZE, (least, before[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                load_grids(images, data, RECIPE.preprocessing, cache, silent)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list(cache.iterdir()) == []
    assert len(load_grids(images, data, RECIPE.preprocessing, cache, silent).grids) == len(data)


def test_a_set_without_any_readable_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "NORMAL").mkdir()
    (tmp_path / "NORMAL" / "IM-0001-1.png").write_bytes(b"nothing")
    with pytest.raises(BadData, match="none of the 1 images can be read"):
        load_grids(tmp_path, read_samples(tmp_path), RECIPE.preprocessing, tmp_path / "cache", silent)


def test_every_image_is_predicted_by_the_fold_that_had_not_seen_its_patient(images: Path, tmp_path: Path) -> None:
    """And a run that was interrupted in its second fold goes on there."""
    asked = fit_options(images, tmp_path)
    with pytest.raises(PowerCut):
        run_folds(asked, 2, cut_in_fold(2, epoch=3))
    events: list[Event] = []
    path = run_folds(asked, 2, events.append)
    assert len([e for e in events if e["event"] == "kept"]) == 1, "the first fold is whole"
    assert [e["epoch"] for e in events if e["event"] == "resumed"] == [3]
    assert [e["epoch"] for e in events if e["event"] == "epoch"] == [4], "no epoch is trained twice"
    assert events[-1]["event"] == "out_of_fold"
    assert events[-1]["n"] == 90
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert sorted(row["path"] for row in rows) == [s.path for s in read_data(asked)[0]]
    for fold in ("1", "2"):
        manifest = read_manifest(tmp_path / f"fold-{fold}" / "split.csv")
        seen = {s.group for s in manifest.samples if s.split != "test"}
        assert seen.isdisjoint(row["group"] for row in rows if row["fold"] == fold)
    labels = np.array([int(row["label"]) for row in rows])
    assert roc_auc(labels, np.array([float(row["probability"]) for row in rows])).value > 0.8
    assert all(int(row["is_flagged"]) == (float(row["probability"]) >= float(row["threshold"])) for row in rows)


def test_without_network_the_weights_ask_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="--weights FILE"):
        fetch("http://127.0.0.1:9/none.weights.h5", tmp_path)
    assert list(tmp_path.iterdir()) == []


# Keras 3.15 saves variables that do not speak numpy 2's __array__ protocol yet
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")  # Keras says it before it raises
def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    path = tmp_path / "other.weights.h5"
    other.save_weights(path)
    with pytest.raises(BadSetting, match=r"other\.weights\.h5.*do not fit"):
        load(toy().model, path)
    path.write_bytes(b"no weights")
    with pytest.raises(BadSetting, match="do not fit"):
        load(toy().model, path)
    with pytest.raises(BadSetting, match="no such weights file"):
        load(toy().model, tmp_path / "none.h5")


def test_the_program_answers_a_wrong_name_in_one_line() -> None:
    command = [sys.executable, "-m", "trainer", "fit", "--data", "none", "--recipe", "nothing", "--out", "none"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "efficientnet_lite0_lungs" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not Path("none").exists()


def test_keras_is_loaded_without_a_word_and_its_failure_is_not_hidden(tmp_path: Path) -> None:
    script = "from trainer.cli.options import load_keras; load_keras(); import keras; print(keras.__version__)"
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert (ended.stderr, ended.stdout) == ("", keras.__version__ + "\n")
    (tmp_path / "keras.py").write_text("import sys; sys.stderr.write('why it fails'); raise ImportError('no backend')")
    broken = environment | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=broken, check=False)
    assert ended.returncode != 0
    assert "why it fails" in ended.stderr
    assert "Keras cannot be loaded with the backend 'tensorflow' (no backend)" in ended.stderr


def test_a_wrong_command_line_ends_as_that_of_the_worker() -> None:
    codes = [
        subprocess.run([sys.executable, "-m", program, "nonsense"], capture_output=True, check=False).returncode
        for program in ("trainer", "worker")
    ]
    assert codes == [64, 64]


def test_recipes_are_listed_without_keras() -> None:
    script = "import sys; from trainer.cli.main import app; app(['recipes', '--json'], standalone_mode=False);"
    ended = subprocess.run(
        [sys.executable, "-c", script + "sys.exit('keras' in sys.modules)"], capture_output=True, text=True, check=True
    )
    rows = json.loads(ended.stdout)
    assert rows[0]["name"] == "efficientnet_lite0_lungs"
    assert len(rows) == 8
    assert next(row for row in rows if row["name"] == "resnet50_youden")["threshold_rule"].startswith("largest Youden")


def test_evaluate_breaks_down_by_what_the_index_names_and_states_predictive_values(
    finished: Path, images: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index.csv"
    with index.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "patient", "view", "age", "source"))
        for i, sample in enumerate(read_samples(images)):
            view, age = ("PA", "AP")[i % 3 == 0], ("4", "70")[i % 2]
            writer.writerow((sample.path, sample.label, sample.patient, view, age, ("north", "")[i % 5 == 0]))
    words = ["evaluate", str(finished / "toy.onnx"), "--data", str(images), "--index", str(index)]
    report = json.loads(CliRunner().invoke(app, [*words, "--prevalence", "0.05", "--json"]).stdout)
    assert set(report["subgroups"]) == {"view", "age band", "subtype", "source"}
    assert {name: group["auc"]["n"] for name, group in report["subgroups"]["view"].items()} == {"AP": 30, "PA": 60}
    assert set(report["subgroups"]["age band"]) == {"1 to 5", "60 to 79"}
    assert set(report["subgroups"]["source"]) == {"north", "unknown"}
    assert report["metrics"]["ppv at prevalence 0.05"]["value"] <= report["metrics"]["ppv"]["value"]
    shown = CliRunner().invoke(app, words).stdout
    assert "age band" in shown
    assert "60 to 79" in shown
