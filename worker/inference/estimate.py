"""A measured number with its uncertainty."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A measured number with its 95 % interval and its number of cases."""

    value: float
    low: float
    high: float
    n: int
