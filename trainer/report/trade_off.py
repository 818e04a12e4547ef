"""The picture of a site's trade-off: pneumonias found and normals left alone at every threshold, as SVG."""

import io

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from trainer.export.site_calibration import Calibrated
from trainer.report.plots import INK, NORMAL, PALE, SICK, STYLE


def draw_trade_off(made: Calibrated) -> bytes:
    """Both shares against the threshold, with the factory's point and the chosen one; the same data, the same bytes."""
    positives, normals = np.array(made.positives), np.array(made.normals)
    thresholds = np.concatenate([[0.0], np.unique(np.concatenate([positives, normals])), [1.0]])
    found = 1 - np.searchsorted(positives, thresholds, "left") / len(positives)
    left_alone = np.searchsorted(normals, thresholds, "left") / len(normals)
    factory, chosen = made.choices[:2]
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.step(thresholds, found, where="pre", color=SICK, linewidth=1.4, label="pneumonias found")
        axes.step(thresholds, left_alone, where="pre", color=NORMAL, linewidth=1.4, label="normals left alone")
        axes.axvline(
            factory.threshold,
            color=PALE,
            linewidth=1.2,
            linestyle="--",
            label=f"{factory.threshold:.4f} {factory.name}",
        )
        axes.axvline(chosen.threshold, color=INK, linewidth=1.2, label=f"{chosen.threshold:.4f} {chosen.name}")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="threshold", ylabel="share", title=str(chosen))
        figure.legend(loc="outside lower center", ncols=2)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
        return content.getvalue()
