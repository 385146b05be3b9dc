"""Who killed the replica: samples that were in flight on one that died are tried apart from each other."""

from __future__ import annotations

import math
from collections.abc import Iterable

from captioner.engines.pool.flight import TRIAL_SECONDS, Flight, Item

YOUNG_SECONDS = 0.1  # what kills on arrival is this young when its replica dies: such are never tried together


def convict(flights: Iterable[Flight], now: float) -> Item | None:
    """The one sample that a dead replica's second death can be laid to, None where it may have been several.

    flights: all in flight on it. A sample that kills does so at about the same age again: guilty is the only suspect
    on trial at this moment, or the only one there.
    """
    suspects = [flight for flight in flights if flight.item.deaths]
    on_trial = [flight for flight in suspects if now <= flight.trial_until]
    for several in (on_trial, suspects):
        if len(several) == 1:
            return several[0].item
    return None


def trial_until(item: Item, now: float) -> float:
    """Until when a suspect sent now is on trial at the least; one that saw two replicas die is until its answer."""
    return math.inf if item.deaths > 1 else now + 1.5 * item.fatal_age + TRIAL_SECONDS


def may_join(item: Item, trials: Iterable[Item], *, others_wait: bool) -> bool:
    """Whether a suspect may be sent to a replica that has these others on trial: alone, as a rule.

    While other work waits a trial lasts until the answer and costs nothing: others keep the slots full. When none does, those that had been
    on the dead replica for a while go together: a kill by chance is far more common than a sample that kills late,
    and a late killer is then found at its third replica and not at its second.
    """
    together = [item, *trials]
    return len(together) == 1 or not (others_wait or any(map(_alone, together)))


def order(items: Iterable[Item]) -> list[Item]:
    """The most likely first: most deaths, then the youngest when it died."""
    return sorted(items, key=lambda item: (-item.deaths, item.fatal_age))


def _alone(item: Item) -> bool:
    return item.deaths > 1 or item.fatal_age <= YOUNG_SECONDS
