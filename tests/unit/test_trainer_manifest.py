"""Patients stay in one split, the seed decides, and a fault in the data is named."""

import csv
import os
import re
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from trainer.cli.main import app
from trainer.data.folders import patient_of, read_left_out, read_samples, read_together, root_of
from trainer.data.manifest import LEFT_OUT, TRAIN_ONLY, Manifest, Sample, read_manifest, write_manifest
from trainer.data.split import folds, limit, split, without
from worker.errors import BadData


def samples(patients: int = 60, images: int = 3) -> list[Sample]:
    """Patients of three subtypes with several images each, every image a source of its own."""
    made = []
    for p in range(patients):
        subtype = ("normal", "bacteria", "virus")[p % 3]
        for i in range(images):
            name = f"{subtype}/{p}-{i}.png"
            made.append(Sample(name, int(subtype != "normal"), subtype, f"{subtype}-{p}", f"{p}:{i}"))
    return made


def splits_by(manifest: Manifest, attribute: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for sample in manifest.samples:
        found[getattr(sample, attribute)].add(sample.split)
    return found


def test_no_patient_lies_in_two_splits_and_the_shares_hold() -> None:
    manifest = split(samples(300), seed=5)
    assert all(len(names) == 1 for names in splits_by(manifest, "patient").values())
    assert len(manifest.of("test")) / 900 == pytest.approx(0.12, abs=0.01)
    assert len(manifest.of("validation")) / 900 == pytest.approx(0.08, abs=0.01)
    for name in ("train", "validation", "test"):
        part = manifest.of(name)
        assert sum(s.subtype == "virus" for s in part) / len(part) == pytest.approx(1 / 3, abs=0.03)


def test_byte_identical_sources_of_two_patients_stay_together() -> None:
    plain = samples(90)
    twins = [Sample(f"virus/twin-{i}.png", 1, "virus", f"twin-{i}", f"{2 + 3 * i}:0") for i in range(10)]
    manifest = split(plain + twins, seed=1)
    assert all(len(names) == 1 for names in splits_by(manifest, "source_sha256").values())


def test_a_person_of_bacteria_and_virus_stays_together() -> None:
    both = [
        Sample(f"PNEUMONIA/person{n}_{kind}_{n}.jpeg", 1, kind, f"{kind}-{n}", f"{kind}{n}")
        for n in range(50)
        for kind in ("bacteria", "virus")
    ]
    manifest = split(both + samples(60), seed=2)
    groups = {s.path.split("_")[0]: s.group for s in manifest.samples if "person" in s.path}
    for sample in manifest.samples:
        if "person" in sample.path:
            assert sample.group == groups[sample.path.split("_")[0]]


def test_the_seed_alone_decides() -> None:
    first, again, other = split(samples(), 1), split(reversed_samples(), 1), split(samples(), 2)
    assert first == again
    assert first.digest == again.digest
    assert first.digest != other.digest


def reversed_samples() -> list[Sample]:
    return list(reversed(samples()))


def test_left_out_patients_go_with_all_their_images() -> None:
    out = [Sample("elsewhere/copy.jpeg", 1, "bacteria", "bacteria-1", "unseen")]
    manifest = split(samples(), 0, out)
    assert {s.path for s in manifest.of(LEFT_OUT)} == {f"bacteria/1-{i}.png" for i in range(3)}


def test_a_written_manifest_reads_back_and_guards_itself(tmp_path: Path) -> None:
    manifest = split(samples(), 7)
    path = tmp_path / "split.csv"
    write_manifest(manifest, path)
    assert read_manifest(path) == manifest
    path.write_text(path.read_text().replace("train", "test", 1))
    with pytest.raises(BadData, match=r"split\.csv.*changed"):
        read_manifest(path)


def test_a_manifest_that_is_absent_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"absent\.csv: cannot be read \(No such file"):
        read_manifest(tmp_path / "absent.csv")
    (tmp_path / "split.csv").write_bytes(b"\x89PNG\xff")
    with pytest.raises(BadData, match="not text in UTF-8"):
        read_manifest(tmp_path / "split.csv")


