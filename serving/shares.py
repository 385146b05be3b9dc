"""Shares: what one tenant may take of the service: requests a minute, requests at once, pixels a day."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from serving.keys import Key
from serving.problems import Problem

DAY = 86_400.0


@dataclass(slots=True)
class _Taken:
    """Of one tenant. tokens: requests that it may send now. pixels: since the day began."""

    tokens: float
    at: float
    under_way: int = 0
    day: int = 0
    pixels: int = 0


@dataclass(slots=True)
class Shares:
    """The books of all tenants. clock: seconds that only go up."""

    clock: Callable[[], float] = time.monotonic
    _taken: dict[str, _Taken] = field(default_factory=dict)

    @contextmanager
    def take(self, key: Key) -> Iterator[None]:
        """One request of this key, for as long as it is under way.

        Raises Problem: rate_limited, too_many_at_once or pixels_used_up.
        """
        if not (key.a_minute or key.at_once or key.megapixels_a_day):
            yield
            return
        taken = self._of(key)
        if key.at_once and taken.under_way >= key.at_once:
            raise Problem("too_many_at_once", f"{key.at_once} may be under way at once", retry_after=1)
        self._look(key, taken)
        if key.a_minute:
            if taken.tokens < 1:
                raise Problem("rate_limited", retry_after=1 + (1 - taken.tokens) * 60 / key.a_minute)
            taken.tokens -= 1
        taken.under_way += 1
        try:
            yield
        finally:
            taken.under_way -= 1

    def pixels(self, key: Key, count: int) -> None:
        """Book pixels before they are decoded. Raises Problem pixels_used_up, for many may have been let in before the
        first of them was booked."""
        if key.megapixels_a_day and count:
            taken = self._of(key)
            self._look(key, taken)
            taken.pixels += count

    def corrected(self, key: Key, by: int) -> None:
        """Book more or fewer pixels than were booked before, once it is known how many they were."""
        if key.megapixels_a_day:
            self._of(key).pixels += by

    def _look(self, key: Key, taken: _Taken) -> None:
        if key.megapixels_a_day and taken.pixels >= key.megapixels_a_day * 1_000_000:
            raise Problem("pixels_used_up", retry_after=DAY - self.clock() % DAY)

    def _of(self, key: Key) -> _Taken:
        """The tenant's books as of now: a minute's requests may come at once, and then at their rate."""
        now = self.clock()
        taken = self._taken.setdefault(key.tenant, _Taken(tokens=math.inf, at=now))
        if key.a_minute:  # a key without a rate leaves the others' alone
            taken.tokens = min(float(key.a_minute), taken.tokens + (now - taken.at) * key.a_minute / 60)
            taken.at = now
        if taken.day != (day := int(now // DAY)):
            taken.day, taken.pixels = day, 0
        return taken
