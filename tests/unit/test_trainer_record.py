"""A finished run is kept only if nothing that shaped its model has changed."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from trainer.cli.fit import leaks
from trainer.data.manifest import Manifest, Origin, Sample, write_manifest
from trainer.recipes import RECIPES
from trainer.run.record import RECORD, Record, digest_of, is_made, read_record, write_record
from trainer.statistics.operating_point import ThresholdRule
from trainer.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from trainer.training.warm_start import CHECKPOINT, SPLIT, PreviousRun, read_previous
from worker.errors import BadSetting

HERE, THERE = "1" * 64, "2" * 64
RECIPE = RECIPES[0]


def finished(folder: Path, elsewhere_digest: str) -> Path:
    """A run folder with checkpoint, model and record; returns the model."""
    (folder / CHECKPOINT).write_bytes(b"weights")
    model = folder / "model.onnx"
    model.write_bytes(b"graph")
    record = Record(
        "", RECIPE.to_json(), 0, "", HERE, digest_of(folder / CHECKPOINT), asdict(Origin()), model.name,
        digest_of(model), "jax", elsewhere_digest=elsewhere_digest,
    )  # fmt: skip
    write_record(record, folder)
    return model


def test_a_threshold_chosen_with_other_images_of_elsewhere_is_chosen_again(tmp_path: Path) -> None:
    model = finished(tmp_path, HERE)
    assert is_made(tmp_path, model, Origin(), RECIPE, HERE)
    assert not is_made(tmp_path, model, Origin(), RECIPE, THERE)
    assert not is_made(tmp_path, model, Origin(), RECIPE)
    other_rule = replace(RECIPE, threshold=ThresholdRule("fixed", 0.5))
    assert not is_made(tmp_path, model, Origin(), other_rule, HERE)


def test_the_record_of_an_older_run_still_reads(tmp_path: Path) -> None:
    model = finished(tmp_path, "")
    older = json.loads((tmp_path / RECORD).read_text(encoding="utf-8"))
    del older["elsewhere_digest"]
    (tmp_path / RECORD).write_text(json.dumps(older), encoding="utf-8")
    assert read_record(tmp_path) is not None
    assert is_made(tmp_path, model, Origin(), RECIPE)


def test_a_fold_that_is_tested_on_images_of_the_earlier_run_is_named(tmp_path: Path) -> None:
    mine, others = (Sample(f"{name}.png", 0, "normal", name, name * 64) for name in "ab")
    earlier = PreviousRun(tmp_path, "", [], (mine,))
    folders = [tmp_path / name for name in ("fold-1", "fold-2")]
    for folder, tested in zip(folders, (mine, others), strict=True):
        folder.mkdir()
        write_manifest(Manifest((replace(tested, split="test"),), 0), folder / SPLIT)
    assert leaks(earlier, folders) == [
        "fold-1: 1 images of the test split were used to train the earlier run: its result is too good"
    ]


def test_a_damaged_checkpoint_is_named_with_its_remedy(tmp_path: Path) -> None:
    path, weights = tmp_path / CHECKPOINT, [np.arange(9000.0)]
    write_checkpoint(Checkpoint("run", weights, [], 1, weights, (0.5,)), path)
    assert read_checkpoint(path, "run") is not None
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:30000] + bytes(100) + whole[30100:]):
        path.write_bytes(damaged)
        with pytest.raises(BadSetting, match=r"checkpoint\.npz: is damaged .* remove it and train anew"):
            read_checkpoint(path, "run")


def test_any_flipped_bit_of_a_checkpoints_table_is_named(tmp_path: Path) -> None:
    path, weights = tmp_path / CHECKPOINT, [np.arange(3.0)]
    write_checkpoint(Checkpoint("run", weights, [], 1, weights, (0.5,)), path)
    whole = path.read_bytes()
    table = whole.index(b"PK\x01\x02")  # zip's list of its members, with their flags, compression and places
    refused = []
    for at in range(table, len(whole)):
        for bit in (0x01, 0x80):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
            for read in (lambda: read_checkpoint(path, "run"), lambda: read_previous(tmp_path)):
                try:
                    read()
                except BadSetting as error:
                    refused.append(str(error))
    assert len(refused) > 100
    assert all(str(path) in each for each in refused)
