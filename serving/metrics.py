"""The service's metrics for Prometheus, on a port of their own; named as the workers' and the replicas'."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Histogram, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from captioner.errors import Refused
from serving.guard import Exchange
from serving.problems import PROBLEMS
from serving.service import Service

# Seconds of an answer: the experts take one, a 7B model some ten.
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0)
CAPTIONING = ("/v1/captions", "/v1/chat/completions")
SILENT_SECONDS = 5.0  # of a scraper, before its connection and its thread are let go
REPLICA_GAUGES = ("outstanding", "window", "slots")
REPLICA_COUNTERS = ("answers", "images", "tokens_in", "tokens_out", "busy_slot_seconds", "ejections")


class Metrics:
    """Counts each request as it ends; what the engine does is looked up when it is asked for."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        # No key's name and no path of the client's: a label is one of few.
        labels = ("route", "status", "reason")
        self._requests = Counter("recap_http_requests", "requests that ended", labels, registry=self.registry)
        self._seconds = Histogram(
            "recap_http_seconds", "seconds of a request", labels[:2], buckets=BUCKETS, registry=self.registry
        )
        self._bytes = Counter("recap_http_received_bytes", "bytes of bodies", registry=self.registry)
        # There from the start: of a counter that begins with its first failure no rate ever shows that one.
        failures = [(str(kind.status), reason) for reason, kind in PROBLEMS.items() if kind.status >= 500]
        for route, (status, reason) in product(CAPTIONING, [("200", "none"), *failures]):
            self._requests.labels(route, status, reason)
        self.registry.register(_Looked(service))

    def ended(self, exchange: Exchange, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(exchange.route, str(exchange.status), exchange.reason or "none").inc()
        # By status too: refusals take milliseconds, and would pass for quick captions in times of overload.
        self._seconds.labels(exchange.route, str(exchange.status)).observe(seconds)
        self._bytes.inc(exchange.bytes_in)


@dataclass(slots=True, eq=False)
class _Looked:
    """What is looked up at each scrape."""

    service: Service

    def collect(self) -> Iterator[Metric]:
        """Gauges and counters as they stand."""
        service, use = self.service, self.service.engine.seen
        yield GaugeMetricFamily("recap_service_working", "requests worked on now", service.admission.working)
        yield GaugeMetricFamily("recap_service_waiting", "requests that wait for a place", service.admission.waiting)
        yield GaugeMetricFamily("recap_service_ready", "1 where /readyz says so", float(service.ready_seen))
        yield GaugeMetricFamily("recap_service_cached", "answers kept", len(service.cached))
        if use is None:
            return
        yield GaugeMetricFamily("recap_engine_slots", "requests the engine takes at once", use.slots)
        yield CounterMetricFamily("recap_engine_busy_seconds", "slot-seconds spent in the engine", use.busy_seconds)
        yield CounterMetricFamily("recap_engine_requests", "requests sent to the engine", use.asked)
        if use.pool is None:
            return
        yield GaugeMetricFamily("recap_pool_waiting", "requests in no replica yet", use.pool.waiting)
        for name in REPLICA_GAUGES:
            gauge = GaugeMetricFamily(f"recap_replica_{name}", f"{name} of a replica now", labels=("replica",))
            for each in use.pool.replicas:
                gauge.add_metric((each.name,), float(getattr(each, name) or 0))
            yield gauge
        for name in REPLICA_COUNTERS:
            counter = CounterMetricFamily(f"recap_replica_{name}", f"{name} of a replica", labels=("replica",))
            for each in use.pool.replicas:
                counter.add_metric((each.name,), float(getattr(each, name)))
            yield counter


@dataclass(slots=True)
class MetricsServer:
    """The port that Prometheus reads, in a thread of its own. Entering listens; raises Refused where it cannot."""

    metrics: Metrics
    host: str
    port: int
    _open: tuple[WSGIServer, threading.Thread] | None = field(default=None, init=False)

    def __enter__(self) -> MetricsServer:
        try:
            kind = _ThreadsV6 if ":" in self.host else _Threads
            server = make_server(self.host, self.port, make_wsgi_app(self.metrics.registry), kind, _Scrape)
        except OSError as error:
            words = f"--metrics-port {self.port} on {self.host} cannot be listened on ({error.strerror})"
            raise Refused(f"{words}; another port, 0 for a free one or -1 for none would be right") from error
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self._open = server, thread
        return self

    def __exit__(self, *exc: object) -> None:
        if self._open is not None:
            server, thread = self._open
            server.shutdown()
            server.server_close()
            thread.join()

    @property
    def address(self) -> str:
        """Where it listens."""
        found: Any = self._open[0].server_address if self._open else ("", 0)
        return f"http://{found[0]}:{found[1]}/metrics"


class _Threads(ThreadingMixIn, WSGIServer):
    """A thread a connection."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that is slow or gone is no news."""


class _ThreadsV6(_Threads):
    address_family = socket.AF_INET6


class _Scrape(WSGIRequestHandler):
    """One scrape; none is logged."""

    timeout = SILENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""
