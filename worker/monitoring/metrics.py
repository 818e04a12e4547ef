"""The metrics, read from the database and the broker.

Nothing is counted in worker processes, so a restart of any of them changes no number. The time of recording is not
measured: it cannot be in the row that it writes. Nor is GPU memory: NVIDIA's dcgm-exporter reports it.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from pydicom.config import IGNORE
from pydicom.uid import UID
from sqlalchemy import Connection

from schema.database import Database
from schema.vocabulary import Stability
from worker.app import Depths, depths
from worker.errors import ScreeningError
from worker.ledger.clocks import now
from worker.ledger.connect import open_existing
from worker.ledger.operations import drift, promotions
from worker.ledger.transactions import reading
from worker.monitoring import aggregates, inbox_watchers, ledger_metrics, result_delivery
from worker.monitoring.aggregates import (
    BATCHES,
    PROBABILITIES,
    STAGE_S,
    WAITED_S,
    WORKED_S,
    Distribution,
    Scanners,
    distributions,
    merge,
)
from worker.monitoring.ledger_metrics import gauge
from worker.screening.timings import Stage
from worker.settings import Settings
from worker.store import open_store
from worker.store.capacity import capacity_of
from worker.worklist.underway import longest_wait_s

log = logging.getLogger(__name__)

BYTES_PER_MIB = 2**20

SCANNER = ["manufacturer", "station"]


class Metrics(Collector):
    """Every metric of the installation, at most `metrics_interval_s` old."""

    def __init__(
        self, settings: Settings, clock: Callable[[], datetime] = now, broker: Callable[[], Depths] = depths
    ) -> None:
        self.settings, self.clock, self.broker = settings, clock, broker
        self.store = open_store(settings)
        self.scanners = Scanners(settings.metrics_scanners)
        self.results = aggregates.results(self.scanners)
        self.stages = aggregates.stages()
        self.unreadable = aggregates.unreadable(syntax_name)
        self._database: Database | None = None
        self._read: list[Metric] = []
        self._read_at: float | None = None
        self._one_at_a_time = threading.Lock()

    def describe(self) -> list[Metric]:
        """Nothing, because a registry would read the database for the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics; simultaneous requests share one reading."""
        with self._one_at_a_time:
            moment = time.monotonic()
            if self._read_at is None or moment - self._read_at >= self.settings.metrics_interval_s:
                self._read = list(self._all(moment))
                self._read_at = moment
            yield from self._read

    def close(self) -> None:
        """Close the pooled connections."""
        if self._database is not None:
            self._database.close()

    def _all(self, begun: float) -> Iterator[Metric]:
        up = GaugeMetricFamily("screening_up", "1: it could be read for these metrics", labels=["what"])
        parts = {"database": self._of_database, "broker": self._of_broker, "store": self._of_store}
        for what, read in parts.items():
            try:
                found = read()
            except ScreeningError as error:
                log.warning("metrics_incomplete", extra={"what": what, "code": error.code, "why": error.message})
                found = []
            up.add_metric([what], float(bool(found)))
            yield from found
        yield up
        yield gauge("alarm_after_seconds", "Setting: how long a study may wait", self.settings.alarm_after_s)
        yield gauge(
            "min_free_bytes", "Setting: intake stops below it", self.settings.min_free_mib * float(BYTES_PER_MIB)
        )
        yield gauge("metrics_read_seconds", "How long this reading took", time.monotonic() - begun)

    def _of_database(self) -> list[Metric]:
        if self._database is None:
            self._database = open_existing(self.settings)
        moment = self.clock()
        with reading(self._database) as connection:
            found = [*ledger_metrics.read(connection, moment), *self._results(connection, moment)]
            found += [*self._stages(connection, moment), *self._drift(connection)]
            found += [*result_delivery.metrics(connection, moment), *inbox_watchers.metrics(connection)]
        waited = longest_wait_s(self._database, moment)
        found.append(gauge("oldest_unscreened_seconds", "Wait of the oldest study without a result", waited))
        decisions = promotions.history(self._database)
        return [*found, *ledger_metrics.models(decisions, promotions.fold_decisions(decisions))]

    def _of_broker(self) -> list[Metric]:
        held = self.broker()
        messages = GaugeMetricFamily("screening_queue_messages", "Messages that wait", labels=["queue"])
        for queue, count in held.waiting.items():
            messages.add_metric([queue], count)
        taken = gauge("unacknowledged_messages", "Messages that were taken and not finished", held.unacknowledged)
        consumers = [] if held.consumers is None else [
            gauge("consumers", "Queue workers that ask the broker for messages", held.consumers)
        ]  # fmt: skip
        return [messages, taken, *consumers]

    def _of_store(self) -> list[Metric]:
        free = self.store.free_mib() * BYTES_PER_MIB
        found: list[Metric] = [gauge("store_free_bytes", "Free space on the store's disk", free)]
        if self.settings.store_quota_mib:
            capacity = capacity_of(self.settings)
            held = capacity.measured_bytes(self.store, self.clock())
            quota = self.settings.store_quota_mib * float(BYTES_PER_MIB)
            if capacity.measured_at is not None:
                found.append(gauge("store_held_bytes", "Received objects and overlays in the store", held))
            found.append(gauge("store_quota_bytes", "Setting: intake stops above it", quota))
        return found

    def _results(self, connection: Connection, moment: datetime) -> Iterator[Metric]:
        results = CounterMetricFamily(
            "screening_results", "Results", labels=["model", "provider", "role", "verdict", *SCANNER]
        )
        scores = _histogram("probability", "Probabilities of results", ["model", "role", *SCANNER])
        waits = _histogram("wait_seconds", "From the last reason to screen a study to its result", ["role"])
        works = _histogram("work_seconds", "From the claim of a study to its result", ["role", "provider"])
        by_scanner: dict[tuple[str, ...], Distribution] = {}
        by_role: dict[tuple[str, ...], Distribution] = {}
        by_provider: dict[tuple[str, ...], Distribution] = {}
        for labels, numbers in self.results.read(connection, moment).items():
            model, provider, role, verdict, *scanner = labels
            results.add_metric([model[:12], provider, role, verdict, *scanner], numbers[0])
            probability, waited, worked = distributions(numbers[1:], (PROBABILITIES, WAITED_S, WORKED_S))
            merge(by_scanner, (model[:12], role, *scanner), probability)
            merge(by_role, (role,), waited)
            merge(by_provider, (role, provider), worked)
        _fill(scores, by_scanner, PROBABILITIES)
        _fill(waits, by_role, WAITED_S)
        _fill(works, by_provider, WORKED_S)
        unreadable = CounterMetricFamily(
            "screening_unreadable_images",
            "Images that could not be read when screened",
            labels=["code", "transfer_syntax"],
        )
        for labels, (count,) in self.unreadable.read(connection, moment).items():
            unreadable.add_metric(labels, count)
        yield from (results, scores, waits, works, unreadable)

    def _stages(self, connection: Connection, moment: datetime) -> Iterator[Metric]:
        times = _histogram("stage_seconds", "Of the work on a study, by stage", ["stage", "role", "provider"])
        batch_runs = _histogram("batch_images", "Images in a study's largest batch for the model", ["role", "provider"])
        for (provider, role), numbers in self.stages.read(connection, moment).items():
            *by_stage, batched = distributions(numbers, [*[STAGE_S] * len(Stage), BATCHES])
            for stage, taken in zip(Stage, by_stage, strict=True):
                _fill(times, {(stage, role, provider): taken}, STAGE_S)
            _fill(batch_runs, {(role, provider): batched}, BATCHES)
        yield from (times, batch_runs)

    def _drift(self, connection: Connection) -> Iterator[Metric]:
        labels = ["model", *SCANNER, "view", "measure"]
        values = GaugeMetricFamily(
            "screening_drift", "PSI beyond what chance gives; of flag_rate the last night's rate", labels=labels
        )
        states = GaugeMetricFamily(
            "screening_drift_status", "0: steady, 1: watch, 2: it left its limits", labels=labels
        )
        worst: dict[tuple[str, ...], tuple[int, float]] = {}  # scanners beyond the limit share their labels
        for cause, value, status in drift.newest(connection):
            scanner = self.scanners.labels(cause.manufacturer, cause.station)
            key: tuple[str, ...] = (cause.model_digest[:12], *scanner, cause.view, cause.measure)
            found = status.rank - Stability.STEADY.rank, value
            worst[key] = max(worst.get(key, found), found)
        for key, (rank, value) in worst.items():
            values.add_metric(key, value)
            states.add_metric(key, rank)
        judged_at = connection.execute(drift.LAST).scalar_one_or_none()
        yield from (values, states)
        yield gauge(
            "drift_judged_timestamp_seconds", "When drift was last judged", judged_at.timestamp() if judged_at else 0.0
        )


def syntax_name(uid: str | None) -> str:
    """The keyword of a transfer syntax of the Standard; `other` for unknown UIDs."""
    return UID(uid, validation_mode=IGNORE).keyword or "other" if uid else "none"


def _histogram(name: str, meaning: str, labels: list[str]) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"screening_{name}", meaning, labels=labels)


def _fill(family: HistogramMetricFamily, found: dict[tuple[str, ...], Distribution], bounds: tuple[float, ...]) -> None:
    for labels, seen in found.items():
        buckets = [(str(bound), count) for bound, count in zip(bounds, seen.at_or_below, strict=True)]
        family.add_metric(list(labels), [*buckets, ("+Inf", seen.count)], seen.total)
