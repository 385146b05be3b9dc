"""Admission: so many requests are worked on, so many wait, each key in its turn; who cannot be served hears at once."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from serving.problems import Problem

MEMORY = 32  # answers over which the seconds of one are averaged
MOST_RETRY_SECONDS = 60.0
UNASKED = "it passed while the request waited; no engine was asked"


class Admission:
    """room: how many may be worked on now; it is asked anew each time, as an engine's windows grow and shrink.

    queue: how many may wait behind them. Tenants that wait take turns, so that none starves behind another.
    """

    def __init__(self, room: Callable[[], int], queue: int) -> None:
        self._room, self.queue = room, queue
        self._room_seen = 1
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.working = 0
        self.waiting = 0
        self.seconds = 0.0
        self._answers = 0
        self.finished = 0

    @property
    def full(self) -> bool:
        """Whether whoever comes now is refused."""
        return self.waiting >= self.queue and self.working >= self._places()

    @property
    def full_seen(self) -> bool:
        """The same by the room as it was last, for other threads."""
        return self.waiting >= self.queue and self.working >= self._room_seen

    def _places(self) -> int:
        self._room_seen = self._room()
        return self._room_seen

    def expected_wait(self) -> float:
        """Seconds that who comes now will wait, by the answers of late; 0 while nobody knows."""
        room = max(1, self._places())
        return max(0, self.waiting + self.working - room + 1) * self.seconds / room

    def look(self, deadline: float) -> None:
        """Refuse now what would be refused later. deadline: in the loop's seconds. Raises Problem overloaded."""
        wait = self.expected_wait()
        if self.full:
            raise Problem("overloaded", retry_after=min(MOST_RETRY_SECONDS, math.ceil(wait)))
        if asyncio.get_running_loop().time() + wait > deadline:
            words = "so many wait that the deadline cannot be met"
            raise Problem("overloaded", words, retry_after=min(MOST_RETRY_SECONDS, math.ceil(wait)))

    @asynccontextmanager
    async def enter(self, tenant: str, deadline: float) -> AsyncIterator[float]:
        """Wait for a place, at most until the deadline; gives the seconds waited.

        Raises Problem overloaded, or deadline_exceeded when it passed while waiting: then nobody was asked.
        """
        loop = asyncio.get_running_loop()
        came = loop.time()
        self.look(deadline)
        self._let_in()  # the room may have grown since the last one left
        if self.waiting or self.working >= self._places():
            await self._wait(tenant, deadline)
        else:
            self.working += 1
        began = loop.time()
        try:
            yield began - came
            self._learn(loop.time() - began)
        finally:
            self.working -= 1
            self.finished += 1
            self._let_in()

    async def _wait(self, tenant: str, deadline: float) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(tenant, deque()).append(place)
        self.waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():  # let in just now: the place goes to the next
                self.working -= 1
                self._let_in()
            elif tenant in self._lines and place in self._lines[tenant]:
                self._lines[tenant].remove(place)
                if not self._lines[tenant]:
                    del self._lines[tenant]
                self.waiting -= 1
            if isinstance(error, TimeoutError):
                raise Problem("deadline_exceeded", UNASKED) from None
            raise

    def _let_in(self) -> None:
        while self.waiting and self.working < self._places():
            tenant, line = self._lines.popitem(last=False)
            place = line.popleft()
            if line:
                self._lines[tenant] = line  # at the end: the others come first
            self.waiting -= 1
            if not place.done():
                self.working += 1
                place.set_result(None)

    def _learn(self, seconds: float) -> None:
        self._answers = min(self._answers + 1, MEMORY)
        self.seconds += (seconds - self.seconds) / self._answers
