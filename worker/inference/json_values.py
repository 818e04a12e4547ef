"""Plain values for JSON, which has no NaN."""

import math
from dataclasses import asdict, is_dataclass
from typing import Any


def without_nan(value: Any) -> Any:
    """Plain values of dataclasses, dictionaries and lists; NaN becomes None."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
