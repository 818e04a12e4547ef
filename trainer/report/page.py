"""The report of a run, for a person who looks rather than reads: report.html in one file, and report.json."""

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from trainer.progress import Report
from trainer.recipes.recipe import Recipe
from trainer.report import PREVALENCE
from trainer.report.cases import AT_LEAST, to_picture
from trainer.report.pictures import Ask, Views, draw
from trainer.report.plots import draw as draw_plots
from trainer.report.summary import account, judge
from trainer.run.folder import RunFolder, read_run
from trainer.training.checkpoint import write_atomically
from trainer.training.warm_start import CHECKPOINT
from worker.errors import BadSetting
from worker.inference.model import Model, open_model

HTML, JSON = "report.html", "report.json"

#: How much of long lists the page shows; all of it stands in report.json.
LIMITS = {"warnings": 12, "rows": 200, "at_least": AT_LEAST, "wrong": ("missed pneumonia", "false alarm")}

#: Measures by the names that people call them.
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

    `recipe`: the one that made it, where it is at hand; else it is looked up by the card's name, for the saliency.
    Returns the path of the page. Raises BadData or ModelRefused when the folder or `data` is not of a finished run.
    """
    run = read_run(folder)
    model = open_model(run.model, provider, threads=os.cpu_count() or 1)
    judged = judge(model, run, data, split, prevalence, report)
    pictured = to_picture(judged.cases)
    ask, saliency = saliency_of(run, model, recipe)
    views = draw(pictured, data, model, ask)
    told = account(run, model.card, judged, split, prevalence, pictured)
    told["saliency"] = saliency
    out = out or folder
    out.mkdir(parents=True, exist_ok=True)
    write_atomically((json.dumps(told, indent=1, allow_nan=False) + "\n").encode(), out / JSON)
    write_atomically(render(told, views).encode("utf-8", "backslashreplace"), out / HTML)
    report({"event": "report", "file": HTML, "errors": len(told["errors"]), "pictures": len(pictured)})
    return out / HTML


def saliency_of(run: RunFolder, model: Model, recipe: Recipe | None) -> tuple[Ask | None, dict[str, str]]:
    """What gives the saliency of a grid, and its method; or None and why it is left out."""
    if not (run.path / CHECKPOINT).is_file():
        why = f"no {CHECKPOINT} lies in the run's folder, and the model file has no gradients"
        return None, {"method": "", "left_out": why}
    from trainer.report.saliency import METHOD, Saliency
    from trainer.run.rebuild import rebuild

    try:
        saliency = Saliency(rebuild(run, model, recipe))
    except BadSetting as error:
        return None, {"method": "", "left_out": f"the trained network cannot be built again ({error.message})"}
    return saliency.of, {"method": METHOD, "left_out": ""}


def render(told: dict[str, Any], views: Sequence[Views]) -> str:
    """The page of what report.json tells; every word of it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trainer"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    plots = {name: _inline("image/svg+xml", content) for name, content in draw_plots(told).items()}
    pictures = [{name: _inline("image/jpeg", view) for name, view in each._asdict().items()} for each in views]
    recipe = json.dumps(told["record"]["recipe"], indent=1) if told["record"] else ""
    template = environment.get_template("report.html.j2")
    return template.render(told=told, plots=plots, pictures=pictures, recipe=recipe, names=NAMES, limits=LIMITS) + "\n"


def _inline(kind: str, content: bytes) -> str:
    """A data URI; empty for no content."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}" if content else ""
