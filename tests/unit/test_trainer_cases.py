"""Which images a report shows, what is read from a run folder, and the command line that repeats a run."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from trainer.cli.options import command_line
from trainer.data.manifest import Manifest, Origin, Sample, write_manifest
from trainer.recipes import RECIPES
from trainer.report import cases
from trainer.report.cases import Case, errors, to_picture
from trainer.run.folder import read_run
from trainer.run.record import is_made
from worker.errors import BadData


def case(name: str, label: int, probability: float) -> Case:
    return Case(Sample(name, label, "", name, ""), probability, threshold=0.5)


MIXED = [
    case("slight miss", 1, 0.45),
    case("bad alarm", 0, 0.9),
    case("bad miss", 1, 0.1),
    case("found", 1, 0.8),
    case("hardly found", 1, 0.5),
    case("spared", 0, 0.2),
    case("hardly spared", 0, 0.49),
]


def test_missed_come_first_and_the_worst_of_them_at_the_top() -> None:
    assert [c.sample.path for c in errors(MIXED)] == ["bad miss", "slight miss", "bad alarm"]
    assert [c.outcome for c in errors(MIXED)] == ["missed pneumonia", "missed pneumonia", "false alarm"]


def test_where_few_are_wrong_the_nearly_wrong_are_shown_and_called_so() -> None:
    shown = [(c.sample.path, c.outcome) for c in to_picture(MIXED)]
    assert shown[2] == ("hardly found", "nearly missed")
    assert shown[3:] == [
        ("bad alarm", "false alarm"),
        ("hardly spared", "nearly a false alarm"),
        ("spared", "nearly a false alarm"),
    ]


def test_of_many_errors_only_the_worst_are_pictured() -> None:
    many = [case(f"{i:03d}", i % 2, 0.9 - i / 1000 if i % 2 == 0 else 0.1 + i / 1000) for i in range(300)]
    assert len(errors(many)) == 300
    assert len(to_picture(many)) == 2 * cases.SHOWN
    assert to_picture(many)[0].sample.path == "001"


def folder_with(path: Path, log: str = "", models: int = 1) -> Path:
    sample = Sample("a.png", 1, "virus", "p", "0" * 64, "g", "test")
    write_manifest(Manifest((sample,), 0), path / "split.csv")
    (path / "log.jsonl").write_text(log)
    for number in range(models):
        (path / f"{number}.onnx").write_bytes(b"")
    return path


def test_a_log_tells_the_last_course_of_training_and_survives_a_torn_line(tmp_path: Path) -> None:
    events = [
        {"event": "warning", "text": "of an earlier audit"},
        {"event": "epoch", "epoch": 1, "loss": 0.9},
        {"event": "epoch", "epoch": 2, "loss": float("nan")},
        {"event": "audit"},
        {"event": "warning", "text": "leak"},
        {"event": "epoch", "epoch": 1, "loss": 0.7, "auc_plain": 0.8},
        {"event": "epoch", "loss": 0.7},
    ]
    log = "\n".join(json.dumps(event) for event in events) + '\n[1]\n{"event": "ep'
    run = read_run(folder_with(tmp_path, log))
    assert run.epochs == [{"epoch": 1, "loss": 0.7, "auc_plain": 0.8}]
    assert run.warnings == ["leak"]
    assert (run.record, run.audit) == (None, {})


@pytest.mark.parametrize("models", [0, 2])
def test_a_folder_without_its_one_model_is_no_finished_run(tmp_path: Path, models: int) -> None:
    with pytest.raises(BadData, match=f"holds {models} model files"):
        read_run(folder_with(tmp_path, models=models))


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"split\.csv is missing"):
        read_run(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"command": ""}'])
def test_a_record_that_cannot_be_read_is_told(tmp_path: Path, content: str) -> None:
    (folder_with(tmp_path) / "run.json").write_text(content)
    with pytest.raises(BadData, match=r"run\.json.*remove it"):
        is_made(tmp_path, tmp_path / "0.onnx", Origin(), RECIPES[0])


def test_the_words_that_repeat_a_command_are_those_that_a_shell_needs() -> None:
    said: list[str] = []

    @click.group()
    def program() -> None: ...

    @program.command()
    @click.argument("file")
    @click.option("--ages", nargs=2, type=int)
    @click.option("--leave-out", multiple=True)
    @click.option("--seed", default=0)
    @click.option("--quick", is_flag=True)
    @click.option("--name")
    def fit(**_: object) -> None:
        said.append(command_line(click.get_current_context()))

    words = ["fit", "--leave-out", "a", "--leave-out", "b c", "--ages", "1", "5", "--seed", "0", "--name", "'; rm", "f"]
    CliRunner().invoke(program, words, prog_name="trainer", catch_exceptions=False)
    CliRunner().invoke(program, ["fit", "--quick", "--seed", "3", "f"], prog_name="trainer", catch_exceptions=False)
    assert said[0] == """trainer fit f --ages 1 5 --leave-out a --leave-out 'b c' --name ''"'"'; rm'"""
    assert said[1] == "trainer fit f --seed 3 --quick"


def test_verbs_that_draw_nothing_load_no_plots_and_no_templates() -> None:
    script = (
        "import sys, trainer.evaluation.evaluate, trainer.data.audit; from trainer.cli.main import app;"
        "app(['recipes', '--json'], standalone_mode=False);"
        "sys.exit('matplotlib' in sys.modules or 'jinja2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0