def test_an_index_as_a_spreadsheet_writes_it_is_read_and_other_encodings_are_named(tmp_path: Path) -> None:
    place(tmp_path / "images", "a.png")
    index = tmp_path / "list.csv"
    index.write_text("path,label,patient\na.png,normal,M\u00fcller\n", encoding="utf-8-sig")
    (sample,) = read_samples(tmp_path / "images", index)
    assert sample.patient == "M\u00fcller"
    index.write_text("path,label,patient\na.png,normal,M\u00fcller\n", encoding="latin-1")
    with pytest.raises(BadData, match=r"list\.csv: is not text in UTF-8"):
        read_samples(tmp_path / "images", index)


def test_an_index_serves_a_copy_of_the_folder(tmp_path: Path) -> None:
    file = tmp_path / "set" / "copy" / "PNEUMONIA" / "a.png"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    write_index(tmp_path / "set" / "index.csv", [("set/train/PNEUMONIA/a.png", "PNEUMONIA", "p1")])
    (sample,) = read_samples(tmp_path / "set" / "copy")
    assert (sample.patient, sample.label, sample.path) == ("p1", 1, "PNEUMONIA/a.png")


def test_kermany_names_tell_the_patient() -> None:
    assert patient_of("person1000_bacteria_2931.jpeg") == "bacteria-1000"
    assert patient_of("person7_virus_12.jpeg") == "virus-7"
    assert patient_of("NORMAL2-IM-0832-0001-0002.jpeg") == "N2-0832"
    assert patient_of("IM-0467-0001-0002.jpeg") == "IM-0467"
    assert patient_of("chest.png") is None


def write_index(path: Path, rows: list[tuple[str, str, str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "patient"), *rows])


def test_an_unknown_label_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "TUBERCULOSIS").mkdir()
    (tmp_path / "TUBERCULOSIS" / "person1_virus_1.jpeg").write_bytes(b"x")
    with pytest.raises(BadData, match=r"person1_virus_1\.jpeg.*unknown label 'TUBERCULOSIS'"):
        read_samples(tmp_path)


def test_an_unknown_patient_asks_for_an_index(tmp_path: Path) -> None:
    (tmp_path / "NORMAL").mkdir()
    (tmp_path / "NORMAL" / "chest.png").write_bytes(b"x")
    with pytest.raises(BadData, match=r"chest\.png.*--index"):
        read_samples(tmp_path)


def test_an_index_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "NORMAL").mkdir()
    (tmp_path / "NORMAL" / "a.png").write_bytes(b"x")
    write_index(tmp_path / "index.csv", [("x/NORMAL/a.png", "NORMAL", "1"), ("y/NORMAL/a.png", "PNEUMONIA", "1")])
    with pytest.raises(BadData, match="disagree"):
        read_samples(tmp_path)


@pytest.mark.parametrize(
    ("column", "values"),
    [("label", ("NORMAL", "PNEUMONIA")), ("patient", ("1", "2")), ("split", ("train", "test")), ("age", ("30", "70"))],
)
def test_rows_of_another_root_that_disagree_are_refused(tmp_path: Path, column: str, values: tuple[str, str]) -> None:
    (tmp_path / "new" / "NORMAL").mkdir(parents=True)
    (tmp_path / "new" / "NORMAL" / "a.png").write_bytes(PNG)
    rows = [{"path": f"/old/{root}/NORMAL/a.png", "label": "NORMAL", "patient": "1"} for root in "ab"]
    for row, value in zip(rows, values, strict=True):
        row[column] = value
    with (tmp_path / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(BadData, match=r"two rows for 'NORMAL/a\.png' disagree"):
        read_samples(tmp_path)


HEAD = "path,label,patient\n"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "a.png,NORMAL,1\na.png,PNEUMONIA,1\n", "two rows for 'a.png' disagree"),
        (HEAD + "a.png,NORMAL,1\n./a.png,NORMAL,2\n", "two rows for 'a.png' disagree"),
        (HEAD + 'a.png,NORMAL,"1\nb.png,PNEUMONIA,2\n', "quotation mark"),
        (HEAD + f"a.png,NORMAL,{'1' * 200_000}\n", "is no CSV"),
        (HEAD + "a.png,NORMAL,Doe, John\n", "'a.png' has more cells than the first line has columns"),
        ("path,label,label,patient\na.png,NORMAL,PNEUMONIA,1\n", "has the column label twice"),
        ("path;label;patient\na.png;NORMAL;1\n", "its first line is 'path;label;patient'; a comma parts columns"),
        ("path,label,patient,age\na.png,NORMAL,1,nan\n", "unknown age 'NAN'"),
        ("path,label,patient,age\na.png,NORMAL,1,-5\n", "unknown age '-5'"),
        ("path,label,patient,age\na.png,NORMAL,1,610\n", "unknown age '610'"),
    ],
)
def test_an_index_that_can_be_read_in_two_ways_is_refused(tmp_path: Path, text: str, words: str) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / "index.csv").write_text(text)
    with pytest.raises(BadData, match=re.escape(words)):
        read_samples(tmp_path)


