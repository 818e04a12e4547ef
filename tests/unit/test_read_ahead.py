"""Files that are read ahead come in groups; nobody waits for long, and STAT not at all."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import chain
from pathlib import Path

import pytest

from schema.vocabulary import Priority
from worker.errors import StorageUnavailable
from worker.intake.read_ahead import TOGETHER, ReadAhead
from worker.intake.reader import IntakeRequest, ReadFile
from worker.ledger.intake.arrivals import Incoming

NEVER_S = 3600.0


def request(number: int, priority: Priority = Priority.ROUTINE) -> IntakeRequest:
    return IntakeRequest(Incoming(str(number), 1, 1, priority), Path("/"), is_final=True, is_settled=True)


def done(asked: IntakeRequest) -> "Future[ReadFile]":
    future: Future[ReadFile] = Future()
    future.set_result(ReadFile(asked))
    return future


def paths(group: list[ReadFile]) -> list[str]:
    return [read.request.file.path for read in group]


def groups(requests: Iterator[IntakeRequest], submit: Callable[[IntakeRequest], "Future[ReadFile]"]) -> list[list[str]]:
    return [paths(group) for group in ReadAhead(submit, 2, longest_wait_s=NEVER_S).groups(requests)]


def test_a_backlog_comes_in_groups_in_its_order() -> None:
    found = groups(map(request, range(TOGETHER + 5)), done)
    assert [len(group) for group in found] == [TOGETHER, 5]
    assert list(chain(*found)) == [str(number) for number in range(TOGETHER + 5)]


def test_one_file_is_a_group() -> None:
    assert groups(iter([request(0)]), done) == [["0"]]
    assert groups(iter([]), done) == []


def test_a_stat_file_waits_for_none_behind_it() -> None:
    asked = [request(number, Priority.STAT if number in (0, 3) else Priority.ROUTINE) for number in range(6)]
    assert groups(iter(asked), done) == [["0"], ["1", "2", "3"], ["4", "5"]]


def test_no_more_is_read_ahead_than_there_are_readers() -> None:
    begun: list[str] = []

    def submit(asked: IntakeRequest) -> "Future[ReadFile]":
        begun.append(asked.file.path)
        return done(asked)

    ahead = ReadAhead(submit, 2, longest_wait_s=NEVER_S)
    first = next(ahead.groups(map(request, range(100))))
    assert (len(first), len(begun)) == (TOGETHER, TOGETHER + 2)


def test_what_is_read_does_not_wait_for_a_slow_file() -> None:
    slow: Future[ReadFile] = Future()
    ahead = ReadAhead(lambda asked: slow if asked.file.path == "2" else done(asked), 2, longest_wait_s=0.01)
    found = ahead.groups(map(request, range(5)))
    given = paths(next(found))
    while given[-1] != "1":  # a busy machine may have given the first alone
        given += paths(next(found))
    assert given == ["0", "1"]
    slow.set_result(ReadFile(request(2)))
    assert list(chain(*map(paths, found))) == ["2", "3", "4"]


def test_what_was_read_before_a_fault_is_given_before_it_is_raised() -> None:
    broken: Future[ReadFile] = Future()
    broken.set_exception(StorageUnavailable("the disk is full"))
    ahead = ReadAhead(lambda asked: broken if asked.file.path == "2" else done(asked), 2, longest_wait_s=NEVER_S)
    found = ahead.groups(map(request, range(5)))
    assert paths(next(found)) == ["0", "1"]
    with pytest.raises(StorageUnavailable):
        next(found)
    assert [read.exception() is None for read in ahead.reading] == [False, True, True], "given back to their owner"
