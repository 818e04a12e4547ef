"""The report of a toy run: the numbers of `trainer evaluate`, pictures, one file, and safe against hostile names."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from tests.toy_network import RECIPE, SIZE, Event, fit_options, toy
from trainer.cli.main import app
from trainer.data.manifest import Manifest, Origin, read_manifest, write_manifest
from trainer.export.serving_graph import logit_of
from trainer.progress import silent
from trainer.recipes.recipe import Network
from trainer.report.page import HTML, JSON, saliency_of, write_report
from trainer.report.saliency import Saliency
from trainer.run.folder import read_run
from trainer.run.run import run
from worker.errors import BadData
from worker.inference.model import open_model

#: Events of a run that makes something, or finds it made.
MAKING = ("epoch", "resumed", "exported", "kept")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # it trains; a shared machine does that slowly

HOSTILE = '"><img src=x onerror=alert(1)>{{ 7*7 }} & $x$.png'


class Page(HTMLParser):
    """The elements of a page with their attributes, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def reported(finished: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the report on the toy run's test split, with its recipe."""
    out = tmp_path_factory.mktemp("report")
    write_report(finished, images, silent, out=out, prevalence=0.05, provider="cpu", recipe=RECIPE)
    return out


def told_in(folder: Path) -> Any:
    return json.loads((folder / JSON).read_text(encoding="utf-8"))


def page_in(folder: Path) -> Page:
    return Page((folder / HTML).read_text(encoding="utf-8"))


def numbers_in(value: Any) -> set[float]:
    if isinstance(value, dict | list):
        return set().union(*(numbers_in(inner) for inner in (value.values() if isinstance(value, dict) else value)))
    return {float(value)} if isinstance(value, int | float) else set()


def test_its_numbers_are_those_of_evaluate_on_the_same_split(reported: Path, finished: Path, images: Path) -> None:
    words = ["evaluate", finished / "toy.onnx", "--data", images, "--split-manifest", finished / "split.csv"]
    words += ["--split", "test", "--prevalence", 0.05, "--provider", "cpu", "--json"]
    measured = json.loads(CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False).stdout)
    assert told_in(reported)["evaluation"] == measured


def test_every_number_of_the_page_stands_in_the_json(reported: Path) -> None:
    shown = [float(data["value"] or "") for data in page_in(reported).all("data")]
    assert len(shown) > 60
    assert set(shown) <= numbers_in(told_in(reported))


def test_what_is_drawn_adds_up(reported: Path) -> None:
    told = told_in(reported)
    counts, n = told["confusion"], told["evaluation"]["n"]
    assert sum(counts.values()) == n
    assert len(told["errors"]) == counts["false_negative"] + counts["false_positive"]
    drawn = told["curves"]["histogram"]
    assert (
        sum(drawn["normal"]) + sum(drawn["pneumonia"])
        == sum(b["share"]["n"] for b in told["curves"]["reliability"])
        == n
    )
    assert [epoch["epoch"] for epoch in told["learning"]] == [1, 2, 3, 4]
    assert max(told["curves"]["roc"]["sensitivity"]) == 1


def test_it_tells_how_to_repeat_the_run(reported: Path, finished: Path) -> None:
    told, words = told_in(reported), page_in(reported).words
    assert told["record"]["recipe"]["phases"][1]["learning_rate"] == 2e-2
    assert told["record"]["model_digest"] == told["evaluation"]["model_digest"]
    assert told["split_manifest"] == {"seed": 0, "digest": read_manifest(finished / "split.csv").digest}
    for digest in ("model_digest", "checkpoint_digest", "split_digest"):
        assert told["record"][digest] in words
    assert "keras" in words
    assert "Research use only" in words


def test_the_page_is_one_file_and_every_picture_is_described(reported: Path) -> None:
    page, told = page_in(reported), told_in(reported)
    assert {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "embed", "form", "a"} == set()
    pictures = page.all("img")
    assert len(pictures) == 5 + 3 * len(told["pictured"])
    assert all((p["src"] or "").startswith("data:image/") and p["alt"] for p in pictures)
    assert "http" not in (reported / HTML).read_text(encoding="utf-8").replace("http-equiv", "")
    assert "url(" not in (reported / HTML).read_text(encoding="utf-8")


