"""Notices that a queue worker consumes nothing any more although it has nothing to do, and has it connect again."""

import logging
from typing import Any

from celery import bootsteps
from celery.worker import state
from redis.exceptions import ConnectionError as BrokerLost

log = logging.getLogger(__name__)

#: Time between two looks. Two in a row must find the worker stalled: a message may be between two books at one.
LOOK_S = 5.0


class Stall(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """A look at the consumer at times (celery#8030 and its kin).

    When the broker dies between a result and its acknowledgement, the message keeps its place among the prefetched
    for good. With every place taken so, kombu no longer listens to the broker, and never hears that it is gone.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.timer: Any = None
        self.looks = 0

    def start(self, consumer: Any) -> None:
        """Begin to look."""
        self.looks = 0
        self.timer = consumer.timer.call_repeatedly(LOOK_S, self.look, (consumer,))

    def stop(self, consumer: Any) -> None:
        """Look no more."""
        if self.timer is not None:
            consumer.timer.cancel(self.timer)
            self.timer = None

    def look(self, consumer: Any) -> None:
        """Raises BrokerLost, which the consumer answers by a new connection."""
        has_place = consumer.task_consumer.channel.qos.can_consume()
        is_idle = not state.reserved_requests and not state.active_requests
        self.looks = self.looks + 1 if is_idle and not has_place else 0
        if self.looks >= 2:
            log.error("consumer_stalled")
            raise BrokerLost("messages that could not be acknowledged hold every place")
