"""How offers become messages, and the promises of the delivery policy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from schema.vocabulary import Priority
from worker import app as room
from worker.app import app, messages
from worker.ledger.delivery import Offer
from worker.settings import Settings


def offers(stat: int, routine: int) -> list[Offer]:
    found = [Offer(f"r{n}", Priority.ROUTINE) for n in range(routine)]
    return [*found[: routine // 2], *(Offer(f"s{n}", Priority.STAT) for n in range(stat)), *found[routine // 2 :]]


@pytest.mark.parametrize(
    ("stat", "routine", "size", "expected"),
    [
        (0, 0, 16, []),
        (2, 0, 16, [1, 1]),
        (0, 12, 16, [5, 5, 2]),  # half a second of expected work
        (0, 5, 2, [2, 2, 1]),
        (1, 3, 1, [1, 1, 1, 1]),
    ],
)
def test_stat_goes_alone_and_routine_together(stat: int, routine: int, size: int, expected: list[int]) -> None:
    sent = list(messages(offers(stat, routine), size))
    assert [len(uids) for _, uids in sent] == expected
    assert [priority for priority, _ in sent[:stat]] == [Priority.STAT] * stat, "STAT is published first"
    assert all(priority is Priority.ROUTINE for priority, _ in sent[stat:])
    assert [u for p, uids in sent if p is Priority.ROUTINE for u in uids] == [f"r{n}" for n in range(routine)]


def test_a_running_study_is_not_delivered_twice() -> None:
    timeout = app.conf.broker_transport_options["visibility_timeout"]
    assert timeout > app.conf.task_time_limit + room.LONGEST_COUNTDOWN_S


def test_messages_are_json_and_outlive_their_worker() -> None:
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == "json"
    assert app.conf.task_acks_late
    assert app.conf.task_reject_on_worker_lost
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.broker_transport_options["queue_order_strategy"] == "priority"
    assert [queue.name for queue in app.conf.task_queues] == ["stat", "routine"], "STAT is emptied first"
    assert not app.conf.worker_enable_remote_control


def test_without_a_broker_it_says_so(tmp_path: Path) -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor; from worker.app import enqueue, is_queue_empty\n"
        "from worker.ledger.delivery import Offer; from schema.vocabulary import Priority\n"
        "with ThreadPoolExecutor() as pool:\n"
        "    asked = [pool.submit(enqueue, [Offer('1.2.3', Priority.STAT)]), pool.submit(is_queue_empty)]\n"
        "print(*(work.exception().code for work in asked))"
    )
    environment = {**os.environ, "SCREENING_BROKER": f"redis+socket://{tmp_path}/nobody.sock"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["broker_unavailable"] * 2


def test_an_empty_queue_is_told_from_one_with_messages(broker: Settings) -> None:
    code = (
        "from worker.app import enqueue, is_queue_empty; from worker.ledger.delivery import Offer\n"
        "from schema.vocabulary import Priority\n"
        "print(is_queue_empty()); enqueue([Offer('1.2.3', Priority.ROUTINE)]); print(is_queue_empty())"
    )
    environment = {**os.environ, "SCREENING_HOME": str(broker.home)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
