"""The sampling rule, by property: what is picked at each second, and the least that must be decoded to see it."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.media.picks import filled, picked, runs, steps, ticks
from captioner.types import FrameBudget, PixelBudget

PIXELS = PixelBudget(max_pixels=360 * 420, multiple_of=28)
BASES = st.sampled_from([Fraction(1, 1000), Fraction(1, 90), Fraction(1, 128), Fraction(1001, 30_000)])


def budget(most: int = 64, per_second: int = 1) -> FrameBudget:
    return FrameBudget(pixels=PIXELS, max_frames=most, per_second=per_second)


@settings(deadline=None)
@given(st.sets(st.integers(-5000, 5000), min_size=1, max_size=60).map(sorted), BASES, st.sampled_from([1, 2, 5]))
def test_at_every_second_up_to_the_last_frame_the_newest_frame_is_picked(
    shown: list[int], base: Fraction, per_second: int
) -> None:
    at = ticks(shown[0], shown[-1], base, budget(10**9, per_second))
    seconds = [Fraction(n, per_second) for n in range(len(at))]
    assert seconds[-1] <= (shown[-1] - shown[0]) * base < seconds[-1] + Fraction(1, per_second)
    expected = [max(pts for pts in shown if (pts - shown[0]) * base <= t) for t in seconds]
    assert picked(shown, at) == expected


@given(st.integers(1, 10**6), st.integers(1, 800))
def test_a_long_clip_keeps_its_ends_and_spreads_the_rest_evenly(count: int, most: int) -> None:
    kept = steps(count, most)
    assert len(kept) == min(count, most) == len(set(kept))
    assert kept == sorted(kept) and kept[0] == 0
    if len(kept) > 1:
        assert kept[-1] == count - 1
        gaps = {after - before for before, after in pairwise(kept)}
        assert max(gaps) - min(gaps) <= 1


def test_a_lying_duration_makes_no_list_of_its_length() -> None:
    assert len(ticks(0, 2**62, Fraction(1, 1000), budget(most=64))) == 64


@given(st.lists(st.integers(), max_size=30), st.integers(1, 4))
def test_pairs_are_filled_with_the_last_frame(picks: list[int], multiple_of: int) -> None:
    whole = filled(picks, multiple_of)
    assert len(whole) % multiple_of == 0 and len(whole) - len(picks) < multiple_of
    assert whole == picks + picks[-1:] * (len(whole) - len(picks))


@st.composite
def coded(draw: st.DrawFn) -> tuple[list[int], list[int], list[int]]:
    """(pts in decoding order, key packets, wanted packets) of groups of pictures that may be open."""
    pts: list[int] = []
    keys: list[int] = []
    shown = 0
    for number in range(draw(st.integers(1, 6))):
        leading = draw(st.integers(0, 3)) if number else 0
        trailing = draw(st.integers(0, 8))
        keys.append(len(pts))
        group = [shown + leading, *range(shown, shown + leading)]
        group += draw(st.permutations(range(shown + leading + 1, shown + leading + 1 + trailing)))
        pts += group
        shown += leading + 1 + trailing
    wanted = draw(st.lists(st.integers(0, len(pts) - 1), min_size=1, unique=True))
    return pts, keys, wanted


@given(coded())
def test_every_wanted_packet_is_led_to_by_a_key_packet_that_is_shown_no_later(
    stream: tuple[list[int], list[int], list[int]],
) -> None:
    pts, keys, wanted = stream
    found = runs(pts, keys, wanted)
    assert sorted(place for run in found for place in run.wanted) == sorted(wanted)
    for run in found:
        assert run.first in keys and run.last == max(run.wanted)
        for place in run.wanted:
            assert any(run.first <= key <= place and pts[key] <= pts[place] for key in keys)
    for before, after in pairwise(found):
        assert before.last < after.first, "no packet is decoded twice"


def test_a_packet_before_the_first_key_packet_cannot_be_seen() -> None:
    with pytest.raises(ValueError, match="no key packet"):
        runs([0, 1, 2], [1], [0])


def test_a_budget_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple_of"):
        FrameBudget(pixels=PIXELS, max_frames=63, multiple_of=2)
