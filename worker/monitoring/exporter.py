"""Answers GET for metrics and health over HTTP: `/metrics`, `/healthz`, `/readyz`. Knows no other path and no password.

Health is that of the work: a house whose processes all live and whose studies wait is not well.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

from worker.errors import Misconfigured
from worker.monitoring.health import Finding, check_readiness, check_work
from worker.monitoring.metrics import Metrics
from worker.settings import Settings
from worker.store.capacity import capacity_of

#: A client that does not finish its request is hung up on, so that it holds no thread for ever.
REQUEST_DEADLINE_S = 30


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each request, so that a slow reading of metrics delays no health check."""

    daemon_threads = True


class Handler(WSGIRequestHandler):
    """Writes no line for each request: it is asked every few seconds."""

    timeout = REQUEST_DEADLINE_S

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@dataclass
class Health:
    """What a check found, at most as old as the metrics may be: probes of many monitors cost one look."""

    settings: Settings
    check: Callable[[Settings], list[Finding]]
    found: list[Finding] = field(default_factory=list)
    found_at: float | None = None
    one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def answer(self) -> tuple[HTTPStatus, bytes]:
        """200 when all is well, else 503, and the findings as JSON."""
        with self.one_at_a_time:
            moment = time.monotonic()
            if self.found_at is None or moment - self.found_at >= self.settings.metrics_interval_s:
                self.found = self.check(self.settings)
                self.found_at = moment
            is_well = all(finding.is_well for finding in self.found)
            status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
            return status, json.dumps([vars(finding) for finding in self.found]).encode()


def registry(settings: Settings) -> CollectorRegistry:
    """A registry that holds the metrics of the house and nothing else."""
    ours = CollectorRegistry(auto_describe=False)
    ours.register(Metrics(settings))
    return ours


def open_server(settings: Settings) -> WSGIServer:
    """A server that listens and does not answer yet; raises Misconfigured when the address is not to be had."""
    capacity_of(settings).waits_for_measure = False  # a store may take longer to list than a probe waits
    metrics = make_wsgi_app(registry(settings))
    health = {"/healthz": Health(settings, check_work), "/readyz": Health(settings, check_readiness)}

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, is_get = environ["PATH_INFO"], environ["REQUEST_METHOD"] == "GET"
        if is_get and path == "/metrics":
            return list(metrics(environ, start_response))
        asked = health.get(path) if is_get else None
        status, body = asked.answer() if asked else (HTTPStatus.NOT_FOUND, b'"/metrics, /healthz, /readyz"')
        start_response(f"{status.value} {status.phrase}", [("Content-Type", "application/json")])
        return [body]

    host, port = settings.metrics_host, settings.metrics_port
    try:
        return make_server(host, port, answer, Server, Handler)
    except OSError as error:
        raise Misconfigured(
            f"cannot listen on {host} port {port} ({error.strerror}): set SCREENING_METRICS_HOST and _PORT"
        ) from error
