"""The Celery application and the delivery policy, each constant with its reason. Opens no connection at import."""

import json
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from celery.signals import setup_logging
from kombu import Queue
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError, ResponseError

from schema.vocabulary import Priority
from worker.errors import BrokerUnavailable
from worker.ledger.screening.outbox import LONGEST_COUNTDOWN_S, QUEUES, Backlog, Offer
from worker.runtime import configuration, logs
from worker.runtime.broker_rights import PROBE, lacking_rights
from worker.schedule import beat

#: Name of the screening task. To enqueue by name does not import the imaging code.
SCREEN_STUDIES = "worker.tasks.screen_studies"

#: Header of a message: when its studies were offered. Messages of a queue are taken in this order.
OFFERED_AT = "offered_at"

#: The child process of a message is killed after this time. One study takes a tenth of a second.
HARD_TIME_LIMIT_S = 600

#: Redis delivers a message again that is not acknowledged in this time, running or not (celery#5306, kombu#337).
VISIBILITY_TIMEOUT_S = 3600
assert VISIBILITY_TIMEOUT_S > HARD_TIME_LIMIT_S + LONGEST_COUNTDOWN_S, "a running study would be delivered twice"

#: Expected work of one message: a STAT study behind it waits no longer than this, if there is a core for each study
#: that is screened at the same time.
MESSAGE_WORK_S = 0.5
#: Expected work for one study: read, decode, infer, overlay, write (measured by `make bench`).
STUDY_WORK_S = 0.1

#: Time for a child of the pool to open the models. Celery's 4 s are too short on a busy machine: Celery would kill
#: every child before it is ready.
CHILD_START_S = 120.0

#: Time-out for the broker's answers. Without it, lost packets would block the sweep or a worker for ever.
BROKER_SILENCE_S = 15

settings = configuration.load()

app = Celery("chest-screening", broker=settings.broker_url, include=["worker.tasks"])
app.conf.update(
    task_serializer="json",
    accept_content=["json"],  # pickle would execute code from a message
    task_ignore_result=True,  # the database holds the results
    task_acks_late=True,  # a message stays until its studies are recorded
    task_reject_on_worker_lost=True,  # otherwise the message of a killed child is acknowledged (celery#1628)
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
    worker_cancel_long_running_tasks_on_connection_loss=False,  # their claims stay valid; second results are dropped
    beat_schedule=beat.schedule(settings),
    worker_enable_remote_control=False,  # not used, and a way in for attackers
)


@setup_logging.connect
def configure_logs(**_: object) -> None:
    """Use the log format of the installation for Celery too."""
    logs.configure(settings.log_level)


def messages(offers: Sequence[Offer], message_size: int, studies_at_once: int = 1) -> Iterator[list[Offer]]:
    """Divide offers into messages: STAT ones alone and first, others together up to `MESSAGE_WORK_S` of work.

    A worker that screens several studies at once does so many times as much work in that time. Studies of a worker that
    died are suspect: each gets a message of its own, behind the others of its queue, because one of them may kill the
    next worker too.
    """
    bulk = max(1, min(message_size, studies_at_once * int(MESSAGE_WORK_S / STUDY_WORK_S)))
    for queue in QUEUES:
        own = [offer for offer in offers if offer.queue is queue]
        others = [offer for offer in own if not offer.is_suspect]
        size = 1 if queue is Priority.STAT else bulk
        for start in range(0, len(others), size):
            yield others[start : start + size]
        yield from ([offer] for offer in own if offer.is_suspect)


#: What Redis or the way to it say -> the fault and its remedy. The first that is found counts.
BROKER_FAULTS = (
    (
        ("NOAUTH", "WRONGPASS", "Authentication required", "invalid password", "invalid username-password"),
        "it wants a password, or another one: SCREENING_BROKER=redis://:PASSWORD@HOST:PORT/0",
    ),
    (
        ("OOM command not allowed", "maxmemory"),
        "it is full: give it more memory (maxmemory), or remove what others keep there; nothing is lost meanwhile",
    ),
    (("READONLY", "read only replica"), "it is a read-only replica: name its primary in SCREENING_BROKER"),
    (("NOPERM", "no permissions"), "its user may not do this: see its access list (ACL)"),
    (("LOADING",), "it is loading its data: wait"),
    (("Timeout", "timed out"), "it does not answer: see that it runs, and what lies between"),
    (
        ("refused", "No such file", "not known", "unreachable", "resolve"),
        "it is not there: start it, or correct SCREENING_BROKER",
    ),
)

