"""How a pool behaves: every threshold with its unit; nothing here changes what a caption says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """Operational settings, never hashed into a run.

    first_window, max_window: requests at one replica at once, before anything was measured and at most.
    max_bytes: of pictures in flight over all replicas. deadline_seconds: of one ask, from sending to the whole answer.
    tries: asks of one sample that may end in an error; retry_share, hedge_share: of all asks that may be retries after
    errors, and of all work that may be asked twice. start_seconds: how long callers wait while no replica serves.
    probe_seconds: at most between two proofs of a replica that does not serve, a quarter more by chance.
    prove_seconds: for one proof of a replica at start; canary_seconds: for the proof of a silent one.
    silent_seconds: the least and the most silence before a canary is sent; with canary_seconds it stays under 30 s.
    errors_in_row, nans_in_row: from different samples on one replica that eject it.
    deaths_allowed: replicas that may die of one sample before it fails.
    """

    first_window: int = 128
    max_window: int = 1024
    max_bytes: int = 128 << 20
    deadline_seconds: float = 600.0
    tries: int = 3
    retry_share: float = 0.10
    hedge_share: float = 0.05
    start_seconds: float = 600.0
    probe_seconds: float = 15.0
    prove_seconds: float = 60.0
    canary_seconds: float = 10.0
    silent_seconds: tuple[float, float] = (2.0, 15.0)
    errors_in_row: int = 8
    nans_in_row: int = 3
    deaths_allowed: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.first_window <= self.max_window:
            raise ValueError(f"windows of {self.first_window} to {self.max_window}: at least 1, the first the smaller")
        if self.tries < 1 or self.deadline_seconds <= 0:
            raise ValueError("tries is at least 1 and deadline_seconds above 0")
