"""A run as its folder tells of it while it goes on: outcomes, rate, engines, and the latest pictures."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from captioner.errors import RecapError
from captioner.reasons import OUTCOMES
from pipelines.report import reason_of, rows_of
from pipelines.report_pictures import Candidates, Find, Shown, finds, from_input, thumbnails
from shards import commits, journal
from shards import plan as plans
from shards.ledger import Row
from shards.plan import Plan
from shards.status import Status, status
from shards.store import Store

log = logging.getLogger("recap")

LOOK_SECONDS = 2.0
RATE_SECONDS = 60.0  # over which the rate is measured
SHOWN = 24  # pictures on the page
NEW_SHARDS = 4  # committed since the last look, of which pictures are drawn
OPEN_SHARDS = 16  # whose journals are read at each look
FROM_A_SHARD = 8
LONGEST_TEXT = 1500


@dataclass(slots=True)
class RunView:
    """Looks at a run's folder every few seconds, and never writes there. seen: what the page shows, as JSON.

    follow: told at each look where the run's own engines serve, so that the service may ask them too.
    """

    store: Store
    seen: dict[str, Any] = field(default_factory=dict)
    pictures: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    follow: Callable[[tuple[str, ...]], Awaitable[None]] | None = None
    _cards: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=SHOWN))
    _read: deque[tuple[float, int]] = field(default_factory=deque)
    _known: set[str] = field(default_factory=set)  # shards whose pictures were drawn, once open and once committed
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> RunView:
        """Look once, so that an output without a run is refused at the start. Raises RecapError."""
        await self._look()
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look()
            except RecapError as error:  # a store that is away for a while, or a record that repair will see to
                log.warning("run not looked at: %s", error)

    async def _look(self) -> None:
        there, plan, open_rows = await asyncio.to_thread(self._gathered)
        found = await asyncio.to_thread(lambda: list(self._found(there, plan, open_rows)))
        # Those that were left out come after the captioned ones of their shard, and the page shows the last first.
        for shown in reversed(await thumbnails(found)) if found else ():
            self._show(shown)
        self.seen = self._told(there, open_rows)
        if self.follow is not None:
            await self.follow(_urls(there.engines))

    def _gathered(self) -> tuple[Status, Plan, dict[str, list[Row]]]:
        """The status, the plan, and what the journals of open shards have so far."""
        there, plan = status(self.store), plans.read(self.store)
        assert plan is not None, "status would have refused"
        journals = {
            shard: [entry.row for entry in journal.load(self.store, plan.run_id, shard).values()]
            for shard in there.open_shards[:OPEN_SHARDS]
        }
        return there, plan, journals

    def _found(self, there: Status, plan: Plan, open_rows: dict[str, list[Row]]) -> Iterator[Find]:
        """Pictures that the page has not: of shards committed since the last look, and of what just began."""
        inputs = {each.shard: each for each in plan.inputs}
        for shard, rows in open_rows.items():
            if len(rows) >= FROM_A_SHARD and f"open {shard}" not in self._known:
                self._known.add(f"open {shard}")
                # The first ones of a shard: its input is read no further than they are.
                yield from from_input(plan, inputs.get(shard), sorted(rows, key=lambda row: row.place)[:FROM_A_SHARD])
        new = sorted(commits.committed(self.store) - self._known)
        self._known.update(new)
        records = {shard: record for shard in new[-NEW_SHARDS:] if (record := commits.read(self.store, shard))}
        candidates = Candidates(most=SHOWN)
        for number, record in enumerate(records.values()):
            candidates.add(number, rows_of(self.store, record))
        shown = {card["id"] for card in self._cards}
        yield from finds(self.store, plan, records, [row for row in candidates.chosen() if _id(row) not in shown])

    def _show(self, shown: Shown) -> None:
        row, name = shown.row, _id(shown.row)
        reason = reason_of(row.reason) if row.reason else None
        self._cards.appendleft(
            {
                "id": name,
                "key": row.key,
                "shard": row.source_shard,
                "outcome": row.outcome,
                "reason": row.reason,
                "meaning": reason.meaning if reason else None,
                "remedy": reason.remedy if reason else None,
                "caption": (row.caption or "")[:LONGEST_TEXT],
                "before": (row.original_caption or "")[:LONGEST_TEXT],
                "width": row.width,
                "height": row.height,
                "picture": shown.thumbnail is not None,
                "missing": shown.missing,
            }
        )
        if shown.thumbnail is not None:
            self.pictures[name] = shown.thumbnail.jpeg
        kept = {card["id"] for card in self._cards}
        for gone in [each for each in self.pictures if each not in kept]:
            del self.pictures[gone]

    def _told(self, there: Status, open_rows: dict[str, list[Row]]) -> dict[str, Any]:
        counts: Counter[str] = Counter(there.totals["counts"])
        reasons: Counter[str] = Counter(there.totals["reasons"])
        for row in (row for rows in open_rows.values() for row in rows):
            counts.update([row.outcome])
            reasons.update([row.reason] if row.reason else [])
        read = sum(counts[name] for name in OUTCOMES)
        return {
            "time": int(time.time()),
            "run_id": there.run_id,
            "source": there.source,
            "engine": there.engine,
            "model": there.model,
            "shards": there.shards,
            "committed": there.committed,
            "open": len(there.open_shards),
            "complete": there.complete,
            "read": read,
            "counts": {name: counts[name] for name in OUTCOMES},
            "reasons": list(_reasons(reasons)),
            "rate": self._rate(read),
            "engines": there.engines,
            "cards": list(self._cards),
        }

    def _rate(self, read: int) -> float:
        """Samples a second over the last minute; what was read before the first look is no rate."""
        now = time.monotonic()
        self._read.append((now, read))
        while self._read[0][0] < now - RATE_SECONDS:
            self._read.popleft()
        (began, first), (ended, last) = self._read[0], self._read[-1]
        return round(max(0, last - first) / (ended - began), 2) if ended > began else 0.0


def _urls(engines: dict[str, Any] | None) -> tuple[str, ...]:
    """Where the servers that a run keeps are serving, as it last told."""
    hosts = engines["hosts"] if engines is not None else []
    return tuple(sorted(each["url"] for each in hosts if each["state"] == "serving"))


def _id(row: Row) -> str:
    return hashlib.sha256("\0".join([row.source_shard, *map(str, row.place)]).encode()).hexdigest()[:24]


def _reasons(reasons: Counter[str]) -> Iterable[dict[str, Any]]:
    for name, count in reasons.most_common():
        reason = reason_of(name)
        yield {"reason": name, "count": count, "outcome": reason.outcome, "meaning": reason.meaning}
