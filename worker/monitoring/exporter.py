"""Serve metrics and health over HTTP: GET `/metrics`, `/healthz`, `/readyz`. No other paths and no password.

Health is measured by the work: an installation with running processes and waiting studies is not healthy.
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
from worker.monitoring.health import CheckResult, check_readiness, check_work
from worker.monitoring.metrics import Metrics
from worker.settings import Settings
from worker.store.capacity import capacity_of

#: The connection of a client that does not finish its request is closed, so that it does not block a thread.
REQUEST_DEADLINE_S = 30


class Server(ThreadingMixIn, WSGIServer):
    """One thread for each request, so that slow metrics do not delay a health check."""

    daemon_threads = True


class Handler(WSGIRequestHandler):
    """Without a log line for each request, because there is one every few seconds."""

    timeout = REQUEST_DEADLINE_S

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@dataclass
class Health:
    """The result of a check, repeated after the metrics interval, so that many probes cost one check."""

    settings: Settings
    check: Callable[[Settings], list[CheckResult]]
    found: list[CheckResult] = field(default_factory=list)
    found_at: float | None = None
    one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def answer(self) -> tuple[HTTPStatus, bytes]:
        """200 when all checks pass, else 503, and the findings as JSON."""
        with self.one_at_a_time:
            moment = time.monotonic()
            if self.found_at is None or moment - self.found_at >= self.settings.metrics_interval_s:
                self.found = self.check(self.settings)
                self.found_at = moment
            is_well = all(finding.is_well for finding in self.found)
            status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
            return status, json.dumps([vars(finding) for finding in self.found]).encode()


def registry(settings: Settings) -> CollectorRegistry:
    """A registry with the metrics of the installation only."""
    ours = CollectorRegistry(auto_describe=False)
    ours.register(Metrics(settings))
    return ours


def open_server(settings: Settings) -> WSGIServer:
    """A listening server that is not serving yet; raises Misconfigured when the address is not available."""
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
