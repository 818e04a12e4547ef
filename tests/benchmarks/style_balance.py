"""Style-balanced batches on styles that are rare in training: recipe mobilenetv2_house with and without them.

    python -m tests.benchmarks.style_balance --data DIR --weights FILE --out RUNS [--epochs 1,2] [--share 0.5]

Half of the images that have the other class's style are held out with their patients; both fits train on the same
others, for the same epochs, and are measured at their own thresholds on the same held-out images.
"""

import argparse
import json
import platform
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainer.data.folders import read_left_out, read_samples
from trainer.data.manifest import read_manifest, write_manifest
from trainer.data.split import split
from trainer.data.style import hold_out
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.model_file import open_on_all_cores
from trainer.progress import reporting, silent
from trainer.recipes import recipe_named
from trainer.recipes.recipe import Recipe
from trainer.run.run import FitOptions, run

RESULT = Path(__file__).parent / "results" / "style_balance.json"


def main() -> None:
    """Train both, measure both, write RESULT."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="where the runs lie; they resume there")
    parser.add_argument("--leave-out", type=Path)
    parser.add_argument("--epochs", default="1,2")
    parser.add_argument("--share", type=float, default=0.5)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    index = asked.out / "styles.csv"
    left_out = read_left_out(asked.leave_out) if asked.leave_out else ()
    found = hold_out(split(read_samples(asked.data), 0, left_out), asked.data, asked.share)
    write_manifest(found.manifest, index)
    epochs = [int(number) for number in asked.epochs.split(",")]
    recipe = recipe_named("mobilenetv2_house").lasting(epochs)
    result = {
        "command": f"python -m tests.benchmarks.style_balance --epochs {asked.epochs} --share {asked.share:g} ...",
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.platform(),
        "style_alone": found.separation._asdict(),
        "images_by_style": found.counts,
        "split_digest": found.manifest.digest,
        "balanced": _measured(recipe.varied("classes balanced", batches="balanced"), asked, index, "balanced"),
        "style balanced": _measured(recipe, asked, index, "style_balanced"),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _measured(recipe: Recipe, asked: argparse.Namespace, index: Path, name: str) -> dict[str, Any]:
    """Train `recipe`, and its evaluation on the held-out images, by style."""
    order = FitOptions(asked.data, recipe, asked.out / name, index=index, weights=asked.weights)
    order.out.mkdir(parents=True, exist_ok=True)
    with reporting(order.out / "log.jsonl") as report:
        model = run(order, report)
    samples = read_manifest(order.out / "split.csv").of("test")
    whole = evaluate(open_on_all_cores(model, "cpu"), asked.data, samples, silent).to_json()
    # normals against style and every pneumonia, as in a hospital whose normals look different
    odd_normals = [s for s in samples if s.label == 1 or s.style == "against"]
    odd = evaluate(
        open_on_all_cores(model, "cpu"), asked.data, [replace(s, style="") for s in odd_normals], silent
    ).to_json()
    return {"recipe": recipe.title, "all": whole, "normals of odd style against all pneumonias": odd["metrics"]}


if __name__ == "__main__":
    main()
