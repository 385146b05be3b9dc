"""Who is well: proves replicas at start and after ejection, sends silent ones a canary, notices when all are gone."""

from __future__ import annotations

import asyncio
import random
from typing import Literal

from captioner.engines.pool.dispatch import Dispatch
from captioner.engines.pool.member import Member
from captioner.engines.pool.settings import PoolSettings
from captioner.errors import EngineError, EngineUnavailable, Refused

TICK_SECONDS = 0.1
FIRST_BACKOFF_SECONDS = 0.25
CANARY_SECONDS, CANARY_ANSWERS = 2.0, 2.0  # a canary has so long at least, and so many of the usual answer times
CLOSED = ("starting", "ejected")  # states out of which a proof leads
RETRIES_A_SECOND = 1.0  # beyond the share, so that a retry never waits for answers that cannot come


class Keeper:
    """Watches the members of a dispatch until it is closed."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self.dispatch = Dispatch(settings, self.prove)
        self._tasks: set[asyncio.Task[None]] = set()
        self._canaries: set[Member] = set()  # members with one under way
        self._gone_since = self._ticked = self._loop.time()
        self.known = asyncio.Event()

    def begin(self) -> None:
        """Start the clock."""
        self._spawn(self._tick())

    def prove(self, member: Member) -> None:
        """Have a replica proved until it serves."""
        self._spawn(self._revive(member))

    async def close(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, coroutine) -> None:  # type: ignore[no-untyped-def]
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _revive(self, member: Member) -> None:
        least, most = FIRST_BACKOFF_SECONDS, self._settings.probe_seconds
        jitter = random.Random(member.name)
        delay = least * 2 ** (member.relapses - 1) if member.relapses > 1 else 0.0
        while member.state in CLOSED:
            await asyncio.sleep(min(delay, most) * jitter.uniform(0.75, 1.25))
            delay = max(least, min(2 * delay, most))
            # Looked at again after the proof, which takes seconds: who has to leave meanwhile does not come back.
            if member.state in CLOSED and await self._serves(member) and member.state in CLOSED:
                member.state, member.progress = "serving", self._loop.time()
                self.known.set()
                self.dispatch.pump()

    async def _canary(self, member: Member) -> None:
        """Ask a silent replica for something tiny. It is ejected only if others answered in the meantime."""
        asked = self._loop.time()
        patience = min(self._settings.canary_seconds, max(CANARY_SECONDS, CANARY_ANSWERS * member.seconds))
        try:
            proof = await self._proof(member, patience)
        finally:
            self._canaries.discard(member)
        if member.state not in ("suspect", "draining"):
            return
        if proof == "given" or (proof == "silence" and not self._others_answer(member, asked)):
            member.progress = self._loop.time()
            if member.state == "suspect":
                member.state = "serving"
        else:
            self.dispatch.eject(member, fatal=True)

    async def _serves(self, member: Member) -> bool:
        return await self._proof(member, self._settings.prove_seconds) == "given"

    async def _proof(self, member: Member, seconds: float) -> Literal["given", "silence", "refused"]:
        try:
            async with asyncio.timeout(seconds):
                await member.replica.prove()
        except Refused as error:  # another model, a key that is wrong: it will never serve
            self.dispatch.stop(error)
            self.known.set()
            return "refused"
        except TimeoutError:
            return "silence"
        except EngineError:
            return "refused"
        return "given"

    def _others_answer(self, member: Member, since: float) -> bool:
        """Whether some other replica answered since then, or has nothing to answer."""
        others = (each for each in self.dispatch.members if each is not member and each.ever_answered)
        return any(each.last_answer > since or (each.state == "serving" and not each.flights) for each in others)

    def _strange(self, member: Member, now: float) -> bool:
        """Whether it is silent while others answer, and is not being asked why."""
        asked = member.state not in ("serving", "draining") or member in self._canaries
        return not asked and member.silent(now) and self._others_answer(member, (member.progress + now) / 2)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = self._loop.time()
            waiting = self.dispatch.lanes.next() is not None
            for member in self.dispatch.members:
                member.account(now, now - self._ticked, waiting=waiting)
                if self._strange(member, now):
                    if member.state == "serving":  # who leaves is asked too: what it has would wait for its deadline
                        member.state = "suspect"
                    self._canaries.add(member)
                    self._spawn(self._canary(member))
            self._ticked = now
            self.dispatch.retry_budget.earn(RETRIES_A_SECOND * TICK_SECONDS / self._settings.retry_share)
            self._watch_all(now)
            self.dispatch.pump()

    def _watch_all(self, now: float) -> None:
        if any(each.state in ("serving", "suspect") for each in self.dispatch.members):
            self._gone_since = now
        elif now - self._gone_since > self._settings.start_seconds:
            self.known.set()
            self.dispatch.give_up(self.gone())

    def gone(self) -> EngineUnavailable:
        """What to tell callers when nobody has served for the longest time that they wait."""
        names = ", ".join(each.name for each in self.dispatch.members) or "the pool is empty"
        return EngineUnavailable(f"no replica served for {self._settings.start_seconds:g} s: {names}")
