"""The metrics of the ledger's rows as they are now: files, studies, batch runs, devices, log-ins, models in force.

Each function reads by a connection, or from what was read; `metrics` collects them and those that grow by the day.
"""

from collections.abc import Iterator
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from sqlalchemy import Connection, text

from schema.vocabulary import Band, FileState, StudyState
from worker.ledger.database_clock import server_now
from worker.ledger.operations import batch_runs, device_failures
from worker.ledger.operations.promotions import Decision, RegistryState
from worker.ledger.reading_room import login_failures
from worker.monitoring import aggregates


def read(connection: Connection, moment: datetime) -> Iterator[Metric]:
    """All but the models in force."""
    yield from _files(connection)
    yield from _studies(connection, moment)
    yield from _batch(connection)
    yield from _devices(connection)
    yield from _failed_log_ins(connection, moment)


def _files(connection: Connection) -> Iterator[Metric]:
    """Files by state, and quarantined ones by code."""
    seen = GaugeMetricFamily("screening_files", "Files seen, by where they ended", labels=["state"])
    found = {row[0]: row[1] for row in connection.execute(text(aggregates.FILES))}
    for state in FileState:
        seen.add_metric([state], found.get(state, 0))
    yield seen
    quarantined = GaugeMetricFamily("screening_quarantined_files", "Files that cannot be read", labels=["code"])
    for code, count in connection.execute(text(aggregates.QUARANTINED)):
        quarantined.add_metric([code or "none"], count)
    yield quarantined


def _studies(connection: Connection, moment: datetime) -> Iterator[Metric]:
    """Studies by state and by band, claims that hold, and the newest result."""
    by_state = GaugeMetricFamily(
        "screening_studies", "Studies by state and by the verdict that people see", labels=["state", "verdict"]
    )
    found = {(state, verdict): count for state, verdict, count in connection.execute(text(aggregates.STUDIES))}
    for state in StudyState:
        found.setdefault((str(state), None), 0)
    for (state, verdict), count in found.items():
        by_state.add_metric([state, verdict or "none"], count)
    yield by_state
    unread = GaugeMetricFamily("screening_unread_studies", "Studies on the worklist, by band", labels=["band"])
    bands = {row[0]: row[1] for row in connection.execute(text(aggregates.UNREAD))}
    for band in Band:
        unread.add_metric([band.name.lower()], bands.get(band.value, 0))
    yield unread
    claims = connection.execute(aggregates.CLAIMS, {"now": server_now(connection, lambda: moment)}).scalar_one()
    yield gauge("claims", "Studies that a living worker holds", claims)
    last = connection.execute(aggregates.LAST_RESULT).scalar_one_or_none()
    yield gauge("last_result_timestamp_seconds", "When the newest result came", last.timestamp() if last else 0.0)


def _batch(connection: Connection) -> Iterator[Metric]:
    """The newest run of `worker batch`; nothing if there was none."""
    run = batch_runs.newest(connection)
    if run is None:
        return
    ended = run.ended_at.timestamp() if run.ended_at else 0.0
    yield gauge("batch_began_timestamp_seconds", "When the last batch began", run.began_at.timestamp())
    yield gauge("batch_due_timestamp_seconds", "When its window closes", run.due_at.timestamp())
    yield gauge("batch_ended_timestamp_seconds", "When it ended; 0: it has not", ended)
    failed = run.fault is not None or bool(run.without_result)
    yield gauge("batch_failed", "1: it ended early by a fault, or left studies without a result", float(failed))


def _devices(connection: Connection) -> Iterator[Metric]:
    """How often an inference device failed."""
    # without labels: it is there, as 0, before the first failure, so that an increase from none is seen
    counted = device_failures.count(connection)
    yield CounterMetricFamily("screening_device_failures", "Failures of inference devices", value=counted)


def _failed_log_ins(connection: Connection, moment: datetime) -> Iterator[Metric]:
    """Failed log-ins of the last 15 minutes."""
    failed = login_failures.count_since(connection, moment - login_failures.WINDOW)
    yield gauge("login_failures", "Log-ins at the page that failed in the last 15 minutes", float(failed))


def models(decisions: list[Decision], registry_state: RegistryState) -> Iterator[Metric]:
    """The models in force: their thresholds, and how many workers refuse each."""
    info = InfoMetricFamily("screening_model", "Models in force", labels=["model"])
    threshold = GaugeMetricFamily("screening_model_threshold", "Its threshold", labels=["model"])
    refused = GaugeMetricFamily("screening_model_refused", "Workers that refuse it", labels=["model"])
    known = {decision.digest: decision for decision in decisions}
    for role, digest in (("active", registry_state.active), ("shadow", registry_state.shadow)):
        if digest is None:
            continue
        info.add_metric([digest[:12]], {"name": known[digest].name, "digest": digest, "role": role})
        threshold.add_metric([digest[:12]], known[digest].threshold)
        refused.add_metric([digest[:12]], sum(refusal.digest == digest for refusal in registry_state.refusals))
    yield from (info, threshold, refused)


def gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    """A gauge without labels."""
    return GaugeMetricFamily(f"screening_{name}", meaning, value=value)
