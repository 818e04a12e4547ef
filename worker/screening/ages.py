"""A patient's age as people say it: completed years, below two years completed months."""

#: Below this age in years months are said.
_MONTHS_BELOW = 2

#: A twelfth of a year, twelve times, may be a little less than a month.
_ROUNDING = 1e-9


def in_words(years: float) -> str:
    """`64 years`, `18 months`."""
    return f"{int(years)} years" if years >= _MONTHS_BELOW else f"{_months(years)} months"


def in_short(years: float | None) -> str:
    """`64 y`, `18 mo`; nothing for an unknown age."""
    if years is None:
        return ""
    return f"{int(years)} y" if years >= _MONTHS_BELOW else f"{_months(years)} mo"


def _months(years: float) -> int:
    return int(years * 12 + _ROUNDING)
