"""Metrics: what a worker and its replicas do, as Ray hands it to Prometheus at each node's metrics port."""

from __future__ import annotations

from typing import Any, Final

from ray.util.metrics import Counter, Gauge

from pipelines.connection import Use
from pipelines.replicas import together

# Every name begins with recap_, units stand at the end, and what only grows is a counter.
REPLICA_GAUGES: Final = {
    "outstanding": "requests at the replica now",
    "window": "requests that the pool would have there at once",
    "slots": "requests that the replica seems to work on at once",
}
REPLICA_COUNTERS: Final = {
    "answers": "answers",
    "images": "pictures answered for",
    "tokens_in": "prompt tokens",
    "tokens_out": "answered tokens",
    "busy_slot_seconds": "slot-seconds spent in requests",
    "ejections": "times it was put out",
}


class WorkerMetrics:
    """The metrics of one worker. A counter is told what was added since it was last told."""

    def __init__(self) -> None:
        self._slots = Gauge("recap_engine_slots", "requests the engine takes at once")
        self._queue = Gauge("recap_pool_waiting", "requests in no replica yet")
        self._suspects = Gauge("recap_pool_suspects", "samples that are tried apart, as a replica died of one")
        self._busy = Counter("recap_engine_busy_seconds", "slot-seconds spent in the engine")
        self._asked = Counter("recap_engine_requests", "requests sent to the engine")
        self._idle = Counter("recap_replica_idle_seconds", "seconds that slots stood empty", ("replica", "cause"))
        self._gauges = {
            name: Gauge(f"recap_replica_{name}", what, ("replica",)) for name, what in REPLICA_GAUGES.items()
        }
        self._counters = {
            name: Counter(f"recap_replica_{name}", what, ("replica",)) for name, what in REPLICA_COUNTERS.items()
        }
        self._told: dict[tuple[str, ...], float] = {}
        self._there: set[str] = set()

    def tell(self, use: Use) -> None:
        """Take the latest numbers; cheap enough to be called twice a second."""
        self._slots.set(use.slots)
        self._add(self._busy, ("busy",), use.busy_seconds, {})
        self._add(self._asked, ("asked",), use.asked, {})
        if use.pool is None:
            return
        for gone in self._there - {replica.name for replica in use.pool.replicas}:
            for gauge in self._gauges.values():
                gauge.set(0, {"replica": gone})
        self._there &= {replica.name for replica in use.pool.replicas}
        self._queue.set(use.pool.waiting)
        self._suspects.set(use.pool.suspects)
        for replica in use.pool.replicas:
            tags = {"replica": replica.name}
            for name, gauge in self._gauges.items():
                gauge.set(getattr(replica, name) or 0, tags)
            self._there.add(replica.name)
        for replica in together([use.pool]):
            tags = {"replica": replica.name}
            for name, counter in self._counters.items():
                self._add(counter, (name, replica.name), getattr(replica, name), tags)
            for cause, seconds in replica.idle_seconds.items():
                self._add(self._idle, ("idle", replica.name, cause), seconds, tags | {"cause": cause})

    def _add(self, counter: Any, key: tuple[str, ...], total: float, tags: dict[str, str]) -> None:
        before = self._told.get(key, 0.0)
        more = total - before if total >= before else total  # a replica that joined anew counts from nothing
        self._told[key] = total
        if more > 0:
            counter.inc(more, tags)
