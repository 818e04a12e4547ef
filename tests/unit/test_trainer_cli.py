"""The program `trainer` as a person meets it: faults in one line with a remedy, tables that hide nothing."""

import os
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.logistic_model import NORMALS, POSITIVES, write_factory, write_site
from trainer.cli.exit_codes import Exit
from trainer.cli.main import app, main
from trainer.data.folders import read_samples
from trainer.data.manifest import Manifest, write_manifest
from trainer.recipes import RECIPES
from worker.errors import BadSetting


def failing(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """What the program says on standard error when it refuses."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code == Exit.REFUSED
    return capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    factory, site = (
        write_factory(tmp_path / "factory.onnx"),
        write_site(tmp_path / "north", NORMALS[:20], POSITIVES[:5]),
    )
    said = failing(capsys, "calibrate", factory, "--data", site, "--out", tmp_path / "none" / "new.onnx")
    assert said.splitlines()[-1].endswith("new.onnx.part: No such file or directory: make its folder first")
    said = failing(capsys, "compare", factory, factory, "--data", site / ("a" * 200), "--out", tmp_path)
    assert len(said.splitlines()) == 1, "also where it is longer than a terminal is wide"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
        with redirect_stdout(full):
            said = failing(capsys, "recipes", "--json")
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert said == "file_fault: No space left on device: make room, and start the same command again\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--recipe", "scratch_cnn", "--weights", "some.h5"), "scratch_cnn has no pretrained part"),
        (("--recipe", "vgg16_frozen", "--weights", "none.h5"), r"none\.h5: no such weights file"),
        (("--recipe", "scratch_cnn", "--ages", "5", "1"), "lower bound first"),
    ],
)
def test_a_fit_refuses_what_it_could_not_use_before_it_reads_an_image(
    words: tuple[str, ...], complaint: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said = CliRunner().invoke(app, ["fit", "--data", str(tmp_path), "--out", str(out), *words])
    assert isinstance(said.exception, BadSetting)
    with pytest.raises(BadSetting, match=complaint):
        raise said.exception
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--elsewhere-rule", "youden"), "--elsewhere-rule are of --elsewhere"),
        (("--seed", "-1"), "-1 is not in the range"),
        (("--from", "run", "--weights", "some.h5"), "--from gives the weights"),
    ],
)
def test_options_of_a_fit_that_would_be_ignored_are_refused(
    words: tuple[str, ...], complaint: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said = CliRunner().invoke(
        app, ["fit", "--data", str(tmp_path), "--recipe", "scratch_cnn", "--out", str(out), *words]
    )
    assert said.exit_code == 2
    assert complaint in said.output


def test_a_narrow_terminal_cuts_no_name_and_no_number(tmp_path: Path) -> None:
    narrow = CliRunner(env={"COLUMNS": "72"})
    said = narrow.invoke(app, ["recipes"]).output
    assert all(recipe.name in said for recipe in RECIPES)
    factory, site = write_factory(tmp_path / "factory.onnx"), write_site(tmp_path / "north", NORMALS[:9], POSITIVES[:9])
    said = narrow.invoke(app, ["evaluate", str(factory), "--data", str(site)]).output
    assert "│ normal" in said
    assert "…" not in said


def test_a_place_in_brackets_keeps_its_name(tmp_path: Path) -> None:
    factory, site = (
        write_factory(tmp_path / "factory.onnx"),
        write_site(tmp_path / "north", NORMALS[:20], POSITIVES[:5]),
    )
    words = ["calibrate", factory, "--data", site, "--place", "North [b]", "--out", tmp_path / "new.onnx"]
    assert "logistic_site, images of North [b]" in CliRunner().invoke(app, [str(word) for word in words]).output


def test_evaluate_warns_of_images_that_made_the_model(tmp_path: Path) -> None:
    site, path = write_site(tmp_path / "north", NORMALS[:9], POSITIVES[:9]), tmp_path / "split.csv"
    manifest = Manifest(tuple(replace(s, split="train") for s in read_samples(site)), 0)
    write_manifest(manifest, path)
    own = write_factory(tmp_path / "own.onnx", data_digest=manifest.digest)
    other = write_factory(tmp_path / "other.onnx")

    def warnings(model: Path, *words: str) -> str:
        said = CliRunner().invoke(app, ["evaluate", str(model), "--data", str(site), *words])
        assert said.exit_code == 0, said.output
        return said.stderr

    in_split = ("--split-manifest", str(path), "--split", "train")
    assert warnings(own, *in_split).count("warning: ") == 1
    assert "measured on the images that trained the model" in warnings(own, *in_split)
    assert "made on another split than this one" in warnings(other, *in_split)
    assert warnings(own) == ""


def test_compare_says_how_many_images_it_did_not_count(tmp_path: Path) -> None:
    factory, site = write_factory(tmp_path / "factory.onnx"), write_site(tmp_path / "north", NORMALS[:9], POSITIVES[:9])
    other = write_factory(tmp_path / "other.onnx", gain=21.0)
    (site / "NORMAL" / "N0" / "0.png").write_bytes(b"nothing")
    words = ["compare", factory, other, "--data", site, "--out", tmp_path / "compared"]
    said = CliRunner().invoke(app, [str(word) for word in words])
    assert said.exit_code == 0, said.output
    assert "1 images cannot be read and are not counted" in said.stderr
