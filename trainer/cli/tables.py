"""The tables that `trainer` prints on standard output; warnings and faults go to standard error."""

from collections.abc import Sequence
from typing import Any

import click

from trainer.cli.console import new_table, print_table
from trainer.data.audit import Audit
from trainer.data.style import Styles
from trainer.evaluation.evaluate import Evaluation
from trainer.evaluation.heatmap_faithfulness import FaithfulnessTest
from trainer.evaluation.out_of_distribution import FamiliarityTest
from trainer.evaluation.shift import Shift
from trainer.recipes.recipe import Recipe
from worker.inference.estimate import Estimate


def show_evaluation(report: Evaluation) -> None:
    """The metrics, then one table for each attribute that the data name."""
    table = new_table(
        "", "value", "95 % interval", "n", title=f"{report.model} on {report.n} images, {report.provider}"
    )
    rows = report.metrics | {f"sensitivity {k}": v for k, v in report.sensitivity_by_subtype.items()}
    for name, e in rows.items():
        table.add_row(name, f"{e.value:.4f}", f"{e.low:.4f} to {e.high:.4f}", str(e.n))
    print_table(table)
    columns = ("auc", "sensitivity", "specificity", "ppv", "npv", "f1")
    for attribute, groups in report.subgroups.items():
        table = new_table(attribute, *columns)
        for name, measured in groups.items():
            table.add_row(name, *(_with_interval(measured[column]) for column in columns))
        print_table(table)
    _print_unreadable(report.unreadable)


def show_shift(found: Shift) -> None:
    """One row for each group of copies, and the names of the worst groups."""
    title = f"{found.model} on {found.n} images and their copies, threshold {found.threshold:g}, {found.provider}"
    table = new_table("images", "AUC", "lost", "sensitivity", "specificity", title=title)
    for name, measured in found.groups.items():
        loss = f"{found.auc_loss(name):+.4f}"
        table.add_row(
            name,
            _with_interval(measured["auc"]),
            loss,
            _with_interval(measured["sensitivity"]),
            _with_interval(measured["specificity"]),
        )
    print_table(table)
    click.echo(f"worst AUC: {found.worst}; worst at the threshold: {found.worst_at_threshold}")
    _print_unreadable(found.unreadable)


def show_styles(found: Styles) -> None:
    """How well style alone predicts the label, and how many images of each subtype have the other class's style."""
    auc = found.separation
    click.echo(f"style alone separates the classes with AUC {auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}], n={auc.n}")
    table = new_table("subtype", "usual style", "the other class's style")
    for subtype, counts in found.counts.items():
        table.add_row(subtype, str(counts["usual"]), str(counts["against"]))
    print_table(table)


def show_heat(found: FaithfulnessTest) -> None:
    """One table for each group of images: the area under each curve, and the differences from the baseline maps."""
    for name, scores in found.groups.items():
        title = f"{found.model}: {found.heat_method} on {scores.n} {name}, pixels from a {found.reference} image"
        table = new_table("", "area", "95 % interval", title=title)
        for game, areas in scores.areas.items():
            for what, e in (areas | scores.differences[game]).items():
                table.add_row(f"{game}, {what}", f"{e.value:.3f}", f"{e.low:.3f} to {e.high:.3f}")
            table.add_section()
        print_table(table)
        click.echo(
            f"mean probability {scores.probability:.3f}, of the reference {scores.reference_probability:.3f}, of a"
            f" blurred copy {scores.blurred_probability:.3f}; {scores.without_heat} of {scores.n} without heat"
        )
    click.echo("deletion: less is better; insertion: more is better")


def show_familiarity(found: FamiliarityTest) -> None:
    """One row for each kind, then the kinds on the wrong side of the limit and those that were not measured."""
    title = f"{found.model}: beyond the familiarity limit {found.limit:g}, {found.provider}"
    table = new_table("images", "n", "outside", "share", "wanted", "nearest / limit", title=title)
    for name, kind in found.kinds.items():
        counts = str(kind.outside.n), str(kind.count_outside)
        table.add_row(name, *counts, _with_interval(kind.outside), kind.wanted, f"{kind.nearest:.2f}")
    print_table(table)
    kept = found.kept_on_validation
    if kept:
        click.echo(f"the limit keeps {kept.value:.4f} ({kept.low:.4f}-{kept.high:.4f}) of {kept.n} validation images")
    for remark in found.remarks:
        click.echo(remark)
    _print_unreadable(found.unreadable)


def show_audit(findings: Audit) -> None:
    """Images by split, probes and warnings."""
    table = new_table("split", "images by subtype", title=f"{findings.images} images, {findings.groups} groups")
    for name, counts in findings.by_split.items():
        table.add_row(name, ", ".join(f"{subtype} {count}" for subtype, count in counts.items()))
    print_table(table)
    probes = new_table("numbers that should not predict the label", "AUC", "95 % interval", "n")
    for name, auc in findings.shortcuts.items():
        probes.add_row(name, f"{auc.value:.3f}", f"{auc.low:.3f} to {auc.high:.3f}", str(auc.n))
    print_table(probes)
    click.echo(f"{findings.duplicates} duplicates")
    for warning in findings.warnings:
        click.echo(f"warning: {warning}", err=True)


def recipe_rows(recipes: Sequence[Recipe]) -> list[dict[str, Any]]:
    """The recipes as plain values."""
    return [
        {
            "name": r.name,
            "summary": r.summary,
            "published": r.published,
            "size_px": r.preprocessing.size,
            "epochs": r.epochs,
            "backbones": [name for name in (r.backbone, *r.other_backbones) if name],
            "threshold_rule": str(r.threshold),
        }
        for r in recipes
    ]


def show_recipes(recipes: Sequence[Recipe]) -> None:
    """One row for each recipe."""
    table = new_table("recipe", "input", "epochs", "what it is", "published")
    table.columns[0].no_wrap = True  # people copy the name
    for r in recipes:
        table.add_row(r.name, f"{r.preprocessing.size} px", str(r.epochs), r.summary, r.published)
    print_table(table)


def _print_unreadable(unreadable: Sequence[dict[str, str]]) -> None:
    for fault in unreadable:
        click.echo(f"unreadable: {fault['path']}: {fault['code']}: {fault['message']}", err=True)


def _with_interval(e: Estimate) -> str:
    return "" if e.value != e.value else f"{e.value:.3f} ({e.low:.3f}-{e.high:.3f})"
