"""Which frames of a video are looked at: pure arithmetic on presentation times, before anything is decoded.

The rule: time 0 is the first frame that is shown; at t = 0, 1, 2 … seconds (of a rate of 1 a second) the frame with the
greatest presentation time <= t is picked, for every t up to the last frame. Where that is more than max_frames, as many
of these t are kept, spread evenly, the first and the last among them. Times are ticks of the stream and never floats.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from captioner.types import FrameBudget

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Packets first to last, in decoding order, that have to be decoded to see the wanted ones."""

    first: int
    last: int
    wanted: frozenset[int]


def ticks(first: int, last: int, time_base: Fraction, budget: FrameBudget) -> list[int]:
    """The times looked at, in ticks of time_base seconds: of frames shown from tick first to tick last."""
    count = (last - first) * time_base * budget.per_second // 1 + 1
    return [first + int(Fraction(step, budget.per_second) / time_base) for step in steps(int(count), budget.max_frames)]


def steps(count: int, most: int) -> list[int]:
    """0 to count - 1, or so many of them at most: the i-th is i (count - 1) / (most - 1), halves rounded up."""
    if count <= most:
        return list(range(count))
    if most == 1:
        return [0]
    return [(2 * i * (count - 1) + most - 1) // (2 * (most - 1)) for i in range(most)]


def picked(shown: Sequence[int], at: Sequence[int]) -> list[int]:
    """For each tick the frame seen then: the greatest of the sorted presentation times <= it, else the first."""
    return [shown[max(0, bisect_right(shown, tick) - 1)] for tick in at]


def filled(picks: Sequence[T], multiple_of: int) -> list[T]:
    """The picks with the last one repeated up to a multiple: models that take frames in pairs repeat it themselves."""
    return [*picks, *[picks[-1]] * (-len(picks) % multiple_of)] if picks else []


def runs(pts: Sequence[int], keys: Sequence[int], wanted: Iterable[int]) -> list[Run]:
    """The least that has to be decoded: each from the last key packet that is neither behind a wanted one nor shown
    after it.

    pts: of all packets in decoding order. keys: where those stand that begin anew, sorted. wanted: where the picked
    packets stand. A picture that is shown before the key packet in front of it (an open GOP) needs the one before that.
    Runs that overlap become one. Raises ValueError for a wanted packet that no key packet leads to.
    """
    found: list[Run] = []
    for place in sorted(set(wanted)):
        first, together = _begin(pts, keys, place), frozenset({place})
        while found and first <= found[-1].last:
            before = found.pop()
            first, together = min(first, before.first), together | before.wanted
        found.append(Run(first=first, last=place, wanted=together))
    return found


def _begin(pts: Sequence[int], keys: Sequence[int], place: int) -> int:
    for key in reversed(keys[: bisect_right(keys, place)]):
        if pts[key] <= pts[place]:
            return key
    raise ValueError(f"packet {place} has no key packet to begin at")
