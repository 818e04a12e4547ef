"""The curves of a report as SVG, from the plain data of `trainer.report.summary`. The same data give the same bytes.

Of the text in files, only names of measures in the log are drawn, and only if they match PLAIN_NAME.
"""

import io
import re
from collections.abc import Callable
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, StrMethodFormatter

Summary = dict[str, Any]

NORMAL, SICK, INK, PALE = "#4a7ba6", "#c05621", "#22313f", "#a9b4be"

STYLE: Any = {
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6eaee",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.hashsalt": "chest-screening",
    "svg.fonttype": "path",
}

#: Pattern of the names of measures that are drawn.
PLAIN_NAME = re.compile(r"auc_[a-z0-9_.]{1,30}")


def draw(summary: Summary) -> dict[str, bytes]:
    """Name of plot -> SVG, without the plots for which the data are missing."""
    drawn = {}
    with rc_context(STYLE):
        for name, (width, draws) in _PLOTS.items():
            figure = Figure(figsize=(width, 3.1), layout="constrained")
            if draws(summary, figure):
                content = io.BytesIO()
                figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
                drawn[name] = content.getvalue()
    return drawn


def _roc(summary: Summary, figure: Figure) -> bool:
    """The whole curve, and its upper left corner up to the operating point of the card, where that is near."""
    points = summary["curves"]["roc"]
    if points is None:
        return False
    fpr, tpr = [0.0, *points["false_positive_rate"]], [0.0, *points["sensitivity"]]
    measured = summary["evaluation"]["metrics"]
    at = 1 - measured["specificity"]["value"], measured["sensitivity"]["value"]
    whole, corner = figure.subplots(1, 2)
    for axes in (whole, corner):
        axes.plot([0, 1], [0, 1], color=PALE, linewidth=0.8, linestyle=":")
        axes.plot(fpr, tpr, color=INK, linewidth=1.4)
        axes.plot(*at, "o", color=SICK, markersize=6, clip_on=axes is corner, zorder=5, label="operating point")
        axes.set_xlabel("1 - specificity")
    whole.set(xlim=(0, 1), ylim=(0, 1), ylabel="sensitivity", aspect="equal")
    reach = min(0.5, max(0.2, 1.2 * at[0], 1.2 * (1 - at[1])))
    corner.set(xlim=(0, reach), ylim=(1 - reach, 1), aspect="equal", title="the same, upper left")
    whole.legend(loc="lower right")
    return True


def _precision_recall(summary: Summary, figure: Figure) -> bool:
    points = summary["curves"]["precision_recall"]
    if points is None:
        return False
    evaluation = summary["evaluation"]
    axes = figure.subplots()
    axes.axhline(evaluation["positives"] / evaluation["n"], color=PALE, linewidth=0.8, linestyle=":")
    axes.plot(points["recall"], points["precision"], color=INK, linewidth=1.4)
    at = evaluation["metrics"]["sensitivity"]["value"], evaluation["metrics"]["ppv"]["value"]
    if at[1] is not None:
        axes.plot(*at, "o", color=SICK, markersize=6, clip_on=False, zorder=5, label="operating point")
        axes.legend(loc="lower left")
    axes.set(xlim=(0, 1), ylim=(0, 1.005), xlabel="recall (sensitivity)", ylabel="precision (PPV)")
    return True


def _calibration(summary: Summary, figure: Figure) -> bool:
    """Observed share with its interval over the mean probability; below, the number of cases of each bin."""
    bins = summary["curves"]["reliability"]
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=PALE, linewidth=0.8, linestyle=":")
    means, shares = [b["mean_probability"] for b in bins], [b["share"]["value"] for b in bins]
    below = [b["share"]["value"] - b["share"]["low"] for b in bins]
    above = [b["share"]["high"] - b["share"]["value"] for b in bins]
    upper.errorbar(means, shares, [below, above], fmt="o-", color=INK, ecolor=PALE, markersize=4, linewidth=1.2)
    upper.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="share with pneumonia")
    width = bins[0]["high"] - bins[0]["low"]
    lower.bar([b["low"] for b in bins], [b["share"]["n"] for b in bins], width, align="edge", color=PALE)
    lower.set(xlabel="probability", ylabel="images")
    _count_up(lower, max(b["share"]["n"] for b in bins))
    return True


def _histogram(summary: Summary, figure: Figure) -> bool:
    """Probabilities by class, with the threshold; counts on a log scale, so that a few errors can be seen."""
    drawn, threshold = summary["curves"]["histogram"], summary["evaluation"]["threshold"]
    edges = drawn["edges"]
    rows = figure.subplots(2, 1, sharex=True)
    for axes, name, colour in zip(rows, ("normal", "pneumonia"), (NORMAL, SICK), strict=True):
        axes.bar(edges[:-1], drawn[name], edges[1] - edges[0], align="edge", color=colour)
        axes.set(xlim=(0, 1), ylabel=name)
        _count_up(axes, max(drawn[name]))
        if threshold is not None:
            axes.axvline(threshold, color=INK, linewidth=1, linestyle="--")
    rows[-1].set_xlabel("probability" if threshold is None else "probability; dashed: threshold")
    return True


def _learning(summary: Summary, figure: Figure) -> bool:
    """Losses on the left; on the right the AUC of each copy of the validation images, the worst one highlighted."""
    epochs = summary["learning"]
    if not epochs:
        return False
    left, right = figure.subplots(1, 2)
    for name, label, colour in (("loss", "training", NORMAL), ("validation_loss", "validation", SICK)):
        _line(left, epochs, name, label=label, color=colour, linewidth=1.4, marker=".")
    names = {name for epoch in epochs for name in epoch if PLAIN_NAME.fullmatch(name)}
    for number, name in enumerate(sorted(names - {"auc_plain"})):
        _line(right, epochs, name, label="_" if number else "copies in other styles", color=PALE, linewidth=1.0)
    _line(right, epochs, "auc_plain", label="images as they are", color=INK, linewidth=1.4, marker=".")
    best = [epoch["epoch"] for epoch in epochs if epoch.get("is_best") is True]
    for axes, what in ((left, "loss"), (right, "AUC on validation")):
        if best:
            axes.axvline(best[-1], color=SICK, linewidth=0.8, linestyle="--", label=f"kept: epoch {best[-1]}")
        axes.set(xlabel="epoch", ylabel=what)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    return True


def _count_up(axes: Axes, most: int) -> None:
    """A log scale for counts up to `most`, ticks as plain numbers."""
    axes.set_ylim(0.7, 1.6 * max(most, 10))  # before the scale: with all counts zero it finds no limits
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator([1, 10, 100, 1000, 10000]))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _line(axes: Axes, epochs: list[dict[str, Any]], name: str, **style: Any) -> None:
    known = [(epoch["epoch"], epoch[name]) for epoch in epochs if isinstance(epoch.get(name), int | float)]
    if known:
        axes.plot(*zip(*known, strict=True), **style)


#: Name -> width in inches and the function that draws it and returns whether the data were there.
_PLOTS: dict[str, tuple[float, Callable[[Summary, Figure], bool]]] = {
    "roc": (6.2, _roc),
    "precision_recall": (3.4, _precision_recall),
    "calibration": (3.4, _calibration),
    "histogram": (3.4, _histogram),
    "learning": (6.2, _learning),
}
