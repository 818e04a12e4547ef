"""Servers that die: the private Redis is started again, and no command waits for an ended `worker run`."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
import redis

from tests.acceptance.installation import wait_until
from tests.ledger import Ledger
from worker.errors import Interrupted, Misconfigured
from worker.intake.ingest import Intake
from worker.runtime import home
from worker.runtime.children import worker_log
from worker.runtime.redis_server import PrivateBroker, private_broker
from worker.service.service import RunningService
from worker.settings import Settings

pytestmark = pytest.mark.parametrize("kind", ["sqlite"])  # the embedded default


@pytest.fixture
def broker(settings: Settings) -> Iterator[PrivateBroker]:
    with private_broker(settings) as broker:
        yield broker


def serving(desk: Ledger, broker: PrivateBroker | None = None, host: home.Holder | None = None) -> RunningService:
    return RunningService(desk.settings, Intake(desk.settings, desk.database, desk.store), None, broker, host)


def test_our_redis_is_started_again_when_it_was_killed(desk: Ledger, broker: PrivateBroker) -> None:
    client = redis.Redis(unix_socket_path=str(desk.settings.broker_socket))
    first = client.info("server")["process_id"]
    os.kill(first, signal.SIGKILL)
    site = serving(desk, broker)

    def is_back() -> bool:
        with suppress(redis.ConnectionError):  # it may not be dead yet, or be dying now
            site.check()
            return bool(client.info("server")["process_id"] != first)
        return False

    wait_until(is_back, 60)
    client.close()


def test_a_screen_that_hands_its_work_over_does_not_wait_for_a_dead_installation(desk: Ledger) -> None:
    host = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    site = serving(desk, host=home.Holder(host.pid, "run"))
    site.check()
    host.communicate()
    with pytest.raises(Interrupted, match="the same command continues"):
        site.check()


def test_a_queue_worker_that_ends_by_itself_is_quoted_and_no_earlier_one(desk: Ledger) -> None:
    log = worker_log(desk.settings)
    log.parent.mkdir(parents=True)
    log.write_text("what an earlier queue worker said\n")
    begins_at = log.stat().st_size
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    with log.open("a") as file:
        file.write("what this one said\n")
    site = replace(serving(desk), worker=ended, worker_log_from=begins_at)
    with pytest.raises(Misconfigured, match="by itself: what this one said \\(whole log"):
        site.check()


def test_a_queue_worker_that_ends_is_quoted_although_its_log_was_emptied_meanwhile(desk: Ledger) -> None:
    """As `logrotate` does with `copytruncate`: the log is then shorter than it was when the queue worker began."""
    log = worker_log(desk.settings)
    log.parent.mkdir(parents=True)
    log.write_text("why it ended\n")
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    site = replace(serving(desk), worker=ended, worker_log_from=100_000)
    with pytest.raises(Misconfigured, match="by itself: why it ended \\(whole log"):
        site.check()
