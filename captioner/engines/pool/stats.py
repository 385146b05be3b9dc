"""What a pool and its replicas are doing: plain numbers for displays, ledgers and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

State = Literal["starting", "serving", "suspect", "ejected", "draining"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaStats:
    """One replica since it joined.

    outstanding: asks that wait for an answer. slots: how many it seems to work on at once, None while unknown.
    busy_slot_seconds: integral of outstanding, at most slots of it. tokens_in, tokens_out, images: of its answers.
    errors: how many by kind, in the engine's error names. idle_seconds: whole-replica seconds that slots stood empty,
    by cause: starved (nothing waited), ejected (or starting, draining), throttled (429 or the byte limit).
    """

    name: str
    state: State
    window: int
    outstanding: int
    slots: int | None
    busy_slot_seconds: float
    answers: int
    tokens_in: int
    tokens_out: int
    images: int
    ejections: int
    errors: Mapping[str, int] = field(default_factory=dict)
    idle_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """A pool since it was entered. asks: sent to replicas, of all kinds. wasted_work: share of the work asked twice.

    waiting: requests in no replica yet; suspects: those among them that are tried apart. moved: asks taken back from
    one replica's queue for an idle one. convicted: samples that failed because replicas died of them.
    busy_slot_seconds: of all replicas, those that have left included.
    """

    replicas: tuple[ReplicaStats, ...]
    waiting: int
    suspects: int
    asks: int
    answers: int
    retries: int
    hedges: int
    moved: int
    convicted: int
    wasted_work: float
    busy_slot_seconds: float
