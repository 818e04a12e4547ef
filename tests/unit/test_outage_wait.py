"""Who waits for a broker or database says so, and does not wait for ever."""

import pytest

from worker.errors import BrokerUnavailable, DatabaseUnavailable, ModelRefused
from worker.service.outage_wait import TELL_AGAIN_S, OutageWait


class Steady:
    """A steady clock moved by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def away() -> None:
    raise BrokerUnavailable("it is full")


def test_an_outage_is_told_at_once_and_waited_for_until_time_is_up() -> None:
    clock, said = Steady(), list[str]()
    wait = OutageWait(60.0, said.append, clock)
    assert wait.attempt("sweep", away) is None
    assert said == ["waits for up to 60 s: it is full"]
    clock.now_s = TELL_AGAIN_S / 2
    wait.attempt("sweep", away)
    assert len(said) == 1, "not again so soon"
    clock.now_s = TELL_AGAIN_S
    wait.attempt("sweep", away)
    assert len(said) == 2
    assert wait.attempt("states", lambda: 7) == 7, "other work succeeds meanwhile"
    clock.now_s = 60.0
    with pytest.raises(BrokerUnavailable, match="full"):
        wait.attempt("sweep", away)


def test_the_time_begins_anew_when_an_outage_is_over() -> None:
    clock = Steady()
    wait = OutageWait(60.0, steady_s=clock)
    wait.attempt("sweep", away)
    clock.now_s = 59.0
    wait.attempt("sweep", lambda: None)
    clock.now_s = 100.0
    assert wait.attempt("sweep", away) is None


def test_without_time_an_outage_is_raised_at_once_and_so_is_what_no_wait_helps() -> None:
    with pytest.raises(BrokerUnavailable):
        OutageWait().attempt("sweep", away)

    def wrong() -> None:
        raise ModelRefused("no card")

    with pytest.raises(ModelRefused):
        OutageWait(60.0).retry("open", wrong)


def test_who_insists_gets_it_in_the_end() -> None:
    tries = iter([DatabaseUnavailable("away"), BrokerUnavailable("away"), None])

    def work() -> str:
        fault = next(tries)
        if fault is not None:
            raise fault
        return "here"

    assert OutageWait(60.0).retry("open", work) == "here"
