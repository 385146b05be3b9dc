"""The window: how many requests one replica is given at once, learnt from its answers alone."""

from __future__ import annotations

import bisect
import math

from captioner.engines.pool.climb import Climb
from captioner.engines.pool.knee import READ, Ask, knee

LOOKS_A_WINDOW = 2  # how often the knee is looked for while a window's worth of asks ends
CUT = 0.95  # by how much a 429 cuts below what was held: the refused were not held, so that alone is a cut already
BEYOND_SECONDS = 60.0  # how long a ceiling that a 429 showed is believed


class Window:
    """Begins wide, as an idle slot costs more than a queued request, and closes to the slots and a short queue.

    limit: requests that may be out at once. slots: how many the server seems to work on at once, None while unknown.
    The queue behind the slots (a fifth of them and 4) refills a slot at once and forgives a knee misread by 2 sigma.
    """

    def __init__(self, first: int, most: int) -> None:
        self.limit, self.slots = first, None if first > 1 else 1
        self._most = most
        self._asks: list[Ask] = []
        self._ended: list[float] = []
        self._widest = 0
        self._learning = first > 3
        self._climb = Climb()
        self._since_look = 0
        self._ceiling, self._ceiling_until, self._cut_at, self._answers = most, 0.0, -math.inf, 0

    def sent(self, now: float, size: float, outstanding: int) -> Ask:
        """Note an ask that was just sent; outstanding counts it."""
        ask = Ask(sent=now, size=size)
        if self._learning:
            self._asks.append(ask)
            self._widest = max(self._widest, outstanding)
        return ask

    def ended(self, ask: Ask, now: float, *, answered: bool, full: bool) -> None:
        """Note an ask's end. full: whether the window was full, so that its rate says what the replica can do."""
        ask.ended, ask.answered = now, answered
        if self._learning:
            bisect.insort(self._ended, now)
            self._since_look += 1
            if self._since_look * LOOKS_A_WINDOW >= self._widest:
                self._look(now)
        elif answered and (limit := self._climb.answered(now, ask.size, self.limit, full=full)):
            self._reset(limit, now)
            if self.slots is not None:
                # The climb measured rates, which say more than the knee once did.
                self.slots = min(max(self.slots, self._climb.held * 3 // 4), self.limit)
        if answered and full:
            self._grow_back(now)

    def busy(self, ask: Ask, now: float, outstanding: int) -> bool:
        """A 429: close to what the replica still holds. True where it came for an ask sent after the last cut."""
        again = ask.sent > self._cut_at
        self.limit = max(1, min(self.limit, outstanding))
        if again:
            self.limit = max(1, int(self.limit * CUT))
        self._cut_at, self._ceiling, self._ceiling_until = now, max(1, outstanding), now + BEYOND_SECONDS
        self._learning = False
        self._answers = 0
        return again

    def forget(self) -> None:
        """The replica died: what is not learnt yet begins anew, as its queue is gone."""
        self._asks, self._ended, self._widest, self._since_look = [], [], 0, 0

    def _look(self, now: float) -> None:
        self._since_look = 0
        slots = knee(self._asks, self._ended, now, self._widest)
        if slots is not None:
            self.slots = slots
            self._reset(math.ceil(slots * 1.2) + 4, now)
        if len(self._ended) >= READ * self._widest:
            self._learning = False
            self._climb.begin(now, self.limit)
            self._asks, self._ended = [], []

    def _reset(self, limit: int, now: float) -> None:
        ceiling = self._ceiling if now < self._ceiling_until else self._most
        self.limit = max(1, min(limit, ceiling, self._most))

    def _grow_back(self, now: float) -> None:
        """After a 429: one more for each window of answers, up to what the replica held; beyond it after a while."""
        if self._ceiling == self._most:
            return
        self._answers += 1
        if self._answers >= self.limit:
            self._answers = 0
            if self.limit < self._ceiling - 1:
                self.limit += 1
            elif now >= self._ceiling_until:
                self._ceiling = self._most
                self._climb.begin(now, self.limit)
