"""How a worker asks its engine: through slots when it runs there too, through a pool when it is served elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from captioner.engines import ENGINES
from captioner.engines.pool import Pool, PoolStats, Priority
from captioner.engines.served import Served
from captioner.engines.slots import Slots
from captioner.errors import EngineUnavailable
from captioner.recipe import Pace, Recipe
from captioner.registry import build
from captioner.types import Engine
from pipelines.models import Access

log = logging.getLogger("recap")

SERVING = ("serving", "suspect")
DISTRUSTED_AT_MOST = 2  # a replica may come back so often after its captions went bad


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How much an engine is used. slots: requests it takes at once. busy_seconds: slot-seconds since it was entered."""

    slots: int
    busy_seconds: float
    asked: int
    pool: PoolStats | None = None


class Inside:
    """An engine that runs in the worker, asked by so many requests at once."""

    def __init__(self, engine: Engine, slots: int) -> None:
        self._slots = Slots(engine, slots)

    @property
    def engine(self) -> Engine:
        return self._slots

    def lane(self, priority: Priority) -> Engine:
        """First come, first served: its slots know no priorities."""
        return self._slots

    def room(self) -> int:
        """How many requests it wants to have."""
        return self._slots.slots

    def use(self) -> Use:
        return Use(slots=self._slots.slots, busy_seconds=self._slots.busy_seconds, asked=self._slots.asked)

    async def serve_at(self, urls: Iterable[str]) -> None:
        """There is nothing elsewhere."""

    async def distrust(self, name: str) -> None:
        """There is nobody else to ask."""

    async def __aenter__(self) -> Connection:
        await self._slots.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._slots.__aexit__(*exc)


@dataclass(slots=True, kw_only=True)
class Elsewhere:
    """A pool of replicas, which may come and go while it is asked, and while it is being entered.

    max_slots: requests of this worker at one replica at most, 0 for as many as the pool finds good.
    """

    served: Served
    access: Access
    max_slots: int = 0
    _urls: tuple[str, ...] = field(init=False)
    _pool: Pool = field(init=False)
    _distrusted: Counter[str] = field(default_factory=Counter)
    _away: set[str] = field(default_factory=set)  # distrusted: drained now, or for good
    _aside: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._urls = self.access.endpoints
        self._pool = Pool([self._replica(url) for url in self._urls], self.access.settings(self.max_slots))

    def _replica(self, url: str) -> Any:
        return self.served.replica(url, self.access.whose)

    @property
    def engine(self) -> Engine:
        return self._pool

    def lane(self, priority: Priority) -> Engine:
        """The pool, asked with that priority."""
        return self._pool.lane(priority)

    def room(self) -> int:
        """How many requests it wants to have."""
        return self._pool.capacity

    def use(self) -> Use:
        stats = self._pool.stats()
        return Use(
            slots=sum(each.slots or each.window for each in stats.replicas if each.state in SERVING),
            busy_seconds=stats.busy_slot_seconds,
            asked=stats.asks,
            pool=stats,
        )

    async def serve_at(self, urls: Iterable[str]) -> None:
        """Ask at these URLs from now on. Whoever has to leave does so aside: its last answers may take minutes."""
        self._urls = tuple(urls)
        if self._pool.is_open:
            self._do_aside(self._settle())

    async def _settle(self) -> None:
        await self._pool.update([self._replica(url) for url in self._urls if url not in self._away])

    async def distrust(self, name: str) -> None:
        """Give a replica whose captions went bad nothing more, and take it back once it proves itself anew.

        What goes bad a third time stays away for the rest of the run. The last one that serves stays in any case: with
        nobody to compare it with, only the band for all captions can judge it.
        """
        serving = {each.name for each in self._pool.stats().replicas if each.state in SERVING}
        if name in self._away or name not in serving or len(serving) < 2:
            return
        self._distrusted[name] += 1
        back = self._distrusted[name] <= DISTRUSTED_AT_MOST
        log.warning("replica distrusted: name=%s times=%d comes_back=%s", name, self._distrusted[name], back)
        self._away.add(name)
        self._do_aside(self._renew(name, back))

    async def _renew(self, name: str, back: bool) -> None:
        with suppress(KeyError):  # it has left meanwhile
            await self._pool.drain(name)
        if back:
            self._away.discard(name)
            await self._settle()

    def _do_aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def __aenter__(self) -> Connection:
        await self._pool.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._aside:
            task.cancel()
        await asyncio.gather(*self._aside, return_exceptions=True)
        await self._pool.__aexit__(*exc)


Connection = Inside | Elsewhere


def connection(recipe: Recipe, pace: Pace, access: Access | None) -> Connection:
    """The way to a recipe's engine; nothing is started or asked before it is entered."""
    engine: Any = build(ENGINES, recipe.engine.name, recipe.engine.settings)
    if access is None:
        return Inside(engine, pace.slots or engine.SLOTS)
    if not isinstance(engine, Served):
        raise EngineUnavailable(f"{recipe.engine.name} is not served by anybody")
    return Elsewhere(served=engine, access=access, max_slots=pace.slots)


def ahead(pace: Pace) -> int:
    """Samples beyond those at the engine: decoded, so that a freed slot never waits, or waiting for their journal."""
    return 4 * pace.decoders + 4 + pace.open_shards * pace.journal_every


def room(way: Connection, pace: Pace) -> Callable[[], int]:
    """How many samples a worker may hold open now."""
    return lambda: way.room() + ahead(pace)
