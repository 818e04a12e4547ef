"""The card of a model for people."""

from typing import Any

from worker.cli.tables import console, printable
from worker.inference.card import NO_AGES, NO_LIMIT, NO_REFERENCE


def print_card(card: dict[str, Any]) -> None:
    """The card of a model in sentences, its values one a line. `card`: as `worker model show --json` prints it."""
    point, population = card["operating_point"], card["population"]
    ages = [population.get(name) for name in ("min_age_years", "max_age_years")]
    lines = {
        "model": f"{card['name']} ({card['digest'][:12]}), recipe {card['recipe']}, made {card['created_at'][:10]}",
        "file": card["file"],
        "shadow": card["shadow"] or "none",
        "flags": f"from a score of {point['threshold']:.4f} of 1 on: {point['rule']}",
        "there": f"sensitivity {estimated(point['sensitivity'])}, specificity {estimated(point['specificity'])}",
        "population": f"{population['description']}, "
        + (NO_AGES if ages == [None, None] else f"ages {_bound(ages[0], 0)} to {_bound(ages[1], 'any')} years"),
        "familiarity": NO_LIMIT
        if card["familiarity_limit"] is None
        else f"limit {card['familiarity_limit']:g}: a negative beyond it is unscreenable",
        "lung field": "not asked for" if card.get("field_limits") is None else "asked for before a negative",
        "reference": card["reference"] or NO_REFERENCE,
        "input": ", ".join(f"{name} {value}" for name, value in card["preprocessing"].items()),
        "heat map": f"{card['heat_method']}, scale {card['heat_scale']:g}",
        "reduced": "not measured: every image is decoded in full"
        if card.get("reduced_decode") is None
        else ", ".join(f"{name.replace('_', ' ')} {_joined(value)}" for name, value in card["reduced_decode"].items()),
        "versions": ", ".join(f"{name} {version}" for name, version in card["versions"].items()),
        "images from": card.get("attribution") or "not stated",
    }
    lines |= site_lines(card["site"]) if card.get("site") else {}
    for name, line in lines.items():
        console.print(printable(f"{name:12} {line}"), soft_wrap=True)
    for name, estimate in card["metrics"].items():
        console.print(printable(f"{'measured':12} {name.replace('_', ' ')} {estimated(estimate)}"), soft_wrap=True)
    for golden in card["goldens"]:
        near = ", ".join(f"{provider} {tolerance:g}" for provider, tolerance in golden["tolerances"].items())
        line = f"{'golden':12} {golden['name']}: score {golden['probability']:.4f}, within {near}"
        console.print(printable(line), soft_wrap=True)


def site_lines(site: dict[str, Any]) -> dict[str, str]:
    """What a card says of a point that was set at a site."""
    on_validation = site["validation_sensitivity"]
    return {
        "point set at": f"{site['place']}, on {site['positives']} images with and {site['normals']} without pneumonia",
        "factory": f"there, from {site['factory_threshold']:.4f} on: sensitivity"
        f" {estimated(site['factory_sensitivity'])}, specificity {estimated(site['factory_specificity'])}",
        "validation": f"sensitivity {estimated(on_validation)} at this point" if on_validation else "not known",
        "remarks": "; ".join(site["remarks"]) or "none",
    }


def estimated(estimate: dict[str, Any]) -> str:
    """A measured number with its interval and count."""
    return f"{estimate['value']:.4f} [{estimate['low']:.4f}, {estimate['high']:.4f}] of {estimate['n']}"


def _bound(years: int | None, otherwise: object) -> str:
    return str(otherwise if years is None else years)


def _joined(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)