def test_heat_and_saliency_stand_side_by_side(reported: Path) -> None:
    told = told_in(reported)
    assert told["saliency"]["method"].startswith("SmoothGrad")
    assert told["saliency"]["left_out"] == ""
    alts = [str(p["alt"]) for p in page_in(reported).all("img")]
    assert sum(alt.startswith("Saliency") for alt in alts) == sum(alt.startswith("Grad-CAM") for alt in alts) >= 6


def tape_gradient(network: Network, grids: NDArray[np.float32]) -> NDArray[np.float32]:
    """d logit / d pixel by automatic differentiation, through the layers behind the uint8 input."""
    import tensorflow as tf

    pixels = tf.constant(grids[..., None])
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        value = pixels
        for layer in network.trunk.layers[1:]:
            value = layer(value)
        logit = logit_of(value, network)
    return np.asarray(tape.gradient(logit, pixels).numpy()[..., 0])


@pytest.mark.parametrize("pooling", ["average", "flatten"])
def test_saliency_is_the_gradient_that_a_tape_finds(pooling: str) -> None:
    network = toy(pooling)
    grids = np.random.default_rng(0).uniform(0, 255, (3, SIZE, SIZE)).astype(np.float32)
    wanted = tape_gradient(network, grids).mean(axis=0)
    saliency = Saliency(network)
    for _ in range(2):  # one image leaves nothing behind for the next
        np.testing.assert_allclose(saliency.gradient(grids), wanted, atol=1e-4 * np.abs(wanted).max())
    grid = grids[0].astype(np.uint8)
    assert np.array_equal(saliency.of(grid), saliency.of(grid))
    assert saliency.of(grid).min() >= 0


def test_weights_of_another_model_give_no_saliency(finished: Path, tmp_path: Path) -> None:
    for name in ("split.csv", "toy.onnx"):
        shutil.copy(finished / name, tmp_path)
    with np.load(finished / "checkpoint.npz") as stored:
        changed = {name: stored[name] + 1 if name.startswith("best") else stored[name] for name in stored.files}
    np.savez(tmp_path / "checkpoint.npz", allow_pickle=False, **changed)
    ask, told = saliency_of(read_run(tmp_path), open_model(tmp_path / "toy.onnx", "cpu"), RECIPE)
    assert ask is None
    assert "differ from those of the model file" in told["left_out"]


