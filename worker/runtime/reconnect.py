"""Detects an idle queue worker that can no longer receive messages, and makes it connect again."""

import logging
from typing import Any

from celery import bootsteps
from celery.worker import state
from redis.exceptions import ConnectionError as BrokerLost

log = logging.getLogger(__name__)

#: Time between two checks. Two in a row must find the worker stalled: during one, a message may just change its state.
CHECK_INTERVAL_S = 5.0


class StallCheck(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Checks the consumer regularly (celery#8030 and similar reports).

    When the broker dies between a result and its acknowledgement, the message stays in the prefetch window for ever.
    When such messages fill the window, kombu no longer listens to the broker, and does not notice that it is gone.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.timer: Any = None
        self.stalled_checks = 0

    def start(self, consumer: Any) -> None:
        """Begin the checks."""
        self.stalled_checks = 0
        self.timer = consumer.timer.call_repeatedly(CHECK_INTERVAL_S, self.check, (consumer,))

    def stop(self, consumer: Any) -> None:
        """End the checks."""
        if self.timer is not None:
            consumer.timer.cancel(self.timer)
            self.timer = None

    def check(self, consumer: Any) -> None:
        """Raise BrokerLost when stalled; the consumer then connects again."""
        has_place = consumer.task_consumer.channel.qos.can_consume()
        is_idle = not state.reserved_requests and not state.active_requests
        self.stalled_checks = self.stalled_checks + 1 if is_idle and not has_place else 0
        if self.stalled_checks >= 2:
            log.error("consumer_stalled")
            raise BrokerLost("messages that could not be acknowledged fill the prefetch window")
