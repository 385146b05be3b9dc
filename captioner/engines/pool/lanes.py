"""The one queue of a pool: interactive before batch, what failed before what is new, suspects apart."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from captioner.engines.pool.flight import Item, Priority
from captioner.engines.pool.suspects import order


class Lanes:
    """Items that wait. Those whose callers left, or that a late answer served, are skipped when their turn comes."""

    def __init__(self) -> None:
        self._lanes: dict[Priority, deque[Item]] = {"interactive": deque(), "batch": deque()}
        self.retries: deque[Item] = deque()
        self.suspects: list[Item] = []

    def add(self, item: Item) -> None:
        """At the end of its lane."""
        self._lanes[item.priority].append(item)

    def put_back(self, item: Item) -> None:
        """At the front of its lane: it was there before those that wait."""
        self._lanes[item.priority].appendleft(item)

    def suspect(self, items: Iterable[Item]) -> None:
        """Items that were in flight on a replica that died."""
        self.suspects = order([*self.suspects, *items])

    def next(self) -> Item | None:
        """Who is first of those that are neither retries nor suspects, still in its lane."""
        for lane in self._lanes.values():
            while lane and lane[0].done:
                lane.popleft()
            if lane:
                return lane[0]
        return None

    def pop(self, item: Item) -> None:
        """Take out what `next` gave."""
        self._lanes[item.priority].popleft()

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values())) + len(self.retries) + len(self.suspects)

    def drop_all(self) -> Iterator[Item]:
        """Empty the lanes."""
        for lane in (*self._lanes.values(), self.retries, self.suspects):
            yield from lane
            lane.clear()
