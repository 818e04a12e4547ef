"""Who is named to be left out is left out, or the list is refused."""

from pathlib import Path

import pytest

from trainer.data.folders import read_left_out, read_samples, read_together
from trainer.data.left_out import left_out_of
from trainer.data.manifest import LEFT_OUT, Sample, write_manifest
from trainer.data.split import split
from worker.errors import BadData


def place(root: Path, first: int = 0) -> Path:
    """Twelve images of each class, named by numbers from `first`; no patient is known."""
    for label in ("NORMAL", "PNEUMONIA"):
        (root / label).mkdir(parents=True)
        for number in range(first, first + 12):
            path = root / label / f"{number}.png"
            path.write_bytes(str(path).encode())
    return root


def both(tmp_path: Path) -> tuple[Sample, ...]:
    """Those of the folders `children` and `adults`; 6 to 11 are names in both."""
    parts = (place(tmp_path / "children"), None), (place(tmp_path / "adults", 6), None)
    return read_together(parts, is_patient_each=True)


def csv(tmp_path: Path, *names: str) -> Path:
    path = tmp_path / "out.csv"
    path.write_text("path,label\n" + "".join(f"{name},normal\n" for name in names))
    return path


def paths_left_out(samples: tuple[Sample, ...], path: Path, is_patient_each: bool = True) -> list[str]:
    return [s.path for s in split(samples, 0, left_out_of(samples, [path], is_patient_each)).of(LEFT_OUT)]


def test_a_row_of_a_file_that_is_not_there_takes_nothing_from_the_others(tmp_path: Path) -> None:
    samples = read_samples(place(tmp_path / "data"), is_patient_each=True)
    out = csv(tmp_path, "NORMAL/gone.png", "NORMAL/5.png", ".\\PNEUMONIA\\7.png")
    assert paths_left_out(samples, out) == ["NORMAL/5.png", "PNEUMONIA/7.png"]


def test_a_row_of_nobody_splits_as_no_row(tmp_path: Path) -> None:
    samples = read_samples(place(tmp_path / "data"), is_patient_each=True)
    out = read_left_out(csv(tmp_path, "NORMAL/gone.png"), is_patient_each=True)
    assert split(samples, 0, out) == split(samples, 0)


@pytest.mark.parametrize("is_patient_each", [True, False])
def test_a_csv_that_names_nobody_of_the_data_is_refused(is_patient_each: bool, tmp_path: Path) -> None:
    samples = read_samples(place(tmp_path / "data"), is_patient_each=True)
    out = csv(tmp_path, "NORMAL/gone.png")
    if not is_patient_each:
        out.write_text("path,label,patient\nNORMAL/5.png,normal,somebody else\n")
    with pytest.raises(BadData, match=r"out\.csv: names no patient and no file of the data"):
        left_out_of(samples, [out], is_patient_each)


def test_a_folder_that_shares_nobody_with_the_data_is_taken(tmp_path: Path) -> None:
    samples = read_samples(place(tmp_path / "data"), is_patient_each=True)
    assert paths_left_out(samples, place(tmp_path / "other")) == []


def test_with_two_folders_a_row_finds_the_one_file_that_it_may_mean(tmp_path: Path) -> None:
    samples = both(tmp_path)
    out = csv(tmp_path, "NORMAL/5.png", "PNEUMONIA/17.png", "adults/NORMAL/6.png")
    assert paths_left_out(samples, out) == ["adults/NORMAL/6.png", "adults/PNEUMONIA/17.png", "children/NORMAL/5.png"]
    with pytest.raises(BadData, match=r"may mean 'adults/NORMAL/6\.png' or 'children/NORMAL/6\.png': write the one"):
        left_out_of(samples, [csv(tmp_path, "NORMAL/6.png")], is_patient_each=True)


def test_with_two_folders_the_split_of_one_leaves_out_that_one(tmp_path: Path) -> None:
    samples, path = both(tmp_path), tmp_path / "split.csv"
    write_manifest(split(read_samples(tmp_path / "children", is_patient_each=True), 0), path)
    assert paths_left_out(samples, path) == [s.path for s in samples if s.path.startswith("children/")]


def test_a_row_without_a_patient_takes_the_known_patient_of_its_file(tmp_path: Path) -> None:
    data = place(tmp_path / "data")
    for image in ("0001", "0002"):
        (data / "NORMAL" / f"IM-0007-{image}.jpeg").write_bytes(image.encode())
    samples = read_samples(data, is_patient_each=True)
    assert paths_left_out(samples, csv(tmp_path, "NORMAL/IM-0007-0001.jpeg")) == [
        "NORMAL/IM-0007-0001.jpeg",
        "NORMAL/IM-0007-0002.jpeg",
    ]
