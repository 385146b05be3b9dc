"""A lane: one endless stream of packed rows, the same on every machine, that goes on from any row of it.

A training step takes one row of every lane. Ranks share the lanes out among them, so what a step learns from does not
depend on how many ranks there are, and each rank reads only its own lanes' shards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from captioner.errors import Refused
from trainer.data.entries import Entry, Feed, Part, Planned, Reader, Unfit
from trainer.data.order import Spot, Stretch, blocks, next_feed, shuffled, stretches
from trainer.data.packing import packed

Position = dict[str, Any]  # JSON
AHEAD = 16  # entries of a feed that are measured before they are wanted, where an Executor is there for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What decides the order. budget: tokens of a row. window: rows that are packed together. block: parts whose
    samples are shuffled together."""

    lanes: int
    budget: int
    seed: int = 0
    window: int = 16
    block: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A planned sample of a window, and for how many windows it has found no row."""

    spot: Spot
    planned: Planned
    waited: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Samples whose tokens fit a row. position: of the lane behind this row."""

    samples: tuple[Planned, ...]
    position: Position

    @property
    def tokens(self) -> int:
        return sum(each.tokens for each in self.samples)


class Cursor:
    """Where a lane is in one feed. threads: they measure what comes next."""

    def __init__(
        self, feed: int, parts: Sequence[Part], lane: int, order: Order, at: Sequence[int], threads: Executor | None
    ) -> None:
        self.feed, self._parts, self._lane, self._order, self._threads = feed, parts, lane, order, threads
        self.epoch, self.block, self.offset = at
        self._ahead = 0
        self._epoch: tuple[int, list[list[Stretch]]] | None = None
        self._entries: tuple[tuple[int, int], list[Entry], list[int]] | None = None

    def blocks(self, epoch: int) -> list[list[Stretch]]:
        if self._epoch is None or self._epoch[0] != epoch:
            sizes, order = [part.samples for part in self._parts], self._order
            run = stretches(sizes, self._lane, order.lanes, order.seed, self.feed, epoch)
            self._epoch = epoch, blocks(run, order.block)
        return self._epoch[1]

    def entries(self, epoch: int, block: int) -> list[Entry]:
        """A block's entries as stored."""
        run = self.blocks(epoch)[block]
        return [entry for each in run for entry in self._parts[each.part].entries(each.start, each.stop)]

    def next(self) -> tuple[Spot, Entry]:
        while self.block < len(self.blocks(self.epoch)):
            entries, places = self._open()
            if self.offset < len(places):
                index = places[self.offset]
                self._measure(entries, places)
                self.offset += 1
                return Spot(feed=self.feed, epoch=self.epoch, block=self.block, index=index), entries[index]
            self.block, self.offset = self.block + 1, 0
        self.epoch, self.block, self.offset = self.epoch + 1, 0, 0
        return self.next()

    def _open(self) -> tuple[list[Entry], list[int]]:
        if self._entries is None or self._entries[0] != (self.epoch, self.block):
            entries = self.entries(self.epoch, self.block)
            places = shuffled(len(entries), self._order.seed, self.feed, self.epoch, self._lane, self.block)
            self._entries = (self.epoch, self.block), entries, places
            self._ahead = self.offset
        return self._entries[1], self._entries[2]

    def _measure(self, entries: list[Entry], places: list[int]) -> None:
        """Have the entries from here on measured, each once."""
        if self._threads is None:
            return
        for index in places[self._ahead : self.offset + AHEAD]:
            entries[index] = entries[index].measured_by(self._threads)
        self._ahead = self.offset + AHEAD


class Lane:
    """Iterate for rows; each says where to go on behind it. Raises Refused where a feed has nothing that fits."""

    def __init__(
        self,
        number: int,
        feeds: Sequence[Feed],
        reader: Reader,
        order: Order,
        position: Position | None = None,
        threads: Executor | None = None,
    ) -> None:
        self._number, self._feeds, self._reader, self._order = number, feeds, reader, order
        at = position or {"window": 0, "feeds": [[0, 0, 0]] * len(feeds), "taken": [0] * len(feeds), "gone": 0}
        self._window, self._gone, self._taken = at["window"], at["gone"], list(at["taken"])
        self._unfit = Counter[str](at.get("unfit", {}))
        self._cursors = [
            Cursor(index, feed.parts, number, order, spot, threads)
            for index, (feed, spot) in enumerate(zip(feeds, at["feeds"], strict=True))
        ]
        self._carried = self._carry(at.get("carried", []))

    def __iter__(self) -> Iterator[Row]:
        while True:
            before = self._position()
            window = self._fill()
            lengths, waited = [each.planned.tokens for each in window], [each.waited for each in window]
            rows, left = packed(lengths, waited, self._order.budget)
            for count, at in enumerate(shuffled(len(rows), self._order.seed, self._number, self._window)):
                if count >= self._gone:
                    samples = tuple(window[index].planned for index in rows[at])
                    gone = {"gone": count + 1, "left_out": dict(self._unfit)}
                    yield Row(samples=samples, position=before | gone)
            self._carried = [replace(window[index], waited=window[index].waited + 1) for index in left]
            self._window, self._gone = self._window + 1, 0

    def _position(self) -> Position:
        """Of a window before it is filled: from here it comes out the same again. `left_out` will tell of its end."""
        return {
            "window": self._window,
            "feeds": [[each.epoch, each.block, each.offset] for each in self._cursors],
            "taken": list(self._taken),
            "carried": [
                [s.feed, s.epoch, s.block, s.index, each.waited] for each in self._carried for s in [each.spot]
            ],
            "unfit": dict(self._unfit),
        }

    def _carry(self, told: Sequence[Sequence[int]]) -> list[Waiting]:
        """The samples that waited, read again. Raises Refused for one that cannot be, any more."""
        opened = {at: self._cursors[at[0]].entries(at[1], at[2]) for at in {tuple(each[:3]) for each in told}}
        waiting = []
        for feed, epoch, block, index, waited in told:
            entry = opened[feed, epoch, block][index]
            try:
                planned = self._reader.plan(entry)
            except Unfit as unfit:
                raise Refused(
                    f"{self._feeds[feed].name}: {entry.key} was read before, and is {unfit.reason} now"
                ) from unfit
            spot = Spot(feed=feed, epoch=epoch, block=block, index=index)
            waiting.append(Waiting(spot=spot, planned=planned, waited=waited))
        return waiting

    def _fill(self) -> list[Waiting]:
        window, tokens = list(self._carried), sum(each.planned.tokens for each in self._carried)
        while tokens < self._order.window * self._order.budget:
            feed = next_feed([each.weight for each in self._feeds], self._taken)
            window.append(self._next(feed))
            tokens += window[-1].planned.tokens
            self._taken[feed] += 1
        return window

    def _next(self, feed: int) -> Waiting:
        """The feed's next sample that fits."""
        cursor = self._cursors[feed]
        last = cursor.epoch + 2  # one whole epoch at least
        while cursor.epoch < last:
            spot, entry = cursor.next()
            try:
                planned = self._reader.plan(entry)
                if planned.tokens > self._order.budget:
                    raise Unfit("too_long")
                return Waiting(spot=spot, planned=planned)
            except Unfit as unfit:
                self._unfit[unfit.reason] += 1
        raise Refused(f"{self._feeds[feed].name} has no sample that fits; left out so far: {dict(self._unfit)}")
