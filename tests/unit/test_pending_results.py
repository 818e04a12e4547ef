"""Results wait for each other, and not for long."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from worker.ledger.screening.pending_results import PendingResults


@dataclass
class Recorder:
    """What was recorded together."""

    calls: list[list[str]] = field(default_factory=list)
    now_s: float = 0.0

    def __call__(self, results: Sequence[str]) -> list[bool | Exception]:
        self.calls.append(list(results))
        return [True] * len(results)

    def pending(self) -> PendingResults[str]:
        return PendingResults(self, longest_s=0.5, steady_s=lambda: self.now_s)


def test_results_of_a_moment_are_recorded_together() -> None:
    recorder = Recorder()
    pending = recorder.pending()
    for number in range(5):
        recorder.now_s = number / 10
        pending.add(str(number))
    assert recorder.calls == []
    pending.flush()
    pending.flush()
    assert recorder.calls == [["0", "1", "2", "3", "4"]]
    assert pending.ends == [(str(number), True) for number in range(5)]


def test_a_result_does_not_wait_behind_slow_ones() -> None:
    recorder = Recorder()
    pending = recorder.pending()
    pending.add("a")
    recorder.now_s = 0.6
    pending.add("b")
    assert recorder.calls == [["a", "b"]]
    pending.add("c")
    assert recorder.calls == [["a", "b"]], "it begins to wait anew"
