"""What a pool knows of a sample that it was asked for, and of each ask of a replica for it."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from captioner.engines.pool.knee import Ask
from captioner.errors import EngineError
from captioner.types import Caption, CaptionRequest

if TYPE_CHECKING:
    from captioner.engines.pool.member import Member

Priority = Literal["interactive", "batch"]


@dataclass(slots=True, eq=False)
class Item:
    """One caller's request until it has its answer. work: estimated tokens; size: bytes of pictures.

    tried: names of replicas that failed on it; failures: how often. deaths: replicas that died with it in flight;
    fatal_age: seconds from its start, as estimated, to the death of the last of them; likely: whether that makes it a
    likely culprit. moved: how often it was taken back from a server's queue.
    """

    request: CaptionRequest
    priority: Priority
    work: float
    size: int
    answer: asyncio.Future[Caption]
    flights: list[Flight] = field(default_factory=list)
    tried: set[str] = field(default_factory=set)
    failures: int = 0
    deaths: int = 0
    fatal_age: float = 0.0
    likely: bool = False
    moved: int = 0
    error: EngineError | None = None

    @property
    def done(self) -> bool:
        """Whether the caller has its answer, or left."""
        return self.answer.done()

    @property
    def under_way(self) -> bool:
        """Whether some ask is out that may still end it: an orphan may never come back, so it is nobody's reason to
        wait."""
        return any(not flight.orphan for flight in self.flights)


@dataclass(slots=True, eq=False)
class Flight:
    """One ask of one replica. orphan: its replica was ejected and the item asked elsewhere; the first answer counts.

    started: when a slot took it up, as estimated; infinite before. trial_until: until then a suspect is on trial.
    Both in seconds of the loop's clock.
    """

    item: Item
    member: Member
    ask: Ask
    hedge: bool = False
    orphan: bool = False
    started: float = math.inf
    trial_until: float = 0.0
    task: asyncio.Task[Caption] | None = None
    deadline: asyncio.TimerHandle | None = None

    @property
    def sent(self) -> float:
        """When it was sent, in seconds of the loop's clock."""
        return self.ask.sent
