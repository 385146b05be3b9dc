"""The gate: bounds how many samples and bytes one worker holds open; the oldest shard goes first."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable


class Gate:
    """Samples enter before they are judged and leave after. An empty gate takes any sample, whatever its size.

    room: how many samples may be inside now. It is asked anew at each turn, as an engine's windows grow and shrink.
    A shard takes a turn once and enters its samples with it; among those that wait the lowest turn enters first. So
    one shard gets the whole engine while the next fills what it leaves over, and their ends do not fall together: with
    equal shares both drained at once, and 256 slots stood idle for 3 s of every 31 (benchmarks/bench_line.py).
    """

    def __init__(self, room: Callable[[], int], max_bytes: int) -> None:
        self._room, self._max_bytes = room, max_bytes
        self.samples, self.bytes = 0, 0
        self._turns = itertools.count()
        self._waiting: list[tuple[int, int, int, asyncio.Future[None]]] = []
        self._arrivals = itertools.count()

    def turn(self) -> int:
        """The next turn; who took one earlier goes first."""
        return next(self._turns)

    async def enter(self, size: int, turn: int = 0) -> None:
        """Wait until there is room for one more sample of so many bytes and nobody with a lower turn waits."""
        if not self._waiting and self._fits(size):
            self._take(size)
            return
        entered = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (turn, next(self._arrivals), size, entered))
        self._let_in()
        try:
            await entered
        except asyncio.CancelledError:
            if entered.cancelled():
                self._let_in()  # it may have been the one that did not fit
            else:  # it had been let in already
                self.leave(size)
            raise

    def leave(self, size: int) -> None:
        """Give the room back."""
        self.samples, self.bytes = self.samples - 1, self.bytes - size
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and (self._waiting[0][3].done() or self._fits(self._waiting[0][2])):
            _, _, size, entered = heapq.heappop(self._waiting)
            if not entered.done():
                self._take(size)
                entered.set_result(None)

    def _take(self, size: int) -> None:
        self.samples, self.bytes = self.samples + 1, self.bytes + size

    def _fits(self, size: int) -> bool:
        return not self.samples or (self.samples < self._room() and self.bytes + size <= self._max_bytes)
