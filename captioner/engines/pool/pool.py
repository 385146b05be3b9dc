"""Several replicas as one engine: least work first, windows that fit themselves, and faults that lose no sample."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from captioner.engines.pool.flight import Item, Priority
from captioner.engines.pool.keeper import Keeper
from captioner.engines.pool.member import Member
from captioner.engines.pool.settings import PoolSettings
from captioner.engines.pool.stats import PoolStats
from captioner.errors import EngineUnavailable
from captioner.types import Caption, CaptionRequest, Replica

AHEAD = 0.25  # requests that wait here, as a share of the windows, so that a freed slot never waits for a decoder
DRAIN_SECONDS = 0.05


class Pool:
    """An Engine over replicas. Entering waits until one of them serves; the others join as they come up.

    Raises EngineUnavailable where none serves within start_seconds, Refused where one never will: ModelChanged where it
    serves another model.
    """

    def __init__(self, replicas: Sequence[Replica], settings: PoolSettings | None = None) -> None:
        self._settings = settings or PoolSettings()
        self._replicas = tuple(replicas)
        self._keeper: Keeper | None = None
        self._left_busy = 0.0  # slot-seconds of replicas that have left

    async def __aenter__(self) -> Pool:
        self._keeper = keeper = Keeper(self._settings)
        keeper.begin()
        try:
            for replica in self._replicas:
                self._join(replica)
            await keeper.known.wait()
            self._check()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        keeper = self._open
        keeper.dispatch.stop(EngineUnavailable("the pool was closed"))
        await keeper.close()
        await asyncio.gather(*keeper.dispatch.tasks, return_exceptions=True)
        for member in keeper.dispatch.members:
            await member.replica.close()
        self._keeper = None

    async def caption(self, request: CaptionRequest, priority: Priority = "batch") -> Caption:
        """The first good answer of any replica; its seconds are the engine's, the wait in the pool not counted.

        Raises RequestRefused, EngineBroke, EngineTimeout or BadEngineResponse where this request cannot be answered,
        EngineUnavailable where no replica served for start_seconds, ModelChanged where one serves another model.
        """
        dispatch = self._open.dispatch
        item = Item(
            request=request,
            priority=priority,
            work=dispatch.load.of(request),
            size=sum(len(picture.jpeg) for picture in request.images),
            answer=asyncio.get_running_loop().create_future(),
        )
        dispatch.submit(item)
        try:
            return await item.answer
        except asyncio.CancelledError:
            item.answer.cancel()
            dispatch.abandon(item)
            raise

    def lane(self, priority: Priority) -> Lane:
        """This pool as an engine whose every request has that priority."""
        return Lane(self, priority)

    @property
    def capacity(self) -> int:
        """How many requests it wants to have at once: the windows of what serves, and some that wait."""
        windows = sum(each.window.limit for each in self._open.dispatch.members if each.state in ("serving", "suspect"))
        return max(1, windows + int(AHEAD * windows))

    async def update(self, replicas: Sequence[Replica]) -> None:
        """Serve with these from now on: new names join once they are proved, missing ones are drained.

        What drains is not there any more: a name that is wanted again meanwhile joins anew, at once.
        """
        there = {each.name: each for each in self._open.dispatch.members if each.state != "draining"}
        for replica in replicas:
            if replica.name not in there:
                self._join(replica)
        leaving = [there[name] for name in there.keys() - {each.name for each in replicas}]
        for member in leaving:  # at once: who is told the same twice finds them gone
            member.state = "draining"
        await asyncio.gather(*map(self._emptied, leaving))

    async def drain(self, name: str) -> None:
        """Send a replica nothing more, wait for what it has, and let go of it. Raises KeyError for an unknown name."""
        members = self._open.dispatch.members
        member = next((each for each in members if each.name == name and each.state != "draining"), None)
        if member is None:
            raise KeyError(f"no replica {name!r} here; there is {', '.join(each.name for each in members)}")
        member.state = "draining"
        await self._emptied(member)

    async def _emptied(self, member: Member) -> None:
        members = self._open.dispatch.members
        while member.flights:
            await asyncio.sleep(DRAIN_SECONDS)
        if member in members:
            members.remove(member)
            self._left_busy += member.stats(asyncio.get_running_loop().time()).busy_slot_seconds
            await member.replica.close()

    def stats(self) -> PoolStats:
        """What it is doing now; cheap enough to be asked every second."""
        dispatch, now = self._open.dispatch, asyncio.get_running_loop().time()
        replicas = tuple(each.stats(now) for each in dispatch.members)
        return PoolStats(
            replicas=replicas,
            waiting=len(dispatch.lanes),
            suspects=len(dispatch.lanes.suspects),
            asks=dispatch.asks,
            answers=dispatch.answers,
            retries=dispatch.retries,
            hedges=dispatch.hedges,
            moved=dispatch.moved,
            convicted=dispatch.convicted,
            wasted_work=dispatch.work_twice / dispatch.work_asked if dispatch.work_asked else 0.0,
            busy_slot_seconds=self._left_busy + sum(each.busy_slot_seconds for each in replicas),
        )

    @property
    def is_open(self) -> bool:
        """Whether it is entered, or being entered: then replicas may come and go."""
        return self._keeper is not None

    def _join(self, replica: Replica) -> None:
        member = Member(replica, self._settings)
        self._open.dispatch.members.append(member)
        self._open.prove(member)

    def _check(self) -> None:
        dispatch = self._open.dispatch
        if dispatch.refused is not None:
            raise dispatch.refused
        if not any(each.state == "serving" for each in dispatch.members):
            raise self._open.gone()

    @property
    def _open(self) -> Keeper:
        if self._keeper is None:
            raise RuntimeError("a pool is entered with `async with` before it is asked")
        return self._keeper


class Lane:
    """An Engine in front of a pool that somebody else opens and closes."""

    def __init__(self, pool: Pool, priority: Priority) -> None:
        self._pool, self._priority = pool, priority

    async def __aenter__(self) -> Lane:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def caption(self, request: CaptionRequest) -> Caption:
        """As the pool's own."""
        return await self._pool.caption(request, self._priority)