#: How long the key stays that `prove_broker_usable` writes.
PROBE_MS = 1000


def _unavailable(doing: str, error: Exception) -> BrokerUnavailable:
    """A fault of the broker, with its remedy where it is known."""
    words = f"{error} {error.__cause__ or ''}"
    remedies = (remedy for marks, remedy in BROKER_FAULTS if any(mark.lower() in words.lower() for mark in marks))
    remedy = next(remedies, "start it, or correct SCREENING_BROKER")
    return BrokerUnavailable(f"the broker {doing} ({error}): {remedy}")


def prove_broker_usable() -> None:
    """Write a key that expires at once; raises BrokerUnavailable when the broker is full, takes nothing, or refuses its
    user a command that the program needs."""
    try:
        with app.connection_for_write() as connection:
            lacking = lacking_rights(connection.default_channel.client, QUEUES)
            if not lacking:
                connection.default_channel.client.set(PROBE, b"", px=PROBE_MS)
    except (OperationalError, RedisError, OSError) as error:
        raise _unavailable("cannot be written to", error) from error
    if lacking:
        user = urlsplit(settings.broker_url).username or "default"
        raise BrokerUnavailable(
            f"its user lacks rights: `ACL SETUSER {user} {' '.join(lacking)}`, and the same in the server's ACL file"
        )


def enqueue(offers: Sequence[Offer]) -> None:
    """Publish offers; raises BrokerUnavailable. The sweep offers again what is not published."""
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
        raise _unavailable("takes no message", error) from error


def backlog() -> Backlog:
    """The messages that the broker holds; raises BrokerUnavailable."""
    now = datetime.now(UTC)
    try:
        with app.connection_for_read() as connection:
            client = connection.default_channel.client
            # waiting messages first: one that is taken between the two reads is then counted twice, and not missed
            waiting = {queue: client.lindex(str(queue), -1) for queue in QUEUES}
            tags = client.zrangebyscore("unacked_index", now.timestamp() - settings.lease_s, "+inf")
            taken = client.hmget("unacked", tags) if tags else []
            unacknowledged = int(client.hlen("unacked"))
    except (OperationalError, RedisError, OSError) as error:
        raise _unavailable("cannot be asked", error) from error
    return Backlog(
        {queue: offered_at(raw) for queue, raw in waiting.items() if raw is not None},
        frozenset(uid for raw in taken if raw is not None for uid in study_uids(raw)),
        unacknowledged,
    )


@dataclass(frozen=True)
class Depths:
    """Numbers of messages in the broker, and of queue workers."""

    waiting: dict[str, int]  #: messages by queue
    unacknowledged: int
    consumers: int | None  #: queue workers that ask for messages; None where the broker does not say


def depths() -> Depths:
    """The numbers of messages; raises BrokerUnavailable."""
    try:
        with app.connection_for_read() as connection:
            client = connection.default_channel.client
            waiting = {str(queue): int(client.llen(str(queue))) for queue in QUEUES}
            return Depths(waiting, int(client.hlen("unacked")), _consumers(client))
    except (OperationalError, RedisError, OSError) as error:
        raise _unavailable("cannot be asked", error) from error


def _consumers(client: Any) -> int | None:
    """Connections that wait for a message as kombu does; busy workers are not among them."""
    try:
        return [peer.get("cmd") for peer in client.client_list()].count("brpop")
    except ResponseError:  # a shared broker may not allow the list of clients
        return None


def offered_at(message: bytes) -> datetime | None:
    """When the studies of a message as Redis holds it were offered; None when the header is missing."""
    with suppress(KeyError, TypeError, ValueError):
        moment = datetime.fromisoformat(json.loads(message)["headers"][OFFERED_AT])
        return moment if moment.tzinfo else None
    return None


def study_uids(taken: bytes) -> list[str]:
    """The studies of a message as Redis holds it until it is acknowledged; empty when it cannot be read."""
    with suppress(KeyError, TypeError, ValueError, IndexError):
        (uids,), *_ = json.loads(b64decode(json.loads(taken)[0]["body"]))
        return [str(uid) for uid in uids]
    return []
