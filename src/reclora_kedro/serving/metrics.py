"""Metrics of the service, for Prometheus."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ROWS = (1, 4, 16, 64, 256, 1024)
OUTCOMES = ("accepted", "duplicate", "of a forgotten user")
STEPS = ("commit", "checkpoint", "read", "listener")


class Metrics:
    """Metrics of one service."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        kinds: Any = [partial(kind, registry=registry) for kind in (Counter, Gauge, Histogram)]
        counter, gauge, histogram = kinds
        self.text = partial(generate_latest, registry)
        self._requests = counter("reclora_requests", "Requests by route and status", ("route", "method", "status"))
        self._seconds = histogram(
            "reclora_request_seconds", "Seconds from a request to its answer", ("route",), buckets=SECONDS
        )
        self._rows = histogram(
            "reclora_batch_rows", "Pairs of user and item that were scored together", ("queue",), buckets=ROWS
        )
        self._waiting = gauge("reclora_waiting_requests", "Requests that wait", ("queue",))
        self._events = counter("reclora_events", "Events by what became of them", ("outcome",))
        text = "Failed reads and writes of the journal, by step"
        self._faults = counter("reclora_journal_faults", text, ("step",))
        for each, values in ((self._events, OUTCOMES), (self._faults, STEPS)):
            for value in values:  # from 0 on, or else alerts do not see a first increase, or that there is none
                each.labels(value)
        self._current_model = gauge("reclora_champion", "1 for the one that answers", ("version",))

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests.labels(route, method, status).inc()
        self._seconds.labels(route).observe(seconds)

    def rows(self, queue: str) -> Callable[[int], None]:
        return self._rows.labels(queue).observe

    def watch_queues(self, waiting: Mapping[str, Callable[[], int]]) -> None:
        for queue, count in waiting.items():
            self._waiting.labels(queue).set_function(count)

    def events(self, accepted: int, duplicates: int, dropped: int) -> None:
        for outcome, count in zip(OUTCOMES, (accepted, duplicates, dropped), strict=True):
            self._events.labels(outcome).inc(count)

    def journal_fault(self, step: str) -> None:
        """Count a read or write of the journal that failed in one of the `STEPS`."""
        self._faults.labels(step).inc()

    def current_model(self, version: str) -> None:
        self._current_model.clear()
        self._current_model.labels(version).set(1)
