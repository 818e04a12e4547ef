"""Drift of real images: held-out children of the training hospital, and adults of another one.

    python -m tests.benchmarks.drift MODEL --data DIR --split-manifest FILE [--before FILE]

DIR holds `kermany/train`, `kermany/native` and `nih`. Nothing of these was trained on but the split's training part,
which is not asked. `--before`: the same model as it was without a reference; its scores must be equal, bit by bit.
"""

import argparse
import csv
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from schema.vocabulary import Stability
from trainer.data.manifest import Sample, read_manifest
from trainer.export.reference import measure, unlabelled
from trainer.progress import silent
from worker.inference.model import Model, OnnxModel, open_model
from worker.inference.reference import MEASURES, Values
from worker.monitoring.drift.evaluate import Observed, Source, compare

RESULT = Path(__file__).parent / "results" / "drift.json"

#: Number of random draws, to see how often chance alone gives a warning.
DRAWS, DRAWN = 500, 200


def main() -> None:
    """Measure every group and write RESULT."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split-manifest", type=Path, required=True)
    parser.add_argument("--before", type=Path)
    asked = parser.parse_args()
    model = open_model(asked.model, "cpu")
    manifest = read_manifest(asked.split_manifest)
    is_whole = (asked.data / manifest.samples[0].path).is_file()  # paths from a fit on several folders start there
    children = asked.data if is_whole else asked.data / "kermany" / "train"
    tested, values = measure(model, children, manifest.of("test"), [], silent)
    labels = np.array([sample.label for sample in tested])
    healthy, sick = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    large, nih = asked.data / "kermany" / "native", asked.data / "nih"
    _, native = measure(model, large, unlabelled(large), [], silent)
    adults, of_adults = measure(model, nih, unlabelled(nih), [], silent)
    views = np.array(views_of(adults, nih / "index.csv"))
    groups = {
        "held-out children": values,
        "held-out children, one in ten sick": chosen(values, [*healthy, *sick[: len(healthy) // 9]]),
        "children at native size": native,
        **{f"adults, {view}": chosen(of_adults, np.flatnonzero(views == view)) for view in ("PA", "AP")},
    }
    result: dict[str, Any] = {
        "command": f"python -m tests.benchmarks.drift {asked.model} --data ... --split-manifest ... --before ...",
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "model_digest": model.digest,
        "graph_sha256": graph_digest(asked.model),
        "groups": {name: judged(model, found) for name, found in groups.items()},
        "chance": chance(model, values),
    }
    if asked.before is not None:
        result["before"] = before(asked.before, children, manifest.of("validation") + manifest.of("test"), model)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: group["status"] for name, group in result["groups"].items()}))  # noqa: T201


def judged(model: OnnxModel, values: dict[str, Values]) -> dict[str, Any]:
    """The result of `worker drift` for one scanner with these images."""
    seen = Observed(list(np.stack([values[name] for name in MEASURES], axis=1)))
    flagged = int((values["probability"] >= model.card.operating_point.threshold).sum())
    seen.nights[1] = [flagged, len(seen.rows)]
    said = compare(Source(model.digest, "none", "none", "none"), model.card.name, seen, model.card.reference).to_json()
    kept = ("status", "images", "mixture", "psi")
    return {name: said[name] for name in kept} | {"flag_rate": flagged / len(seen.rows)}


def chance(model: OnnxModel, values: dict[str, Values]) -> dict[str, Any]:
    """How often a random draw of so many held-out children counts as drift."""
    rng = np.random.default_rng(0)
    n = len(values[MEASURES[0]])
    found = [judged(model, chosen(values, rng.choice(n, DRAWN, replace=False)))["status"] for _ in range(DRAWS)]
    counts = {str(status): found.count(status) for status in Stability if status in found}
    return {"draws": DRAWS, "images": DRAWN, "status": counts}


def chosen(values: dict[str, Values], which: Any) -> dict[str, Values]:
    """Some of the images."""
    return {name: found[which] for name, found in values.items()}


def before(path: Path, root: Path, samples: Sequence[Sample], model: Model) -> dict[str, Any]:
    """The comparison of the completed file with the one before: graph and scores."""
    old = open_model(path, "cpu")
    (_, one), (_, other) = (measure(each, root, samples, [], silent) for each in (old, model))
    return {
        "model_digest": old.digest,
        "graph_sha256": graph_digest(path),
        "images": len(one[MEASURES[0]]),
        "scores_equal": all(bool((one[name] == other[name]).all()) for name in ("probability", "familiarity")),
    }


def graph_digest(path: Path) -> str:
    """SHA-256 of a model file without its metadata: graph and weights."""
    proto = onnx.load(path)
    del proto.metadata_props[:]
    return hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()


def views_of(samples: Sequence[Sample], index: Path) -> list[str]:
    """The view of each file, as the index names it."""
    with index.open(newline="", encoding="utf-8") as file:
        views = {row["path"]: row["view"] for row in csv.DictReader(file)}
    return [views[sample.path] for sample in samples]


if __name__ == "__main__":
    main()
