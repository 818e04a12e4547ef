"""How offers become messages, and the limits of the delivery policy."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from schema.vocabulary import Priority
from worker.app import app, messages
from worker.ledger.screening.outbox import LONGEST_COUNTDOWN_S, QUEUES, Offer
from worker.runtime.broker_rights import KEYS, lacking_rights
from worker.runtime.redis_server import redis_server
from worker.settings import Settings

EVERY_KEY = ["~stat*", "~routine*", "~nightly*", *(f"~{key}" for key in KEYS)]


def offers(**counts: int) -> list[Offer]:
    """So many offers of each queue, dealt out in turn."""
    moment = datetime(2026, 3, 2, 8, tzinfo=UTC)
    found = [[Offer(f"{queue}.{n}", Priority(queue), moment) for n in range(count)] for queue, count in counts.items()]
    return [offer for turn in zip_longest(*found) for offer in turn if offer is not None]


@pytest.mark.parametrize(
    ("counts", "size", "expected"),
    [
        ({}, 16, []),
        ({"stat": 2}, 16, [1, 1]),
        ({"routine": 12}, 16, [5, 5, 2]),  # half a second of expected work
        ({"routine": 5}, 2, [2, 2, 1]),
        ({"nightly": 2, "routine": 3, "stat": 1}, 1, [1, 1, 1, 1, 1, 1]),
        ({"nightly": 7, "routine": 6, "stat": 2}, 16, [1, 1, 5, 1, 5, 2]),
    ],
)
def test_stat_goes_alone_and_others_together(counts: dict[str, int], size: int, expected: list[int]) -> None:
    sent = list(messages(offers(**counts), size))
    assert [len(message) for message in sent] == expected
    queues = [message[0].queue for message in sent]
    assert queues == sorted(queues, key=list(Priority).index), "STAT is published first, the archive last"
    for queue in Priority:
        uids = [offer.study_uid for message in sent for offer in message if offer.queue is queue]
        assert uids == [f"{queue}.{n}" for n in range(counts.get(queue, 0))]


def test_a_message_is_as_long_as_a_worker_has_hands() -> None:
    sent = messages(offers(routine=23, stat=2), 16, studies_at_once=2)
    assert [len(message) for message in sent] == [1, 1, 10, 10, 3]
    assert [len(message) for message in messages(offers(routine=23), 16, studies_at_once=4)] == [16, 7]


def test_what_a_worker_may_have_died_of_goes_alone_behind_the_others() -> None:
    found = [replace(one, is_suspect=one.study_uid in ("routine.1", "routine.4")) for one in offers(routine=6, stat=1)]
    sent = [[offer.study_uid.removeprefix("routine.") for offer in message] for message in messages(found, 16)]
    assert sent == [["stat.0"], ["0", "2", "3", "5"], ["1"], ["4"]]


def test_a_running_study_is_not_delivered_twice() -> None:
    timeout = app.conf.broker_transport_options["visibility_timeout"]
    assert timeout > app.conf.task_time_limit + LONGEST_COUNTDOWN_S


def test_messages_are_json_and_outlive_their_worker() -> None:
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == "json"
    assert app.conf.task_acks_late
    assert app.conf.task_reject_on_worker_lost
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.broker_transport_options["queue_order_strategy"] == "priority"
    assert [queue.name for queue in app.conf.task_queues] == ["stat", "routine", "nightly"], "STAT first"
    assert app.conf.broker_connection_max_retries is None, "an outage may last"
    assert app.conf.worker_proc_alive_timeout > 60, "opening a model takes long on a busy machine"
    assert not app.conf.worker_enable_remote_control


@pytest.mark.slow
def test_without_a_broker_it_says_so(tmp_path: Path) -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor; from worker.app import backlog, enqueue\n"
        "from worker.ledger.screening.outbox import Offer; from schema.vocabulary import Priority\n"
        "from worker.ledger.clocks import now\n"
        "with ThreadPoolExecutor() as pool:\n"
        "    asked = [pool.submit(enqueue, [Offer('1.2.3', Priority.STAT, now())]), pool.submit(backlog)]\n"
        "print(*(work.exception().code for work in asked))"
    )
    environment = {**os.environ, "SCREENING_BROKER": f"redis+socket://{tmp_path}/nobody.sock"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["broker_unavailable"] * 2


def test_the_broker_tells_what_waits_and_what_was_just_taken(broker: Settings) -> None:
    code = (
        "from datetime import UTC, datetime\n"
        "from worker.app import Depths, app, backlog, depths, enqueue\n"
        "from worker.ledger.screening.outbox import Backlog, Offer\n"
        "from schema.vocabulary import Priority\n"
        "early, late = (datetime(2026, 3, 2, hour, tzinfo=UTC) for hour in (8, 9))\n"
        "assert backlog() == Backlog() and backlog().is_empty\n"
        "enqueue([Offer('1', Priority.ROUTINE, late), Offer('2', Priority.ROUTINE, early)])\n"
        "enqueue([Offer('3', Priority.ROUTINE, late), Offer('4', Priority.NIGHTLY, late)])\n"
        "assert backlog() == Backlog({Priority.ROUTINE: early, Priority.NIGHTLY: late}), backlog()\n"
        "assert depths() == Depths({'stat': 0, 'routine': 2, 'nightly': 1}, 0, 0), depths()\n"
        "with app.connection_for_read() as connection:\n"
        "    message = connection.default_channel.basic_get('routine')\n"
        "    held = backlog()\n"
        "    assert depths() == Depths({'stat': 0, 'routine': 1, 'nightly': 1}, 1, 0), depths()\n"
        "    assert held.next_offered == {Priority.ROUTINE: late, Priority.NIGHTLY: late}, held\n"
        "    assert (held.taken, held.unacknowledged, held.is_empty) == ({'1', '2'}, 1, False), held\n"
        "    message.ack()\n"
        "    assert backlog().taken == frozenset()\n"
        "    connection.default_channel.client.lpush('stat', 'no message of ours')\n"
        "assert backlog().next_offered[Priority.STAT] is None\n"
    )
    environment = {**os.environ, "SCREENING_HOME": str(broker.home)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("rules", "lacking"),
    [
        (["+@all", "~*"], []),
        (["+@all", "~*", "-@dangerous", "-discard"], []),
        (["+@all", "~*", "-brpop", "-lpush"], ["+lpush", "+brpop"]),
        (["+@all", "~*", "-multi"], ["+multi"]),
        (["+@all", "~*", "-exec"], ["+exec"]),
        (["+@all", "~stat*", "~routine*"], EVERY_KEY),
        (["+@all", "~stat", "~routine", "~nightly", *EVERY_KEY[3:]], EVERY_KEY),
        (["+@all", *EVERY_KEY], []),
    ],
)
def test_the_rights_that_an_account_at_the_broker_lacks_are_named_and_nothing_is_done(
    broker: Settings, rules: list[str], lacking: list[str]
) -> None:
    socket = str(broker.broker_socket)
    with redis.Redis(unix_socket_path=socket) as administrator:
        administrator.execute_command("ACL", "SETUSER", "screening", "reset", "on", ">secret", *rules)
        with redis.Redis(unix_socket_path=socket, username="screening", password="secret") as client:
            assert lacking_rights(client, QUEUES) == lacking
        assert administrator.dbsize() == 0


def test_a_broker_without_transactions_is_an_error_and_nothing_is_done_there(tmp_path: Path) -> None:
    socket = str(tmp_path / "r")
    options = ("--port", "0", "--unixsocket", socket, "--save", "", "--rename-command", "MULTI", "")
    with subprocess.Popen([redis_server(), *options], stdout=subprocess.DEVNULL) as server:
        try:
            retry = Retry(ConstantBackoff(0.05), 200)
            with redis.Redis(unix_socket_path=socket, retry=retry, retry_on_error=[redis.ConnectionError]) as client:
                client.ping()
                with pytest.raises(redis.ResponseError, match="unknown command"):
                    lacking_rights(client, QUEUES)
                assert client.dbsize() == 0
        finally:
            server.terminate()


def test_the_page_of_settings_says_from_which_size_on_a_message_grows_no_more() -> None:
    largest = max(len(message) for message in messages(offers(routine=100), 100))
    assert f"`SCREENING_MESSAGE_SIZE` above {largest} " in Path("deploy/SETTINGS.md").read_text(encoding="utf-8")
