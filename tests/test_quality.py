"""The quality breaker trips on captions that went bad, on nothing else, and says what it saw."""

from __future__ import annotations

import random

import pytest

from captioner.types import Caption, Failure, Filtered, Rejection, Unreadable
from pipelines.quality import Band, Quality, QualityLost


def good(replica: str | None = None) -> Caption:
    return Caption(text="A grey heron stands in shallow water.", finish_reason="stop", replica=replica)


def bad(replica: str | None = None, reason: str = "repetitive_caption") -> Rejection:
    return Rejection(reason=reason, caption=Caption(text="the wall " * 50, finish_reason="length", replica=replica))


def test_the_share_allowed_goes_on_for_ever_and_one_more_in_the_window_stops_the_run() -> None:
    quality = Quality(band=Band(window=100, at_most=0.5))
    for _ in range(1000):
        quality.saw(good())
        quality.saw(bad())
    with pytest.raises(QualityLost):
        for _ in range(2):
            quality.saw(bad())


def test_the_message_counts_reasons_and_shows_five_examples_cut_short() -> None:
    quality = Quality(band=Band(window=20, at_most=0.5))
    for _ in range(9):
        quality.saw(good())
    with pytest.raises(QualityLost) as told:
        for _ in range(11):
            quality.saw(bad(reason="refusal" if _ % 2 else "truncated_caption"))
    text = str(told.value)
    assert "11 of the last 20" in text and "truncated_caption 6, refusal 5" in text
    assert text.count("'the wall ") == 5 and max(map(len, text.splitlines())) < 260
    assert told.value.exit_code == 2


def test_what_no_engine_was_asked_does_not_count() -> None:
    quality = Quality(band=Band(window=10, at_most=0.5))
    for _ in range(100):
        for outcome in (Filtered(reason="extreme_aspect"), Unreadable(reason="undecodable")):
            assert quality.saw(outcome) is None


def test_an_engine_that_refuses_every_picture_stops_the_run_and_its_words_are_shown() -> None:
    quality = Quality(band=Band(window=20, at_most=0.5))
    with pytest.raises(QualityLost, match=r"engine_refused 11") as told:
        for _ in range(9):
            quality.saw(good())
        for _ in range(11):
            quality.saw(Failure(reason="engine_refused", detail="the context is 2048 tokens"))
    assert str(told.value).count("the context is 2048 tokens") == 5


def test_a_window_that_is_not_full_yet_stops_nothing() -> None:
    quality = Quality(band=Band(window=100, at_most=0.5))
    for _ in range(99):
        assert quality.saw(bad()) is None


def test_a_window_of_zero_looks_at_nothing() -> None:
    quality = Quality(band=Band(window=0))
    for _ in range(1000):
        assert quality.saw(bad("a")) is None


def test_the_replica_that_answers_worse_than_the_others_is_named_and_the_others_never() -> None:
    dice, quality, named = random.Random(7), Quality(band=Band(window=1000, at_most=0.9)), []
    for _ in range(2000):
        name = dice.choice(["a", "b", "c"])
        rejected = dice.random() < (0.7 if name == "c" else 0.1)
        named.append(quality.saw(bad(name) if rejected else good(name)))
    assert "c" in named and not {"a", "b"} & set(named)


def test_replicas_that_are_equally_bad_are_left_alone() -> None:
    dice, quality = random.Random(8), Quality(band=Band(window=5000, at_most=0.9))
    for _ in range(3000):
        name = dice.choice(["a", "b"])
        assert quality.saw(bad(name) if dice.random() < 0.5 else good(name)) is None