@pytest.fixture(scope="module")
def hostile(finished: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(run folder, data): only a split and a model, as older versions left them, and names that would be markup."""
    folder, data = tmp_path_factory.mktemp("old"), tmp_path_factory.mktemp("data")
    shutil.copy(finished / "toy.onnx", folder)
    samples = []
    for i, sample in enumerate(read_manifest(finished / "split.csv").of("test")):
        name = f"{'01'[i % 2]}{HOSTILE}" if i < 2 else Path(sample.path).name
        shutil.copy(images / sample.path, data / name)
        label = 1 - sample.label if i < 2 else sample.label  # both are errors, so both are shown
        samples.append(replace(sample, path=name, label=label, subtype=HOSTILE, source=HOSTILE, view="<b>"))
    write_manifest(Manifest(tuple(samples), 0), folder / "split.csv")
    log = {"event": "epoch", "epoch": 1, "loss": 0.5, "auc_<b>$": 0.5, "is_best": HOSTILE, "learning_rate": None}
    warning = {"event": "warning", "text": HOSTILE}
    (folder / "log.jsonl").write_text(json.dumps(log) + "\n" + json.dumps(warning) + "\n")
    answer = CliRunner().invoke(app, ["report", str(folder), "--data", str(data)], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    assert str(folder / HTML) in answer.stdout.replace("\n", "")
    return folder, data


def test_names_are_words_and_never_markup(hostile: tuple[Path, Path]) -> None:
    page = page_in(hostile[0])
    assert page.words.count(HOSTILE) > 5
    assert {tag for tag, _ in page.elements} & {"script", "b>"} == set()
    assert all(not any(name.startswith("on") for name in attributes) for _, attributes in page.elements)
    assert all((p["src"] or "").startswith("data:image/") for p in page.all("img"))
    assert "49" not in re.findall(r"onerror=alert\(1\)>(\S+)", page.words)


def test_an_old_run_is_shown_for_what_it_left(hostile: tuple[Path, Path]) -> None:
    told, words = told_in(hostile[0]), page_in(hostile[0]).words
    assert "has no checkpoint.npz" in told["saliency"]["left_out"]
    assert told["saliency"]["left_out"] in words
    assert (told["record"], told["audit"]) == (None, {})
    assert "has no run.json" in words
    assert told["warnings"] == ["the model file was made on another split than the split.csv in this folder", HOSTILE]
    assert [alt for p in page_in(hostile[0]).all("img") if "Saliency" in (alt := str(p["alt"]))] == []


def test_the_same_run_gives_the_same_bytes(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    folder, data = hostile
    write_report(folder, data, silent, out=tmp_path)
    for name in (HTML, JSON):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_a_split_of_one_class_and_one_that_trained_are_told(finished: Path, images: Path, tmp_path: Path) -> None:
    manifest = read_manifest(finished / "split.csv")
    sick = tuple(replace(s, split="train") for s in manifest.of("test") if s.label)
    shutil.copy(finished / "toy.onnx", tmp_path)
    write_manifest(Manifest(sick, 0), tmp_path / "split.csv")
    write_report(tmp_path, images, silent, split="train")
    told, words = told_in(tmp_path), page_in(tmp_path).words
    assert told["curves"]["roc"] is None
    assert told["evaluation"]["metrics"]["specificity"]["value"] is None
    assert "lacks a class" in words
    assert "images that trained the model" in words
    with pytest.raises(BadData, match="no split 'test'"):
        write_report(tmp_path, images, silent)


def test_other_data_than_the_runs_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(BadData, match="the folder that the run was fitted on"):
        write_report(finished, tmp_path, silent, out=tmp_path)


def test_a_finished_run_started_again_keeps_its_model(finished: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "toy.onnx").read_bytes()
    events: list[Event] = []
    run(fit_options(images, tmp_path), events.append)
    assert [e["event"] for e in events if e["event"] in MAKING] == ["kept"]
    assert (tmp_path / "toy.onnx").read_bytes() == before
    events.clear()
    run(fit_options(images, tmp_path, origin=Origin(attribution="somebody else")), events.append)
    assert [e["event"] for e in events if e["event"] in MAKING] == ["resumed", "exported"]


def test_a_fit_stopped_before_its_report_is_started_again_and_only_writes_it(images: Path, tmp_path: Path) -> None:
    words = ["fit", "--data", str(images), "--recipe", "scratch_cnn", "--out", str(tmp_path)]
    words += ["--limit", "40", "--epochs", "1", "--seed", "3"]
    CliRunner().invoke(app, [*words, "--no-report"], prog_name="trainer", catch_exceptions=False)
    made = (tmp_path / "scratch_cnn.onnx").read_bytes()
    assert not (tmp_path / HTML).exists()
    answer = CliRunner().invoke(app, words, prog_name="trainer", catch_exceptions=False)
    assert [e["event"] for e in map(json.loads, answer.stdout.splitlines()) if e["event"] in MAKING] == ["kept"]
    assert (tmp_path / "scratch_cnn.onnx").read_bytes() == made
    told = told_in(tmp_path)
    assert told["record"]["command"].startswith(f"trainer fit --data {images} --recipe scratch_cnn")
    assert "--seed 3" in told["record"]["command"]
    assert told["saliency"]["method"]
    assert len(told["pictured"]) >= 4
