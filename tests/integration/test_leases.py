"""The leases of a message's claims last while its studies are screened."""

import threading
from collections.abc import Callable

import attrs
import pytest

from tests.ledger import STUDY, Ledger
from worker.ledger.screening import claims
from worker.ledger.screening.leases import renewing
from worker.ledger.screening.results import Claim

LONG_S = 150.0


@pytest.fixture
def held(desk: Ledger) -> list[Claim]:
    """The claims of two studies, with a heartbeat as fast as can be."""
    desk.settings = attrs.evolve(desk.settings, heartbeat_s=0.01)
    for number in range(2):
        desk.receive(f"{STUDY}.{number}", content=str(number))
    desk.offer()
    found = claims.claim_all(desk.database, [f"{STUDY}.0", f"{STUDY}.1"], desk.settings, desk.clock)
    return [claim for claim in found if isinstance(claim, Claim)]


def counted(beats: int) -> tuple[Callable[[], None], threading.Event]:
    """Work for each heartbeat, and the event of that many."""
    left, enough = iter(range(beats)), threading.Event()

    def work() -> None:
        if next(left, None) is None:
            enough.set()

    return work, enough


def test_the_leases_of_all_claims_are_prolonged(desk: Ledger, held: list[Claim]) -> None:
    at_each, enough = counted(2)
    desk.clock.forward(desk.settings.lease_s - 1)
    with renewing(desk.database, held, desk.settings, desk.clock, at_each):
        assert enough.wait(LONG_S)
    desk.clock.forward(desk.settings.lease_s - 1)
    assert claims.take_back_lapsed(desk.database, desk.settings, desk.clock()) == 0


def test_a_bug_beside_the_work_is_raised_when_it_ends(desk: Ledger, held: list[Claim]) -> None:
    begun = threading.Event()

    def stumble() -> None:
        begun.set()
        raise LookupError("a bug")

    with (
        pytest.raises(LookupError, match="a bug"),
        renewing(desk.database, held, desk.settings, desk.clock, stumble),
    ):
        assert begun.wait(LONG_S)
