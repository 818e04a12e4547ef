"""What stands beside a flag, in the detail of its verdict: reasons to trust the flag less."""

from schema.vocabulary import Reason

SEPARATOR = "; "

#: How the text of each remark begins.
AGE, FAMILIARITY = "age ", "familiarity "

_REASONS = {AGE: Reason.OUTSIDE_POPULATION, FAMILIARITY: Reason.UNFAMILIAR}


def remarks(detail: str | None) -> list[tuple[Reason, str]]:
    """The remarks in a flagged verdict's detail: the reason of each, and its text."""
    parts = (detail or "").split(SEPARATOR)
    return [(reason, part) for part in parts for beginning, reason in _REASONS.items() if part.startswith(beginning)]
