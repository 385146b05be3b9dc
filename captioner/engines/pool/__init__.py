"""A pool of replicas as one engine."""

from captioner.engines.pool.flight import Priority
from captioner.engines.pool.pool import Lane, Pool
from captioner.engines.pool.settings import PoolSettings
from captioner.engines.pool.stats import PoolStats, ReplicaStats

__all__ = ["Lane", "Pool", "PoolSettings", "PoolStats", "Priority", "ReplicaStats"]
