"""The Celery application and the delivery policy, each constant with its reason. Dials nothing at import."""

import json
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from kombu import Queue
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError, ResponseError

from schema.vocabulary import Priority
from worker.errors import BrokerUnavailable
from worker.ledger.outbox import LONGEST_COUNTDOWN_S, QUEUES, Backlog, Offer
from worker.runtime import configuration, logs
from worker.schedule import beat

#: The task that screens, by name, so that whoever enqueues need not load the eyes.
SCREEN_STUDIES = "worker.tasks.screen_studies"

#: Header of a message: when its studies were offered. Messages of a queue are taken in this order.
OFFERED_AT = "offered_at"

#: A message is killed after this time. One study takes a tenth of a second; a minute each is a hung decoder.
HARD_TIME_LIMIT_S = 600

#: Redis hands a message out again when it was not acknowledged in this time, running or not (celery#5306, kombu#337).
VISIBILITY_TIMEOUT_S = 3600
assert VISIBILITY_TIMEOUT_S > HARD_TIME_LIMIT_S + LONGEST_COUNTDOWN_S, "a running study would be delivered twice"

#: What a message may hold: a STAT study behind it waits no longer than this, where there is a core for each study that
#: is screened at the time.
MESSAGE_WORK_S = 0.5
#: Expected work for one study: read, decode, infer, overlay, write (measured by `make bench`).
STUDY_WORK_S = 0.1

#: How long a child of the pool may take to open the models. Celery's 4 s are too few for a busy machine: it kills the
#: child, starts the next, and none ever serves.
CHILD_START_S = 120.0

#: How long a broker may keep silent. A host that swallows packets would hang the sweep, or a worker, for good.
BROKER_SILENCE_S = 15

settings = configuration.load()

app = Celery("chest-screening", broker=settings.broker_url, include=["worker.tasks"])
app.conf.update(
    task_serializer="json",
    accept_content=["json"],  # pickle would run what a message says
    task_ignore_result=True,  # the database holds the results
    task_acks_late=True,  # a message lives until its studies are recorded
    task_reject_on_worker_lost=True,  # else a killed child's message is acknowledged (celery#1628)
    worker_proc_alive_timeout=CHILD_START_S,
    worker_prefetch_multiplier=1,  # a prefetched message waits behind a running one
    task_time_limit=HARD_TIME_LIMIT_S,
    task_default_queue=str(Priority.ROUTINE),
    task_queues=[Queue(str(name), routing_key=str(name)) for name in QUEUES],
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,  # by default a worker gives up after an hour of outage
    broker_transport_options={
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "queue_order_strategy": "priority",  # the default, round robin, lets a backlog delay STAT
        "socket_connect_timeout": 5,
        "socket_timeout": BROKER_SILENCE_S,
        "socket_keepalive": True,
    },
    worker_cancel_long_running_tasks_on_connection_loss=False,  # their claims hold; the ledger drops what comes twice
    beat_schedule=beat.schedule(settings),
    worker_enable_remote_control=False,  # nothing here uses it, and it is a door
)


@setup_logging.connect
def configure_logs(**_: object) -> None:
    """Give Celery's logs the house's form, in place of its own."""
    logs.configure(settings.log_level)


def messages(offers: Sequence[Offer], message_size: int, studies_at_once: int = 1) -> Iterator[list[Offer]]:
    """Divide offers into messages: STAT ones alone and first, others together up to `MESSAGE_WORK_S` of work.

    A worker that takes several studies at once does so many times as much in that time. What a worker died of may be
    among its studies: they go alone, behind the others of their queue, so that none dies of another twice.
    """
    bulk = max(1, min(message_size, studies_at_once * int(MESSAGE_WORK_S / STUDY_WORK_S)))
    for queue in QUEUES:
        ours = [offer for offer in offers if offer.queue is queue]
        sound = [offer for offer in ours if not offer.is_suspect]
        size = 1 if queue is Priority.STAT else bulk
        for start in range(0, len(sound), size):
            yield sound[start : start + size]
        yield from ([offer] for offer in ours if offer.is_suspect)


def enqueue(offers: Sequence[Offer]) -> None:
    """Publish offers; raises BrokerUnavailable. What is not published is offered again by the sweep."""
    try:
        for message in messages(offers, settings.message_size, settings.studies_at_once):
            app.send_task(
                SCREEN_STUDIES,
                args=[[offer.study_uid for offer in message]],
                queue=str(message[0].queue),
                headers={OFFERED_AT: min(offer.offered_at for offer in message).isoformat()},
                retry=False,
            )
    except (OperationalError, RedisError, OSError) as error:
        raise BrokerUnavailable(f"cannot publish ({error})") from error


def backlog() -> Backlog:
    """What the broker holds; raises BrokerUnavailable."""
    now = datetime.now(UTC)
    try:
        with app.connection_for_read() as connection:
            client = connection.default_channel.client
            # what waits first: a message that is taken between the questions is then counted twice, and not missed
            waiting = {queue: client.lindex(str(queue), -1) for queue in QUEUES}
            tags = client.zrangebyscore("unacked_index", now.timestamp() - settings.lease_s, "+inf")
            taken = client.hmget("unacked", tags) if tags else []
            unacknowledged = int(client.hlen("unacked"))
    except (OperationalError, RedisError, OSError) as error:
        raise BrokerUnavailable(f"cannot be asked ({error})") from error
    return Backlog(
        {queue: offered_at(raw) for queue, raw in waiting.items() if raw is not None},
        frozenset(uid for raw in taken if raw is not None for uid in study_uids(raw)),
        unacknowledged,
    )


@dataclass(frozen=True)
class Depths:
    """How much the broker holds, and who asks it for more."""

    waiting: dict[str, int]  #: messages by queue
    unacknowledged: int
    consumers: int | None  #: queue workers that ask for messages; None where the broker does not say


def depths() -> Depths:
    """How much the broker holds; raises BrokerUnavailable."""
    try:
        with app.connection_for_read() as connection:
            client = connection.default_channel.client
            waiting = {str(queue): int(client.llen(str(queue))) for queue in QUEUES}
            return Depths(waiting, int(client.hlen("unacked")), _consumers(client))
    except (OperationalError, RedisError, OSError) as error:
        raise BrokerUnavailable(f"cannot be asked ({error})") from error


def _consumers(client: Any) -> int | None:
    """Connections that wait for a message as kombu does; a worker whose hands are full is not among them."""
    try:
        return [peer.get("cmd") for peer in client.client_list()].count("brpop")
    except ResponseError:  # a broker that others share may keep its list to itself
        return None


def offered_at(message: bytes) -> datetime | None:
    """When the studies of a message as Redis holds it were offered; None when it does not say."""
    with suppress(KeyError, TypeError, ValueError):
        moment = datetime.fromisoformat(json.loads(message)["headers"][OFFERED_AT])
        return moment if moment.tzinfo else None
    return None


def study_uids(taken: bytes) -> list[str]:
    """The studies of a message as Redis holds it until it is acknowledged; none when it does not say."""
    with suppress(KeyError, TypeError, ValueError, IndexError):
        (uids,), *_ = json.loads(b64decode(json.loads(taken)[0]["body"]))
        return [str(uid) for uid in uids]
    return []
