"""The card of a model for people."""

from typing import Any

from worker.cli.tables import console, printable
from worker.inference.card import NO_AGES, NO_LIMIT, NO_REFERENCE


def print_card(card: dict[str, Any]) -> None:
    """The card of a model in sentences, its values one a line. `card`: as `worker model show --json` prints it."""
    point = card["operating_point"]
    lines = {
        "model": f"{card['name']} ({card['digest'][:12]}), recipe {card['recipe']}, made {card['created_at'][:10]}",
        "file": card["file"],
        "shadow": card["shadow"] or "none",
        "flags": f"from a probability of {point['threshold']:.4f} on: {point['rule']}",
        "there": f"sensitivity {estimated(point['sensitivity'])}, specificity {estimated(point['specificity'])}",
        "population": _population(card["population"]),
        "familiarity": _familiarity(card["familiarity_limit"]),
        "lung field": "not asked for" if card.get("field_limits") is None else "asked for before a negative",
        "reference": card["reference"] or NO_REFERENCE,
        "input": ", ".join(f"{name} {value}" for name, value in card["preprocessing"].items()),
        "heat map": f"{card['heat_method']}, scale {card['heat_scale']:g}",
        "reduced": _reduced_decode(card),
        "versions": ", ".join(f"{name} {version}" for name, version in card["versions"].items()),
        "images from": card.get("attribution") or "not stated",
    }
    if card.get("site"):
        lines |= site_lines(card["site"])
    for name, line in lines.items():
        console.print(printable(f"{name:12} {line}"), soft_wrap=True)
    for name, estimate in card["metrics"].items():
        console.print(printable(f"{'measured':12} {name.replace('_', ' ')} {estimated(estimate)}"), soft_wrap=True)
    for golden in card["goldens"]:
        near = ", ".join(f"{provider} {tolerance:g}" for provider, tolerance in golden["tolerances"].items())
        line = f"{'golden':12} {golden['name']}: probability {golden['probability']:.4f}, within {near}"
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


def _population(population: dict[str, Any]) -> str:
    """For whom the model was made, with the ages if the card has any."""
    youngest, oldest = population.get("min_age_years"), population.get("max_age_years")
    if youngest is None and oldest is None:
        return f"{population['description']}, {NO_AGES}"
    return f"{population['description']}, ages {youngest or 0} to {'any' if oldest is None else oldest} years"


def _familiarity(limit: float | None) -> str:
    return NO_LIMIT if limit is None else f"limit {limit:g}: a negative beyond it is unscreenable"


def _reduced_decode(card: dict[str, Any]) -> str:
    """Whether images may be decoded at a lower resolution, and how that changes the output."""
    if "ranges_from" in card["preprocessing"]:  # the picture is the halved one, however it was decoded
        return "every image is halved to the model's resolution; JPEG 2000 is decoded at that one"
    measured = card.get("reduced_decode")
    if measured is None:
        return "not measured: every image is decoded in full"
    codings = {"codings": "/".join(measured["codings"])}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in {**measured, **codings}.items())
