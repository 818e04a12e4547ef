"""The Celery application and the delivery policy, each constant with its reason. Dials nothing at import."""

from collections.abc import Iterator, Sequence

from celery import Celery
from celery.signals import setup_logging
from kombu import Queue
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from schema.vocabulary import Priority
from worker import logs
from worker import settings as settings_module
from worker.errors import BrokerUnavailable
from worker.ledger.delivery import Offer

#: The one task, by name, so that whoever enqueues need not load the eyes.
SCREEN_STUDIES = "worker.tasks.screen_studies"

#: Queues in the order they are emptied. A queue bears the name of the priority whose studies it carries.
QUEUES = (Priority.STAT, Priority.ROUTINE)

#: A message is killed after this time. One study takes a tenth of a second; a minute each is a hung decoder.
HARD_TIME_LIMIT_S = 600

#: Longest wait before an interrupted study is tried again.
LONGEST_COUNTDOWN_S = 300

#: Redis hands a message out again when it was not acknowledged in this time, running or not (celery#5306, kombu#337).
VISIBILITY_TIMEOUT_S = 3600
assert VISIBILITY_TIMEOUT_S > HARD_TIME_LIMIT_S + LONGEST_COUNTDOWN_S, "a running study would be delivered twice"

#: What a routine message may hold: a STAT study behind it waits no longer than this.
MESSAGE_WORK_S = 0.5
#: Expected work for one study: read, decode, infer, overlay, write (measured by `make bench`).
STUDY_WORK_S = 0.1

settings = settings_module.load()

app = Celery("chest-screening", broker=settings.broker_url, include=["worker.tasks"])
app.conf.update(
    task_serializer="json",
    accept_content=["json"],  # pickle would run what a message says
    task_ignore_result=True,  # the database holds the results
    task_acks_late=True,  # a message lives until its studies are recorded
    task_reject_on_worker_lost=True,  # else a killed child's message is acknowledged (celery#1628)
    worker_prefetch_multiplier=1,  # a prefetched message waits behind a running one
    task_time_limit=HARD_TIME_LIMIT_S,
    task_default_queue=str(Priority.ROUTINE),
    task_queues=[Queue(str(name)) for name in QUEUES],
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "queue_order_strategy": "priority",  # the default, round robin, lets a backlog delay STAT
        "socket_connect_timeout": 5,  # a host that swallows packets would hang the sweep
    },
    worker_cancel_long_running_tasks_on_connection_loss=False,  # their claims hold; the ledger drops what comes twice
    worker_enable_remote_control=False,  # nothing here uses it, and it is a door
)


@setup_logging.connect
def configure_logs(**_: object) -> None:
    """Give Celery's logs the house's form, in place of its own."""
    logs.configure(settings.log_level)


def messages(offers: Sequence[Offer], message_size: int) -> Iterator[tuple[Priority, list[str]]]:
    """Divide offers into messages: STAT ones alone, routine ones together up to `MESSAGE_WORK_S` of expected work."""
    size = max(1, min(message_size, int(MESSAGE_WORK_S / STUDY_WORK_S)))
    for offer in offers:
        if offer.priority is Priority.STAT:
            yield Priority.STAT, [offer.study_uid]
    routine = [offer.study_uid for offer in offers if offer.priority is not Priority.STAT]
    for start in range(0, len(routine), size):
        yield Priority.ROUTINE, routine[start : start + size]


def enqueue(offers: Sequence[Offer]) -> None:
    """Publish offers; raises BrokerUnavailable. What is not published is offered again by the sweep."""
    try:
        for priority, study_uids in messages(offers, settings.message_size):
            app.send_task(SCREEN_STUDIES, args=[study_uids], queue=str(priority), retry=False)
    except (OperationalError, RedisError, OSError) as error:
        raise BrokerUnavailable(f"cannot publish ({error})") from error


def is_queue_empty() -> bool:
    """Whether the broker holds no message, neither waiting nor taken and unacknowledged; raises BrokerUnavailable."""
    try:
        with app.connection_for_read() as connection:
            client = connection.default_channel.client
            waiting = sum(client.llen(str(name)) for name in QUEUES)
            return int(waiting) + int(client.hlen("unacked")) == 0
    except (OperationalError, RedisError, OSError) as error:
        raise BrokerUnavailable(f"cannot be asked ({error})") from error
