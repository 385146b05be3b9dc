"""A run as its folder tells of it while it goes on: outcomes, rate, engines, and the latest pictures."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from captioner.errors import CorruptState, RecapError
from captioner.reasons import OUTCOMES
from captioner.types import FrameBudget
from pipelines.report import reason_of, rows_of
from pipelines.report_pictures import THUMBNAIL, Candidates, Find, Shown, finds, frames_of, from_input, thumbnails
from serving.open_shards import FIRST_ROWS, OpenShards
from shards import commits
from shards.commits import Record
from shards.ledger import Row
from shards.plan import Plan
from shards.status import Status, Tally
from shards.store import Store

log = logging.getLogger("recap")

LOOK_SECONDS = 2.0
LOOK_SHARE = 4  # and at least so many times what a look took: to list a hundred thousand records takes seconds
RATE_SECONDS = 60.0  # over which the rate is measured
SHOWN = 24  # pictures on the page
NEW_SHARDS = 4  # begun, and committed, since the last look, of which pictures are drawn
CLIP_FRAMES = 3  # looked at of a clip, to show the middle one
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
    _tally: Tally = field(init=False)
    _open: OpenShards = field(default_factory=OpenShards)
    _cards: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=SHOWN))
    _read: deque[tuple[float, int]] = field(default_factory=deque)
    _begun: set[str] = field(default_factory=set)  # open shards whose first pictures were drawn
    _task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._tally = Tally(self.store)

    async def __aenter__(self) -> RunView:
        """Look once, so that an output without a run is refused at the start. Raises RecapError."""
        await self._look()
        self._task = asyncio.create_task(self._watch())
        self._task.add_done_callback(self._ended)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        said, took = "", 0.0
        while True:
            await asyncio.sleep(max(LOOK_SECONDS, LOOK_SHARE * took))
            began = time.monotonic()
            try:
                await self._look()
                said = ""
            except (RecapError, OSError) as error:  # a store that is away, a record that repair will see to, no files
                self.seen |= {"missed": True}
                if str(error) != said:
                    log.warning("run not looked at: %s", error)
                said = str(error)
            took = time.monotonic() - began

    def _ended(self, task: asyncio.Task[None]) -> None:
        """What is shown from now on is old, and whoever looks at it is told."""
        if not task.cancelled():
            self.seen |= {"missed": True}
            log.error("run not looked at any more", exc_info=task.exception())

    async def _look(self) -> None:
        there, plan = await asyncio.to_thread(self._gathered)
        if there.run_id != self.seen.get("run_id", there.run_id):  # the folder was emptied and has another run
            self._forget()
        found = await asyncio.to_thread(lambda: list(self._found(plan)))
        # Those that were left out come after the captioned ones of their shard, and the page shows the last first.
        for shown in reversed(await thumbnails(found, _frames(plan))) if found else ():
            self._show(shown)
        self.seen = self._told(there)
        if self.follow is not None:
            await self.follow(_urls(there.engines))

    def _forget(self) -> None:
        for each in (self._open, self._cards, self._read, self._begun, self.pictures):
            each.clear()

    def _gathered(self) -> tuple[Status, Plan]:
        there, plan = self._tally.look(), self._tally.plan
        assert plan is not None, "the tally would have refused"
        return there, plan

    def _found(self, plan: Plan) -> Iterator[Find]:
        """Pictures that the page has not: of shards that just began, and of those committed since the last look."""
        self._open.look(self.store, plan.run_id, self._tally.segments)
        self._begun &= self._open.keys()
        full = [shard for shard, each in self._open.items() if len(each.first) == FIRST_ROWS]
        inputs = {each.shard: each for each in plan.inputs}
        for shard in sorted(set(full) - self._begun)[:NEW_SHARDS]:
            self._begun.add(shard)
            # The first ones of a shard: its input is read no further than they are.
            yield from from_input(plan, inputs.get(shard), self._open[shard].first)
        new = sorted(self._tally.fresh)[-NEW_SHARDS:]
        records = {shard: record for shard in new if (record := commits.read(self.store, shard))}
        candidates = Candidates(most=SHOWN)
        for number, record in enumerate(records.values()):
            candidates.add(number, self._rows(record))
        shown = {card["id"] for card in self._cards}
        yield from finds(self.store, plan, records, [row for row in candidates.chosen() if _id(row) not in shown])

    def _rows(self, record: Record) -> list[Row]:
        """A ledger's rows, none of one that is lost or damaged: its shard counts, and `verify` says what is wrong."""
        try:
            return rows_of(self.store, record)
        except (FileNotFoundError, CorruptState) as error:
            log.warning("no pictures shown of a shard: %s", error)
            return []

    def _show(self, shown: Shown) -> None:
        row, name = shown.row, _id(shown.row)
        reason = reason_of(row.reason) if row.reason else None
        second, picture = shown.strip[len(shown.strip) // 2] if shown.strip else (None, shown.thumbnail)
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
                "picture": picture is not None,
                "second": second,
                "missing": shown.missing,
            }
        )
        if picture is not None:
            self.pictures[name] = picture.jpeg
        kept = {card["id"] for card in self._cards}
        for gone in [each for each in self.pictures if each not in kept]:
            del self.pictures[gone]

    def _told(self, there: Status) -> dict[str, Any]:
        counts: Counter[str] = Counter(there.totals["counts"])
        reasons: Counter[str] = Counter(there.totals["reasons"])
        for each in self._open.values():
            counts.update(each.outcomes)
            reasons.update(each.reasons)
        read = sum(counts[name] for name in OUTCOMES)
        return {
            "time": int(time.time()),
            "missed": False,  # whether later looks have failed
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


def _frames(plan: Plan) -> FrameBudget | None:
    """How its clips are looked at for the page, None for a run over pictures."""
    rule = frames_of(plan)
    return None if rule is None else replace(rule, pixels=THUMBNAIL, max_frames=CLIP_FRAMES)


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
