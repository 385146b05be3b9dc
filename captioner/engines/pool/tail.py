"""The end of a run: when nothing waits any more, idle replicas take over what stands or crawls at others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from captioner.engines.pool.flight import Flight
from captioner.engines.pool.member import Member

GAIN = 0.8  # a queued request is taken back if the other replica is expected to answer in this share of what remains
MOVES = 2  # and at most so often
QUICKER = 0.75  # a replica that needs at most this share of the time is asked early for what runs elsewhere
RESIDUE = 0.6  # of the usual time remains, on average, to lognormal work that has run for half of it or more
HOPE = 1.3  # it may be expected a little later than the first: it wins where the answer is longer than expected


class Slowness:
    """The 95th percentile of answer times over what was expected of each, learnt as they come."""

    STEP = 0.05

    def __init__(self) -> None:
        self.p95 = 2.5

    def learn(self, ratio: float) -> None:
        """Move up by 19 parts for each slower answer and down by one for each quicker: they balance at the 95th."""
        self.p95 = max(1.0, self.p95 + self.STEP * (0.95 if ratio > self.p95 else -0.05))


@dataclass(frozen=True, slots=True, kw_only=True)
class Relief:
    """Ask `by` for what `flight` was sent for. moved: it only stood in a queue there and is taken back at once."""

    flight: Flight
    by: Member
    moved: bool


def reliefs(members: Sequence[Member], now: float, p95: float) -> list[Relief]:
    """What each idle slot may take over, the quickest replicas first, what remains longest first."""
    idle = [each for each in members if each.open(now) and each.outstanding < each.slots and each.pace]
    found: list[Relief] = []
    taken: set[Flight] = set()
    for helper in sorted(idle, key=lambda each: each.pace or 0.0):
        wanted = [
            (remaining, moved, flight)
            for member in members
            if member is not helper
            for place, flight in enumerate(member.flights)
            if flight not in taken
            and _free_to_help(flight, helper)
            and (remaining := _worth(flight, place, helper, now, p95)) is not None
            for moved in [place >= member.slots]
        ]
        wanted.sort(key=lambda each: -each[0])
        room = min(helper.slots, helper.window.limit) - helper.outstanding
        for _, moved, flight in wanted[:room]:
            taken.add(flight)
            found.append(Relief(flight=flight, by=helper, moved=moved))
    return found


def _free_to_help(flight: Flight, helper: Member) -> bool:
    item = flight.item
    return not item.done and len(item.flights) == 1 and not item.deaths and helper.name not in item.tried


def _worth(flight: Flight, place: int, helper: Member, now: float, p95: float) -> float | None:
    """Seconds that remain where it is, if the helper should do it in clearly fewer, or if it is slow for its size."""
    member, work = flight.member, flight.item.work
    usual, there = member.expected_seconds(work), helper.expected_seconds(work)
    if place >= member.slots:
        remaining = usual * (1 + (place - member.slots + 1) / member.slots)
        return remaining if flight.item.moved < MOVES and there < GAIN * remaining else None
    if not usual:
        return None
    times = (now - flight.sent) / usual
    in_all = max(1.0, times + RESIDUE)
    remaining = usual * in_all - (now - flight.sent)
    if there <= QUICKER * usual and there * in_all <= HOPE * remaining:
        return remaining
    return remaining if times > p95 and there <= 1.1 * usual else None
