"""`trainer manifest`: an index of a published data set from rows as its own tables have them."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.brightness_model import write_image
from trainer.cli.main import app
from trainer.data.folders import read_samples
from worker.errors import BadData

#: Rows as published. NIH's header closes its last brackets in columns of their own and ends with a comma.
NIH_OLD = """\
Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],\
OriginalImagePixelSpacing[x,y],
00000001_000.png,Cardiomegaly,0,1,058Y,M,PA,2682,2749,0.143,0.143,
00000002_000.png,No Finding,0,2,081Y,M,PA,2500,2048,0.171,0.171,
00000013_005.png,Infiltration|Pneumonia,5,13,009M,M,AP,2544,3056,0.139,0.139,
00005567_000.png,No Finding,0,5567,412Y,M,AP,2544,3056,0.139,0.139,
00030805_000.png,No Finding,0,30805,027Y,M,PA,2048,2500,0.171,0.171,
"""
NIH_NEW = """\
Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Sex,View Position,OriginalImage[Width,Height],\
OriginalImagePixelSpacing[x,y]
00000002_000.png,No Finding,0,2,80,M,PA,2500,2048,0.171,0.171
"""
NIH_BOXES = """\
Image Index,Finding Label,Bbox [x,y,w,h],,,
00000013_005.png,Pneumonia,512.0,256.0,102.4,204.8,,,
00000001_000.png,Cardiomegaly,225.084745762712,547.019216763771,86.7796610169492,79.1864406779661,,,
"""
RSNA_LABELS = """\
patientId,x,y,width,height,Target
0004cfab-14fd-4e49-80ba-63a80b6bddd6,,,,,0
00313ee0-9eaa-42f4-b0ab-c148ed3241cd,,,,,0
00436515-870c-4b36-a041-de91049b9ab4,264.0,152.0,213.0,379.0,1
00436515-870c-4b36-a041-de91049b9ab4,562.0,152.0,256.0,453.0,1
"""
RSNA_CLASSES = """\
patientId,class
0004cfab-14fd-4e49-80ba-63a80b6bddd6,No Lung Opacity / Not Normal
00313ee0-9eaa-42f4-b0ab-c148ed3241cd,Normal
00436515-870c-4b36-a041-de91049b9ab4,Lung Opacity
00436515-870c-4b36-a041-de91049b9ab4,Lung Opacity
"""
MAPPING = [{"subset_img_id": "00436515-870c-4b36-a041-de91049b9ab4", "img_id": "00000013_005.png", "orig_labels": []}]


@pytest.fixture
def nih(tmp_path: Path) -> Path:
    root = tmp_path / "nih"
    for i, name in enumerate(("00000001_000", "00000002_000", "00000013_005", "00005567_000")):
        write_image(root / f"images_00{1 + i % 2}" / "images" / f"{name}.png", 100, noise=i)
    (root / "Data_Entry_2017.csv").write_text(NIH_OLD)
    (root / "BBox_List_2017.csv").write_text(NIH_BOXES)
    (root / "train_val_list.txt").write_text("00000001_000.png\n00000002_000.png\n00005567_000.png\n")
    (root / "test_list.txt").write_text("00000013_005.png\n")
    return root


@pytest.fixture
def rsna(tmp_path: Path) -> Path:
    root = tmp_path / "rsna"
    for i, name in enumerate(sorted({line.split(",")[0] for line in RSNA_CLASSES.splitlines()[1:]})):
        write_image(root / "stage_2_train_images" / f"{name}.png", 100, noise=i)
    (root / "stage_2_train_labels.csv").write_text(RSNA_LABELS)
    (root / "stage_2_detailed_class_info.csv").write_text(RSNA_CLASSES)
    return root


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["manifest", *map(str, words)])


def boxes_in(root: Path) -> list[dict[str, str]]:
    with (root / "boxes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_nih_by_its_own_labels(nih: Path) -> None:
    said = run("nih", nih)
    assert said.exit_code == 0, said.output
    assert "3 images of 3 patients" in said.output
    assert "1 with other findings only; 1 without an image" in said.output
    samples = {Path(s.path).stem: s for s in read_samples(nih, nih / "index.csv")}
    assert set(read_samples(nih)) == set(samples.values()), "every verb finds it, and leaves the others out"
    assert set(samples) == {"00000002_000", "00000013_005", "00005567_000"}
    sick, well = samples["00000013_005"], samples["00000002_000"]
    assert (sick.label, sick.patient, sick.view, sick.age_years, sick.split) == (1, "nih-13", "AP", 0.75, "test")
    assert (well.label, well.patient, well.view, well.age_years, well.split) == (0, "nih-2", "PA", 81.0, "train")
    assert samples["00005567_000"].age_years is None, "412 years is an error of the table"
    assert {s.source for s in samples.values()} == {"NIH ChestX-ray14"}
    (box,) = boxes_in(nih)
    assert [box[name] for name in ("image", "finding")] == ["00000013_005", "NIH pneumonia"]
    assert [float(box[name]) for name in ("x", "y", "width", "height")] == [0.5, 0.25, 0.1, 0.2]


def test_the_newer_table_of_nih_comes_first(nih: Path) -> None:
    (nih / "Data_Entry_2017_v2020.csv").write_text(NIH_NEW)
    assert run("nih", nih).exit_code == 0
    (sample,) = read_samples(nih, nih / "index.csv")
    assert sample.age_years == 80.0


def test_rsna_with_classes_boxes_and_the_patients_of_nih(rsna: Path) -> None:
    (rsna / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(MAPPING))
    said = run("rsna", rsna)
    assert said.exit_code == 0, said.output
    samples = {s.subtype: s for s in read_samples(rsna, rsna / "index.csv")}
    assert {subtype: s.label for subtype, s in samples.items()} == {
        "normal": 0, "not normal, no lung opacity": 0, "lung opacity": 1,
    }  # fmt: skip
    assert samples["lung opacity"].patient == "nih-13", "as in the index of NIH: no patient is in two splits"
    assert samples["normal"].patient == "rsna-00313ee0-9eaa-42f4-b0ab-c148ed3241cd"
    first, second = boxes_in(rsna)
    assert float(first["x"]) == pytest.approx(264 / 1024, abs=1e-5)
    assert float(second["width"]) == 0.25


def test_what_is_missing_is_named(nih: Path, rsna: Path, tmp_path: Path) -> None:
    (rsna / "stage_2_detailed_class_info.csv").unlink()
    (nih / "Data_Entry_2017.csv").write_text("Image Index,Labels\n")
    (tmp_path / "empty").mkdir()
    for words, complaint in (
        (("rsna", rsna), "lacks the set's table stage_2_detailed_class_info.csv"),
        (("nih", nih), "lacks the column(s) Finding Labels, Patient ID"),
        (("nih", tmp_path / "empty"), "holds no image"),
    ):
        said = run(*words)
        assert isinstance(said.exception, BadData)
        assert complaint in str(said.exception)


def test_tables_that_disagree_are_refused(rsna: Path) -> None:
    (rsna / "stage_2_detailed_class_info.csv").write_text(RSNA_CLASSES.replace("Lung Opacity\n", "Normal\n"))
    said = run("rsna", rsna)
    assert isinstance(said.exception, BadData)
    assert "the tables disagree about" in str(said.exception)


@pytest.mark.parametrize(
    ("table", "old", "new", "complaint"),
    [
        ("Data_Entry_2017.csv", "2,081Y", "2,8l", r"Data_Entry_2017\.csv: the row of 00000002_000\.png is damaged"),
        ("Data_Entry_2017.csv", "0,30805,027Y,M,PA,2048,2500,0.171,0.171,\n", "", r"the row of 00030805_000\.png"),
        ("BBox_List_2017.csv", "512.0,256.0,102.4,204.8", "512.0,256", r"BBox_List_2017\.csv: the row of 0+13_005"),
    ],
)
def test_a_table_that_was_cut_off_is_named_with_its_row(
    nih: Path, table: str, old: str, new: str, complaint: str
) -> None:
    write_image(nih / "00030805_000.png", 100)
    (nih / table).write_text((nih / table).read_text().replace(old, new))
    said = run("nih", nih)
    assert isinstance(said.exception, BadData)
    with pytest.raises(BadData, match=complaint):
        raise said.exception


def test_a_table_in_another_encoding_is_named(nih: Path) -> None:
    (nih / "Data_Entry_2017.csv").write_bytes(NIH_OLD.encode("utf-16"))
    said = run("nih", nih)
    assert isinstance(said.exception, BadData)
    assert "is not text in UTF-8" in str(said.exception)


@pytest.mark.parametrize("name", ["index.csv", "boxes.csv"])
def test_a_file_that_somebody_else_wrote_is_not_replaced_and_its_own_is(nih: Path, name: str) -> None:
    (nih / name).write_text("path,label,patient\nimages/a.png,normal,1\n")
    before = sorted(nih.iterdir()), (nih / name).read_text()
    said = run("nih", nih)
    assert isinstance(said.exception, BadData)
    assert f"{name}: is there already, with other columns" in str(said.exception)
    assert (sorted(nih.iterdir()), (nih / name).read_text()) == before
    (nih / name).unlink()
    assert [run("nih", nih).exit_code for _ in range(2)] == [0, 0]
