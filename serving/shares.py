"""Shares: what one tenant may take of the service: requests a minute, requests at once, pixels a day."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from captioner.errors import EngineUnavailable, OutOfService
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


@dataclass(slots=True, kw_only=True)
class Booking:
    """Pixels of one picture or clip in its tenant's books. looked_at: whether a decoder has said how many they are."""

    pixels: int
    looked_at: bool = False

    def correct(self, pixels: int) -> None:
        """Book what was looked at instead."""
        self.pixels, self.looked_at = pixels, True


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

    @contextmanager
    def booking(self, key: Key, most: int) -> Iterator[Booking]:
        """Book the most pixels that may be looked at, before they are; afterwards as many as were.

        What ends by an error before it was looked at is booked as none, and so is what no engine was there for.
        Raises Problem pixels_used_up, for many may have been let in before the first of them was booked.
        """
        booking = Booking(pixels=most)
        if not (key.megapixels_a_day and most):
            yield booking
            return
        taken = self._of(key)
        self._look(key, taken)
        taken.pixels += most
        try:
            yield booking
        except BaseException as error:
            if not booking.looked_at or isinstance(error, EngineUnavailable | OutOfService):
                booking.pixels = 0
            raise
        finally:
            taken = self._of(key)
            taken.pixels = max(0, taken.pixels + booking.pixels - most)  # a new day may have begun with none

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
