"""Replicas as all workers see them: each worker has a pool of its own, and nobody sees the whole but their sum."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from captioner.engines.pool import PoolStats, ReplicaStats


def together(pools: list[PoolStats]) -> list[ReplicaStats]:
    """Each replica as all workers' pools see it: sums, and the state that most of them say."""
    seen: dict[str, list[ReplicaStats]] = {}
    for replica in (each for pool in pools for each in pool.replicas):
        seen.setdefault(replica.name, []).append(replica)
    return [_one(name, each) for name, each in sorted(seen.items())]


def _one(name: str, seen: list[ReplicaStats]) -> ReplicaStats:
    idle: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for each in seen:
        idle.update(each.idle_seconds)
        errors.update(each.errors)
    sums = {
        field: sum(getattr(each, field) for each in seen)
        for field in (
            "window",
            "outstanding",
            "busy_slot_seconds",
            "answers",
            "tokens_in",
            "tokens_out",
            "images",
            "ejections",
        )
    }
    return replace(
        seen[0],
        name=name,
        state=Counter(each.state for each in seen).most_common(1)[0][0],
        slots=sum(each.slots or each.window for each in seen),
        errors=dict(errors),
        idle_seconds=dict(idle),
        **sums,
    )
