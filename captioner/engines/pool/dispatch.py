"""Who is asked what: the queue, the choice of a replica, and what becomes of each ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from captioner.engines.pool import suspects, tail
from captioner.engines.pool.budget import Budget
from captioner.engines.pool.flight import Flight, Item
from captioner.engines.pool.lanes import Lanes
from captioner.engines.pool.load import Load
from captioner.engines.pool.member import Member
from captioner.engines.pool.settings import PoolSettings
from captioner.errors import (
    EngineBroke,
    EngineBusy,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    ModelChanged,
    RequestRefused,
)
from captioner.types import Caption

RETRIES_SAVED = 32.0
RELIEF_SECONDS = 0.02  # between two looks at what idle replicas may take over
BUSY_SECONDS = (0.25, 8.0)  # pauses of a replica that refuses although nothing of ours is out at it
MOST_PAUSE_SECONDS = 60.0  # whatever Retry-After says


class Dispatch:
    """The state of a pool's work. Every method runs in the loop's own thread and none of them waits.

    ejected: called with each replica that was just ejected, to have it proved again.
    """

    def __init__(self, settings: PoolSettings, ejected: Callable[[Member], None]) -> None:
        self._settings, self._ejected = settings, ejected
        self._loop = asyncio.get_running_loop()
        self.members: list[Member] = []
        self.lanes, self.load = Lanes(), Load()
        self.slowness = tail.Slowness()
        self.retry_budget = Budget(settings.retry_share, start=RETRIES_SAVED, most=RETRIES_SAVED)
        self._hedge_budget = Budget(settings.hedge_share, start=0.0, most=float("inf"))
        self._trials: list[Flight] = []
        self.tasks: set[asyncio.Task[Caption]] = set()
        self._bytes = 0
        self._looked = 0.0
        self.refused: Exception | None = None
        self.asks = self.answers = self.retries = self.hedges = self.moved = self.convicted = 0
        self.work_asked = self.work_twice = 0.0

    def submit(self, item: Item) -> None:
        """Queue a request and send whatever can be sent."""
        if self.refused is not None:
            raise self.refused
        self.lanes.add(item)
        self.pump()

    def abandon(self, item: Item) -> None:
        """The caller left: what is out for it is cancelled."""
        for flight in list(item.flights):
            self._cancel(flight)

    def pump(self) -> None:
        """Send while there is room and work."""
        if self.refused is not None:
            return
        now = self._loop.time()
        if self.lanes.retries:
            self._pump_retries(now)
        if self.lanes.suspects:
            self._pump_suspects(now)
        while (item := self.lanes.next()) is not None and (member := self._choose(item, now)) is not None:
            self.lanes.pop(item)
            self._send(item, member, now)
        if not len(self.lanes) and now - self._looked >= RELIEF_SECONDS:
            self._looked = now
            self._relieve(now)

    def stop(self, error: Exception) -> None:
        """Send nothing any more; every caller, waiting or new, gets this error."""
        self.refused = error
        for item in [*self.lanes.drop_all(), *(flight.item for each in self.members for flight in each.flights)]:
            self._fail(item, error)
        for task in self.tasks:
            task.cancel()

    def give_up(self, error: EngineUnavailable) -> None:
        """Every caller that waits gets this error; no sample is at fault."""
        for item in list(self.lanes.drop_all()):
            self._fail(item, error)

    def eject(self, member: Member, *, fatal: bool) -> None:
        """Close a replica. fatal: it died or hangs, so that what it had is asked elsewhere, as suspects."""
        before = member.state
        # One that was put out for its errors still has asks, and may die with them later.
        if before == "starting" or (before == "ejected" and not (fatal and member.flights)):
            return
        now = self._loop.time()
        if fatal:
            self._requeue(member.eject(now), now)
        else:
            member.close()
        member.state = "draining" if before == "draining" else "ejected"  # who leaves does not come back for erring
        if member.state == "ejected" != before:
            self._ejected(member)
        self.pump()

    def _requeue(self, orphans: list[Flight], now: float) -> None:
        guilty = suspects.convict(orphans, now)
        requeued = []
        for place, flight in enumerate(orphans):
            item = flight.item
            suspects.note(item, flight.member.age(flight, place, now), flight.member.answers)
            if item.done or item.under_way:
                continue
            if item.deaths >= self._settings.deaths_allowed + (item is not guilty):
                self.convicted += 1
                self._fail(item, EngineBroke(f"{item.deaths} replicas died while they worked on it"))
            else:
                requeued.append(item)
        self.lanes.suspect(requeued)

    def _pump_retries(self, now: float) -> None:
        for _ in range(len(self.lanes.retries)):
            item = self.lanes.retries.popleft()
            if item.done:
                continue
            member = self._choose(item, now)
            if member is None or not self.retry_budget.take():
                self.lanes.retries.append(item)
                continue
            self.retries += 1
            self._send(item, member, now)

    def _pump_suspects(self, now: float) -> None:
        waiting, self.lanes.suspects = self.lanes.suspects, []
        others_wait = self.lanes.next() is not None
        self._trials = [each for each in self._trials if each in each.item.flights and not each.orphan]
        for place, item in enumerate(waiting):
            if item.done:
                continue
            rooms = [each for each in self.members if self._has_court(each, item, now, others_wait=others_wait)]
            member = self._choose(item, now, rooms) if rooms else None
            if member is None and others_wait:
                # What kept this one from every replica keeps the less likely ones too.
                self.lanes.suspects += waiting[place:]
                return
            if member is None:
                self.lanes.suspects.append(item)
                continue
            flight = self._send(item, member, now)
            flight.trial_until = suspects.trial_until(item, now)
            self._trials.append(flight)

    def _has_court(self, member: Member, item: Item, now: float, *, others_wait: bool) -> bool:
        """Whether a suspect may go there; a short trial only has a meaning where the sample starts at once."""
        if not member.open(now) or (not others_wait and item.likely and member.outstanding >= member.slots):
            return False
        there = [each for each in self._trials if each.member is member]
        return suspects.may_join(item, there, now, others_wait=others_wait)

    def _choose(self, item: Item, now: float, among: list[Member] | None = None) -> Member | None:
        """The replica that would be through with its work and this item first, by its measured speed."""
        if self._bytes and self._bytes + item.size > self._settings.max_bytes:
            return None
        members = self.members if among is None else among
        if item.tried:
            untried = [each for each in members if each.name not in item.tried and each.state == "serving"]
            members = untried or members
        best, least = None, float("inf")
        for member in members:
            if member.open(now):
                seconds = (member.work + item.work) * (member.pace or 1e-9) / member.slots
                if seconds < least:
                    best, least = member, seconds
        return best

    def _send(self, item: Item, member: Member, now: float, *, hedge: bool = False) -> Flight:
        flight = member.send(item, now, hedge=hedge)
        self._bytes += item.size
        self.asks += 1
        self.work_asked += item.work
        flight.task = self._loop.create_task(member.replica.ask(item.request))
        flight.task.add_done_callback(partial(self._landed, flight))
        self.tasks.add(flight.task)
        flight.deadline = self._loop.call_later(self._settings.deadline_seconds, self._expired, flight)
        return flight

    def _landed(self, flight: Flight, task: asyncio.Task[Caption]) -> None:
        now, member, item = self._loop.time(), flight.member, flight.item
        self.tasks.discard(task)
        self._bytes -= item.size
        if flight.deadline is not None:
            flight.deadline.cancel()
        error = None if task.cancelled() else task.exception()
        came = not task.cancelled() and error is None
        alive = not flight.orphan
        if not (alive and isinstance(error, EngineUnavailable)):
            member.land(flight, now, answered=came)
        if came:
            self._answered(flight, task.result(), now)
        elif isinstance(error, EngineError):
            member.errors[type(error).__name__] += 1
            self._failed(flight, error, now)
        elif error is not None:
            self._fail(item, error)
            if isinstance(error, ModelChanged):
                self.stop(error)
        self.pump()

    def _answered(self, flight: Flight, caption: Caption, now: float) -> None:
        item, member = flight.item, flight.member
        seconds = now - flight.sent
        if not flight.orphan:
            member.answered(flight, caption, now)
            if usual := member.expected_seconds(item.work):
                self.slowness.learn(seconds / usual)
        self.load.learn(caption)
        self.retry_budget.earn()
        self._hedge_budget.earn(item.work)
        if item.done:
            return
        self.answers += 1
        item.answer.set_result(caption if caption.seconds is not None else replace(caption, seconds=seconds))
        self.abandon(item)

    def _failed(self, flight: Flight, error: EngineError, now: float) -> None:
        item, member = flight.item, flight.member
        match error:
            case EngineUnavailable():
                if not flight.orphan:
                    self.eject(member, fatal=True)
                    member.land(flight, now, answered=False)
            case EngineBusy():
                self._throttle(member, flight, error, now)
                if not (item.done or item.under_way or flight.orphan):
                    self.lanes.put_back(item)
            case RequestRefused():
                self._fail(item, error)
            case _:
                self._blame(flight, error)

    def _throttle(self, member: Member, flight: Flight, error: EngineBusy, now: float) -> None:
        member.window.busy(flight.ask, now, member.outstanding)
        pause = error.retry_after
        if pause is None and not member.outstanding:
            least, most = BUSY_SECONDS
            pause = member.backoff = min(most, max(least, 2 * member.backoff))
        if pause is not None:
            # A server may ask for a day; looking again each minute costs it nothing.
            member.paused_until = max(member.paused_until, now + min(pause, MOST_PAUSE_SECONDS))

    def _blame(self, flight: Flight, error: EngineError) -> None:
        """A failed try: of the item, and perhaps of the replica."""
        item, member = flight.item, flight.member
        if not flight.orphan and member.failed(item, error):
            self.eject(member, fatal=False)
        item.failures, item.error = item.failures + 1, error
        item.tried.add(member.name)
        if item.done or item.under_way or flight.orphan:
            return
        if item.failures >= self._settings.tries:
            self._fail(item, error)
        else:
            self.lanes.retries.append(item)

    def _expired(self, flight: Flight) -> None:
        """A deadline passed: the item's fault where the replica answers others or has no others, else the replica's."""
        member, item = flight.member, flight.item
        if not flight.orphan and member.outstanding > 1 and member.silent(self._loop.time()):
            self.eject(member, fatal=True)
        self._cancel(flight)
        if flight.orphan or item.done:
            return
        member.errors[EngineTimeout.__name__] += 1
        self._blame(flight, EngineTimeout(f"no answer in {self._settings.deadline_seconds:g} s"))
        self.pump()

    def _cancel(self, flight: Flight) -> None:
        """Forget an ask; its end is only booked."""
        if flight in flight.item.flights:
            flight.item.flights.remove(flight)
        if flight.task is not None:
            flight.task.cancel()

    def _fail(self, item: Item, error: BaseException) -> None:
        if not item.done:
            item.answer.set_exception(error)
        self.abandon(item)

    def _relieve(self, now: float) -> None:
        for relief in tail.reliefs(self.members, now, self.slowness.p95):
            item = relief.flight.item
            if relief.moved:
                item.moved += 1
                self.moved += 1
                self._cancel(relief.flight)
            elif not self._hedge_budget.take(item.work):
                continue
            else:
                self.hedges += 1
                self.work_twice += item.work
            self._send(item, relief.by, now, hedge=not relief.moved)
