"""`trainer half` on the shipped model and the sample studies of this repository."""

import csv
from pathlib import Path

from click.testing import CliRunner, Result

from trainer.cli.main import app
from trainer.data.manifest import Manifest, Sample, write_manifest
from worker.settings import DEFAULT_MODEL

DATA = Path(__file__).parent / "data"

#: Labelled samples; each split has both classes.
SAMPLES = {
    "validation": ("anna_explicit.dcm", "mia_224.jpeg", "ida_8_bit.png", "noah_224.jpeg"),
    "test": ("klara_native.jpeg", "jakob_16_bit.png", "leo_native.jpeg", "hugo_pa.dcm"),
}


def halve_shipped(out: Path, *options: str, model: Path = DEFAULT_MODEL) -> Result:
    """Run the verb with JSON as its answer; the threshold is that of the shipped model, or as `options` say."""
    with (DATA / "labels.csv").open(encoding="utf-8", newline="") as file:
        labels = {row["file"]: int(row["label"] == "pneumonia") for row in csv.DictReader(file)}
    samples = (Sample(name, labels[name], "", name, "", split=split) for split in SAMPLES for name in SAMPLES[split])
    split = out.with_suffix(".csv")
    write_manifest(Manifest(tuple(samples), 0), split)
    words = ["half", str(model), "--data", str(DATA / "inbox"), "--split-manifest", str(split)]
    return CliRunner().invoke(app, [*words, "--threshold-rule", "fixed=0.4971", "--out", str(out), "--json", *options])
