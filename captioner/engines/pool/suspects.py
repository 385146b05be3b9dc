"""Who killed the replica: samples that were in flight on one that died are tried apart from each other.

What kills an engine does so when it arrives or when a slot takes it up, far more often than later, so suspects come in
the order of how short before the death either was, and are sent to one replica one at a time: should that one die as
well, it is clear of whom. A whole queue of them would hold up the end of a run by their number times the answer time,
though most replicas die of something else. So when nothing else waits, only the likely ones keep to that; a sample that
kills late in its answer, and late in a run, is then found at its third replica and not at its second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from captioner.engines.pool.flight import Flight, Item

PROVEN = 8  # answers after which a death is more often the replica's own; a loaded machine gives few in 3 s
YOUNG_SECONDS = 0.05  # between the start of a sample, or its arrival, and the death of its replica
TRIAL_SECONDS = 0.05  # beyond twice that age, so long a likely one is on trial where it started at once


def note(item: Item, age: float, answers: int) -> None:
    """A replica died with this item in flight. age: seconds since its start there; answers: what the replica had given.

    Likely is who was taken up just before, who saw two die, and everybody on a replica that had hardly worked yet.
    """
    item.deaths, item.fatal_age = item.deaths + 1, age
    item.likely = item.deaths > 1 or age <= YOUNG_SECONDS or answers < PROVEN


def trial_until(item: Item, now: float) -> float:
    """When a suspect sent now has outlived what would have killed its replica, were it the culprit."""
    return math.inf if item.deaths > 1 else now + 2 * item.fatal_age + TRIAL_SECONDS


def convict(flights: Iterable[Flight], now: float) -> Item | None:
    """The one sample that a dead replica's second death can be laid to, None where it may have been several.

    flights: all in flight on it. Guilty is the only suspect there, or the only likely one that was on trial.
    """
    suspects = [flight for flight in flights if flight.item.deaths]
    on_trial = [flight for flight in suspects if flight.item.likely and now <= flight.trial_until]
    for several in (suspects, on_trial):
        if len(several) == 1:
            return several[0].item
    return None


def may_join(item: Item, trials: Iterable[Flight], now: float, *, others_wait: bool) -> bool:
    """Whether a suspect may be sent to a replica that has these other suspects.

    While other work waits a trial lasts until the answer and costs nothing: the others keep the slots full.
    """
    if others_wait:
        return not any(trials)
    if not item.likely:
        return True
    return not any(each.item.likely and now <= each.trial_until for each in trials)


def order(items: Iterable[Item]) -> list[Item]:
    """The most likely first: most deaths, then the youngest at its replica's death."""
    return sorted(items, key=lambda item: (-item.deaths, item.fatal_age))
