"""The images that a person should check first: missed pneumonias, then false alarms, the worst first."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.data.manifest import Sample

#: Largest number of pictures of each kind of error.
SHOWN = 12
#: Least number of pictures of each class; with fewer errors, the images nearest to an error are shown.
AT_LEAST = 3


@dataclass(frozen=True)
class Case:
    """One image and its prediction."""

    sample: Sample
    probability: float
    threshold: float  #: of the model that made the prediction
    familiarity: float | None = None
    fold: str = ""  #: folder of that model's run in a run over folds

    @property
    def is_flagged(self) -> bool:
        """Whether the probability reaches the threshold."""
        return self.probability >= self.threshold

    @property
    def is_wrong(self) -> bool:
        """Whether flag and label differ."""
        return self.is_flagged != bool(self.sample.label)

    @property
    def outcome(self) -> str:
        """The outcome in words."""
        return {
            (True, True): "missed pneumonia",
            (False, True): "false alarm",
            (True, False): "nearly missed",
            (False, False): "nearly a false alarm",
        }[bool(self.sample.label), self.is_wrong]

    @property
    def excess(self) -> float:
        """Distance of the probability from the threshold on the wrong side; negative on the right side."""
        return (self.threshold - self.probability) * (1 if self.sample.label else -1)


def errors(cases: Sequence[Case]) -> list[Case]:
    """All wrong cases: missed pneumonias before false alarms, the worst first."""
    return sorted((case for case in cases if case.is_wrong), key=_rank)


def to_picture(cases: Sequence[Case]) -> list[Case]:
    """Up to SHOWN errors of each class, and at least AT_LEAST images of it, in the order of `errors`."""
    chosen: list[Case] = []
    for label in (1, 0):
        own = sorted((case for case in cases if case.sample.label == label), key=_rank)
        wrong = sum(case.is_wrong for case in own)
        chosen += own[: max(AT_LEAST, min(SHOWN, wrong))]
    return chosen


def _rank(case: Case) -> tuple[int, float, str]:
    return (-case.sample.label, -case.excess, case.sample.path)
