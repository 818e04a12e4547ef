"""Which images a person should look at first: what was missed, then what was flagged for nothing, the worst first."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.data.manifest import Sample

#: Pictures of each kind of error.
SHOWN = 12
#: Pictures for each class even where the model errs less often: those that it nearly got wrong.
AT_LEAST = 3


@dataclass(frozen=True)
class Case:
    """One image and what the model said of it."""

    sample: Sample
    probability: float
    threshold: float  #: of the model that judged it
    familiarity: float | None = None
    fold: str = ""  #: folder of the run that judged it, below that of a run over folds

    @property
    def is_flagged(self) -> bool:
        """Whether the model called it pneumonia."""
        return self.probability >= self.threshold

    @property
    def is_wrong(self) -> bool:
        """Whether the label says otherwise."""
        return self.is_flagged != bool(self.sample.label)

    @property
    def says(self) -> str:
        """What became of it, in words."""
        return {
            (True, True): "missed pneumonia",
            (False, True): "false alarm",
            (True, False): "nearly missed",
            (False, False): "nearly a false alarm",
        }[bool(self.sample.label), self.is_wrong]

    @property
    def badness(self) -> float:
        """How far it lies on the wrong side of the threshold; negative on the right one."""
        return (self.threshold - self.probability) * (1 if self.sample.label else -1)


def errors(cases: Sequence[Case]) -> list[Case]:
    """All that were judged wrongly: missed before false alarms, the worst first."""
    return sorted((case for case in cases if case.is_wrong), key=_rank)


def to_picture(cases: Sequence[Case]) -> list[Case]:
    """Up to SHOWN errors of each class, and at least AT_LEAST images, in the order of `errors`."""
    chosen: list[Case] = []
    for label in (1, 0):
        own = sorted((case for case in cases if case.sample.label == label), key=_rank)
        wrong = sum(case.is_wrong for case in own)
        chosen += own[: max(AT_LEAST, min(SHOWN, wrong))]
    return chosen


def _rank(case: Case) -> tuple[int, float, str]:
    return (-case.sample.label, -case.badness, case.sample.path)