def test_rows_that_are_repeated_and_columns_that_do_not_count_are_no_fault(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    rows = "a.png,NORMAL,1,12\na.png,NORMAL,1,40\n\n\nb.png,NORMAL,2\n"
    (tmp_path / "index.csv").write_text("path,label,patient,box\n" + rows + "c.png,NORMAL,3,,,\n")
    assert [(s.path, s.patient) for s in read_samples(tmp_path)] == [("a.png", "1")]


def test_a_file_whose_name_no_list_can_hold_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "NORMAL"
    folder.mkdir()
    (folder / os.fsdecode(b"a\xff.png")).write_bytes(PNG)
    with pytest.raises(BadData, match="not UTF-8"):
        read_samples(tmp_path, is_patient_each=True)


@pytest.mark.parametrize("more", ["a.png,normal\n", "x" * 200_000 + ",normal,,,,,\n"])
def test_a_manifest_with_a_damaged_row_is_refused(tmp_path: Path, more: str) -> None:
    path = tmp_path / "split.csv"
    write_manifest(split(samples(), 0), path)
    path.write_text(path.read_text() + more)
    with pytest.raises(BadData, match=r"split\.csv"):
        read_manifest(path)


def test_a_csv_leaves_out_the_patients_it_lists(tmp_path: Path) -> None:
    write_index(tmp_path / "out.csv", [("a/b.png", "NORMAL", "normal-0"), ("a/c.png", "NORMAL", "normal-3")])
    manifest = split(samples(), 0, read_left_out(tmp_path / "out.csv"))
    assert {s.patient for s in manifest.of(LEFT_OUT)} == {"normal-0", "normal-3"}


def test_a_missing_class_is_refused() -> None:
    with pytest.raises(BadData, match="'normal'"):
        split([s for s in samples() if s.label], 0)


def test_limit_keeps_both_classes() -> None:
    few = limit(samples(), 20, 0)
    assert sum(s.label for s in few) == 10
    assert len(few) == 20


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="holds no image"):
        read_samples(tmp_path)


