"""The gates of a model's card: what keeps an image from becoming a negative. Pure; reads the card as plain values."""

from collections.abc import Callable
from typing import Any

#: Gate, as `--drop-gate` names it -> whether a card has it.
GATES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "ages": lambda card: any(card["population"].get(name) is not None for name in ("min_age_years", "max_age_years")),
    "familiarity": lambda card: card.get("familiarity_limit") is not None,
    "lung-field": lambda card: card.get("field_limits") is not None,
}


def lost(active: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The gates that the active model's card has and the new one's lacks."""
    return [name for name, is_in in GATES.items() if is_in(active) and not is_in(new)]
