"""Hill climbing: a window is widened while that makes a replica faster, and narrowed while that does not slow it."""

from __future__ import annotations

from typing import Literal

WIDER, NARROWER = 1.5, 0.8
WORTH = 1.06  # a window half as wide again must bring 6 %: an elasticity of .14
HARMLESS = 0.96
WINDOWS = 6  # answers that make one rate, in windows: log-sigma .6 and 64 slots give 3.4 %
REST = 64  # at most so many rates between two trials: a trial downwards may cost a fifth of one rate

Trial = Literal["rest", "wider", "narrower"]


class Climb:
    """Rates are work a second over so many answers while the window is full; some are skipped after a change."""

    def __init__(self) -> None:
        self.held = 0
        self._trial: Trial = "rest"
        self._next: Trial = "wider"
        self._rests, self._rested = 1, 0
        self._rate = 0.0
        self._skip = self._count = 0
        self._work, self._since = 0.0, 0.0

    def begin(self, now: float, limit: int) -> None:
        """Measure from here."""
        self.held, self._trial, self._rested = limit, "rest", 0
        self._clear(now, limit)

    def answered(self, now: float, work: float, limit: int, *, full: bool) -> int | None:
        """Count an answer. A new window where it is time to try one, to keep it or to go back."""
        if not full:
            self._clear(now, 0)
            return None
        if self._skip:
            self._skip -= 1
            self._since = now
            return None
        self._count, self._work = self._count + 1, self._work + work
        if self._count < WINDOWS * limit or now <= self._since:
            return None
        rate = self._work / (now - self._since)
        chosen = self._judge(rate, limit)
        self._clear(now, (chosen or limit) // 2 if chosen else 0)
        return chosen

    def _judge(self, rate: float, limit: int) -> int | None:
        if self._trial == "rest":
            self._rate, self.held, self._rested = rate, limit, self._rested + 1
            if self._rested < self._rests:
                return None
            self._trial, self._rested = self._next, 0
            return max(1, round(limit * (WIDER if self._trial == "wider" else NARROWER)))
        kept = rate >= self._rate * (WORTH if self._trial == "wider" else HARMLESS)
        if kept:
            self._rests, self._rate, self.held = 1, rate, limit
        else:
            self._rests = min(REST, 2 * self._rests)
            self._next = "narrower" if self._trial == "wider" else "wider"
        self._trial = "rest"
        return self.held

    def _clear(self, now: float, skip: int) -> None:
        self._count, self._work, self._since, self._skip = 0, 0.0, now, skip