def place(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def test_split_folders_and_patient_folders_are_understood(tmp_path: Path) -> None:
    place(
        tmp_path, "train/NORMAL/p1/a.png", "train/PNEUMONIA/p2/a.png", "val/NORMAL/p3/a.png", "test/PNEUMONIA/p4/b.png"
    )
    found = {s.path: (s.label, s.patient, s.split) for s in read_samples(tmp_path)}
    assert found == {
        "train/NORMAL/p1/a.png": (0, "p1", "train"),
        "train/PNEUMONIA/p2/a.png": (1, "p2", "train"),
        "val/NORMAL/p3/a.png": (0, "p3", "validation"),
        "test/PNEUMONIA/p4/b.png": (1, "p4", "test"),
    }


def test_files_may_be_said_to_be_patients_of_their_own(tmp_path: Path) -> None:
    place(tmp_path, "NORMAL/a.png", "PNEUMONIA/a.png")
    assert [s.patient for s in read_samples(tmp_path, is_patient_each=True)] == ["NORMAL/a.png", "PNEUMONIA/a.png"]


def test_a_given_csv_alone_says_what_there_is(tmp_path: Path) -> None:
    place(tmp_path / "data", "x/1/a.png", "x/2/a.png", "NORMAL/IM-0001-1.png")
    index = tmp_path / "mine.csv"
    index.write_text(
        "path,label,patient,split,view,age,source\nx/1/a.png,pneumonia,p1,val,PA,061Y,north\nx/2/a.png,0,p2,test,,6M,\n"
    )
    first, second = read_samples(tmp_path / "data", index)
    assert (first.label, first.split, first.view, first.age_years, first.source) == (
        1,
        "validation",
        "PA",
        61.0,
        "north",
    )
    assert (second.label, second.patient, second.split, second.age_years) == (0, "p2", "test", 0.5)


@pytest.mark.parametrize(("column", "value"), [("split", "holdout"), ("age", "old")])
def test_a_csv_with_an_unknown_word_names_file_and_word(tmp_path: Path, column: str, value: str) -> None:
    place(tmp_path, "x/a.png")
    (tmp_path / "index.csv").write_text(f"path,label,patient,{column}\nx/a.png,normal,p,{value}\n")
    with pytest.raises(BadData, match=rf"a\.png.*unknown {column} '(?i:{value})'"):
        read_samples(tmp_path)


def test_dicom_headers_tell_patient_view_and_age(tmp_path: Path) -> None:
    inbox = Path(__file__).parents[1] / "data" / "inbox"
    (tmp_path / "NORMAL").mkdir()
    shutil.copy(inbox / "hugo_ap.dcm", tmp_path / "NORMAL")
    (tmp_path / "NORMAL" / "cut.dcm").write_bytes(b"no DICOM")
    broken, sample = read_samples(tmp_path)
    header = dcmread(inbox / "hugo_ap.dcm", stop_before_pixels=True)
    assert sample.patient == header.PatientID
    assert sample.view == "AP"
    assert sample.age_years == int(header.PatientAge[:3])
    assert broken.patient != sample.patient  # listed when its pixels are wanted, not here


def stated(patients: int, *parts: str) -> list[Sample]:
    return [replace(s, split=parts[int(s.patient.split("-")[1]) // 3 % len(parts)]) for s in samples(patients)]


def test_stated_splits_are_kept_and_a_missing_one_is_dealt_from_training() -> None:
    before = stated(120, "train", "train", "train", "test")
    manifest = split(before, 0)
    assert {s.path for s in manifest.of("test")} == {s.path for s in before if s.split == "test"}
    assert len(manifest.of("validation")) == pytest.approx(0.08 * 270, abs=6)
    assert {s.path for s in manifest.of("validation")} <= {s.path for s in before if s.split == "train"}
    anew = split(before, 0, keeps_stated=False)
    assert anew == split(samples(120), 0)


def test_images_for_training_only_are_never_measured_on() -> None:
    adults = [replace(s, path=f"adults/{s.path}", patient=f"adult-{s.patient}", source_sha256=f"adult {s.path}",
                      split=TRAIN_ONLY) for s in samples(30)]  # fmt: skip
    for keeps_stated in (True, False):
        manifest = split([*samples(), *adults], 0, keeps_stated=keeps_stated)
        assert {s.split for s in manifest.samples if s.path.startswith("adults/")} == {"train"}
        assert {s.split for s in manifest.samples if not s.path.startswith("adults/")} == {
            "train",
            "validation",
            "test",
        }
    with pytest.raises(BadData, match="train_only"):
        folds([*samples(), *adults], 3, 0)


def test_two_folders_are_read_as_one_data_set(tmp_path: Path) -> None:
    for folder in ("children", "adults/images"):
        for label in ("NORMAL", "PNEUMONIA"):
            (tmp_path / folder / label).mkdir(parents=True)
            (tmp_path / folder / label / "1.png").write_bytes(folder.encode() + label.encode())
    index = tmp_path / "adults.csv"
    index.write_text("path,label,patient,split,source\nimages/NORMAL/1.png,normal,a,train_only,NIH\n")
    parts = [(tmp_path / "adults", index), (tmp_path / "children", None)]
    read = read_together(parts, is_patient_each=True)
    assert [s.path for s in read] == ["adults/images/NORMAL/1.png", "children/NORMAL/1.png", "children/PNEUMONIA/1.png"]
    assert [(s.source, s.split) for s in read] == [("NIH", TRAIN_ONLY), ("", ""), ("", "")]
    two = read_together([(tmp_path / "children", None), (tmp_path / "adults/images", None)], is_patient_each=True)
    assert len({s.patient for s in two}) == 4, "files of one name in two folders are two patients"
    assert root_of([folder for folder, _ in parts]) == tmp_path.resolve()
    assert all((root_of([tmp_path / "adults", tmp_path / "children"]) / s.path).is_file() for s in read)


def test_view_age_and_source_survive_the_manifest_and_count_in_its_digest(tmp_path: Path) -> None:
    plain = split(samples(), 7)
    told = Manifest((replace(plain.samples[0], view="PA", age_years=4.5, source="north"), *plain.samples[1:]), 7)
    assert told.digest != plain.digest
    write_manifest(told, tmp_path / "split.csv")
    assert read_manifest(tmp_path / "split.csv") == told


def test_the_manifest_of_the_shipped_model_still_reads() -> None:
    shipped = read_manifest(Path(__file__).parents[1] / "benchmarks/results/trainer_efficientnet_lite0_lungs_split.csv")
    assert len(shipped.of("test")) == 604


def test_folds_test_every_image_once_and_tear_no_patient() -> None:
    manifests = folds(samples(150), 5, seed=3)
    tested = [s.path for m in manifests for s in m.of("test")]
    assert sorted(tested) == sorted(s.path for s in samples(150))
    for manifest in manifests:
        assert all(len(names) == 1 for names in splits_by(manifest, "patient").values())
        assert len(manifest.of("test")) == pytest.approx(90, abs=6)
        assert {s.subtype for s in manifest.of("validation")} == {"normal", "bacteria", "virus"}


def test_unreadable_images_leave_their_split_and_stay_listed() -> None:
    manifest = split(samples(), 0)
    gone = manifest.of("train")[0].path
    rest = without(manifest, [gone])
    assert [s.path for s in rest.of("unreadable")] == [gone]
    assert len(rest.of("train")) == len(manifest.of("train")) - 1


def test_a_csv_may_name_no_patients_if_each_file_is_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    index = tmp_path / "index.csv"
    index.write_text("path,label\na.png,normal\nb.png,pneumonia\n")
    with pytest.raises(BadData, match="--each-file-a-patient"):
        read_samples(tmp_path, index)
    assert [s.patient for s in read_samples(tmp_path, index, is_patient_each=True)] == ["a.png", "b.png"]
    with pytest.raises(BadData, match="names no patient in some of its rows"):
        read_left_out(index)


def test_files_without_patients_leave_out_themselves_and_their_copies(tmp_path: Path) -> None:
    for folder, count in (("data", 12), ("other", 2)):
        for label in ("NORMAL", "PNEUMONIA"):
            place(tmp_path / folder, *(f"{label}/{i}.png" for i in range(count)))
    (tmp_path / "other/NORMAL/0.png").write_bytes(b"of the same name, and another image")
    data = read_samples(tmp_path / "data", is_patient_each=True)
    index = tmp_path / "out.csv"
    index.write_text("path,label\nNORMAL/5.png,normal\n")
    for path, expected in (
        (tmp_path / "other", ["NORMAL/1.png", "PNEUMONIA/0.png", "PNEUMONIA/1.png"]),
        (index, ["NORMAL/5.png"]),
    ):
        manifest = split(data, 0, read_left_out(path, is_patient_each=True))
        assert [s.path for s in manifest.of(LEFT_OUT)] == expected


def test_every_verb_that_reads_labelled_images_takes_files_without_patients() -> None:
    """All but those that read a run's split, where every image has its patient."""
    for name, verb in app.commands.items():
        options = {option for parameter in verb.params for option in parameter.opts}
        if ("--data" in options and "--index" in options) or name in ("audit", "styles"):
            assert "--each-file-a-patient" in options, name
