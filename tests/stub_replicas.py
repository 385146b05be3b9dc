"""Stub replicas and schedules: answer times by content, slots first come first served, and the ideal beside it."""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from captioner.errors import EngineBroke, EngineBusy, EngineUnavailable
from captioner.types import Caption, CaptionRequest, Picture, Sampling

SIGMA = 0.6


def answer_seconds(sha256: str, mean: float = 1.0, sigma: float = SIGMA) -> float:
    """How long a replica of speed 1 works on this picture: lognormal with the given mean, the same on every replica."""
    return mean * random.Random(sha256).lognormvariate(-sigma * sigma / 2, sigma)


def requests(count: int, seed: int, jpeg: bytes = b"jpeg") -> list[CaptionRequest]:
    """As many requests, each with its own hash."""
    picture = Picture(jpeg=jpeg, width=1024, height=768)
    names = (f"{seed:08x}{number:056x}" for number in range(count))
    return [
        CaptionRequest(
            images=(picture,), prompt="Describe the picture.", sampling=Sampling(max_tokens=300), media_sha256=name
        )
        for name in names
    ]


def list_schedule(seconds: Sequence[float], speeds: Sequence[float], slots: int) -> float:
    """Makespan of Graham's list schedule: each in turn goes to the slot that is free first, the fastest of several."""
    free = [(0.0, -speed) for speed in speeds for _ in range(slots)]
    heapq.heapify(free)
    end = 0.0
    for each in seconds:
        start, speed = heapq.heappop(free)
        end = max(end, start - each / speed)
        heapq.heappush(free, (start - each / speed, speed))
    return end


def earliest_completion(seconds: Sequence[float], speeds: Sequence[float], slots: int) -> float:
    """Makespan when each in turn goes where it ends first, which needs to know every answer time beforehand."""
    free = {speed: [0.0] * (slots * list(speeds).count(speed)) for speed in set(speeds)}
    end = 0.0
    for each in seconds:
        speed = min(free, key=lambda speed: free[speed][0] + each / speed)
        done = heapq.heappop(free[speed]) + each / speed
        heapq.heappush(free[speed], done)
        end = max(end, done)
    return end


@dataclass(slots=True, kw_only=True)
class Behaviour:
    """How a stub serves. dies_at, hangs_at: seconds after it was made. broken: share of first asks answered 500.

    most_waiting: 429 for those beyond, with retry_after. sharing: each one more that is worked on makes all of them
    take this share longer.
    stall: from and until when (seconds since it began) no answer comes out; canary_passes: whether proofs do.
    restart_seconds: after a death it comes back.
    killers: hashes that kill it `kills_after` seconds after their start; broke_on: hashes that are always a 500.
    """

    slots: int = 64
    speed: float = 1.0
    mean: float = 1.0
    dies_at: float = math.inf
    hangs_at: float = math.inf
    broken: float = 0.0
    most_waiting: int | None = None
    retry_after: float | None = None
    killers: frozenset[str] = frozenset()
    kills_after: float = 0.0
    broke_on: frozenset[str] = frozenset()
    restart_seconds: float = math.inf
    sharing: float = 0.0
    stall: tuple[float, float] | None = None
    canary_passes: bool = True


@dataclass(slots=True)
class StubReplica:
    """A replica in the same process, for loops on a virtual clock."""

    name: str
    behaviour: Behaviour
    working: int = 0
    inside: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    asked: list[str] = field(default_factory=list)
    deaths: int = 0
    dead: bool = False
    work_seconds: float = 0.0
    _crash: asyncio.Event = field(default_factory=asyncio.Event)
    _broke: set[str] = field(default_factory=set)
    _began: float | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        if self.behaviour.dies_at < math.inf:
            loop.call_later(self.behaviour.dies_at, self.die)

    def die(self) -> None:
        if self.dead:
            return
        self.dead, self.deaths = True, self.deaths + 1
        self._crash.set()
        if self.behaviour.restart_seconds < math.inf:
            asyncio.get_running_loop().call_later(self.behaviour.restart_seconds, self._restart)

    def _restart(self) -> None:
        self.dead, self._crash, self.working = False, asyncio.Event(), 0
        self.waiting.clear()

    @property
    def hanging(self) -> bool:
        assert self._began is not None
        return asyncio.get_running_loop().time() - self._began >= self.behaviour.hangs_at

    async def prove(self) -> None:
        if self._began is None:
            self.start()
        if self.dead:
            raise EngineUnavailable("connection refused")
        if self.hanging:
            await asyncio.Event().wait()
        if not self.behaviour.canary_passes:
            await self._stalled()

    async def close(self) -> None:
        return None

    async def ask(self, request: CaptionRequest) -> Caption:
        if self.dead:
            raise EngineUnavailable("connection refused")
        self.asked.append(request.media_sha256)
        most = self.behaviour.most_waiting
        if most is not None and self.inside >= self.behaviour.slots + most:
            raise EngineBusy("queue full", retry_after=self.behaviour.retry_after)
        self.inside += 1
        work = asyncio.ensure_future(self._work(request))
        crash = asyncio.ensure_future(self._crash.wait())
        try:
            await asyncio.wait([work, crash], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            raise EngineUnavailable("connection reset")
        finally:
            self.inside -= 1
            work.cancel()
            crash.cancel()

    async def _work(self, request: CaptionRequest) -> Caption:
        await self._enter()
        try:
            if request.media_sha256 in self.behaviour.killers:
                await asyncio.sleep(self.behaviour.kills_after)
                self.die()
            seconds = answer_seconds(request.media_sha256, self.behaviour.mean) / self.behaviour.speed
            await asyncio.sleep(seconds * (1 + self.behaviour.sharing * self.working))
            self.work_seconds += seconds
            await self._stalled()
            if self.hanging:
                await asyncio.Event().wait()
        finally:
            self._leave()
        self._maybe_break(request.media_sha256)
        return Caption(text="A picture.", finish_reason="stop", completion_tokens=150, prompt_tokens=1000)

    async def _stalled(self) -> None:
        """Wait out a stall that has begun."""
        loop = asyncio.get_running_loop()
        if self.behaviour.stall is not None and self._began is not None:
            begins, ends = self.behaviour.stall
            if begins <= loop.time() - self._began < ends:
                await asyncio.sleep(ends - (loop.time() - self._began))

    def _maybe_break(self, sha256: str) -> None:
        first = sha256 not in self._broke
        self._broke.add(sha256)
        unlucky = random.Random(f"{sha256}{self.name}").random() < self.behaviour.broken
        if sha256 in self.behaviour.broke_on or (unlucky and first):
            raise EngineBroke("HTTP 500")

    async def _enter(self) -> None:
        if self.working >= self.behaviour.slots:
            turn = asyncio.get_running_loop().create_future()
            self.waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave()
                elif turn in self.waiting:
                    self.waiting.remove(turn)
                raise
        else:
            self.working += 1

    def _leave(self) -> None:
        """Hand the slot to who waited longest."""
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.working -= 1
