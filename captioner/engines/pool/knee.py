"""Where queueing begins in a server that answers first come, first served: its slots, read from times alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SETTLED = 0.9  # share of a prefix of asks that must have ended before it is read: the slow ones end last
READ = 4  # windows of asks that are read: more would add to those that waited, and only few never did
CLOSE = 25  # a knee is looked for to one part in so many: it is known to two


@dataclass(slots=True)
class Ask:
    """One ask of a replica. sent, ended: seconds; ended is None while it is out. size: its work, any unit."""

    sent: float
    size: float = 1.0
    ended: float | None = None
    answered: bool = False


def knee(asks: Sequence[Ask], ended: Sequence[float], now: float, most: int) -> int | None:
    """How many the server works on at once, or None where no queue is seen with `most`, as many as were out together.

    asks: in the order of sending, from the first one ever. ended: when asks ended, ascending.
    With S slots the i-th ask (from 0) starts when it is sent or when the (i - S + 1)-th one has ended, whichever is
    later. Under too small an S those that waited seem quicker than the first S, which never did; under too large a
    one, slower: S is where the two agree. That needs no form of the distribution, and a server that works on all at
    once, each the slower, shows no such S. With log-sigma 0.6 and 64 slots it is right to about 12 %.
    """
    known = min(_settled(asks), READ * most)
    if known < most // 2 or most < 4:
        return None
    read = asks[:known]
    low, high = 1, most  # too few, and so many that nobody waited
    while high - low > max(1, low // CLOSE):
        middle = (low + high) // 2
        if _waiting_look_slower(read, ended, now, middle):
            high = middle
        else:
            low = middle
    return high if high < most - most // CLOSE else None


def _settled(asks: Sequence[Ask]) -> int:
    """The longest prefix of which nearly all have ended."""
    done, longest = 0, 0
    for count, ask in enumerate(asks, 1):
        done += ask.ended is not None
        if done >= SETTLED * count:
            longest = count
    return longest


def _waiting_look_slower(asks: Sequence[Ask], ended: Sequence[float], now: float, slots: int) -> bool:
    """Whether those behind the first `slots` took as long as these a unit of work, or longer, once started."""
    first = behind = 0.0
    firsts = behinds = 0
    for place, ask in enumerate(asks):
        if ask.ended is not None and not ask.answered:
            continue
        # One that is still out is taken as ending now: it is among the slowest anyhow.
        end = now if ask.ended is None else ask.ended
        if place < slots:
            first, firsts = first + (end - ask.sent) / ask.size, firsts + 1
        elif place - slots < len(ended):
            behind, behinds = behind + (end - max(ask.sent, ended[place - slots])) / ask.size, behinds + 1
    return firsts > 0 and behinds > 0 and behind / behinds >= first / firsts
