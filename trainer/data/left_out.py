"""Whose images are left out of a data set, as folders and CSV files name them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trainer.data.folders import read_left_out
from trainer.data.manifest import Sample
from trainer.data.split import keys_of
from worker.errors import BadData


def left_out_of(samples: Sequence[Sample], paths: Iterable[Path], is_patient_each: bool = False) -> list[Sample]:
    """The samples to leave out, read from `paths`: `split` leaves out whoever of `samples` shares a key with them.

    With `is_patient_each` a CSV's row without a patient means the file at its path: below the folder of `samples`, or
    below any folder in it. A folder may share nobody with `samples`: it says whose its own images are. Raises BadData
    for a row that may mean several files, and for a CSV that names nobody of `samples`.
    """
    keys = {key for sample in samples for key in keys_of(sample)}
    places = _places(samples) if is_patient_each else {}
    found: list[Sample] = []
    for path in paths:
        read = read_left_out(path, is_patient_each)
        if not path.is_dir():
            read = tuple(_placed(each, places, keys, path) for each in read)
            if keys.isdisjoint(key for each in read for key in keys_of(each)):
                raise BadData(
                    "names no patient and no file of the data, so nobody would be left out: write patients and paths as"
                    " the data have them, or give no such --leave-out"
                ).about(str(path))
        found += read
    return found


def _places(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Every end of a path, from its last part to the whole -> the samples whose path ends so."""
    places: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        parts = sample.path.split("/")
        for first in range(len(parts)):
            places["/".join(parts[first:])].append(sample)
    return places


def _placed(row: Sample, places: Mapping[str, list[Sample]], keys: set[str], csv: Path) -> Sample:
    """The row with the patient of the file that it names; as it is where it has a patient, or its bytes are known."""
    if row.patient != row.path or f"source:{row.source_sha256}" in keys:
        return row
    name = row.path.replace("\\", "/").removeprefix("./")
    meant = places.get(name, [])
    exact = [sample for sample in meant if sample.path == name]
    if len(exact or meant) > 1:
        raise BadData(
            f"the row of {name!r} may mean {meant[0].path!r} or {meant[1].path!r}: write the one meant"
        ).about(str(csv))
    return replace(row, patient=(exact or meant)[0].patient) if meant else row
