"""The order of samples is arithmetic: every sample once an epoch, in lanes, mixtures and full rows."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.order import next_feed, shuffled, stretches
from trainer.data.packing import best_fit, packed
from trainer.image_size import grid

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@given(sizes=SIZES, lanes=st.integers(1, 9), epoch=st.integers(0, 3))
def test_the_lanes_of_an_epoch_share_out_every_sample_once(sizes: list[int], lanes: int, epoch: int) -> None:
    runs = [stretches(sizes, lane, lanes, "seed", epoch) for lane in range(lanes)]
    read = Counter((each.part, at) for run in runs for each in run for at in range(each.start, each.stop))
    assert read == Counter((part, at) for part, size in enumerate(sizes) for at in range(size))
    lengths = [sum(each.stop - each.start for each in run) for run in runs]
    assert max(lengths) - min(lengths) <= 1


def test_an_order_is_decided_by_its_seed_alone() -> None:
    assert shuffled(8, 0, "a") == shuffled(8, 0, "a") != shuffled(8, 1, "a")
    assert shuffled(6, 1, 2, 3) == [0, 2, 5, 1, 4, 3], "another order would make checkpoints go on elsewhere"


@given(weights=st.lists(st.floats(0.05, 5), min_size=1, max_size=5), count=st.integers(1, 200))
def test_a_mixture_is_right_at_every_length(weights: list[float], count: int) -> None:
    taken = [0] * len(weights)
    for _ in range(count):
        taken[next_feed(weights, taken)] += 1
    for weight, had in zip(weights, taken, strict=True):
        assert abs(had - weight / sum(weights) * count) <= len(weights)


@settings(max_examples=50)
@given(lengths=st.lists(st.integers(1, 64), min_size=1, max_size=60), waited=st.integers(0, 4))
def test_rows_hold_every_sample_once_and_never_more_than_their_budget(lengths: list[int], waited: int) -> None:
    rows, left = packed(lengths, [waited] * len(lengths), 64)
    assert sorted([*(index for row in rows for index in row), *left]) == list(range(len(lengths)))
    assert rows and all(sum(lengths[index] for index in row) <= 64 for row in rows)
    if waited >= 3:
        assert not left, "who has waited goes, whatever the company"


def test_a_sample_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="65 tokens does not fit a row of 64"):
        best_fit([3, 65], 64)


@pytest.mark.parametrize(("side", "budget"), [(800, 4096), (1600, 16384)])
def test_rows_of_pictures_as_the_web_has_them_are_full(side: int, budget: int) -> None:
    dice, waiting, tokens = random.Random(0), list[tuple[int, int]](), []
    for _ in range(12):
        while sum(length for length, _ in waiting) < 16 * budget:
            wide = 512 * dice.lognormvariate(0.5, 0.4)
            size = (int(wide), max(512, int(wide / dice.choice([0.67, 0.75, 1.0, 1.33, 1.5, 1.78]))))
            waiting.append((grid(size, side).tokens + int(dice.lognormvariate(5.2, 0.4)), 0))
        rows, left = packed([length for length, _ in waiting], [age for _, age in waiting], budget)
        tokens += [sum(waiting[index][0] for index in row) for row in rows]
        waiting = [(waiting[index][0], waiting[index][1] + 1) for index in left]
    assert sum(tokens) / (len(tokens) * budget) >= 0.97
