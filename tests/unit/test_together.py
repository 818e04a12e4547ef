"""Items that share a transaction: what one of them meets costs the others nothing."""

from collections.abc import Sequence

import pytest

from worker.errors import DatabaseUnavailable, SchemaOutdated
from worker.ledger.transactions import together


class Work:
    """Doubles each number of a group, all or none; the numbers named raise their error."""

    def __init__(self, **errors: BaseException) -> None:
        self.errors = {int(name[1:]): error for name, error in errors.items()}
        self.tried: list[list[int]] = []

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        """The doubles."""
        self.tried.append(list(numbers))
        for number in numbers:
            if number in self.errors:
                raise self.errors[number]
        return [2 * number for number in numbers]


def test_a_bug_of_one_item_stands_in_its_place() -> None:
    bug = LookupError("a bug")
    work = Work(_2=bug)
    assert together(work, [1, 2, 3]) == [2, bug, 6]
    assert work.tried == [[1, 2, 3], [1], [2], [3]]


def test_items_without_a_fault_are_done_at_once() -> None:
    work = Work()
    assert together(work, [1, 2, 3]) == [2, 4, 6]
    assert together(work, []) == []
    assert work.tried == [[1, 2, 3]]


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), SchemaOutdated("run `worker db upgrade`")])
def test_what_concerns_all_is_tried_no_further(error: Exception) -> None:
    bug = LookupError("a bug")
    assert together(at_once := Work(_1=error), [1, 2, 3]) == [error] * 3
    assert at_once.tried == [[1, 2, 3]]
    assert together(later := Work(_1=bug, _3=error), [1, 2, 3, 4]) == [bug, 4, error, error]
    assert later.tried == [[1, 2, 3, 4], [1], [2], [3]]


def test_the_end_of_the_process_is_not_an_end_of_an_item() -> None:
    with pytest.raises(KeyboardInterrupt):
        together(Work(_2=KeyboardInterrupt()), [1, 2])
