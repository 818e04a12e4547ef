"""Write the report of a run: report.html, one file with all pictures, and report.json."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from trainer.data.atomic_file import write_atomically
from trainer.evaluation.model_file import open_on_all_cores
from trainer.progress import Report
from trainer.recipes.recipe import Recipe
from trainer.report import PREVALENCE
from trainer.report.cases import AT_LEAST, to_picture
from trainer.report.pictures import SaliencyMap, Views, draw
from trainer.report.plots import draw as draw_plots
from trainer.report.summary import evaluate_split, summarize
from trainer.run.folder import RunFolder, read_run
from trainer.training.warm_start import CHECKPOINT
from worker.errors import BadSetting
from worker.inference.model import Model

HTML, JSON = "report.html", "report.json"

#: Largest number of rows that the page shows of long lists; report.json has all of them.
LIMITS = {"warnings": 12, "rows": 200, "at_least": AT_LEAST, "wrong": ("missed pneumonia", "false alarm")}

#: Names of measures on the page.
NAMES = {
    "auc": "AUC",
    "ppv": "PPV at this split's share of pneumonia",
    "npv": "NPV at this split's share of pneumonia",
    "f1": "F1",
    "brier": "Brier score",
    "ece": "expected calibration error",
}


def write_report(
    folder: Path,
    data: Path,
    report: Report,
    *,
    out: Path | None = None,
    split: str = "test",
    provider: str = "auto",
    prevalence: float = PREVALENCE,
    recipe: Recipe | None = None,
) -> Path:
    """Measure the run's model on one split of the run and write both files to `out` (default: the run's folder).

    `recipe`: the recipe of the run; by default the registered one with the card's name. Only saliency needs it. Returns
    the path of the page. Raises BadData or ModelRefused when the folder or `data` is not of a finished run.
    """
    run = read_run(folder)
    model = open_on_all_cores(run.model, provider)
    evaluated = evaluate_split(model, run, data, split, prevalence, report)
    pictured = to_picture(evaluated.cases)
    saliency_map, saliency = saliency_of(run, model, recipe)
    views = draw(pictured, data, model, saliency_map)
    summary = summarize(run, model.card, evaluated, split, prevalence, pictured)
    summary["saliency"] = saliency
    out = out or folder
    out.mkdir(parents=True, exist_ok=True)
    write_atomically((json.dumps(summary, indent=1, allow_nan=False) + "\n").encode(), out / JSON)
    write_atomically(render(summary, views).encode("utf-8", "backslashreplace"), out / HTML)
    report({"event": "report", "file": HTML, "errors": len(summary["errors"]), "pictures": len(pictured)})
    return out / HTML


def saliency_of(run: RunFolder, model: Model, recipe: Recipe | None) -> tuple[SaliencyMap | None, dict[str, str]]:
    """The function that computes the saliency of a grid, and its method; or None and the reason."""
    if not (run.path / CHECKPOINT).is_file():
        why = f"the run's folder has no {CHECKPOINT}, and the model file has no gradients"
        return None, {"method": "", "left_out": why}
    from trainer.report.saliency import METHOD, Saliency
    from trainer.run.rebuild import rebuild

    try:
        saliency = Saliency(rebuild(run, model, recipe))
    except BadSetting as error:
        return None, {"method": "", "left_out": f"the trained network cannot be built again ({error.message})"}
    return saliency.of, {"method": METHOD, "left_out": ""}


def render(summary: dict[str, Any], views: Sequence[Views]) -> str:
    """The page with the contents of report.json; all text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trainer.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    plots = {name: _inline("image/svg+xml", content) for name, content in draw_plots(summary).items()}
    pictures = [{name: _inline("image/jpeg", view) for name, view in each._asdict().items()} for each in views]
    recipe = json.dumps(summary["record"]["recipe"], indent=1) if summary["record"] else ""
    template = environment.get_template("report.html.j2")
    return (
        template.render(summary=summary, plots=plots, pictures=pictures, recipe=recipe, names=NAMES, limits=LIMITS)
        + "\n"
    )


def _inline(kind: str, content: bytes) -> str:
    """A data URI; empty without content."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}" if content else ""
