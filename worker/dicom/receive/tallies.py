"""The metrics of one receiver process; the installation's own come from the database (`worker metrics`)."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from worker.dicom.receive.statuses import Status
from worker.errors import Misconfigured
from worker.settings import Settings

#: Seconds from the first byte of a data set to its answer.
ANSWER_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Tallies:
    """Counters of what peers did. Labels are titles of the settings, never text from the network."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.associations = Counter(
            "screening_receiver_associations", "Associations accepted", ["peer"], registry=self.registry
        )
        self.open = Gauge("screening_receiver_open_associations", "Associations now open", registry=self.registry)
        self.rejections = Counter(
            "screening_receiver_rejections", "Associations and connections refused", ["reason"], registry=self.registry
        )
        self.objects = Counter("screening_receiver_objects", "Objects with success", ["peer"], registry=self.registry)
        self.bytes = Counter("screening_receiver_bytes", "Bytes with success", ["peer"], registry=self.registry)
        self.own_results = Counter(
            "screening_receiver_own_results", "Results of ours that came back, and were not kept", ["peer"],
            registry=self.registry,
        )  # fmt: skip
        self.answers = Counter("screening_receiver_answers", "Answers to C-STORE", ["status"], registry=self.registry)
        self.answer_s = Histogram(
            "screening_receiver_answer_seconds", "From the first byte of an object to its answer", buckets=ANSWER_S,
            registry=self.registry,
        )  # fmt: skip
        for status in Status:
            self.answers.labels(status.label)

    def answered(self, peer: str, status: Status, size_bytes: int, took_s: float) -> None:
        """Count one object."""
        self.answers.labels(status.label).inc()
        self.answer_s.observe(took_s)
        if status is Status.SUCCESS:
            self.objects.labels(peer).inc()
            self.bytes.labels(peer).inc(size_bytes)


@contextmanager
def metrics_served(settings: Settings, tallies: Tallies) -> Iterator[None]:
    """Answer Prometheus while the block runs; raises Misconfigured when the address is not available."""
    host, port = settings.metrics_host, settings.receive_metrics_port
    try:
        server, thread = start_http_server(port, host, tallies.registry)
    except OSError as error:
        raise Misconfigured(
            f"cannot listen on {host} port {port} ({error.strerror}): set SCREENING_RECEIVE_METRICS_PORT"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
