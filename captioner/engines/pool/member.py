"""One replica in a pool: what is out at it, how fast it is, how it has been, and how its time was spent."""

from __future__ import annotations

import itertools
import math
from collections import Counter

from captioner.engines.pool.flight import Flight, Item
from captioner.engines.pool.settings import PoolSettings
from captioner.engines.pool.stats import ReplicaStats, State
from captioner.engines.pool.window import Window
from captioner.errors import EngineError
from captioner.types import Caption, Replica

MEMORY = 64  # answers over which the seconds of a unit of work are averaged
SOUND = 20  # answers in a row after which an ejected replica's past is forgotten
MOST_RELAPSES = 7  # each doubles the first pause before it is proved again, a quarter of a second
PROBATION = 8  # asks at once at a replica that was ejected, until its first answer
MANY, SILENT_MANY, SILENT_FEW = 8, 1.0, 5.0  # with so many out, silence of one mean answer time is strange; else five


class Member:
    """A replica and its books. flights: asks out at it, in the order of sending.

    pace: seconds of service a unit of work, queueing taken off; None before the first answer.
    """

    def __init__(self, replica: Replica, settings: PoolSettings) -> None:
        self.replica, self.name = replica, replica.name
        self._settings = settings
        self.window = Window(settings.first_window, settings.max_window)
        self.state: State = "starting"
        self.flights: dict[Flight, None] = {}
        self.work = 0.0
        self.pace: float | None = None
        self.seconds = 0.0
        self.paused_until, self.backoff = 0.0, 0.0
        self.ever_answered, self.last_answer, self.progress = False, 0.0, 0.0
        self.relapses, self._sound = 0, 0
        self._broke: set[str] = set()
        self._nans = 0
        self.errors: Counter[str] = Counter()
        self.answers = self.tokens_in = self.tokens_out = self.images = self.ejections = 0
        self.idle: dict[str, float] = {"starved": 0.0, "ejected": 0.0, "throttled": 0.0}
        self._busy, self._busy_since = 0.0, 0.0
        self._paces = 0
        self._slots = self.slots

    @property
    def outstanding(self) -> int:
        """Asks out at it."""
        return len(self.flights)

    @property
    def slots(self) -> int:
        """How many it seems to work on at once."""
        return self.window.slots or self.window.limit

    def open(self, now: float) -> bool:
        """Whether it may be sent one more."""
        limit = min(self.window.limit, PROBATION) if self.relapses and not self._sound else self.window.limit
        return self.state == "serving" and len(self.flights) < limit and now >= self.paused_until

    def expected_seconds(self, work: float) -> float:
        """How long a request of that work takes from its start, by this replica's own past; 0 before any."""
        return (self.pace or 0.0) * work

    def send(self, item: Item, now: float, *, hedge: bool = False) -> Flight:
        """Enter one more ask into the books."""
        self._count(now)
        if not self.flights:
            self.progress = now
        flight = Flight(item=item, member=self, ask=self.window.sent(now, item.work, len(self.flights) + 1))
        flight.hedge = hedge
        flight.started = now if len(self.flights) < self.slots else math.inf
        self.flights[flight] = None
        self.work += item.work
        item.flights.append(flight)
        return flight

    def land(self, flight: Flight, now: float, *, answered: bool) -> None:
        """Take an ask out of the books, however it ended."""
        if flight in flight.item.flights:
            flight.item.flights.remove(flight)
        if flight.orphan:
            return
        self._count(now)
        before = len(self.flights)
        del self.flights[flight]
        self._start_next(now)
        self.work -= flight.item.work
        if answered:
            self._learn_pace(flight, now, before)
        self.window.ended(flight.ask, now, answered=answered, full=before >= 0.9 * self.window.limit)

    def age(self, flight: Flight, place: int, now: float) -> float:
        """Seconds between now and when a slot took this ask up or, by its place in the queue, will do so."""
        if place >= self.slots and flight.started == math.inf:
            return min(now - flight.sent, (place - self.slots + 1) * self.seconds / self.slots)
        return now - max(flight.sent, min(flight.started, now))

    def answered(self, flight: Flight, caption: Caption, now: float) -> None:
        """An answer came: it is alive, and what went wrong before was not its fault."""
        self.ever_answered, self.last_answer, self.progress, self.backoff = True, now, now, 0.0
        self.answers += 1
        self.tokens_in += caption.prompt_tokens or 0
        self.tokens_out += caption.completion_tokens or 0
        self.images += len(flight.item.request.images)
        self._broke.clear()
        self._nans = 0
        self._sound += 1
        if self._sound >= SOUND:
            self.relapses = 0
        if self.state == "suspect":
            self.state = "serving"

    def failed(self, item: Item, error: EngineError) -> bool:
        """Count an error that may be the replica's own; True where it has to be ejected for those it made."""
        self.progress = max(self.progress, self.last_answer)
        self._broke.add(item.request.media_sha256)
        self._nans = self._nans + 1 if error.reason == "nan_output" else 0
        return len(self._broke) >= self._settings.errors_in_row or self._nans >= self._settings.nans_in_row

    def silent(self, now: float) -> bool:
        """Whether its silence is strange, going by its own answers and the largest request that it has."""
        if not self.flights or not self.ever_answered:
            return False
        least, most = self._settings.silent_seconds
        usual = self.seconds * (SILENT_MANY if len(self.flights) >= MANY else SILENT_FEW)
        # A request that is by its size expected to take long is not silence, even past the most.
        largest = max(self.expected_seconds(flight.item.work) for flight in self.flights)
        return now - self.progress > max(min(max(usual, least), most), 1.5 * largest)

    def close(self) -> None:
        """Send it nothing until it is proved again; what is out at it stays."""
        self.state, self.ejections, self._sound = "ejected", self.ejections + 1, 0
        self.relapses = min(self.relapses + 1, MOST_RELAPSES)
        self._broke.clear()
        self._nans = 0

    def eject(self, now: float) -> list[Flight]:
        """Close it and hand over what was out at it; their answers still count if they come first."""
        self._count(now)
        self.close()
        orphans = list(self.flights)
        for flight in orphans:
            flight.orphan = True
            self.window.ended(flight.ask, now, answered=False, full=False)
        self.flights.clear()
        self.window.forget()
        self.work = 0.0
        return orphans

    def account(self, now: float, seconds: float, *, waiting: bool) -> None:
        """Say of the last few seconds why slots stood empty, if they did."""
        empty = max(0.0, 1.0 - len(self.flights) / self.slots)
        if self.state in ("starting", "ejected", "draining"):
            self.idle["ejected"] += seconds * empty
        else:
            self.idle["throttled" if waiting or now < self.paused_until else "starved"] += seconds * empty

    def stats(self, now: float) -> ReplicaStats:
        """Its books as they stand."""
        self._count(now)
        return ReplicaStats(
            name=self.name,
            state=self.state,
            window=self.window.limit,
            outstanding=len(self.flights),
            slots=self.window.slots,
            busy_slot_seconds=self._busy,
            answers=self.answers,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            images=self.images,
            ejections=self.ejections,
            errors=dict(self.errors),
            idle_seconds=dict(self.idle),
        )

    def _start_next(self, now: float) -> None:
        """A slot is free: the first in the replica's queue is taken up."""
        slots = self.slots
        if slots != self._slots:
            self._slots = slots
            for flight in itertools.islice(self.flights, slots, None):
                flight.started = math.inf
        for flight in itertools.islice(self.flights, slots - 1, slots):
            flight.started = min(flight.started, now)

    def _learn_pace(self, flight: Flight, now: float, outstanding: int) -> None:
        self._paces = min(self._paces + 1, MEMORY)
        seconds = now - flight.sent
        self.seconds += (seconds - self.seconds) / self._paces
        service = seconds * min(1.0, self.slots / outstanding) / flight.item.work
        self.pace = service if self.pace is None else self.pace + (service - self.pace) / self._paces

    def _count(self, now: float) -> None:
        self._busy += min(len(self.flights), self.slots) * (now - self._busy_since)
        self._busy_since = now
