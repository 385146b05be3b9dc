"""The order of samples, as pure arithmetic: any process that knows a seed knows what every lane reads, and when.

A feed's parts (its shards) are shuffled anew each epoch and cut into as many equal runs of samples as there are lanes.
A lane reads its run block by block: the samples of a few parts, shuffled together.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Entries start to stop of one part."""

    part: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One entry: of which feed, and where in its lane's order. `index` is its place in the block as stored."""

    feed: int
    epoch: int
    block: int
    index: int


def shuffled(count: int, *seed: object) -> list[int]:
    """0 … count - 1 in an order that the seed alone decides, on every machine and Python."""
    places = list(range(count))
    random.Random("/".join(map(str, seed))).shuffle(places)
    return places


def stretches(sizes: Sequence[int], lane: int, lanes: int, *seed: object) -> list[Stretch]:
    """What one of `lanes` reads in an epoch: its run of samples, over parts of `sizes` in the epoch's order."""
    total, at, run = sum(sizes), 0, []
    first, end = total * lane // lanes, total * (lane + 1) // lanes
    for part in shuffled(len(sizes), *seed):
        start, stop = max(first - at, 0), min(end - at, sizes[part])
        if start < stop:
            run.append(Stretch(part=part, start=start, stop=stop))
        at += sizes[part]
    return run


def blocks(run: list[Stretch], parts: int) -> list[list[Stretch]]:
    """The run in blocks of so many parts."""
    return [run[at : at + parts] for at in range(0, len(run), parts)]


def next_feed(weights: Sequence[float], taken: Sequence[int]) -> int:
    """Whose turn it is: the feed furthest behind its share, so that a mixture is right at every length."""
    count, whole = sum(taken) + 1, sum(weights)
    behind = [weight / whole * count - had for weight, had in zip(weights, taken, strict=True)]
    return behind.index(max(behind))
