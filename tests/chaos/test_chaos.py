"""The short version of `make chaos`: every kind of fault once, while a few studies arrive. Nothing is lost."""

import pytest

from tests.chaos import faults
from tests.chaos.account import show
from tests.chaos.faults import plan
from tests.chaos.storm import FAULTS, Storm, run

#: Two kills within one lease, and one clock jump: no study can lose three claims, which would make it FAILED.
SHORT = Storm(
    studies=24,
    seed=4,
    window_s=9.0,
    longest_fault_s=1.5,
    patience_s=300.0,
    workers=2,
    counts=dict.fromkeys(FAULTS, 1),
    settings={"SCREENING_LEASE_S": "10", "SCREENING_HEARTBEAT_S": "2"},
    disk_mib=64,
    is_an_hour_later=True,
)


def test_a_seed_is_a_plan() -> None:
    planned = plan(FAULTS, 240.0, 7, 8.0)
    assert planned == plan(FAULTS, 240.0, 7, 8.0) != plan(FAULTS, 240.0, 8, 8.0)
    assert len(planned) == sum(FAULTS.values())
    assert [fault.at_s for fault in planned] == sorted(fault.at_s for fault in planned)
    kills = sum(fault.kind in (faults.WORKER_KILLED, faults.CHILD_KILLED) for fault in planned)
    assert kills == 20


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of pynetdicom, after an abort
def test_nothing_is_lost_doubled_or_failed(capsys: pytest.CaptureFixture[str]) -> None:
    account = run(SHORT)
    show(account)
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == "24 screened, 0 lost, 0 doubled, 0 failed", said
    assert account.is_whole, said
    assert account.quarantined >= 2
    assert {recovery.kind for recovery in account.recoveries} >= set(FAULTS) - {faults.CLOCK_JUMPED}
